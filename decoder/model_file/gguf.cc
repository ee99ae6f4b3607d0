#include "decoder/model_file/gguf.h"

#include <bit>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "decoder/model_file/tensor_layout.h"

namespace lectern::model_file {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF values are read as they lie");

constexpr uint64_t kMaxAxes = 4;                   // GGML_MAX_DIMS of the format
constexpr uint64_t kMinTensorRecord = 8 + 4 + 8 + 4 + 8;  // name length, axes, one extent, type, offset
constexpr uint64_t kMinPairRecord = 8 + 4 + 1;     // key length, type, one byte
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1 << 20;

// Bytes of one value; 0 for strings, arrays and types the format does not have.
uint64_t ScalarBytes(uint32_t type) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < std::size(kBytes) ? kBytes[type] : 0;
}

// The tensor types of the format, by number. `known` is false for those this build has no kernels for.
struct TensorType {
  uint32_t number;
  const char* name;
  bool known;
  DType type;
};
constexpr TensorType kTensorTypes[] = {
    {0, "F32", true, DType::kF32},    {1, "F16", true, DType::kF16},    {2, "Q4_0", true, DType::kQ4_0},
    {3, "Q4_1", true, DType::kQ4_1},  {6, "Q5_0", true, DType::kQ5_0},  {7, "Q5_1", true, DType::kQ5_1},
    {8, "Q8_0", true, DType::kQ8_0},  {9, "Q8_1", false, {}},           {10, "Q2_K", false, {}},
    {11, "Q3_K", false, {}},          {12, "Q4_K", true, DType::kQ4_K}, {13, "Q5_K", true, DType::kQ5_K},
    {14, "Q6_K", true, DType::kQ6_K}, {15, "Q8_K", false, {}},          {16, "IQ2_XXS", false, {}},
    {17, "IQ2_XS", false, {}},        {18, "IQ3_XXS", false, {}},       {19, "IQ1_S", false, {}},
    {20, "IQ4_NL", false, {}},        {21, "IQ3_S", false, {}},         {22, "IQ2_S", false, {}},
    {23, "IQ4_XS", false, {}},        {24, "I8", true, DType::kI8},     {25, "I16", false, {}},
    {26, "I32", true, DType::kI32},   {27, "I64", true, DType::kI64},   {28, "F64", false, {}},
    {29, "IQ1_M", false, {}},         {30, "BF16", true, DType::kBF16}, {34, "TQ1_0", false, {}},
    {35, "TQ2_0", false, {}},         {39, "MXFP4", false, {}},
};

absl::StatusOr<DType> TensorTypeOf(uint32_t number, std::string_view tensor) {
  for (const TensorType& entry : kTensorTypes) {
    if (entry.number != number) continue;
    if (entry.known) return entry.type;
    return NotSupported("tensor '", Printable(tensor), "' has type ", entry.name,
                        "; readable are F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K");
  }
  return NotSupported("tensor '", Printable(tensor), "' has the unknown type number ", number);
}

