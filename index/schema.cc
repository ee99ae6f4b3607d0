#include "index/schema.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>
#include <sstream>

#include "base/json.h"

namespace lectern::index {
namespace {

constexpr const char* kTypeNames[] = {"string", "text", "int", "float", "bool", "date"};

absl::StatusOr<FieldType> ParseType(std::string_view name) {
  for (int i = 0; i < 6; ++i) {
    if (name == kTypeNames[i]) return static_cast<FieldType>(i);
  }
  return InvalidArgument("a field's type must be string, text, int, float, bool or date, got '", name, "'");
}

std::string Shown(const FieldValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    return text->size() <= 60 ? "'" + *text + "'" : "'" + text->substr(0, 60) + "...' (" + std::to_string(text->size()) + " bytes)";
  }
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  return std::visit([](const auto& v) { return internal::Concat(v); }, value);
}

// A whole string as a number; leading zeros, as in a postal code, stay text.
template <class T>
bool WholeNumber(std::string_view text, T* out) {
  const char* const last = text.data() + text.size();
  const auto [p, error] = std::from_chars(text.data(), last, *out);
  if (error != std::errc() || p != last) return false;
  const std::string_view digits = text.starts_with('-') ? text.substr(1) : text;
  return digits.size() < 2 || digits[0] != '0' || digits[1] == '.';
}

// The type a value shows by itself.
FieldType InferType(const FieldValue& value, bool untyped) {
  if (std::holds_alternative<int64_t>(value)) return FieldType::kInt;
  if (std::holds_alternative<double>(value)) return FieldType::kFloat;
  if (std::holds_alternative<bool>(value)) return FieldType::kBool;
  const std::string& text = std::get<std::string>(value);
  if (untyped) {
    int64_t integer = 0;
    double real = 0;
    if (WholeNumber(text, &integer)) return FieldType::kInt;
    if (WholeNumber(text, &real) && std::isfinite(real)) return FieldType::kFloat;
    if (text == "true" || text == "false") return FieldType::kBool;
  }
  return ParseDate(text).ok() ? FieldType::kDate : FieldType::kString;
}

// The value as the type wants it, or nothing.
std::optional<FieldValue> Convert(const FieldValue& value, FieldType type, bool untyped) {
  const auto* text = std::get_if<std::string>(&value);
  switch (type) {
    case FieldType::kString:
    case FieldType::kText:
      if (text != nullptr) return value;
      return std::nullopt;
    case FieldType::kInt: {
      if (std::holds_alternative<int64_t>(value)) return value;
      if (const auto* real = std::get_if<double>(&value); real != nullptr && *real == std::floor(*real) && std::abs(*real) <= 0x1p53) {
        return FieldValue(static_cast<int64_t>(*real));   // 5.0 is a whole number
      }
      int64_t integer = 0;
      if (text != nullptr && untyped && WholeNumber(*text, &integer)) return FieldValue(integer);
      return std::nullopt;
    }
    case FieldType::kFloat: {
      if (std::holds_alternative<double>(value)) return value;
      if (const auto* integer = std::get_if<int64_t>(&value)) {   // only where nothing is lost
        const auto real = static_cast<double>(*integer);
        if (std::abs(real) <= 0x1p53) return FieldValue(real);
        return std::nullopt;
      }
      double real = 0;
      if (text != nullptr && untyped && WholeNumber(*text, &real) && std::isfinite(real)) return FieldValue(real);
      return std::nullopt;
    }
    case FieldType::kBool:
      if (std::holds_alternative<bool>(value)) return value;
      if (text != nullptr && untyped && (*text == "true" || *text == "false")) return FieldValue(*text == "true");
      return std::nullopt;
    case FieldType::kDate:
      if (text == nullptr) return std::nullopt;
      if (auto date = ParseDate(*text); date.ok()) return FieldValue(*date);
      return std::nullopt;
  }
  return std::nullopt;
}

absl::Status CheckSpec(const FieldSpec& spec) {
  if (spec.name.empty() || spec.name.size() > 128) return InvalidArgument("a field's name must have 1..128 bytes, got ", spec.name.size());
  if (spec.boost < 1 || spec.boost > kMaxFieldBoost) {
    return InvalidArgument("field '", spec.name, "': boost must be a whole number in 1..", kMaxFieldBoost, ", got ", spec.boost);
  }
  if (spec.boost != 1 && spec.type != FieldType::kText) {
    return InvalidArgument("field '", spec.name, "': boost is for fields of type text, not ", FieldTypeName(spec.type));
  }
  return absl::OkStatus();
}

absl::StatusOr<FieldSpec> SpecFromToml(const toml::table& table) {
  FieldSpec spec;
  const std::string line = internal::Concat("line ", table.source().begin.line);
  for (const auto& [key, node] : table) {
    const std::string_view name = key.str();
    if (name == "name" || name == "type") {
      const auto text = node.value_exact<std::string>();
      if (!text) return InvalidArgument(line, ": '", name, "' must be a string");
      if (name == "name") {
        spec.name = *text;
      } else {
        auto type = ParseType(*text);
        if (!type.ok()) return Annotate(type.status(), line);
        spec.type = *type;
      }
    } else if (name == "multi" || name == "indexed") {
      const auto flag = node.value_exact<bool>();
      if (!flag) return InvalidArgument(line, ": '", name, "' must be true or false");
      (name == "multi" ? spec.multi : spec.indexed) = *flag;
    } else if (name == "boost") {
      const auto number = node.value<double>();
      if (!number || *number != std::floor(*number) || *number < 1 || *number > kMaxFieldBoost) {
        return InvalidArgument(line, ": 'boost' must be a whole number in 1..", kMaxFieldBoost);
      }
      spec.boost = static_cast<int>(*number);
    } else {
      return InvalidArgument(line, ": unknown key '", name, "' (name, type, multi, indexed, boost)");
    }
  }
  return spec;
}

}  // namespace

