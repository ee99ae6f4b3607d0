#include "base/nn/pack.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "base/check.h"
#include "base/nn/dequantize.h"
#include "base/nn/quant_blocks.h"

namespace lectern::nn {
namespace {

constexpr int64_t kLargePage = 2 << 20;
constexpr int64_t kMaxElements = int64_t{1} << 40;

bool IsSuper(PackFormat f) {
  return f == PackFormat::kU4Super || f == PackFormat::kU5Super || f == PackFormat::kU6Super;
}

// The 16 bits that vector `j` keeps of one row and one side (even, odd) of the 16 pairs.
template <int kBits>
uint16_t Lane(const uint8_t c[16], int j) {
  int lane = 0;
  if constexpr (kBits == 4) lane = c[4 * j] | c[4 * j + 1] << 4 | c[4 * j + 2] << 8 | c[4 * j + 3] << 12;
  if constexpr (kBits == 5) lane = c[3 * j] | c[3 * j + 1] << 5 | c[3 * j + 2] << 10 | ((c[15] >> j) & 1) << 15;
  if constexpr (kBits == 6) {
    const uint8_t* last = c + 12 + j / 3 * 2;
    const int share = j % 3 == 0 ? last[0] & 15 : j % 3 == 1 ? last[0] >> 4 | (last[1] >> 4) << 2 : last[1] & 15;
    lane = c[2 * j] | c[2 * j + 1] << 6 | share << 12;
  }
  if constexpr (kBits == 8) lane = c[2 * j] | c[2 * j + 1] << 8;
  return static_cast<uint16_t>(lane);
}

// codes [16 rows][32 columns] to the packed vectors of one group.
template <int kBits>
void PackBits(const uint8_t codes[16][32], uint8_t* out) {
  for (int row = 0; row < 16; ++row) {
    for (int side = 0; side < 2; ++side) {
      uint8_t c[16];
      for (int pair = 0; pair < 16; ++pair) c[pair] = codes[row][2 * pair + side];
#pragma GCC unroll 8
      for (int j = 0; j < kBits; ++j) {
        const uint16_t lane = Lane<kBits>(c, j);
        std::memcpy(out + 64 * j + 4 * row + 2 * side, &lane, 2);
      }
    }
  }
}

void PackGroup(PackFormat format, const uint8_t codes[16][32], uint8_t* out) {
  switch (BitsOf(format)) {
    case 4: return PackBits<4>(codes, out);
    case 5: return PackBits<5>(codes, out);
    case 6: return PackBits<6>(codes, out);
    default: return PackBits<8>(codes, out);
  }
}

// The 32 codes of one row of a packed group.
void UnpackGroup(PackFormat format, const uint8_t* group, int row, uint8_t codes[32]) {
  const int bits = BitsOf(format);
  for (int side = 0; side < 2; ++side) {
    int v[8];
    for (int j = 0; j < bits; ++j) v[j] = group[64 * j + 4 * row + 2 * side] | group[64 * j + 4 * row + 2 * side + 1] << 8;
    for (int pair = 0; pair < 16; ++pair) {
      int code;
      if (bits == 5 && pair == 15) {
        code = v[0] >> 15 | v[1] >> 15 << 1 | v[2] >> 15 << 2 | v[3] >> 15 << 3 | v[4] >> 15 << 4;
      } else if (bits == 6 && pair >= 12) {
        const int j = pair < 14 ? 0 : 3;
        code = pair % 2 == 0 ? v[j] >> 12 | ((v[j + 1] >> 12) & 3) << 4 : v[j + 2] >> 12 | v[j + 1] >> 14 << 4;
      } else {
        const int per = 16 / bits;  // whole codes of a lane
        code = (v[pair / per] >> (pair % per * bits)) & ((1 << bits) - 1);
      }
      codes[2 * pair + side] = static_cast<uint8_t>(code);
    }
  }
}

float HalfAt(const uint8_t* p) { return ToFloat(fp16{static_cast<uint16_t>(p[0] | p[1] << 8)}); }

void PackPanel32(DType type, PackFormat format, const uint8_t* rows, int64_t row_bytes, int num_rows, int64_t groups,
                 uint8_t* codes_out, uint8_t* scales_out) {
  const bool has_minimum = KindOf(format) == GroupKind::kMin;
  uint8_t codes[16][32];
  std::memset(codes, 0, sizeof(codes));
  for (int64_t g = 0; g < groups; ++g) {
    uint8_t* scales = scales_out + g * (has_minimum ? 64 : 32);
    for (int row = 0; row < num_rows; ++row) {
      const uint8_t* block = rows + row * row_bytes + g * BlockBytes(type);
      UnpackCodes32(type, block, codes[row]);
      std::memcpy(scales + 2 * row, block, 2);
      if (has_minimum) std::memcpy(scales + 32 + 2 * row, block + 2, 2);
    }
    PackGroup(format, codes, codes_out + g * CodeBytes(format));
  }
}

void PackPanel256(DType type, PackFormat format, const uint8_t* rows, int64_t row_bytes, int num_rows, int64_t groups,
                  uint8_t* codes_out, uint8_t* scales_out) {
  uint8_t codes[8][16][32];
  std::memset(codes, 0, sizeof(codes));
  for (int64_t super = 0; super < groups / 8; ++super) {
    const bool six = format == PackFormat::kU6Super;
    uint8_t* scales = scales_out + super * (six ? 288 : 320);
    for (int row = 0; row < num_rows; ++row) {
      const uint8_t* block = rows + row * row_bytes + super * BlockBytes(type);
      uint8_t all[256];
      UnpackCodes256(type, block, all);
      for (int g = 0; g < 8; ++g) std::memcpy(codes[g][row], all + 32 * g, 32);
      if (six) {
        std::memcpy(scales + 2 * row, block + 208, 2);
        for (int i = 0; i < 16; ++i) scales[32 + 16 * i + row] = block[192 + i];
      } else {
        uint8_t own[8], minima[8];
        UnpackScalesK(block + 4, own, minima);
        std::memcpy(scales + 2 * row, block, 2);
        std::memcpy(scales + 32 + 2 * row, block + 2, 2);
        for (int g = 0; g < 8; ++g) {
          scales[64 + 32 * g + row] = own[g];
          scales[64 + 32 * g + 16 + row] = minima[g];
        }
      }
    }
    for (int g = 0; g < 8; ++g) PackGroup(format, codes[g], codes_out + (8 * super + g) * CodeBytes(format));
  }
}

void PackBf16Panel(const float* panel, int64_t cols, uint8_t* out) {  // panel: float [col][16]
  for (int64_t col = 0; col < cols; ++col) {
    for (int row = 0; row < 16; ++row) {
      const uint16_t bits = ToBf16(panel[col * 16 + row]).bits;
      std::memcpy(out + col / 2 * 64 + 4 * row + 2 * (col % 2), &bits, 2);
    }
  }
}

}  // namespace

void AlignedBytes::Free::operator()(uint8_t* p) const { std::free(p); }

absl::StatusOr<AlignedBytes> AlignedBytes::Allocate(int64_t size) {
  const bool large = size >= kLargePage;
  const int64_t alignment = large ? kLargePage : 64;
  const int64_t rounded = (std::max<int64_t>(size, 64) + 63) / 64 * 64;
  void* p = nullptr;
  if (::posix_memalign(&p, static_cast<size_t>(alignment), static_cast<size_t>(rounded)) != 0) {
    return ResourceExhausted("no memory for ", size, " bytes of packed weights");
  }
  // Whole large pages only: the tail stays on small ones, so that nothing is wasted.
  if (large) ::madvise(p, static_cast<size_t>(rounded / kLargePage * kLargePage), MADV_HUGEPAGE);
  AlignedBytes bytes;
  bytes.data_.reset(static_cast<uint8_t*>(p));
  bytes.size_ = size;
  return bytes;
}

absl::Status CheckMatrix(DType type, std::span<const std::byte> bytes, int64_t rows, int64_t cols) {
  if (!IsLinearType(type)) return NotSupported("a weight matrix of type ", DTypeName(type));
  if (rows < 1 || cols < 1 || cols > kMaxElements / rows) {
    return InvalidArgument("a weight matrix needs 1 to ", kMaxElements, " elements, got ", rows, " x ", cols);
  }
  const int64_t row_bytes = RowBytes(type, cols);
  if (row_bytes < 0) {
    return InvalidArgument(DTypeName(type), " rows come in blocks of ", BlockSize(type), " columns, got ", cols);
  }
  if (static_cast<int64_t>(bytes.size()) != rows * row_bytes) {
    return InvalidArgument(DTypeName(type), " ", rows, " x ", cols, " takes ", rows * row_bytes, " bytes, got ",
                           bytes.size());
  }
  return absl::OkStatus();
}

PackFormat PackFormatOf(DType type) {
  switch (type) {
    case DType::kQ4_0: return PackFormat::kU4;
    case DType::kQ4_1: return PackFormat::kU4Min;
    case DType::kQ5_0: return PackFormat::kU5;
    case DType::kQ5_1: return PackFormat::kU5Min;
    case DType::kQ8_0: return PackFormat::kU8;
    case DType::kQ4_K: return PackFormat::kU4Super;
    case DType::kQ5_K: return PackFormat::kU5Super;
    case DType::kQ6_K: return PackFormat::kU6Super;
    default: return PackFormat::kBf16;
  }
}

void DequantizePanel(DType type, const std::byte* bytes, int64_t rows, int64_t cols, float* row_buffer, float* out) {
  const int64_t row_bytes = RowBytes(type, cols);
  if (rows < 16) std::memset(out, 0, static_cast<size_t>(cols) * 16 * sizeof(float));
  for (int64_t row = 0; row < rows; ++row) {
    Dequantize(type, bytes + row * row_bytes, cols, row_buffer);
    for (int64_t col = 0; col < cols; ++col) out[col * 16 + row] = row_buffer[col];
  }
}

absl::StatusOr<PackedMatrix> PackMatrix(DType type, std::span<const std::byte> bytes, int64_t rows, int64_t cols,
                                        PackFormat format, ThreadPool& pool) {
  RETURN_IF_ERROR(CheckMatrix(type, bytes, rows, cols));
  PackedMatrix m;
  m.format = format;
  m.rows = rows;
  m.cols = cols;
  m.panels = (rows + kPanelRows - 1) / kPanelRows;
  const int64_t groups = cols / 32;
  int64_t scale_bytes = 0;
  if (format == PackFormat::kF32) {
    m.code_bytes = cols * 64;
  } else if (format == PackFormat::kBf16) {
    m.code_bytes = (cols + 1) / 2 * 64;
  } else {
    CHECK(format == PackFormatOf(type));
    m.code_bytes = groups * CodeBytes(format);
    scale_bytes = ScaleBytes(format, groups);
  }
  m.panel_bytes = (m.code_bytes + scale_bytes + 63) / 64 * 64;
  ASSIGN_OR_RETURN(m.bytes, AlignedBytes::Allocate(m.panels * m.panel_bytes));
  const int64_t row_bytes = RowBytes(type, cols);
  pool.ParallelFor(m.panels, [&](int64_t begin, int64_t end, int) {
    std::vector<float> row_buffer, panel_buffer;
    if (!m.IsQuantised()) {
      row_buffer.resize(static_cast<size_t>(cols));
      panel_buffer.resize(static_cast<size_t>(cols) * 16);
    }
    for (int64_t panel = begin; panel < end; ++panel) {
      const std::byte* from = bytes.data() + panel * kPanelRows * row_bytes;
      uint8_t* to = m.bytes.data() + panel * m.panel_bytes;
      const int num_rows = m.PanelRows(panel);
      std::memset(to, 0, static_cast<size_t>(m.panel_bytes));   // here, so that threads share the pages' first touch
      if (!m.IsQuantised()) {
        DequantizePanel(type, from, num_rows, cols, row_buffer.data(), panel_buffer.data());
        if (format == PackFormat::kF32) std::memcpy(to, panel_buffer.data(), panel_buffer.size() * sizeof(float));
        else PackBf16Panel(panel_buffer.data(), cols, to);
        continue;
      }
      const auto* source = reinterpret_cast<const uint8_t*>(from);
      const auto pack = IsSuper(format) ? PackPanel256 : PackPanel32;
      pack(type, format, source, row_bytes, num_rows, groups, to, to + m.code_bytes);
    }
  });
  return m;
}

void UnpackRow(const PackedMatrix& m, int64_t row, float* out) {
  CHECK(row >= 0 && row < m.rows);
  const uint8_t* panel = m.Panel(row / kPanelRows);
  const int lane = static_cast<int>(row % kPanelRows);
  if (m.format == PackFormat::kF32) {
    for (int64_t col = 0; col < m.cols; ++col) std::memcpy(out + col, panel + (col * 16 + lane) * 4, 4);
    return;
  }
  if (m.format == PackFormat::kBf16) {
    for (int64_t col = 0; col < m.cols; ++col) {
      bf16 value;
      std::memcpy(&value.bits, panel + col / 2 * 64 + 4 * lane + 2 * (col % 2), 2);
      out[col] = ToFloat(value);
    }
    return;
  }
  const uint8_t* scales = panel + m.code_bytes;
  const int zero = m.format == PackFormat::kU4 ? 8 : m.format == PackFormat::kU5 ? 16
                   : m.format == PackFormat::kU8 ? 128 : m.format == PackFormat::kU6Super ? 32 : 0;
  for (int64_t g = 0; g < m.cols / 32; ++g) {
    uint8_t codes[32];
    UnpackGroup(m.format, panel + g * CodeBytes(m.format), lane, codes);
    for (int i = 0; i < 32; ++i) {
      const float code = static_cast<float>(codes[i] - zero);
      float value;
      if (m.format == PackFormat::kU6Super) {
        const uint8_t* super = scales + g / 8 * 288;
        const auto scale = static_cast<int8_t>(super[32 + 16 * (2 * (g % 8) + i / 16) + lane]);
        value = HalfAt(super + 2 * lane) * static_cast<float>(scale) * code;
      } else if (IsSuper(m.format)) {
        const uint8_t* super = scales + g / 8 * 320;
        const uint8_t* own = super + 64 + 32 * (g % 8) + lane;
        value = HalfAt(super + 2 * lane) * static_cast<float>(own[0]) * code -
                HalfAt(super + 32 + 2 * lane) * static_cast<float>(own[16]);
      } else if (KindOf(m.format) == GroupKind::kMin) {
        value = HalfAt(scales + 64 * g + 2 * lane) * code + HalfAt(scales + 64 * g + 32 + 2 * lane);
      } else {
        value = HalfAt(scales + 32 * g + 2 * lane) * code;
      }
      out[32 * g + i] = value;
    }
  }
}

}  // namespace lectern::nn
