// tests/support/temp_dir.h: a folder that goes away with the test, and where test data lies.
//
//   TempDir dir;  WriteBytes(dir / "a.txt", "hello");
//   const std::string path = SharedPath("fixtures/tiny-models.tar.xz");   // empty where ../shared is missing
//   LECTERN_NEED(path);   // skips, saying what is left out
//
// Shapes:  paths are plain strings.
// Threads: one test.
// Errors:  aborts the test where a folder cannot be made.
// Cost:    none worth a word.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "base/check.h"

namespace lectern::testing {

class TempDir {
 public:
  explicit TempDir(const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string pattern = (parent / "lectern-test-XXXXXX").string();
    CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

inline void WriteBytes(const std::string& path, std::string_view bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string ReadBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream all;
  all << in.rdbuf();
  return all.str();
}

// A file of the repository's own data.
inline std::string SourcePath(std::string_view relative) {
  return std::string(LECTERN_SOURCE_DIR) + "/" + std::string(relative);
}

// $LECTERN_SHARED, or ../shared beside the repository; empty where the file is not there.
inline std::string SharedPath(std::string_view relative) {
  const char* given = std::getenv("LECTERN_SHARED");
  const std::string root = given != nullptr ? given : std::string(LECTERN_SOURCE_DIR) + "/../shared";
  const std::string path = root + "/" + std::string(relative);
  return std::filesystem::exists(path) ? path : "";
}

// A file under $LECTERN_MODELS_DIR or ~/.cache/lectern/models (scripts/fetch_models.py); empty where absent.
inline std::string ModelPath(std::string_view relative) {
  std::string root;
  if (const char* given = std::getenv("LECTERN_MODELS_DIR"); given != nullptr) root = given;
  else if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache) root = std::string(cache) + "/lectern/models";
  else if (const char* home = std::getenv("HOME"); home != nullptr) root = std::string(home) + "/.cache/lectern/models";
  const std::string path = root + "/" + std::string(relative);
  return std::filesystem::exists(path) ? path : "";
}

// The unpacked bytes of an .xz file, through the xz program.
inline std::string ReadXz(const std::string& path) {
  FILE* pipe = ::popen(("xz -dc '" + path + "'").c_str(), "r");
  CHECK(pipe != nullptr);
  std::string all;
  char buffer[1 << 16];
  for (size_t got; (got = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) all.append(buffer, got);
  CHECK(::pclose(pipe) == 0);
  return all;
}

}  // namespace lectern::testing

#define LECTERN_NEED(path) \
  if ((path).empty()) GTEST_SKIP() << "left out: " #path " is not there"
