# Precompiled headers: what nearly every file includes is parsed once for the libraries and once for the tests.
#   lectern_precompile(target lectern_precompiled SRCS...)
# Only headers of others. What instantiates templates for every file that includes it (nlohmann/json.hpp: 0.8 s, CLI11: 4 s) is
# not among them: GCC would do so in every file there is.
# The dev preset does without. scripts/check_includes.py sees to it that each file still includes what it uses.
option(LECTERN_PRECOMPILE "Precompile the headers that nearly every file includes" ON)

if(LECTERN_PRECOMPILE)
  if(CCACHE_PROGRAM)  # without these two ccache passes precompiled headers by
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  endif()
  set(LECTERN_PRECOMPILED_HEADERS
    <algorithm> <array> <atomic> <bit> <chrono> <cmath> <cstdint> <cstdio> <cstdlib> <cstring> <filesystem> <fstream> <functional>
    <limits> <map> <memory> <mutex> <numeric> <optional> <set> <span> <sstream> <string> <string_view> <thread> <unordered_map>
    <unordered_set> <utility> <variant> <vector> <absl/status/status.h> <absl/status/statusor.h> <absl/synchronization/mutex.h>)
  file(CONFIGURE OUTPUT precompiled.cc CONTENT "// A target with a precompiled header needs a source.\n")
  add_library(lectern_precompiled OBJECT ${CMAKE_CURRENT_BINARY_DIR}/precompiled.cc)
  target_link_libraries(lectern_precompiled PRIVATE lectern_options absl::status absl::statusor absl::synchronization)
  target_precompile_headers(lectern_precompiled PRIVATE ${LECTERN_PRECOMPILED_HEADERS})
  if(LECTERN_TESTS)
    add_library(lectern_precompiled_test OBJECT ${CMAKE_CURRENT_BINARY_DIR}/precompiled.cc)
    target_link_libraries(lectern_precompiled_test PRIVATE lectern_options absl::status absl::statusor absl::synchronization GTest::gmock GTest::gtest)
    target_compile_options(lectern_precompiled_test PRIVATE ${LECTERN_TEST_LEVEL})
    target_precompile_headers(lectern_precompiled_test PRIVATE ${LECTERN_PRECOMPILED_HEADERS} <gmock/gmock.h> <gtest/gtest.h>)
  endif()
endif()

# Files of one CPU target never see it: their copies of the library's functions would be the target's own. Nor can files with a
# level of optimisation of their own: they say SKIP_PRECOMPILE_HEADERS.
function(lectern_precompile target precompiled)
  if(NOT LECTERN_PRECOMPILE)
    return()
  endif()
  target_precompile_headers(${target} REUSE_FROM ${precompiled})
  foreach(file ${ARGN})
    if(file MATCHES "^cpu/.*_(scalar|avx)")
      set_source_files_properties(${file} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
endfunction()