class Walker {
 public:
  explicit Walker(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  template <class T>
  absl::StatusOr<T> Get(const char* what) {
    if (left() < sizeof(T)) return Truncated(what, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  absl::StatusOr<std::span<const std::byte>> Take(uint64_t size, const char* what) {
    if (left() < size) return Truncated(what, size);
    const std::span<const std::byte> taken = bytes_.subspan(at_, size);
    at_ += size;
    return taken;
  }
  absl::StatusOr<std::string_view> String(const char* what) {
    ASSIGN_OR_RETURN(const uint64_t length, Get<uint64_t>(what));
    ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, Take(length, what));
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

 private:
  absl::Status Truncated(const char* what, uint64_t wanted) const {
    return DataLoss("the GGUF file ends inside ", what, " at byte ", at_, ": ", wanted, " bytes wanted, ", left(), " left");
  }
  std::span<const std::byte> bytes_;
  uint64_t at_ = 0;
};

template <class T>
absl::StatusOr<MetaValue> ScalarAs(Walker& walker) {
  ASSIGN_OR_RETURN(const T value, walker.Get<T>("a value"));
  if constexpr (std::is_floating_point_v<T>) {
    return MetaValue(static_cast<double>(value));
  } else {
    if (std::cmp_greater(value, std::numeric_limits<int64_t>::max())) return MetaValue(Unreadable{});
    return MetaValue(static_cast<int64_t>(value));
  }
}

absl::StatusOr<MetaValue> ReadArray(Walker& walker, std::string_view key) {
  ASSIGN_OR_RETURN(const uint32_t type, walker.Get<uint32_t>("an array's type"));
  ASSIGN_OR_RETURN(const uint64_t count, walker.Get<uint64_t>("an array's length"));
  GgufArray array{static_cast<GgufType>(type), count, {}};
  if (array.type == GgufType::kArray) {
    return NotSupported("GGUF key '", Printable(key), "' is an array of arrays");
  }
  if (array.type == GgufType::kString) {
    if (count > walker.left() / sizeof(uint64_t)) {
      return DataLoss("GGUF key '", Printable(key), "' claims ", count, " strings at byte ", walker.at(), ", ",
                      walker.left(), " bytes are left");
    }
    Walker measure = walker;
    for (uint64_t i = 0; i < count; ++i) RETURN_IF_ERROR(measure.String("an array of strings").status());
    ASSIGN_OR_RETURN(array.bytes, walker.Take(measure.at() - walker.at(), "an array of strings"));
    return MetaValue(array);
  }
  const uint64_t element = ScalarBytes(type);
  if (element == 0) return NotSupported("GGUF key '", Printable(key), "' is an array of the unknown type ", type);
  if (count > walker.left() / element) {
    return DataLoss("GGUF key '", Printable(key), "' claims ", count, " elements at byte ", walker.at(), ", ",
                    walker.left(), " bytes are left");
  }
  ASSIGN_OR_RETURN(array.bytes, walker.Take(count * element, "an array"));
  return MetaValue(array);
}

absl::StatusOr<MetaValue> ReadValue(Walker& walker, uint32_t type, std::string_view key) {
  switch (static_cast<GgufType>(type)) {
    case GgufType::kU8: return ScalarAs<uint8_t>(walker);
    case GgufType::kI8: return ScalarAs<int8_t>(walker);
    case GgufType::kU16: return ScalarAs<uint16_t>(walker);
    case GgufType::kI16: return ScalarAs<int16_t>(walker);
    case GgufType::kU32: return ScalarAs<uint32_t>(walker);
    case GgufType::kI32: return ScalarAs<int32_t>(walker);
    case GgufType::kU64: return ScalarAs<uint64_t>(walker);
    case GgufType::kI64: return ScalarAs<int64_t>(walker);
    case GgufType::kF32: return ScalarAs<float>(walker);
    case GgufType::kF64: return ScalarAs<double>(walker);
    case GgufType::kBool: {
      ASSIGN_OR_RETURN(const uint8_t flag, walker.Get<uint8_t>("a flag"));
      if (flag > 1) return DataLoss("GGUF key '", Printable(key), "' must be 0 or 1, it is ", int{flag});
      return MetaValue(flag == 1);
    }
    case GgufType::kString: {
      ASSIGN_OR_RETURN(const std::string_view text, walker.String("a string value"));
      return MetaValue(std::string(text));
    }
    case GgufType::kArray: return ReadArray(walker, key);
  }
  return NotSupported("GGUF key '", Printable(key), "' has the unknown value type ", type);
}

struct Placed {
  TensorInfo info;
  uint64_t offset = 0;
};

absl::StatusOr<Placed> ReadTensorRecord(Walker& walker) {
  Placed placed;
  ASSIGN_OR_RETURN(const std::string_view name, walker.String("a tensor name"));
  placed.info.name = std::string(name);
  ASSIGN_OR_RETURN(const uint32_t num_axes, walker.Get<uint32_t>("a tensor's axes"));
  if (num_axes < 1 || num_axes > kMaxAxes) {
    return DataLoss("tensor '", Printable(name), "' must have 1..", kMaxAxes, " axes, it has ", num_axes);
  }
  placed.info.shape.resize(num_axes);
  for (uint32_t axis = num_axes; axis-- > 0;) {  // the file has the innermost first
    ASSIGN_OR_RETURN(const uint64_t extent, walker.Get<uint64_t>("a tensor's extents"));
    if (extent < 1 || extent > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return DataLoss("tensor '", Printable(name), "' has an axis of ", extent, " elements");
    }
    placed.info.shape[axis] = static_cast<int64_t>(extent);
  }
  ASSIGN_OR_RETURN(const uint32_t type, walker.Get<uint32_t>("a tensor's type"));
  ASSIGN_OR_RETURN(placed.info.type, TensorTypeOf(type, name));
  ASSIGN_OR_RETURN(placed.offset, walker.Get<uint64_t>("a tensor's offset"));
  return placed;
}

absl::StatusOr<uint64_t> AlignmentOf(const Metadata& metadata) {
  if (!metadata.Has("general.alignment")) return kDefaultAlignment;
  ASSIGN_OR_RETURN(const int64_t alignment, metadata.Int("general.alignment"));
  if (alignment < 8 || alignment > static_cast<int64_t>(kMaxAlignment) ||
      !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    return DataLoss("general.alignment must be a power of two in 8..", kMaxAlignment, ", it is ", alignment);
  }
  return static_cast<uint64_t>(alignment);
}

absl::Status CheckHead(Walker& walker) {
  ASSIGN_OR_RETURN(const uint32_t magic, walker.Get<uint32_t>("the magic"));
  if (magic != 0x46554747u) return DataLoss("not a GGUF file: it does not begin with 'GGUF'");
  ASSIGN_OR_RETURN(const uint32_t version, walker.Get<uint32_t>("the version"));
  if (version == 2 || version == 3) return absl::OkStatus();
  if (__builtin_bswap32(version) <= 3) return NotSupported("a big-endian GGUF file; readable are little-endian ones");
  return NotSupported("GGUF version ", version, "; readable are 2 and 3");
}

}  // namespace

absl::StatusOr<GgufContents> ParseGguf(std::span<const std::byte> bytes) {
  Walker walker(bytes);
  RETURN_IF_ERROR(CheckHead(walker));
  ASSIGN_OR_RETURN(const uint64_t num_tensors, walker.Get<uint64_t>("the tensor count"));
  ASSIGN_OR_RETURN(const uint64_t num_pairs, walker.Get<uint64_t>("the key count"));
  if (num_tensors > walker.left() / kMinTensorRecord || num_pairs > walker.left() / kMinPairRecord) {
    return DataLoss("the GGUF file claims ", num_tensors, " tensors and ", num_pairs, " keys, ", walker.left(),
                    " bytes are left");
  }

  GgufContents contents;
  for (uint64_t i = 0; i < num_pairs; ++i) {
    ASSIGN_OR_RETURN(const std::string_view key, walker.String("a key"));
    ASSIGN_OR_RETURN(const uint32_t type, walker.Get<uint32_t>("a value's type"));
    ASSIGN_OR_RETURN(MetaValue value, ReadValue(walker, type, key));
    if (!contents.metadata.Add(std::string(key), std::move(value))) {
      return DataLoss("the GGUF file gives the key '", Printable(key), "' twice");
    }
  }
  if (contents.metadata.Has("split.count")) {
    ASSIGN_OR_RETURN(const int64_t parts, contents.metadata.Int("split.count"));
    if (parts > 1) return NotSupported("one of ", parts, " parts of a split GGUF file; merge them first");
  }
  ASSIGN_OR_RETURN(const uint64_t alignment, AlignmentOf(contents.metadata));

  std::vector<Placed> placed;
  std::unordered_set<std::string> names;
  for (uint64_t i = 0; i < num_tensors; ++i) {
    ASSIGN_OR_RETURN(Placed next, ReadTensorRecord(walker));
    if (!names.insert(next.info.name).second) {
      return DataLoss("the GGUF file names the tensor '", Printable(next.info.name), "' twice");
    }
    placed.push_back(std::move(next));
  }

  // Tensor data begins at the next multiple of the alignment; a file without tensors may end before it.
  const uint64_t data_begin = (walker.at() + alignment - 1) / alignment * alignment;
  const uint64_t data_bytes = data_begin <= bytes.size() ? bytes.size() - data_begin : 0;
  for (Placed& next : placed) {
    TensorInfo& info = next.info;
    ASSIGN_OR_RETURN(const int64_t size, TensorBytes(info.name, info.type, info.shape));
    if (next.offset % alignment != 0) {
      return DataLoss("tensor '", Printable(info.name), "' begins at ", next.offset, ", no multiple of the alignment ",
                      alignment);
    }
    if (next.offset > data_bytes || static_cast<uint64_t>(size) > data_bytes - next.offset) {
      return DataLoss("tensor '", Printable(info.name), "' takes ", size, " bytes at ", next.offset, ", the file has ",
                      data_bytes, " bytes of tensors");
    }
    info.bytes = bytes.subspan(data_begin + next.offset, static_cast<uint64_t>(size));
    contents.tensors.push_back(std::move(info));
  }
  RETURN_IF_ERROR(CheckNoOverlap(contents.tensors, bytes.data()));
  return contents;
}

}  // namespace lectern::model_file
