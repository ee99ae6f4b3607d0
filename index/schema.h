// index/schema.h: which fields the documents of a collection have, and of what type.
//
//   ASSIGN_OR_RETURN(Schema schema, Schema::FromToml("[[field]]\nname = 'year'\ntype = 'int'\n"));
//   RETURN_IF_ERROR(schema.Apply(document.fields, /*untyped=*/false, &grew));   // converts in place, or says what conflicts
//
// Shapes:  string (exact), text (searched by BM25), int, float, bool, date (RFC 3339, kept as microseconds since 1970 UTC).
//          A field the schema does not know is inferred from its first value, unless the schema is closed.
// Threads: a value; one thread changes it.
// Errors:  kInvalidArgument names the field, its type and the value; a schema file's errors name the line.
// Cost:    one map lookup a field.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/status.h"
#include "index/document.h"

namespace lectern::index {

inline constexpr int kMaxFields = 1000;      // a schema that grows past this was fed keys, not fields
inline constexpr int kMaxFieldBoost = 10;

enum class FieldType { kString, kText, kInt, kFloat, kBool, kDate };
const char* FieldTypeName(FieldType type);

struct FieldSpec {
  std::string name;
  FieldType type = FieldType::kString;
  bool multi = false;      // more than one value allowed
  bool indexed = true;     // false: stored only; a filter on it is refused
  int boost = 1;           // text fields: how often the field's words count in BM25, 1..10
  bool operator==(const FieldSpec&) const = default;
};

using Fields = std::map<std::string, std::vector<FieldValue>>;

class Schema {
 public:
  static absl::StatusOr<Schema> FromToml(std::string_view toml);
  static absl::StatusOr<Schema> FromJson(const Json& value);
  std::string ToToml() const;
  Json ToJson() const;
  // Checks and converts all of a record's fields, or none. `untyped`: strings may stand for other types (CSV).
  // *grew is set where a field was added, or became multi-valued because it was inferred and now holds several.
  absl::Status Apply(Fields& fields, bool untyped, bool* grew);
  const FieldSpec* Find(std::string_view name) const;
  const std::vector<FieldSpec>& fields() const { return fields_; }   // in order of their names
  absl::Status Add(FieldSpec spec);
  bool closed() const { return closed_; }          // true: unknown fields reject the record
  bool operator==(const Schema&) const = default;

 private:
  std::vector<FieldSpec> fields_;
  std::vector<std::string> inferred_;              // names of fields that were inferred, sorted
  bool closed_ = false;
};

// "2021-03-04", "2021-03-04T05:06:07Z", "...:07.123456+02:00" to microseconds since 1970-01-01 UTC, and back.
absl::StatusOr<int64_t> ParseDate(std::string_view text);
std::string FormatDate(int64_t microseconds);

}  // namespace lectern::index
