#include "index/filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "base/json.h"
#include "base/rng.h"
#include "index/schema.h"

namespace lectern::index {
namespace {

using Values = std::map<std::string, std::vector<FieldValue>>;

bool Matches(const Filter& filter, const Values& values) {
  return filter.Matches([&](std::string_view field) {
    const auto it = values.find(std::string(field));
    return it == values.end() ? std::vector<FieldValue>() : it->second;
  });
}
bool Matches(std::string_view text, const Values& values) {
  auto filter = Filter::Parse(text);
  EXPECT_TRUE(filter.ok()) << text << ": " << filter.status();
  return filter.ok() && Matches(*filter, values);
}
std::string ErrorOf(std::string_view text) { return std::string(Filter::Parse(text).status().message()); }
std::string JsonErrorOf(std::string_view text) { return std::string(Filter::FromJson(*ParseJson(text)).status().message()); }

TEST(Filter, ComparesAsTheGrammarSays) {
  const Values doc = {{"lang", {std::string("en")}}, {"year", {int64_t{2015}}}, {"score", {0.5}}, {"ok", {true}}, {"tags", {std::string("a"), std::string("b")}},
                      {"seen", {*ParseDate("2021-03-04T00:00:00Z")}}, {"odd name", {int64_t{1}}}};
  EXPECT_TRUE(Matches("lang = 'en' and (year >= 2015 or not exists(year))", doc));
  EXPECT_TRUE(Matches("LANG = 1 or lang = \"en\"", doc));
  EXPECT_FALSE(Matches("lang = 'EN'", doc));
  EXPECT_TRUE(Matches("year in (2014, 2015) and year in [2015.0]", doc));
  EXPECT_TRUE(Matches("score > 0.4 and score < 1 and score != 1", doc));
  EXPECT_TRUE(Matches("ok = true and not ok = false", doc));
  EXPECT_TRUE(Matches("tags = 'b' and tags in ('z', 'a')", doc));
  EXPECT_FALSE(Matches("tags != 'b'", doc));      // != is not =
  EXPECT_TRUE(Matches("none != 3", doc));
  EXPECT_FALSE(Matches("none = 3 or none < 3 or none in (3) or exists(none)", doc));
  EXPECT_TRUE(Matches("seen >= '2021-03-04' and seen < '2021-03-04T01:00:00+00:30'", doc));
  EXPECT_FALSE(Matches("year = '2015'", doc));    // unlike types never match
  EXPECT_TRUE(Matches("`odd name` = 1", doc));
  EXPECT_TRUE(Matches("year = 2015 or lang = 'x' and lang = 'y'", doc));   // and binds closer
}

TEST(Filter, RefusesValuesOfAnotherTypeThanTheField) {
  const auto schema = Schema::FromToml("field = [{name='s'}, {name='t', type='text'}, {name='i', type='int'}, {name='f', type='float'}, {name='b', type='bool'}, "
                                       "{name='d', type='date'}, {name='x', indexed=false}]");
  ASSERT_TRUE(schema.ok()) << schema.status();
  const auto error = [&](std::string_view text) { return std::string(Filter::Parse(text)->Check(*schema).message()); };
  for (const char* fine : {"s = 'a' and s in ('2015-01-01', 'b') and t != 'x'", "i = 1 and i < 1.5 and f >= 2 and f != 0.5", "b = true or not b = false",
                           "d > '2015-01-31' and d in ('2015-01-31T12:00:00Z')", "exists(d) and not exists(i)"}) {
    EXPECT_EQ(error(fine), "") << fine;
  }
  EXPECT_EQ(error("i = '5'"), "filter: field 'i' is of type int, got \"5\"");
  EXPECT_EQ(error("i > '2015-01-31'"), "filter: field 'i' is of type int, got \"2015-01-31\"");
  EXPECT_EQ(error("s = 'a' and not (f in (1, true))"), "filter: field 'f' is of type float, got true");
  EXPECT_EQ(error("s = 3"), "filter: field 's' is of type string, got 3");
  EXPECT_EQ(error("b = 'true'"), "filter: field 'b' is of type bool, got \"true\"");
  EXPECT_THAT(error("d >= '2015'"), ::testing::AllOf(::testing::HasSubstr("'d' is of type date, got \"2015\""), ::testing::HasSubstr("2015-01-31T12:00:00Z")));
  EXPECT_THAT(error("d = 5"), ::testing::HasSubstr("'d' is of type date, got 5"));
  EXPECT_THAT(error("nothing = 5"), ::testing::HasSubstr("no field 'nothing'; it has b, d,"));
  EXPECT_THAT(error("exists(x)"), ::testing::HasSubstr("stored only"));
}

TEST(Filter, ComparesIntegersAndFractionsExactly) {
  const int64_t big = (int64_t{1} << 53) + 1;   // no double holds it
  const Values doc = {{"n", {big}}, {"top", {INT64_MAX}}, {"half", {0.5}}, {"low", {-0.5}}};
  EXPECT_FALSE(Matches("n = 9007199254740992.0", doc));
  EXPECT_TRUE(Matches("n > 9007199254740992.0", doc));
  EXPECT_TRUE(Matches("n = 9007199254740993", doc));
  EXPECT_TRUE(Matches("top < 9223372036854775808.0", doc));
  EXPECT_TRUE(Matches("half > 0 and half < 1 and low < 0 and low > -1", doc));
}

TEST(Filter, NamesTheByteOfWhatItDoesNotUnderstand) {
  EXPECT_THAT(ErrorOf("lang = "), ::testing::HasSubstr("byte 7"));
  EXPECT_THAT(ErrorOf("lang ~ 'en'"), ::testing::HasSubstr("byte 5"));
  EXPECT_THAT(ErrorOf("(lang = 'en'"), ::testing::HasSubstr("'(' at byte 0"));
  EXPECT_THAT(ErrorOf("lang = 'en"), ::testing::HasSubstr("byte 7: a quoted string has no end"));
  EXPECT_THAT(ErrorOf("lang = en"), ::testing::HasSubstr("in quotes"));
  EXPECT_THAT(ErrorOf("a = 1 b = 2"), ::testing::HasSubstr("byte 6"));
  EXPECT_THAT(ErrorOf("d > 2020-01-01"), ::testing::HasSubstr("dates stand in quotes"));
  EXPECT_THAT(ErrorOf("a > true"), ::testing::HasSubstr("no order"));
  EXPECT_THAT(ErrorOf("a = 1e999"), ::testing::HasSubstr("byte 4"));
  EXPECT_THAT(ErrorOf(""), ::testing::HasSubstr("byte 0"));
}

TEST(Filter, HoldsItsLimits) {
  std::string nested = "a = 1";
  for (int i = 0; i < 15; ++i) nested = "not (" + nested + " )";
  EXPECT_THAT(ErrorOf(nested), ::testing::HasSubstr("16 deep"));   // a not and a parenthesis each
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "(";
  EXPECT_THAT(ErrorOf(deep), ::testing::HasSubstr("16 deep"));
  std::string nots;
  for (int i = 0; i < 15; ++i) nots += "not ";
  EXPECT_EQ(ErrorOf(nots + "a = 1"), "");
  EXPECT_THAT(ErrorOf("not " + nots + "a = 1"), ::testing::HasSubstr("16 deep"));
  std::string terms = "a in (0";
  for (int i = 1; i < 256; ++i) terms += "," + std::to_string(i);
  EXPECT_EQ(ErrorOf(terms + ")"), "");
  EXPECT_THAT(ErrorOf(terms + ") and b = 1"), ::testing::HasSubstr("256 terms"));
}

TEST(Filter, ReadsTheJsonForm) {
  auto filter = Filter::FromJson(*ParseJson(R"({"all":[{"field":"lang","eq":"en"},{"field":"year","gte":2015,"lt":2020},{"not":{"field":"x","exists":true}}]})"));
  ASSERT_TRUE(filter.ok()) << filter.status();
  EXPECT_TRUE(Matches(*filter, {{"lang", {std::string("en")}}, {"year", {int64_t{2019}}}}));
  EXPECT_FALSE(Matches(*filter, {{"lang", {std::string("en")}}, {"year", {int64_t{2020}}}}));
  EXPECT_THAT(JsonErrorOf(R"({"all":[{"field":"a","eq":1},{"field":"b","like":2}]})"), ::testing::HasSubstr("/all/1/like"));
  EXPECT_THAT(JsonErrorOf(R"({"all":[]})"), ::testing::HasSubstr("/all"));
  EXPECT_THAT(JsonErrorOf(R"({"field":"a"})"), ::testing::HasSubstr("no condition"));
  EXPECT_THAT(JsonErrorOf(R"({"field":"a","eq":null})"), ::testing::HasSubstr("/eq"));
  EXPECT_THAT(JsonErrorOf(R"({"any":[{"field":"a","eq":1}],"all":[]})"), ::testing::HasSubstr("alone"));
  EXPECT_THAT(JsonErrorOf("3"), ::testing::HasSubstr("expected an object"));
}

// ---- random filters: text form, JSON form and a naive evaluator agree ----

struct Case {
  std::string text;
  std::function<bool(const Values&)> naive;
};

bool NaiveCompare(const FieldValue& value, const std::string& op, const FieldValue& literal) {
  // Small values only: doubles are exact here.
  const auto number = [](const FieldValue& v) -> std::optional<double> {
    if (const auto* i = std::get_if<int64_t>(&v)) return static_cast<double>(*i);
    if (const auto* d = std::get_if<double>(&v)) return *d;
    return std::nullopt;
  };
  int order = 0;
  if (number(value) && number(literal)) order = *number(value) < *number(literal) ? -1 : *number(value) > *number(literal);
  else if (value.index() == literal.index() && std::holds_alternative<std::string>(value)) order = std::get<std::string>(value).compare(std::get<std::string>(literal));
  else if (value.index() == literal.index()) order = static_cast<int>(std::get<bool>(value)) - static_cast<int>(std::get<bool>(literal));
  else return false;
  return op == "=" ? order == 0 : op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
}

std::pair<std::string, FieldValue> RandomLiteral(Rng& rng, bool ordered) {
  switch (rng.Below(ordered ? 3 : 4)) {
    case 0: {
      const int64_t n = rng.Below(5) - 2;
      return {std::to_string(n), n};
    }
    case 1: return {rng.Below(2) == 0 ? "0.5" : "-1.0", rng.Below(1) == 0 ? FieldValue() : FieldValue()};
    case 2: {
      const std::string s = rng.Below(2) == 0 ? "it's" : "b\"c";
      return {s[0] == 'i' ? "'it''s'" : "\"b\"\"c\"", s};
    }
    default: {
      const bool flag = rng.Below(2) == 0;
      return {flag ? "true" : "FALSE", flag};
    }
  }
}

Case RandomCase(Rng& rng, int depth) {
  static const std::vector<std::string> kFields = {"a", "b", "c.d", "`e f`"};
  const auto field_of = [](const std::string& shown) { return shown[0] == '`' ? shown.substr(1, shown.size() - 2) : shown; };
  const int64_t kind = rng.Below(depth >= 4 ? 4 : 7);
  const std::string shown = kFields[static_cast<size_t>(rng.Below(4))];
  const std::string field = field_of(shown);
  const auto values_of = [field](const Values& doc) {
    const auto it = doc.find(field);
    return it == doc.end() ? std::vector<FieldValue>() : it->second;
  };
  const auto literal_of = [&](bool ordered) {
    auto [text, value] = RandomLiteral(rng, ordered);
    if (text == "0.5") value = 0.5;
    if (text == "-1.0") value = -1.0;
    return std::make_pair(text, value);
  };
  if (kind == 0) return {"exists(" + shown + ")", [=](const Values& doc) { return !values_of(doc).empty(); }};
  if (kind == 1) {
    std::vector<FieldValue> literals;
    std::string text = shown + " in (";
    for (int64_t i = 0, n = 1 + rng.Below(3); i < n; ++i) {
      auto [t, v] = literal_of(false);
      text += (i == 0 ? "" : ", ") + t;
      literals.push_back(v);
    }
    return {text + ")", [=](const Values& doc) {
              for (const auto& v : values_of(doc)) {
                for (const auto& l : literals) {
                  if (NaiveCompare(v, "=", l)) return true;
                }
              }
              return false;
            }};
  }
  if (kind <= 3) {
    static const std::vector<std::string> kOps = {"=", "!=", "<", "<=", ">", ">="};
    const std::string op = kOps[static_cast<size_t>(rng.Below(6))];
    auto [text, literal] = literal_of(op != "=" && op != "!=");
    return {shown + " " + op + text, [=](const Values& doc) {
              bool any = false;
              for (const auto& v : values_of(doc)) any = any || NaiveCompare(v, op == "!=" ? "=" : op, literal);
              return op == "!=" ? !any : any;
            }};
  }
  const Case left = RandomCase(rng, depth + 1);
  if (kind == 4) return {"not (" + left.text + ")", [=](const Values& doc) { return !left.naive(doc); }};
  const Case right = RandomCase(rng, depth + 1);
  const bool both = kind == 5;
  return {"(" + left.text + (both ? " AND " : " or ") + right.text + ")",
          [=](const Values& doc) { return both ? left.naive(doc) && right.naive(doc) : left.naive(doc) || right.naive(doc); }};
}

TEST(Filter, AgreesWithANaiveEvaluatorInBothForms) {
  int64_t matched = 0, tried = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Rng rng(seed);
    const Case random = RandomCase(rng, 0);
    auto filter = Filter::Parse(random.text);
    ASSERT_TRUE(filter.ok()) << random.text << ": " << filter.status();
    const Json json = filter->ToJson();
    auto again = Filter::FromJson(json);
    ASSERT_TRUE(again.ok()) << random.text << ": " << again.status();
    EXPECT_EQ(again->ToJson(), json);
    for (int i = 0; i < 20; ++i) {
      Values doc;
      for (const char* field : {"a", "b", "c.d", "e f"}) {
        for (int64_t n = rng.Below(3); n > 0; --n) {
          switch (rng.Below(4)) {
            case 0: doc[field].emplace_back(rng.Below(5) - 2); break;
            case 1: doc[field].emplace_back(rng.Below(2) == 0 ? 0.5 : -1.0); break;
            case 2: doc[field].emplace_back(std::string(rng.Below(2) == 0 ? "it's" : "b\"c")); break;
            default: doc[field].emplace_back(rng.Below(2) == 0); break;
          }
        }
      }
      const bool expected = random.naive(doc);
      ASSERT_EQ(Matches(*filter, doc), expected) << random.text;
      ASSERT_EQ(Matches(*again, doc), expected) << random.text;
      matched += expected;
      ++tried;
    }
  }
  EXPECT_GT(matched, tried / 10);
  EXPECT_LT(matched, tried * 9 / 10);
}

}  // namespace
}  // namespace lectern::index
