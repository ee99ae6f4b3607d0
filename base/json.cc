#include "base/json.h"

#include <algorithm>

namespace lectern {
namespace {

// Counts nesting before the parser recurses into it; strings are skipped.
int DepthOf(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

absl::StatusOr<const Json*> Member(const Json& object, std::string_view key) {
  if (!object.is_object()) return InvalidArgument("expected a JSON object around '", key, "'");
  const auto it = object.find(std::string(key));
  if (it == object.end()) return NotFound("JSON key '", key, "' is missing");
  return &*it;
}

absl::Status WrongType(std::string_view key, const char* wanted, const Json& got) {
  return InvalidArgument("JSON key '", key, "' must be ", wanted, ", got ", DumpJson(got).substr(0, 80));
}

}  // namespace

JsonBox::JsonBox() = default;
JsonBox::JsonBox(Json value) : value_(std::make_unique<Json>(std::move(value))) {}
JsonBox::JsonBox(const JsonBox& other) : value_(other.value_ != nullptr ? std::make_unique<Json>(*other.value_) : nullptr) {}
JsonBox::JsonBox(JsonBox&& other) noexcept = default;
JsonBox& JsonBox::operator=(JsonBox other) noexcept {
  value_.swap(other.value_);
  return *this;
}
JsonBox::~JsonBox() = default;
Json& JsonBox::operator*() {
  if (value_ == nullptr) value_ = std::make_unique<Json>();
  return *value_;
}
const Json& JsonBox::operator*() const {
  static const Json kNull;
  return value_ != nullptr ? *value_ : kNull;
}

absl::StatusOr<Json> ParseJson(std::string_view text, JsonLimits limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    return ResourceExhausted("JSON of ", text.size(), " bytes, the limit is ", limits.max_bytes);
  }
  if (const int depth = DepthOf(text); depth > limits.max_depth) {
    return ResourceExhausted("JSON nested ", depth, " deep, the limit is ", limits.max_depth);
  }
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error& error) {
    std::string_view what = error.what();   // "[json.exception.parse_error.101] parse error at line 1, column 2: WHAT"
    if (const size_t colon = what.find(": "); colon != std::string_view::npos) what.remove_prefix(colon + 2);
    return InvalidArgument("malformed JSON at byte ", error.byte, ": ", what);
  } catch (const std::exception& error) {
    return InvalidArgument("malformed JSON: ", error.what());
  }
}

std::string DumpJson(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<int64_t> JsonInt(const Json& object, std::string_view key) {
  ASSIGN_OR_RETURN(const Json* value, Member(object, key));
  if (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX) return WrongType(key, "a 64-bit integer", *value);
  if (!value->is_number_integer()) return WrongType(key, "an integer", *value);
  return value->get<int64_t>();
}
absl::StatusOr<double> JsonNumber(const Json& object, std::string_view key) {
  ASSIGN_OR_RETURN(const Json* value, Member(object, key));
  if (!value->is_number()) return WrongType(key, "a number", *value);
  return value->get<double>();
}
absl::StatusOr<std::string> JsonString(const Json& object, std::string_view key) {
  ASSIGN_OR_RETURN(const Json* value, Member(object, key));
  if (!value->is_string()) return WrongType(key, "a string", *value);
  return value->get<std::string>();
}
absl::StatusOr<bool> JsonBool(const Json& object, std::string_view key) {
  ASSIGN_OR_RETURN(const Json* value, Member(object, key));
  if (!value->is_boolean()) return WrongType(key, "true or false", *value);
  return value->get<bool>();
}

}  // namespace lectern
