#include "decoder/model_file/metadata.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace lectern::model_file {
namespace {

constexpr int kMaxConfigDepth = 32;  // real configurations nest three deep

const char* KindOf(const MetaValue& value) {
  constexpr const char* kNames[] = {"an integer", "a number", "true or false", "a string", "integers",
                                    "numbers", "strings", "an array", "a nested or oversized value"};
  return kNames[value.index()];
}

absl::Status WrongType(std::string_view key, const char* wanted, const MetaValue& got) {
  return InvalidArgument("model key '", Printable(key), "' must be ", wanted, ", it is ", KindOf(got));
}

absl::Status Missing(std::string_view key) {
  return NotFound("the model file has no key '", Printable(key), "'");
}

template <class Stored>
Stored Load(std::span<const std::byte> bytes, uint64_t index) {
  Stored value;
  std::memcpy(&value, bytes.data() + index * sizeof(Stored), sizeof(Stored));
  return value;
}

template <class Stored, class Out>
std::vector<Out> Widen(const GgufArray& array) {
  std::vector<Out> out(array.count);
  for (uint64_t i = 0; i < array.count; ++i) out[i] = static_cast<Out>(Load<Stored>(array.bytes, i));
  return out;
}

template <class Out>
absl::StatusOr<std::vector<Out>> WidenIntegers(std::string_view key, const GgufArray& array, const MetaValue& value) {
  switch (array.type) {
    case GgufType::kU8:
    case GgufType::kBool: return Widen<uint8_t, Out>(array);
    case GgufType::kI8: return Widen<int8_t, Out>(array);
    case GgufType::kU16: return Widen<uint16_t, Out>(array);
    case GgufType::kI16: return Widen<int16_t, Out>(array);
    case GgufType::kU32: return Widen<uint32_t, Out>(array);
    case GgufType::kI32: return Widen<int32_t, Out>(array);
    case GgufType::kI64: return Widen<int64_t, Out>(array);
    case GgufType::kU64:
      for (uint64_t i = 0; i < array.count; ++i) {
        if (Load<uint64_t>(array.bytes, i) > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
          return InvalidArgument("model key '", Printable(key), "' holds an integer past 63 bits at ", i);
        }
      }
      return Widen<uint64_t, Out>(array);
    default: return WrongType(key, "an array of integers", value);
  }
}

// One JSON array: integers, numbers, strings, or unreadable. An empty one serves as any of them: integers.
MetaValue ArrayValue(simdjson::dom::array array) {
  bool all_ints = true, all_numbers = true, all_strings = true;
  for (const simdjson::dom::element element : array) {
    all_ints = all_ints && element.is<int64_t>();
    all_numbers = all_numbers && element.is_number();
    all_strings = all_strings && element.is_string();
  }
  if (all_ints) {
    std::vector<int64_t> out;
    for (const simdjson::dom::element element : array) out.push_back(element.get_int64().value_unsafe());
    return out;
  }
  if (all_numbers) {
    std::vector<double> out;
    for (const simdjson::dom::element element : array) {
      double number = 0;
      if (element.get(number) != simdjson::SUCCESS) return Unreadable{};
      out.push_back(number);
    }
    return out;
  }
  if (all_strings) {
    std::vector<std::string> out;
    for (const simdjson::dom::element element : array) out.emplace_back(element.get_string().value_unsafe());
    return out;
  }
  return Unreadable{};
}

absl::Status AddElement(const std::string& key, simdjson::dom::element element, Metadata* metadata);

absl::Status AddObject(const std::string& prefix, simdjson::dom::object object, Metadata* metadata) {
  for (const simdjson::dom::key_value_pair field : object) {
    const std::string name(field.key);
    RETURN_IF_ERROR(AddElement(prefix.empty() ? name : prefix + "." + name, field.value, metadata));
  }
  return absl::OkStatus();
}

absl::Status AddElement(const std::string& key, simdjson::dom::element element, Metadata* metadata) {
  using Type = simdjson::dom::element_type;
  MetaValue value = Unreadable{};
  switch (element.type()) {
    case Type::OBJECT: return AddObject(key, element.get_object().value_unsafe(), metadata);
    case Type::NULL_VALUE: return absl::OkStatus();
    case Type::ARRAY: value = ArrayValue(element.get_array().value_unsafe()); break;
    case Type::INT64: value = element.get_int64().value_unsafe(); break;
    case Type::UINT64: break;
    case Type::DOUBLE: value = element.get_double().value_unsafe(); break;
    case Type::BOOL: value = element.get_bool().value_unsafe(); break;
    case Type::STRING: value = std::string(element.get_string().value_unsafe()); break;
  }
  if (!metadata->Add(key, std::move(value))) {
    return DataLoss("config.json gives '", Printable(key), "' twice");
  }
  return absl::OkStatus();
}

}  // namespace

