# Every outside library, found once, with the version this project is built and tested against (Debian 12).
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED)                        # 4.5, FAISS needs it
find_package(BLAS REQUIRED)                          # OpenBLAS 0.3.21
find_package(LAPACK REQUIRED)
find_package(absl REQUIRED)                          # 20220623
find_package(OpenSSL REQUIRED COMPONENTS Crypto)     # 3.0: SHA-256
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(ICU 72 REQUIRED COMPONENTS uc i18n)
find_package(ZLIB REQUIRED)
find_package(LibLZMA REQUIRED)                      # 5.4, data sets come as .xz
find_package(RocksDB 7.8 REQUIRED)
find_package(faiss 1.7.3 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(POPPLER REQUIRED IMPORTED_TARGET poppler-cpp)
pkg_check_modules(GUMBO REQUIRED IMPORTED_TARGET gumbo)
pkg_check_modules(CMARK REQUIRED IMPORTED_TARGET libcmark)
pkg_check_modules(SIMDJSON REQUIRED IMPORTED_TARGET simdjson)
pkg_check_modules(TOMLPLUSPLUS REQUIRED IMPORTED_TARGET tomlplusplus)
find_library(STEMMER_LIBRARY stemmer REQUIRED)       # libstemmer 2.2, ships no config file
find_library(DNNL_LIBRARY dnnl REQUIRED)             # oneDNN 2.6, ships no pkg-config file
if(LECTERN_TESTS)
  find_package(GTest 1.12 REQUIRED)
endif()
if(LECTERN_BENCH)
  find_package(benchmark REQUIRED)
endif()
