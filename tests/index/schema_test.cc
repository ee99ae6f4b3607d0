#include "index/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/rng.h"

namespace lectern::index {
namespace {

using ::testing::HasSubstr;

std::string Apply(Schema& schema, Fields fields, bool untyped = false) {
  bool grew = false;
  return std::string(schema.Apply(fields, untyped, &grew).message());
}

TEST(Schema, ReadsAndWritesToml) {
  auto schema = Schema::FromToml("closed = true\n[[field]]\nname = 'year'\ntype = 'int'\n[[field]]\nname = \"ab\\\"c\"\ntype = 'text'\nmulti = true\nindexed = false\nboost = 3\n");
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_TRUE(schema->closed());
  ASSERT_NE(schema->Find("ab\"c"), nullptr);
  EXPECT_EQ(schema->Find("ab\"c")->boost, 3);
  EXPECT_FALSE(schema->Find("ab\"c")->indexed);
  auto again = Schema::FromToml(schema->ToToml());
  ASSERT_TRUE(again.ok()) << again.status() << schema->ToToml();
  EXPECT_EQ(*again, *schema);
  auto json = Schema::FromJson(schema->ToJson());
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(*json, *schema);
}

TEST(Schema, NamesTheLineOfWhatIsWrong) {
  const auto error = [](std::string_view toml) { return std::string(Schema::FromToml(toml).status().message()); };
  EXPECT_THAT(error("[[field]]\nname = 'x'\ntype = 'number'\n"), HasSubstr("got 'number'"));
  EXPECT_THAT(error("[[field]]\nname = 'x'\ncolour = 1\n"), HasSubstr("unknown key 'colour'"));
  EXPECT_THAT(error("[[field]]\nname = 'x'\n[[field]]\nname = 'x'\n"), HasSubstr("twice"));
  EXPECT_THAT(error("\n\nname = \n"), HasSubstr("line 3"));
  EXPECT_THAT(error("[[field]]\nname = 'x'\ntype = 'text'\nboost = 1.5\n"), HasSubstr("1..10"));
  EXPECT_THAT(error("[[field]]\nname = 'x'\nboost = 2\n"), HasSubstr("type text"));
  EXPECT_THAT(error("[[field]]\ntype = 'int'\n"), HasSubstr("1..128 bytes"));
}

TEST(Schema, InfersFromTheFirstValueAndRejectsWhatConflicts) {
  Schema schema;
  EXPECT_EQ(Apply(schema, {{"year", {int64_t{1999}}}, {"tags", {std::string("a"), std::string("b")}}, {"seen", {std::string("2021-03-04")}}, {"mixed", {int64_t{1}, 2.5}}}), "");
  EXPECT_EQ(schema.Find("year")->type, FieldType::kInt);
  EXPECT_EQ(schema.Find("tags")->type, FieldType::kString);
  EXPECT_TRUE(schema.Find("tags")->multi);
  EXPECT_EQ(schema.Find("seen")->type, FieldType::kDate);
  EXPECT_EQ(schema.Find("mixed")->type, FieldType::kFloat);
  EXPECT_THAT(Apply(schema, {{"year", {std::string("soon")}}}), ::testing::AllOf(HasSubstr("'year'"), HasSubstr("int"), HasSubstr("'soon'")));
  EXPECT_THAT(Apply(schema, {{"year", {1.5}}}), HasSubstr("1.5"));
  EXPECT_EQ(Apply(schema, {{"mixed", {int64_t{3}}}}), "");
  Fields whole = {{"year", {2001.0}}};   // as JSON writers without integers have it
  bool grew = false;
  ASSERT_TRUE(schema.Apply(whole, false, &grew).ok());
  EXPECT_EQ(std::get<int64_t>(whole["year"][0]), 2001);
  EXPECT_NE(Apply(schema, {{"year", {0x1p60}}}), "");
  // A rejected record adds no field.
  EXPECT_NE(Apply(schema, {{"another", {true}}, {"year", {true}}}), "");
  EXPECT_EQ(schema.Find("another"), nullptr);
  // An inferred field may turn out to hold several values; a described one may not.
  EXPECT_EQ(Apply(schema, {{"year", {int64_t{1}, int64_t{2}}}}), "");
  auto described = Schema::FromToml("[[field]]\nname = 'year'\ntype = 'int'\n");
  EXPECT_THAT(Apply(*described, {{"year", {int64_t{1}, int64_t{2}}}}), HasSubstr("one value"));
  auto closed = Schema::FromToml("closed = true\n");
  EXPECT_THAT(Apply(*closed, {{"x", {int64_t{1}}}}), HasSubstr("closed"));
}

TEST(Schema, ReadsTypesOutOfCells) {
  Schema schema;
  Fields fields = {{"n", {std::string("12")}}, {"f", {std::string("1.5")}}, {"b", {std::string("true")}}, {"zip", {std::string("007")}}, {"s", {std::string("x")}}};
  bool grew = false;
  ASSERT_TRUE(schema.Apply(fields, true, &grew).ok());
  EXPECT_TRUE(grew);
  EXPECT_EQ(std::get<int64_t>(fields["n"][0]), 12);
  EXPECT_EQ(std::get<double>(fields["f"][0]), 1.5);
  EXPECT_EQ(std::get<bool>(fields["b"][0]), true);
  EXPECT_EQ(std::get<std::string>(fields["zip"][0]), "007");
  EXPECT_EQ(Apply(schema, {{"s", {std::string("12")}}}, true), "");   // stays a string
}

TEST(Schema, HasAtMostAThousandFields) {
  Schema schema;
  Fields fields;
  for (int i = 0; i < kMaxFields; ++i) fields["f" + std::to_string(i)] = {int64_t{1}};
  EXPECT_EQ(Apply(schema, fields), "");
  EXPECT_THAT(Apply(schema, {{"one more", {int64_t{1}}}}), HasSubstr("at most 1000"));
}

TEST(Dates, AreReadAsRfc3339AndWrittenBack) {
  EXPECT_EQ(*ParseDate("1970-01-01"), 0);
  EXPECT_EQ(*ParseDate("1970-01-01T00:00:01Z"), 1'000'000);
  EXPECT_EQ(*ParseDate("1970-01-01T01:00:00.5+01:00"), 500'000);
  EXPECT_EQ(*ParseDate("2024-02-29t23:59:60z"), *ParseDate("2024-03-01"));
  EXPECT_EQ(*ParseDate("0001-01-01"), -62135596800'000'000);
  for (const char* bad : {"", "2021", "2021-02-30", "2021-1-1", "2021-01-01T", "2021-01-01T10:00", "2021-01-01T25:00:00Z", "2021-01-01T10:00:00", "2021-01-01T10:00:00.Z", "2021-01-01T10:00:00+1:00", "2021-01-01x"}) {
    EXPECT_FALSE(ParseDate(bad).ok()) << bad;
  }
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    const int64_t micros = Rng(seed).Below(int64_t{200} * 365 * 86400) * 1'000'000 - int64_t{70} * 365 * 86400 * 1'000'000 + (seed % 3 == 0 ? 0 : static_cast<int64_t>(seed));
    auto again = ParseDate(FormatDate(micros));
    ASSERT_TRUE(again.ok()) << FormatDate(micros);
    EXPECT_EQ(*again, micros);
  }
}

}  // namespace
}  // namespace lectern::index