const char* FieldTypeName(FieldType type) { return kTypeNames[static_cast<int>(type)]; }

absl::Status Schema::Add(FieldSpec spec) {
  RETURN_IF_ERROR(CheckSpec(spec));
  const auto at = std::lower_bound(fields_.begin(), fields_.end(), spec.name, [](const FieldSpec& f, const std::string& n) { return f.name < n; });
  if (at != fields_.end() && at->name == spec.name) return InvalidArgument("field '", spec.name, "' is described twice");
  if (fields_.size() >= kMaxFields) {
    return InvalidArgument("field '", spec.name, "' would be number ", kMaxFields + 1, "; a collection has at most ", kMaxFields, " fields");
  }
  fields_.insert(at, std::move(spec));
  return absl::OkStatus();
}

const FieldSpec* Schema::Find(std::string_view name) const {
  const auto at = std::lower_bound(fields_.begin(), fields_.end(), name, [](const FieldSpec& f, std::string_view n) { return f.name < n; });
  return at != fields_.end() && at->name == name ? &*at : nullptr;
}

absl::StatusOr<Schema> Schema::FromToml(std::string_view text) {
  Schema schema;
  try {
    const toml::table root = toml::parse(text);
    for (const auto& [key, node] : root) {
      const std::string_view name = key.str();
      if (name == "closed") {
        const auto flag = node.value_exact<bool>();
        if (!flag) return InvalidArgument("schema: 'closed' must be true or false");
        schema.closed_ = *flag;
      } else if (const toml::array* list = node.as_array(); name == "field" && list != nullptr) {
        for (const toml::node& element : *list) {
          const toml::table* table = element.as_table();
          if (table == nullptr) return InvalidArgument("schema: each [[field]] must be a table");
          auto spec = SpecFromToml(*table);
          if (!spec.ok()) return Annotate(spec.status(), "schema");
          if (const absl::Status added = schema.Add(*spec); !added.ok()) return Annotate(added, "schema");
        }
      } else {
        return InvalidArgument("schema: unknown key '", name, "' (closed, [[field]])");
      }
    }
  } catch (const toml::parse_error& error) {
    return InvalidArgument("schema: line ", error.source().begin.line, ", column ", error.source().begin.column, ": ", error.description());
  }
  return schema;
}

std::string Schema::ToToml() const {
  std::ostringstream out;
  if (closed_) out << "closed = true\n";
  for (const FieldSpec& spec : fields_) {
    out << "[[field]]\nname = " << DumpJson(spec.name) << "\ntype = \"" << FieldTypeName(spec.type) << "\"\n";   // a JSON string is a TOML string
    if (spec.multi) out << "multi = true\n";
    if (!spec.indexed) out << "indexed = false\n";
    if (spec.boost != 1) out << "boost = " << spec.boost << "\n";
  }
  return std::move(out).str();
}

