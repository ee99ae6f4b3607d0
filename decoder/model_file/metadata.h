// decoder/model_file/metadata.h: the key-value pairs of a model file, whichever container they came from.
//
//   Metadata metadata;
//   RETURN_IF_ERROR(ParseConfig(config_json, &metadata));
//   ASSIGN_OR_RETURN(int64_t layers, metadata.Int("num_hidden_layers"));
//
// Shapes:  scalars, and flat arrays. An array of a GGUF file stays in the mapping, checked, until it is asked for.
// Threads: immutable once filled; any thread.
// Errors:  kNotFound (no such key), kInvalidArgument (another type: names key, wanted and found).
// Cost:    a lookup is one hash; asking for an array copies it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/status.h"

namespace lectern::model_file {

// `text` cut to 64 bytes with what does not print written as \xNN: names in messages come from hostile files.
std::string Printable(std::string_view text);

// Element types of GGUF metadata, with the numbers the format gives them.
enum class GgufType : uint32_t {
  kU8 = 0, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64,
};

struct GgufArray {
  GgufType type = GgufType::kU8;
  uint64_t count = 0;
  std::span<const std::byte> bytes;  // exactly the elements; strings are length-prefixed and were walked once
};

struct Unreadable {};  // a value of a shape no getter returns: an array of objects, an integer past 64 bits

using MetaValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<std::string>, GgufArray, Unreadable>;

class Metadata {
 public:
  bool Add(std::string key, MetaValue value);  // false where the key is there already
  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  absl::StatusOr<int64_t> Int(std::string_view key) const;
  absl::StatusOr<double> Number(std::string_view key) const;  // takes integers too
  absl::StatusOr<bool> Bool(std::string_view key) const;
  absl::StatusOr<std::string> String(std::string_view key) const;
  absl::StatusOr<std::vector<std::string>> Strings(std::string_view key) const;
  absl::StatusOr<std::vector<double>> Numbers(std::string_view key) const;
  absl::StatusOr<std::vector<int64_t>> Ints(std::string_view key) const;

 private:
  const MetaValue* Find(std::string_view key) const;
  std::unordered_map<std::string, MetaValue> values_;
};

// config.json into `metadata`; nested keys are joined by '.', null is left out.
absl::Status ParseConfig(std::string_view json, Metadata* metadata);

}  // namespace lectern::model_file
