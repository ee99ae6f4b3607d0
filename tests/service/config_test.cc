#include "service/config.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/problem.h"
#include "tests/support/temp_dir.h"

namespace lectern::service {
namespace {

TEST(Config, FlagsWinOverEnvironmentOverFileOverDefaults) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "c.toml", "[search]\nk = 3\n[reader]\nmax_tokens = 7\n[index]\nmemory_bytes = \"1GiB\"\n");
  ::setenv("LECTERN__READER__MAX_TOKENS", "9", 1);
  auto config = Config::Load({.file = dir / "c.toml", .overrides = {{"search.k", "5"}}});
  ::unsetenv("LECTERN__READER__MAX_TOKENS");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->Int("search.k"), 5);
  EXPECT_EQ(config->Origin("search.k"), "flag");
  EXPECT_EQ(config->Int("reader.max_tokens"), 9);
  EXPECT_EQ(config->Origin("reader.max_tokens"), "environment LECTERN__READER__MAX_TOKENS");
  EXPECT_EQ(config->Int("index.memory_bytes"), int64_t{1} << 30);
  EXPECT_EQ(config->Origin("reader.model"), "default");
}

TEST(Config, WhatItPrintsItReads) {
  testing::TempDir dir;
  auto config = Config::Load({.overrides = {{"reader.model", "a \"quoted\" name"}}});
  ASSERT_TRUE(config.ok());
  testing::WriteBytes(dir / "c.toml", config->ToToml(/*with_origin=*/true));
  auto again = Config::Load({.file = dir / "c.toml"});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->ToToml(false), config->ToToml(false));
}

TEST(Config, NamesTheKeyTheOriginAndTheValue) {
  for (const auto& [key, value] : std::map<std::string, std::string>{
           {"search.k", "-1"}, {"search.k", "1x"}, {"index.memory_bytes", "2 potatoes"}, {"no.such", "1"}}) {
    const auto status = Config::Load({.overrides = {{key, value}}, .read_environment = false}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(status.message()).find(key), std::string::npos) << status;
  }
}

TEST(Config, ANumberOutsideItsLimitsIsRefusedWithTheLimit) {
  for (const auto& [value, limit] : std::map<std::string, std::string>{{"1025", "1024"}, {"4294967297", "1024"}, {"-1", "0"},
                                                                        {"99999999999999999999", "1024"}, {"-99999999999999999999", "0"}}) {
    const Problem problem = ProblemOf(Config::Load({.overrides = {{"index.threads", value}}, .read_environment = false}).status());
    EXPECT_EQ(problem.setting + " " + problem.limit + " " + problem.got, "index.threads " + limit + " " + value);
  }
  EXPECT_TRUE(Config::Load({.overrides = {{"index.threads", "1024"}}, .read_environment = false}).ok());
  EXPECT_EQ(Config::JsonSchema()["properties"]["index.threads"]["maximum"], 1024);
}

TEST(Config, ReadsSizesAndDurations) {
  EXPECT_EQ(*ParseBytes("512"), 512);
  EXPECT_EQ(*ParseBytes("64KiB"), 65536);
  EXPECT_EQ(*ParseBytes("1.5GB"), 1500000000);
  EXPECT_FALSE(ParseBytes("GiB").ok());
  EXPECT_FALSE(ParseBytes("-1").ok());
  EXPECT_EQ(*ParseDurationMs("500ms"), 500);
  EXPECT_EQ(*ParseDurationMs("2m"), 120000);
  EXPECT_EQ(*ParseDurationMs("3"), 3000);
  EXPECT_FALSE(ParseDurationMs("3 weeks").ok());
}

TEST(Config, EverySettingHasAValidDefault) {
  auto config = Config::Load({.read_environment = false});
  ASSERT_TRUE(config.ok()) << config.status();
  for (const Setting& setting : AllSettings()) EXPECT_FALSE(config->Origin(setting.key).empty());
  EXPECT_EQ(Config::JsonSchema()["properties"].size(), AllSettings().size());
}

}  // namespace
}  // namespace lectern::service
