#include "base/json.h"

#include <gtest/gtest.h>

namespace lectern {
namespace {

TEST(Json, RefusesDepthBeforeItRecurses) {
  const std::string deep(100000, '[');
  EXPECT_EQ(ParseJson(deep, {.max_depth = 32}).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Json, NamesTheByteOfAnError) {
  const auto status = ParseJson("{\"a\": }").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("byte 7"), std::string::npos) << status;
}

TEST(Json, TypedGettersNameKeyAndValue) {
  auto value = ParseJson(R"({"n": "x", "big": 18446744073709551615})");
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(JsonInt(*value, "n").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(JsonInt(*value, "big").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(JsonInt(*value, "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*JsonString(*value, "n"), "x");
}

TEST(Json, DumpsInvalidUtf8AsReplacement) {
  Json value = std::string("a\xff");
  EXPECT_EQ(DumpJson(value), "\"a\xef\xbf\xbd\"");
}

}  // namespace
}  // namespace lectern
