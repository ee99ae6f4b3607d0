#include "base/cpu_quota.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/temp_dir.h"

namespace lectern {
namespace {

TEST(CpuQuota, TakesTheLeastOfTheGroupAndThoseAboveItRoundedUp) {
  testing::TempDir dir;
  std::filesystem::create_directories(dir / "sys/a/b");
  testing::WriteBytes(dir / "own", "0::/a/b\n");
  EXPECT_EQ(CpuQuota(dir / "sys", dir / "own"), std::nullopt);
  testing::WriteBytes(dir / "sys/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(CpuQuota(dir / "sys", dir / "own"), std::nullopt);
  testing::WriteBytes(dir / "sys/cpu.max", "400000 100000\n");
  EXPECT_EQ(CpuQuota(dir / "sys", dir / "own"), 4);
  testing::WriteBytes(dir / "sys/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(CpuQuota(dir / "sys", dir / "own"), 2);
  testing::WriteBytes(dir / "sys/a/b/cpu.max", "5000 100000\n");
  EXPECT_EQ(CpuQuota(dir / "sys", dir / "own"), 1);
}

TEST(CpuQuota, ReadsVersionOneToo) {
  testing::TempDir dir;
  std::filesystem::create_directories(dir / "sys/cpu/box");
  testing::WriteBytes(dir / "own", "7:memory:/box\n4:cpuacct,cpu:/box\n");
  testing::WriteBytes(dir / "sys/cpu/box/cpu.cfs_period_us", "50000\n");
  testing::WriteBytes(dir / "sys/cpu/box/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(CpuQuota(dir / "sys", dir / "own"), std::nullopt);
  testing::WriteBytes(dir / "sys/cpu/box/cpu.cfs_quota_us", "150000\n");
  EXPECT_EQ(CpuQuota(dir / "sys", dir / "own"), 3);
}

TEST(CpuQuota, WhatCannotBeReadLimitsNothing) {
  testing::TempDir dir;
  EXPECT_EQ(CpuQuota(dir / "none", dir / "none"), std::nullopt);
  testing::WriteBytes(dir / "own", "gibberish\n0::/\n");
  std::filesystem::create_directories(dir / "sys");
  for (const char* text : {"", "x y\n", "-1 100000\n", "100000 0\n", "0 0\n"}) {
    testing::WriteBytes(dir / "sys/cpu.max", text);
    EXPECT_EQ(CpuQuota(dir / "sys", dir / "own"), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace lectern