std::string Printable(std::string_view text) {
  constexpr size_t kShown = 64;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\') {
      out.push_back(c);
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  if (text.size() > kShown) out += "...";
  return out;
}

bool Metadata::Add(std::string key, MetaValue value) {
  return values_.emplace(std::move(key), std::move(value)).second;
}

const MetaValue* Metadata::Find(std::string_view key) const {
  const auto it = values_.find(std::string(key));
  return it == values_.end() ? nullptr : &it->second;
}

absl::StatusOr<int64_t> Metadata::Int(std::string_view key) const {
  const MetaValue* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (const auto* number = std::get_if<int64_t>(value)) return *number;
  return WrongType(key, "an integer", *value);
}

absl::StatusOr<double> Metadata::Number(std::string_view key) const {
  const MetaValue* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<int64_t>(value)) return static_cast<double>(*number);
  return WrongType(key, "a number", *value);
}

absl::StatusOr<bool> Metadata::Bool(std::string_view key) const {
  const MetaValue* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  return WrongType(key, "true or false", *value);
}

absl::StatusOr<std::string> Metadata::String(std::string_view key) const {
  const MetaValue* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  return WrongType(key, "a string", *value);
}

absl::StatusOr<std::vector<std::string>> Metadata::Strings(std::string_view key) const {
  const MetaValue* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (const auto* strings = std::get_if<std::vector<std::string>>(value)) return *strings;
  if (const auto* ints = std::get_if<std::vector<int64_t>>(value); ints != nullptr && ints->empty()) {
    return std::vector<std::string>();
  }
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr || array->type != GgufType::kString) return WrongType(key, "an array of strings", *value);
  std::vector<std::string> out;
  out.reserve(array->count);
  size_t at = 0;  // lengths were checked when the file was opened
  for (uint64_t i = 0; i < array->count; ++i) {
    uint64_t length = 0;
    std::memcpy(&length, array->bytes.data() + at, sizeof(length));
    out.emplace_back(reinterpret_cast<const char*>(array->bytes.data()) + at + sizeof(length), length);
    at += sizeof(length) + length;
  }
  return out;
}

absl::StatusOr<std::vector<double>> Metadata::Numbers(std::string_view key) const {
  const MetaValue* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (const auto* numbers = std::get_if<std::vector<double>>(value)) return *numbers;
  if (const auto* ints = std::get_if<std::vector<int64_t>>(value)) return std::vector<double>(ints->begin(), ints->end());
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr) return WrongType(key, "an array of numbers", *value);
  if (array->type == GgufType::kF32) return Widen<float, double>(*array);
  if (array->type == GgufType::kF64) return Widen<double, double>(*array);
  return WidenIntegers<double>(key, *array, *value);
}

absl::StatusOr<std::vector<int64_t>> Metadata::Ints(std::string_view key) const {
  const MetaValue* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (const auto* ints = std::get_if<std::vector<int64_t>>(value)) return *ints;
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr) return WrongType(key, "an array of integers", *value);
  return WidenIntegers<int64_t>(key, *array, *value);
}

absl::Status ParseConfig(std::string_view json, Metadata* metadata) {
  simdjson::dom::parser parser;
  if (parser.allocate(std::max<size_t>(json.size(), 1), kMaxConfigDepth) != simdjson::SUCCESS) {
    return ResourceExhausted("no memory to parse ", json.size(), " bytes of config.json");
  }
  simdjson::dom::element root;
  if (const auto error = parser.parse(json.data(), json.size()).get(root); error != simdjson::SUCCESS) {
    return DataLoss("config.json is not valid JSON: ", simdjson::error_message(error));
  }
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) return DataLoss("config.json must hold a JSON object");
  return AddObject("", object, metadata);
}

}  // namespace lectern::model_file
