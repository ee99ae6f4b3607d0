#include "index/vector_table.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "base/cpu_target.h"

namespace lectern::index {
namespace {

constexpr char kMagic[8] = {'L', 'E', 'C', 'V', 'E', 'C', '\0', '\1'};
constexpr uint32_t kVersion = 1;
constexpr int64_t kAlign = 64;

struct Header {  // little-endian, as every number of the file
  char magic[8];
  uint32_t version, dim;
  int64_t rows;
  uint8_t zero[40];
};
static_assert(sizeof(Header) == kAlign);

int64_t RoundUp(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// Byte offsets of vectors, codes and the three side arrays; all start at a multiple of 64.
struct Layout {
  Layout(int64_t rows, int64_t dim)
      : code_bytes(RoundUp(dim)), codes(kAlign + RoundUp(rows * dim * 4)), sides(codes + rows * code_bytes),
        total(sides + 3 * rows * 4) {}
  int64_t code_bytes, codes, sides, total;
};

// One row to bytes: the greatest value becomes 127. Sums in double, rounded outwards.
void Encode(const float* x, int64_t dim, int64_t code_bytes, uint8_t* codes, float* scale, float* residual, float* norm) {
  float peak = 0;
  for (int64_t i = 0; i < dim; ++i) peak = std::max(peak, std::abs(x[i]));
  const float step = peak / 127.0f;
  double lost = 0, kept = 0;
  for (int64_t i = 0; i < dim; ++i) {
    const int value = step > 0 ? std::clamp(static_cast<int>(std::lrintf(x[i] / step)), -127, 127) : 0;
    codes[i] = static_cast<uint8_t>(value + 128);
    const double back = double{step} * value;
    lost += (x[i] - back) * (x[i] - back);
    kept += back * back;
  }
  std::fill(codes + dim, codes + code_bytes, uint8_t{128});
  *scale = step;
  *residual = static_cast<float>(std::sqrt(lost) * 1.00001);
  *norm = static_cast<float>(std::sqrt(kept) * 1.00001);
}

}  // namespace

VectorTable::VectorTable() : kernels_(&ActiveDenseKernels()) {}

absl::StatusOr<VectorTable> VectorTable::Make(std::vector<float> vectors, int64_t dim, ThreadPool& pool) {
  if (dim < 1 || dim > kMaxDenseDim) return InvalidArgument("dim must be in 1..", kMaxDenseDim, ", got ", dim);
  if (vectors.size() % static_cast<size_t>(dim) != 0) {
    return InvalidArgument("vectors must be whole rows of ", dim, ", got ", vectors.size(), " values");
  }
  VectorTable table;
  table.rows_ = static_cast<int64_t>(vectors.size()) / dim;
  table.dim_ = dim;
  table.code_bytes_ = RoundUp(dim);
  table.owned_vectors_ = std::move(vectors);
  table.owned_codes_.resize(static_cast<size_t>(table.rows_ * table.code_bytes_));
  table.owned_sides_.resize(static_cast<size_t>(3 * table.rows_));
  table.vectors_ = table.owned_vectors_.data();
  table.codes_ = table.owned_codes_.data();
  table.scale_ = table.owned_sides_.data();
  table.residual_ = table.scale_ + table.rows_;
  table.norm_ = table.residual_ + table.rows_;
  std::atomic<int64_t> first_bad{INT64_MAX};
  pool.ParallelFor(table.rows_, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = table.Row(row);
      for (int64_t i = 0; i < dim; ++i) {
        if (std::abs(x[i]) <= kMaxDenseValue) continue;  // false for NaN
        int64_t seen = first_bad.load();
        while (row * dim + i < seen && !first_bad.compare_exchange_weak(seen, row * dim + i)) {}
        return;
      }
      float* sides = table.owned_sides_.data() + row;
      Encode(x, dim, table.code_bytes_, table.owned_codes_.data() + row * table.code_bytes_, sides, sides + table.rows_,
             sides + 2 * table.rows_);
    }
  });
  if (const int64_t bad = first_bad.load(); bad != INT64_MAX) {
    return InvalidArgument("vectors must be finite and within ", kMaxDenseValue, ", row ", bad / dim, " has ",
                           table.owned_vectors_[bad], " at ", bad % dim);
  }
  return table;
}