Json Schema::ToJson() const {
  Json fields = Json::array();
  for (const FieldSpec& spec : fields_) {
    Json field = {{"name", spec.name}, {"type", FieldTypeName(spec.type)}, {"multi", spec.multi}, {"indexed", spec.indexed}, {"boost", spec.boost}};
    if (std::binary_search(inferred_.begin(), inferred_.end(), spec.name)) field["inferred"] = true;
    fields.push_back(std::move(field));
  }
  return {{"closed", closed_}, {"fields", std::move(fields)}};
}

absl::StatusOr<Schema> Schema::FromJson(const Json& value) {
  Schema schema;
  ASSIGN_OR_RETURN(schema.closed_, JsonBool(value, "closed"));
  const auto fields = value.find("fields");
  if (fields == value.end() || !fields->is_array()) return InvalidArgument("schema: 'fields' must be a list");
  for (const Json& field : *fields) {
    FieldSpec spec;
    ASSIGN_OR_RETURN(spec.name, JsonString(field, "name"));
    ASSIGN_OR_RETURN(const std::string type, JsonString(field, "type"));
    ASSIGN_OR_RETURN(spec.type, ParseType(type));
    ASSIGN_OR_RETURN(spec.multi, JsonBool(field, "multi"));
    ASSIGN_OR_RETURN(spec.indexed, JsonBool(field, "indexed"));
    ASSIGN_OR_RETURN(const int64_t boost, JsonInt(field, "boost"));
    spec.boost = static_cast<int>(std::clamp<int64_t>(boost, 0, kMaxFieldBoost + 1));
    if (field.contains("inferred")) schema.inferred_.push_back(spec.name);
    RETURN_IF_ERROR(schema.Add(std::move(spec)));
  }
  std::sort(schema.inferred_.begin(), schema.inferred_.end());
  return schema;
}

absl::Status Schema::Apply(Fields& fields, bool untyped, bool* grew) {
  // All values are converted aside first, so that a rejected record changes neither its fields nor the schema.
  Fields converted;
  std::vector<FieldSpec> added;
  std::vector<std::string> widened;
  for (const auto& [name, values] : fields) {
    if (values.empty()) continue;
    const FieldSpec* known = Find(name);
    FieldSpec inferred;
    if (known == nullptr) {
      if (closed_) return InvalidArgument("field '", name, "' is not in the schema, which is closed; value ", Shown(values[0]));
      inferred.name = name;
      inferred.type = InferType(values[0], untyped);
      for (const FieldValue& value : values) {   // [1, 2.5] is a list of fractions
        if (inferred.type == FieldType::kInt && InferType(value, untyped) == FieldType::kFloat) inferred.type = FieldType::kFloat;
        if (inferred.type == FieldType::kDate && InferType(value, untyped) == FieldType::kString) inferred.type = FieldType::kString;
      }
      inferred.multi = values.size() > 1;
      RETURN_IF_ERROR(CheckSpec(inferred));
      added.push_back(inferred);
      known = &inferred;
      if (fields_.size() + added.size() > kMaxFields) {
        return InvalidArgument("field '", name, "' would be number ", kMaxFields + 1, "; a collection has at most ", kMaxFields, " fields");
      }
    } else if (values.size() > 1 && !known->multi) {
      if (!std::binary_search(inferred_.begin(), inferred_.end(), name)) {
        return InvalidArgument("field '", name, "' (", FieldTypeName(known->type), ") holds one value, got ", values.size(), ", the second ", Shown(values[1]));
      }
      widened.push_back(name);
    }
    std::vector<FieldValue>& out = converted[name];
    for (const FieldValue& value : values) {
      auto typed = Convert(value, known->type, untyped);
      if (!typed) return InvalidArgument("field '", name, "' is of type ", FieldTypeName(known->type), ", got ", Shown(value));
      out.push_back(std::move(*typed));
    }
  }
  for (FieldSpec& spec : added) {
    inferred_.insert(std::lower_bound(inferred_.begin(), inferred_.end(), spec.name), spec.name);
    RETURN_IF_ERROR(Add(std::move(spec)));
  }
  for (const std::string& name : widened) {
    std::find_if(fields_.begin(), fields_.end(), [&](const FieldSpec& f) { return f.name == name; })->multi = true;
  }
  if (!added.empty() || !widened.empty()) *grew = true;
  fields = std::move(converted);
  return absl::OkStatus();
}

