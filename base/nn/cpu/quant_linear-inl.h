// base/nn/cpu/quant_linear-inl.h: y = x W^T over packed quantised panels and int8 activations.
//
// Dataflow  direct (1..4 tokens): a group's codes go from memory through registers into integer dot products;
//           gemm (more): a panel is first unpacked to bytes and float scales (L1 or L2), then each block of T tokens
//           runs over it. Per group and token: 8 dot products, then sum += int * d_row * d_token in fp32.
// Bytes     direct: the packed panel once; nothing else that matters.
// Budget    AVX-512: T integer + T float sums, one quad, one scale; T = 12 leaves 4 of 32 registers.
// Order     the arithmetic of one result is the same in direct and gemm, for any T.
// The includer has included a simd_*-inl.h, vector_math-inl.h and float_linear-inl.h and defines LECTERN_TARGET.
#include "base/nn/cpu/linear_kernels.h"

namespace lectern::nn::LECTERN_TARGET {
namespace {

constexpr int64_t kPrefetchAhead = 2048;  // bytes; about 100 ns at what one core reads

template <PackFormat kFormat>
constexpr bool kHasFifth = kFormat == PackFormat::kU5 || kFormat == PackFormat::kU5Min || kFormat == PackFormat::kU5Super;

template <int kBits, int kQuad>
SIMD_INLINE Codes AddHighBits(Codes codes, const Codes& high0, const Codes& high1) {
  if constexpr (kBits == 5) return MergeHigh<kQuad, 1>(codes, high0);
  if constexpr (kBits == 6) return MergeHigh<2 * (kQuad % 4), 3>(codes, kQuad < 4 ? high0 : high1);
  return codes;
}

// The eight quads of a packed group.
template <PackFormat kFormat>
SIMD_INLINE void LoadQuads(const uint8_t* p, Codes quads[8]) {
  if constexpr (kFormat == PackFormat::kU8) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) quads[i] = LoadCodes(p + 64 * i);
  } else {
    constexpr int kBits = kFormat == PackFormat::kU6Super ? 6 : kHasFifth<kFormat> ? 5 : 4;
    Codes high0{}, high1{};
    if constexpr (kBits >= 5) high0 = LoadCodes(p + 256);
    if constexpr (kBits == 6) high1 = LoadCodes(p + 320);
    const Codes a = LoadCodes(p), b = LoadCodes(p + 64), c = LoadCodes(p + 128), d = LoadCodes(p + 192);
    quads[0] = AddHighBits<kBits, 0>(LowNibbles(a), high0, high1);
    quads[1] = AddHighBits<kBits, 1>(LowNibbles(b), high0, high1);
    quads[2] = AddHighBits<kBits, 2>(LowNibbles(c), high0, high1);
    quads[3] = AddHighBits<kBits, 3>(LowNibbles(d), high0, high1);
    quads[4] = AddHighBits<kBits, 4>(HighNibbles(a), high0, high1);
    quads[5] = AddHighBits<kBits, 5>(HighNibbles(b), high0, high1);
    quads[6] = AddHighBits<kBits, 6>(HighNibbles(c), high0, high1);
    quads[7] = AddHighBits<kBits, 7>(HighNibbles(d), high0, high1);
  }
}

// The one or two rows of float scales of group `g` (kPlain, kWide: d; kMin: d, m; kHalves: d of each 16 columns).
template <PackFormat kFormat>
SIMD_INLINE void LoadScales(const uint8_t* scales, int64_t g, Floats& first, Floats& second) {
  if constexpr (kFormat == PackFormat::kU4Super || kFormat == PackFormat::kU5Super) {
    const uint8_t* super = scales + g / 8 * 320;
    const uint8_t* own = super + 64 + g % 8 * 32;
    first = Mul(LoadBytesUnsigned(own), LoadHalfs(super));
    second = Negate(Mul(LoadBytesUnsigned(own + 16), LoadHalfs(super + 32)));
  } else if constexpr (kFormat == PackFormat::kU6Super) {
    const uint8_t* super = scales + g / 8 * 288;
    const uint8_t* own = super + 32 + g % 8 * 32;
    const Floats d = LoadHalfs(super);
    first = Mul(LoadBytesSigned(own), d);
    second = Mul(LoadBytesSigned(own + 16), d);
  } else if constexpr (KindOf(kFormat) == GroupKind::kMin) {
    first = LoadHalfs(scales + g * 64);
    second = LoadHalfs(scales + g * 64 + 32);
  } else {
    first = LoadHalfs(scales + g * 32);
    second = first;
  }
}

