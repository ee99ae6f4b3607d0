# lectern_library(NAME n SRCS a.cc ... DEPS lectern::base ... PRIVATE_DEPS faiss ...)
#   One box of the layer diagram. DEPS is what its headers show, PRIVATE_DEPS the rest.
# lectern_test(FOLDER f SRCS x_test.cc ... DEPS lectern::f ... [LABELS slow])
#   One test binary a folder; ctest lists each case by itself.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# Compiling is what a sanitizer run costs most: -Og compiles in two thirds of -O1's time.
set(CMAKE_CXX_FLAGS_SANITIZE "-Og -g1" CACHE STRING "" FORCE)
set(CMAKE_C_FLAGS_SANITIZE "-Og -g1" CACHE STRING "" FORCE)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
# How hard the kernels of cpu/ are optimised. Under a sanitizer -O3 would cost minutes of compiling and show nothing more.
set(LECTERN_KERNEL_LEVEL -O3)
if(LECTERN_SANITIZE)
  set(LECTERN_KERNEL_LEVEL -O1)
endif()

# Tests are compiled to be run once: -O2 would cost them a quarter more of compiling and save seconds. At -O1 GCC 12 takes a sum of
# strings for an access out of bounds.
set(LECTERN_TEST_LEVEL "")
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  set(LECTERN_TEST_LEVEL -O1 -Wno-array-bounds)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(lectern_options INTERFACE)
target_compile_options(lectern_options INTERFACE
  -Wall -Wextra -Werror -Wno-missing-field-initializers -fno-strict-aliasing)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")   # presets fuzz and tidy: some files name warnings of GCC alone
  target_compile_options(lectern_options INTERFACE -Wno-unknown-warning-option -Wno-ignored-optimization-argument)
endif()
if(LECTERN_SANITIZE STREQUAL "address")
  # Less what AddressSanitizer reports anyway (null, object-size) and vptr: half of what UBSan costs the compiler.
  target_compile_options(lectern_options INTERFACE -fsanitize=address,undefined -fno-sanitize=null,object-size,vptr
    -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(lectern_options INTERFACE -fsanitize=address,undefined)
elseif(LECTERN_SANITIZE STREQUAL "thread")
  target_compile_options(lectern_options INTERFACE -fsanitize=thread -fno-omit-frame-pointer -Wno-tsan)
  target_link_options(lectern_options INTERFACE -fsanitize=thread)
endif()

include(Precompile)

function(lectern_library)
  cmake_parse_arguments(ARG "" "NAME" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(lectern_${ARG_NAME} STATIC ${ARG_SRCS})
  add_library(lectern::${ARG_NAME} ALIAS lectern_${ARG_NAME})
  target_include_directories(lectern_${ARG_NAME} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(lectern_${ARG_NAME} PUBLIC ${ARG_DEPS} PRIVATE lectern_options ${ARG_PRIVATE_DEPS})
  lectern_precompile(lectern_${ARG_NAME} lectern_precompiled ${ARG_SRCS})
endfunction()

function(lectern_test)
  cmake_parse_arguments(ARG "" "FOLDER" "SRCS;DEPS;LABELS" ${ARGN})
  set(target ${ARG_FOLDER}_test)
  add_executable(${target} ${ARG_SRCS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE LECTERN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${target} PRIVATE lectern_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  target_compile_options(${target} PRIVATE ${LECTERN_TEST_LEVEL})
  lectern_precompile(${target} lectern_precompiled_test ${ARG_SRCS})
  include(GoogleTest)
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  # Whole models use every core, and one test is about time: they run alone.
  set(serial OFF)
  if("slow" IN_LIST ARG_LABELS)
    set(serial ON)
  endif()
  gtest_discover_tests(${target} TEST_PREFIX "${ARG_FOLDER}/" DISCOVERY_TIMEOUT 60
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 900 RUN_SERIAL ${serial})
endfunction()
