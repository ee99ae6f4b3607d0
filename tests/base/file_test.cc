#include "base/file.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tests/support/temp_dir.h"

namespace lectern {
namespace {

TEST(File, WritesWholeAndReplaces) {
  testing::TempDir dir;
  const std::string path = dir / "a";
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, "one").ok());
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, "two").ok());
  EXPECT_EQ(*ReadFile(path), "two");
  EXPECT_EQ(*FileSystem::Posix().List(dir.path()), std::vector<std::string>{"a"});
}

TEST(File, MapsEmptyAndMissingFiles) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "empty", "");
  auto map = MappedFile::Open(dir / "empty");
  ASSERT_TRUE(map.ok());
  EXPECT_TRUE(map->text().empty());
  EXPECT_EQ(MappedFile::Open(dir / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(MappedFile::Open(dir.path()).ok());
}

int64_t ResidentFileKiB() {
  std::istringstream status(*ReadFile("/proc/self/status"));
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("RssFile:", 0) == 0) return std::stoll(line.substr(8));
  }
  return -1;
}

TEST(File, ReleasedPagesLeaveMemoryAndReadTheSame) {
  testing::TempDir dir;
  const std::string bytes(size_t{16} << 20, 'x');
  testing::WriteBytes(dir / "a", bytes);
  auto map = MappedFile::Open(dir / "a");
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(map->text(), bytes);
  const int64_t before = ResidentFileKiB();
  ReleasePages(map->bytes().subspan(5));
  EXPECT_LT(ResidentFileKiB(), before - 15 * 1024);
  EXPECT_EQ(map->text(), bytes);
  ReleasePages({});
}

TEST(File, ASecondLockIsRefusedWithTheHolder) {
  testing::TempDir dir;
  auto first = FileLock::Acquire(dir / "LOCK");
  ASSERT_TRUE(first.ok());
  auto second = FileLock::Acquire(dir / "LOCK");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAborted);
  EXPECT_NE(std::string(second.status().message()).find("pid "), std::string::npos);
}

TEST(File, HashesMatchPublishedValues) {
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(HexU64(Hash64("")), "2d06800538d394c2");
}

}  // namespace
}  // namespace lectern