// Dot products and scaling of one group for kTokens tokens. x: the group's activations. quad(i): the i-th quad.
template <GroupKind kKind, int kTokens, class Quad>
SIMD_INLINE void AddGroup(const Quad& quad, const Floats& first, const Floats& second, const uint8_t* x, int start_row,
                          Floats sums[kTokens]) {
  const auto* codes = reinterpret_cast<const int8_t*>(x);
  const auto* rows = reinterpret_cast<const int32_t*>(x + 32 * kTokens);
  const auto* d = reinterpret_cast<const float*>(rows);
  Ints acc[kTokens];
  if constexpr (kKind == GroupKind::kHalves) {
    Floats low[kTokens];
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) acc[t] = SplatInt(rows + 5 * kTokens + t);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Codes w = quad(i);
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) acc[t] = Dot(acc[t], w, codes + 4 * (i * kTokens + t));
    }
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) {
      low[t] = Mul(ToFloats(acc[t]), first);
      sums[t] = MulAdd(low[t], SplatFloat(d[t]), sums[t]);
      acc[t] = SplatInt(rows + 6 * kTokens + t);
    }
#pragma GCC unroll 4
    for (int i = 4; i < 8; ++i) {
      const Codes w = quad(i);
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) acc[t] = Dot(acc[t], w, codes + 4 * (i * kTokens + t));
    }
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) sums[t] = MulAdd(Mul(ToFloats(acc[t]), second), SplatFloat(d[t]), sums[t]);
    return;
  }
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) {
    if constexpr (kKind == GroupKind::kMin || (kKind == GroupKind::kWide && kWideIsSigned)) {
      acc[t] = ZeroInts();
    } else {
      acc[t] = SplatInt(rows + start_row * kTokens + t);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const Codes w = quad(i);
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) {
      const int8_t* x4 = codes + 4 * (i * kTokens + t);
      acc[t] = kKind == GroupKind::kWide ? DotWide(acc[t], w, x4) : Dot(acc[t], w, x4);
    }
  }
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) {
    if constexpr (kKind == GroupKind::kMin) sums[t] = MulAdd(second, SplatFloat(d[kTokens + t]), sums[t]);
    sums[t] = MulAdd(Mul(ToFloats(acc[t]), first), SplatFloat(d[t]), sums[t]);
  }
}

template <int kTokens>
SIMD_INLINE void StoreTokens(const QuantTask& task, const Floats sums[kTokens]) {
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) {
    float* y = task.y + t * task.y_stride;
    if (task.rows == 16) StoreFloats(y, sums[t]);
    else StoreRows(y, sums[t], task.rows, nullptr);
  }
}

template <PackFormat kFormat, int kTokens>
void Direct(const QuantTask& task) {
  Floats sums[kTokens];
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) sums[t] = ZeroFloats();
  const uint8_t* codes = task.codes;
  const uint8_t* x = task.x;
  for (int64_t g = 0; g < task.groups; ++g, codes += CodeBytes(kFormat), x += 64 * kTokens) {
    for (int64_t line = 0; line < CodeBytes(kFormat); line += 64) Prefetch(codes + kPrefetchAhead + line);
    Codes quads[8];
    LoadQuads<kFormat>(codes, quads);
    Floats first, second;
    LoadScales<kFormat>(task.scales, g, first, second);
    AddGroup<KindOf(kFormat), kTokens>([&](int i) -> const Codes& { return quads[i]; }, first, second, x,
                                       StartRow(kFormat), sums);
  }
  StoreTokens<kTokens>(task, sums);
}

template <PackFormat kFormat>
void Unpack(const uint8_t* codes, const uint8_t* scales, int64_t groups, uint8_t* out) {
  constexpr GroupKind kKind = KindOf(kFormat);
  for (int64_t g = 0; g < groups; ++g, codes += CodeBytes(kFormat), out += UnpackedBytes(kKind)) {
    Codes quads[8];
    LoadQuads<kFormat>(codes, quads);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) StoreCodes(out + 64 * i, quads[i]);
    Floats first, second;
    LoadScales<kFormat>(scales, g, first, second);
    StoreFloats(reinterpret_cast<float*>(out + 512), first);
    if constexpr (UnpackedBytes(kKind) > 576) StoreFloats(reinterpret_cast<float*>(out + 576), second);
  }
}

template <GroupKind kKind, int kTokens>
void Gemm(const QuantTask& task) {
  Floats sums[kTokens];
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) sums[t] = ZeroFloats();
  const uint8_t* w = task.codes;
  const uint8_t* x = task.x;
  for (int64_t g = 0; g < task.groups; ++g, w += UnpackedBytes(kKind), x += 64 * kTokens) {
    const Floats first = LoadFloats(reinterpret_cast<const float*>(w + 512));
    const Floats second = LoadFloats(reinterpret_cast<const float*>(w + UnpackedBytes(kKind) - 64));
    AddGroup<kKind, kTokens>([&](int i) { return LoadCodes(w + 64 * i); }, first, second, x, task.start_row, sums);
  }
  StoreTokens<kTokens>(task, sums);
}