// ---- dates ----

namespace {

// Exactly `count` digits at *at.
bool Digits(std::string_view text, size_t* at, int count, int* out) {
  *out = 0;
  for (int i = 0; i < count; ++i, ++*at) {
    if (*at >= text.size() || text[*at] < '0' || text[*at] > '9') return false;
    *out = *out * 10 + (text[*at] - '0');
  }
  return true;
}
bool Symbol(std::string_view text, size_t* at, char wanted) { return *at < text.size() && text[*at] == wanted ? (++*at, true) : false; }

}  // namespace

absl::StatusOr<int64_t> ParseDate(std::string_view text) {
  namespace chrono = std::chrono;
  const auto bad = [&] { return InvalidArgument("not an RFC 3339 date: '", text.substr(0, 40), "'"); };
  size_t at = 0;
  int year = 0, month = 0, day = 0;
  if (!Digits(text, &at, 4, &year) || !Symbol(text, &at, '-') || !Digits(text, &at, 2, &month) || !Symbol(text, &at, '-') || !Digits(text, &at, 2, &day)) return bad();
  const chrono::year_month_day date{chrono::year(year), chrono::month(static_cast<unsigned>(month)), chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return bad();
  const int64_t days = chrono::sys_days(date).time_since_epoch().count();
  if (at == text.size()) return days * 86'400'000'000;
  if (text[at] != 'T' && text[at] != 't' && text[at] != ' ') return bad();
  ++at;
  int hour = 0, minute = 0, second = 0;
  if (!Digits(text, &at, 2, &hour) || !Symbol(text, &at, ':') || !Digits(text, &at, 2, &minute) || !Symbol(text, &at, ':') || !Digits(text, &at, 2, &second)) return bad();
  if (hour > 23 || minute > 59 || second > 60) return bad();   // 60: a leap second, counted as the next one
  int64_t micros = 0;
  if (Symbol(text, &at, '.')) {
    const size_t first = at;
    int64_t unit = 100'000;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10) micros += (text[at] - '0') * unit;   // past six digits unit is 0
    if (at == first) return bad();
  }
  int64_t offset_minutes = 0;
  if (!Symbol(text, &at, 'Z') && !Symbol(text, &at, 'z')) {
    const int sign = Symbol(text, &at, '+') ? 1 : Symbol(text, &at, '-') ? -1 : 0;
    int hours = 0, minutes = 0;
    if (sign == 0 || !Digits(text, &at, 2, &hours) || !Symbol(text, &at, ':') || !Digits(text, &at, 2, &minutes) || hours > 23 || minutes > 59) return bad();
    offset_minutes = sign * (hours * 60 + minutes);
  }
  if (at != text.size()) return bad();
  return ((days * 24 + hour) * 60 + minute - offset_minutes) * 60'000'000 + second * int64_t{1'000'000} + micros;
}

std::string FormatDate(int64_t microseconds) {
  namespace chrono = std::chrono;
  const int64_t day_micros = 86'400'000'000;
  const int64_t days = microseconds / day_micros - (microseconds % day_micros < 0 ? 1 : 0);
  const int64_t rest = microseconds - days * day_micros;
  const chrono::year_month_day date{chrono::sys_days(chrono::days(days))};
  const auto pad = [](int64_t value, int width) {
    std::string digits = std::to_string(value);
    return std::string(static_cast<size_t>(std::max<int64_t>(0, width - static_cast<int64_t>(digits.size()))), '0') + digits;
  };
  const int64_t seconds = rest / 1'000'000;
  std::string out = pad(static_cast<int>(date.year()), 4) + "-" + pad(static_cast<unsigned>(date.month()), 2) + "-" +
                    pad(static_cast<unsigned>(date.day()), 2) + "T" + pad(seconds / 3600, 2) + ":" + pad(seconds / 60 % 60, 2) + ":" + pad(seconds % 60, 2);
  if (rest % 1'000'000 != 0) out += "." + pad(rest % 1'000'000, 6);
  return out + "Z";
}

}  // namespace lectern::index
