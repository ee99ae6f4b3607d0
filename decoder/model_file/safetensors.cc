#include "decoder/model_file/safetensors.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "decoder/model_file/metadata.h"
#include "decoder/model_file/tensor_layout.h"

namespace lectern::model_file {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format
constexpr size_t kMaxAxes = 8;                     // no model here has more than four

absl::StatusOr<DType> ElementType(std::string_view name, std::string_view tensor) {
  constexpr std::pair<std::string_view, DType> kTypes[] = {
      {"F32", DType::kF32}, {"F16", DType::kF16}, {"BF16", DType::kBF16}, {"I64", DType::kI64},
      {"I32", DType::kI32}, {"I8", DType::kI8},   {"U8", DType::kU8},
  };
  for (const auto& [known, type] : kTypes) {
    if (known == name) return type;
  }
  return NotSupported("tensor '", Printable(tensor), "' has type '", Printable(name),
                      "'; readable are F32 F16 BF16 I64 I32 I8 U8");
}

// A list of unsigned integers of `entry`, each below 2^63.
absl::Status ReadExtents(simdjson::dom::object entry, std::string_view key, std::string_view tensor, size_t max_count,
                         std::vector<int64_t>* out) {
  simdjson::dom::array array;
  if (entry[key].get(array) != simdjson::SUCCESS) {
    return DataLoss("tensor '", Printable(tensor), "' has no list '", key, "'");
  }
  for (const simdjson::dom::element element : array) {
    int64_t value = 0;
    if (element.get(value) != simdjson::SUCCESS || value < 0) {
      return DataLoss("tensor '", Printable(tensor), "': '", key, "' must hold integers from 0 to 2^63 - 1");
    }
    if (out->size() == max_count) {
      return DataLoss("tensor '", Printable(tensor), "': '", key, "' holds more than ", max_count, " integers");
    }
    out->push_back(value);
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorInfo> ReadEntry(std::string_view name, simdjson::dom::element value,
                                     std::span<const std::byte> bytes, uint64_t data_begin) {
  TensorInfo info;
  info.name = std::string(name);
  simdjson::dom::object entry;
  std::string_view type;
  if (value.get(entry) != simdjson::SUCCESS || entry["dtype"].get(type) != simdjson::SUCCESS) {
    return DataLoss("tensor '", Printable(name), "' must be an object with 'dtype', 'shape' and 'data_offsets'");
  }
  ASSIGN_OR_RETURN(info.type, ElementType(type, name));
  RETURN_IF_ERROR(ReadExtents(entry, "shape", name, kMaxAxes, &info.shape));
  std::vector<int64_t> offsets;
  RETURN_IF_ERROR(ReadExtents(entry, "data_offsets", name, 2, &offsets));
  ASSIGN_OR_RETURN(const int64_t size, TensorBytes(name, info.type, info.shape));
  const uint64_t data_bytes = bytes.size() - data_begin;
  if (offsets.size() != 2 || offsets[0] > offsets[1] || static_cast<uint64_t>(offsets[1]) > data_bytes) {
    return DataLoss("tensor '", Printable(name), "': 'data_offsets' must be begin <= end <= ", data_bytes);
  }
  if (offsets[1] - offsets[0] != size) {
    return DataLoss("tensor '", Printable(name), "' has ", offsets[1] - offsets[0], " bytes, its type and shape ask for ",
                    size);
  }
  const uint64_t begin = data_begin + static_cast<uint64_t>(offsets[0]);
  if (size > 0 && begin % static_cast<uint64_t>(BlockBytes(info.type)) != 0) {
    return DataLoss("tensor '", Printable(name), "' begins at byte ", begin, " of the file, not aligned for ",
                    DTypeName(info.type));
  }
  info.bytes = bytes.subspan(begin, static_cast<uint64_t>(size));
  return info;
}

}  // namespace

absl::Status ParseSafetensors(std::span<const std::byte> bytes, std::vector<TensorInfo>* tensors) {
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof(header_bytes)) return DataLoss("a safetensors file has at least 8 bytes, this has ", bytes.size());
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - sizeof(header_bytes)) {
    return DataLoss("the safetensors header claims ", header_bytes, " bytes, the file has ",
                    bytes.size() - sizeof(header_bytes), " and the limit is ", kMaxHeaderBytes);
  }
  const std::string_view json(reinterpret_cast<const char*>(bytes.data()) + sizeof(header_bytes), header_bytes);
  simdjson::dom::parser parser;
  if (parser.allocate(std::max<size_t>(json.size(), 1), /*max_depth=*/8) != simdjson::SUCCESS) {
    return ResourceExhausted("no memory to parse ", json.size(), " bytes of safetensors header");
  }
  simdjson::dom::element root;
  if (const auto error = parser.parse(json.data(), json.size()).get(root); error != simdjson::SUCCESS) {
    return DataLoss("the safetensors header is not valid JSON: ", simdjson::error_message(error));
  }
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) return DataLoss("the safetensors header must be a JSON object");

  const uint64_t data_begin = sizeof(header_bytes) + header_bytes;
  std::vector<TensorInfo> found;
  std::unordered_set<std::string_view> names;
  uint64_t covered = 0;
  for (const simdjson::dom::key_value_pair field : object) {
    if (field.key == "__metadata__") continue;
    if (!names.insert(field.key).second) {
      return DataLoss("the safetensors header names '", Printable(field.key), "' twice");
    }
    ASSIGN_OR_RETURN(TensorInfo info, ReadEntry(field.key, field.value, bytes, data_begin));
    // Each span lies in the file; overlapping ones may add up past 64 bits, and are refused either way.
    if (__builtin_add_overflow(covered, info.bytes.size(), &covered)) covered = std::numeric_limits<uint64_t>::max();
    found.push_back(std::move(info));
  }
  RETURN_IF_ERROR(CheckNoOverlap(found, bytes.data()));
  if (covered != bytes.size() - data_begin) {
    return DataLoss("the safetensors file has ", bytes.size() - data_begin, " bytes of tensors, its header places ", covered);
  }
  std::move(found.begin(), found.end(), std::back_inserter(*tensors));
  return absl::OkStatus();
}

bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

absl::StatusOr<std::vector<ShardEntry>> ParseShardIndex(std::string_view json) {
  simdjson::dom::parser parser;
  if (json.size() > kMaxHeaderBytes || parser.allocate(std::max<size_t>(json.size(), 1), 8) != simdjson::SUCCESS) {
    return ResourceExhausted("a safetensors index of ", json.size(), " bytes, the limit is ", kMaxHeaderBytes);
  }
  simdjson::dom::element root;
  if (const auto error = parser.parse(json.data(), json.size()).get(root); error != simdjson::SUCCESS) {
    return DataLoss("the safetensors index is not valid JSON: ", simdjson::error_message(error));
  }
  simdjson::dom::object object, weight_map;
  if (root.get(object) != simdjson::SUCCESS || object["weight_map"].get(weight_map) != simdjson::SUCCESS) {
    return DataLoss("the safetensors index has no object 'weight_map'");
  }
  std::vector<ShardEntry> entries;
  for (const simdjson::dom::key_value_pair field : weight_map) {
    std::string_view file;
    if (field.value.get(file) != simdjson::SUCCESS || !IsPlainFileName(file)) {
      return DataLoss("the safetensors index places '", Printable(field.key), "' in something that is no file name");
    }
    entries.push_back({std::string(field.key), std::string(file)});
  }
  return entries;
}

}  // namespace lectern::model_file
