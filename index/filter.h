// index/filter.h: conditions on fields, from text or JSON.
//
//   ASSIGN_OR_RETURN(Filter f, Filter::Parse("lang = 'en' and (year >= 2015 or not exists(year))"));
//   ASSIGN_OR_RETURN(Filter g, Filter::FromJson(json));     // {"all":[{"field":"lang","eq":"en"}, ...]}
//   bool keep = f.Matches(values_of);
//
// Shapes:  = != < <= > >= in exists and or not, parentheses; depth at most 16, at most 256 terms. Strings stand in single or
//          double quotes, a name with other than letters, digits, _ . - in backquotes. A quoted RFC 3339 date compares
//          with date fields. Numbers compare exactly, integers with fractions too; unlike types never match, and Check
//          refuses them.
//          JSON: {"all":[...]}, {"any":[...]}, {"not":{...}}, {"field":"year","gte":2015,"lt":2020} (eq ne lt lte gt gte in exists).
// Threads: immutable.
// Errors:  kInvalidArgument with the byte offset (text) or the pointer (JSON), the limit and the value.
// Cost:    one walk of the tree a document.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/status.h"
#include "index/document.h"

namespace lectern::index {

class Schema;

class Filter {
 public:
  using ValuesOf = std::function<std::vector<FieldValue>(std::string_view field)>;
  static absl::StatusOr<Filter> Parse(std::string_view text);
  static absl::StatusOr<Filter> FromJson(const Json& value);
  Json ToJson() const;
  // A multi-valued field matches where any of its values does; != is `not =`, so that an absent field matches only
  // != and not exists.
  bool Matches(const ValuesOf& values_of) const;
  // kInvalidArgument: a field that the schema does not have or does not index, a value of another type than its field's.
  absl::Status Check(const Schema& schema) const;

  struct Node;

 private:
  explicit Filter(std::shared_ptr<const Node> root) : root_(std::move(root)) {}
  std::shared_ptr<const Node> root_;
};

}  // namespace lectern::index