absl::StatusOr<FileEntry> VectorTable::Write(SegmentFolder& folder, std::string_view name) const {
  ASSIGN_OR_RETURN(std::unique_ptr<SegmentFile> file, folder.Create(name));
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.dim = static_cast<uint32_t>(dim_);
  header.rows = rows_;
  const auto append = [&](const void* data, int64_t bytes) {
    return file->Append(std::string_view(static_cast<const char*>(data), static_cast<size_t>(bytes)));
  };
  RETURN_IF_ERROR(append(&header, sizeof(header)));
  RETURN_IF_ERROR(append(vectors_, rows_ * dim_ * 4));
  const char zeros[kAlign] = {};
  RETURN_IF_ERROR(append(zeros, RoundUp(rows_ * dim_ * 4) - rows_ * dim_ * 4));
  RETURN_IF_ERROR(append(codes_, rows_ * code_bytes_));
  for (const float* side : {scale_, residual_, norm_}) RETURN_IF_ERROR(append(side, rows_ * 4));
  return file->Finish();
}

absl::StatusOr<VectorTable> VectorTable::Open(SegmentFiles& files, std::string_view name) {
  VectorTable table;
  ASSIGN_OR_RETURN(table.map_, files.Take(name));
  const std::span<const std::byte> bytes = table.map_.bytes();
  const int64_t length = static_cast<int64_t>(bytes.size());
  const std::string where = files.PathOf(name);
  Header header;
  if (length < kAlign) return DataLoss(where, ": must hold a header of ", kAlign, " bytes, it has ", length);
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) return DataLoss(where, ": is not a file of vectors");
  if (header.version != kVersion) {
    return NotSupported(where, ": has version ", header.version, ", this program reads ", kVersion);
  }
  const int64_t dim = header.dim;
  if (dim < 1 || dim > kMaxDenseDim) return DataLoss(where, ": dim must be in 1..", kMaxDenseDim, ", it is ", dim);
  if (header.rows < 0 || header.rows > length / dim) return DataLoss(where, ": ", header.rows, " rows cannot fit");
  const Layout layout(header.rows, dim);
  if (layout.total != length) {
    return DataLoss(where, ": ", header.rows, " rows of ", dim, " need ", layout.total, " bytes, it has ", length);
  }
  table.rows_ = header.rows;
  table.dim_ = dim;
  table.code_bytes_ = layout.code_bytes;
  table.vectors_ = reinterpret_cast<const float*>(bytes.data() + kAlign);
  table.codes_ = reinterpret_cast<const uint8_t*>(bytes.data() + layout.codes);
  table.scale_ = reinterpret_cast<const float*>(bytes.data() + layout.sides);
  table.residual_ = table.scale_ + table.rows_;
  table.norm_ = table.residual_ + table.rows_;
  return table;
}

CodedQuery::CodedQuery(const VectorTable& table, std::span<const float> query) : codes(table.code_bytes()) {
  const int64_t dim = table.dim();
  std::vector<uint8_t> biased(static_cast<size_t>(table.code_bytes()));
  float residual = 0, norm = 0;
  Encode(query.data(), dim, table.code_bytes(), biased.data(), &scale, &residual, &norm);
  int32_t sum = 0;
  for (size_t i = 0; i < biased.size(); ++i) {
    codes[i] = static_cast<int8_t>(static_cast<int>(biased[i]) - 128);
    sum += codes[i];
  }
  offset = 128 * sum;
  // q x = (q' + dq)(x' + dx) = q' x' + dq x' + q dx, and float sums of dim products err by dim / 4 roundings at most.
  const float length = norm + residual;
  const float rounding = static_cast<float>(dim / 4 + 32) * 1.2e-7f * length;
  by_residual = length + rounding;
  by_norm = residual + rounding;
}

const DenseKernels& ActiveDenseKernels() {
  static const DenseKernels kScalar = scalar::DenseTable(), kAvx2 = avx2::DenseTable(), kAvx512 = avx512::DenseTable();
  const CpuTarget active = ActiveCpuTarget();
  return active >= CpuTarget::kAvx512 ? kAvx512 : active >= CpuTarget::kAvx2 ? kAvx2 : kScalar;
}

}  // namespace lectern::index