// int8 codes and sums of a block of tokens: d = greatest / 127 of each 32 columns, rounded to nearest even.
void QuantizeBlock(const float* x, int64_t x_stride, int tokens, int64_t groups, uint8_t* out) {
  using Bytes16 = int8_t __attribute__((vector_size(16)));
  for (int t = 0; t < tokens; ++t) {
    const float* from = x + t * x_stride;
    uint8_t* to = out;
    for (int64_t g = 0; g < groups; ++g, from += 32, to += 64 * tokens) {
      const Vec a = LoadVec(from), b = LoadVec(from + 16);
      const float peak = MaxLanes(MaxVec(AbsVec(a), AbsVec(b)));
      const float d = peak / 127.0f;
      const float scale = peak > 0.0f ? 127.0f / peak : 0.0f;
      const Vec magic = Splat(12582912.0f);  // 1.5 * 2^23
      const IVec low = __builtin_convertvector((a * scale + magic) - magic, IVec);
      const IVec high = __builtin_convertvector((b * scale + magic) - magic, IVec);
      int8_t bytes[32];
      const Bytes16 low8 = __builtin_convertvector(low, Bytes16), high8 = __builtin_convertvector(high, Bytes16);
      __builtin_memcpy(bytes, &low8, 16);
      __builtin_memcpy(bytes + 16, &high8, 16);
      for (int quad = 0; quad < 8; ++quad) __builtin_memcpy(to + 4 * (quad * tokens + t), bytes + 4 * quad, 4);
      const int32_t sum_low = SumIntLanes(low), sum_high = SumIntLanes(high), sum = sum_low + sum_high;
      auto* floats = reinterpret_cast<float*>(to + 32 * tokens);
      auto* ints = reinterpret_cast<int32_t*>(to + 32 * tokens);
      floats[t] = d;
      floats[tokens + t] = d * static_cast<float>(sum);
      ints[2 * tokens + t] = -8 * sum;
      ints[3 * tokens + t] = -16 * sum;
      ints[4 * tokens + t] = -128 * sum;
      ints[5 * tokens + t] = -32 * sum_low;
      ints[6 * tokens + t] = -32 * sum_high;
      ints[7 * tokens + t] = 0;
    }
  }
}

template <GroupKind kKind, int kTokens>
constexpr QuantKernel GemmEntry() {
  if constexpr (kTokens <= kQuantTile) return Gemm<kKind, kTokens>;
  return nullptr;
}
#define LECTERN_GEMM_ROW(kind)                                                                                \
  {GemmEntry<kind, 1>(), GemmEntry<kind, 2>(), GemmEntry<kind, 3>(), GemmEntry<kind, 4>(),                    \
   GemmEntry<kind, 5>(), GemmEntry<kind, 6>(), GemmEntry<kind, 7>(), GemmEntry<kind, 8>(),                    \
   GemmEntry<kind, 9>(), GemmEntry<kind, 10>(), GemmEntry<kind, 11>(), GemmEntry<kind, 12>()}
#define LECTERN_DIRECT_ROW(format) {Direct<format, 1>, Direct<format, 2>, Direct<format, 3>, Direct<format, 4>}

}  // namespace

const LinearKernels kLinear = {
    kQuantTile,
    kFloatTile,
    QuantizeBlock,
    ToBf16Block,
    ToFloatBlock,
    {Unpack<PackFormat::kU4>, Unpack<PackFormat::kU4Min>, Unpack<PackFormat::kU5>, Unpack<PackFormat::kU5Min>,
     Unpack<PackFormat::kU8>, Unpack<PackFormat::kU4Super>, Unpack<PackFormat::kU5Super>, Unpack<PackFormat::kU6Super>},
    {LECTERN_DIRECT_ROW(PackFormat::kU4), LECTERN_DIRECT_ROW(PackFormat::kU4Min), LECTERN_DIRECT_ROW(PackFormat::kU5),
     LECTERN_DIRECT_ROW(PackFormat::kU5Min), LECTERN_DIRECT_ROW(PackFormat::kU8),
     LECTERN_DIRECT_ROW(PackFormat::kU4Super), LECTERN_DIRECT_ROW(PackFormat::kU5Super),
     LECTERN_DIRECT_ROW(PackFormat::kU6Super)},
    {LECTERN_GEMM_ROW(GroupKind::kPlain), LECTERN_GEMM_ROW(GroupKind::kWide), LECTERN_GEMM_ROW(GroupKind::kMin),
     LECTERN_GEMM_ROW(GroupKind::kHalves)},
    {LECTERN_FLOAT_ROW(false, 1), LECTERN_FLOAT_ROW(false, 2)},
    {LECTERN_FLOAT_ROW(true, 1), LECTERN_FLOAT_ROW(true, 2)},
};

}  // namespace lectern::nn::LECTERN_TARGET
