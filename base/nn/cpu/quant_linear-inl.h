// base/nn/cpu/quant_linear-inl.h: y = x W^T over packed quantised panels and 16-bit activations.
//
// Dataflow  direct (1..4 tokens): a group's codes go from memory through registers into integer dot products;
//           gemm (more): a panel is first unpacked to 16-bit codes and float scales (L2), then each block of T tokens
//           runs over it. Per group and token: 16 dot products, then sum += int * d_row * d_token in fp32.
// Bytes     direct: the packed panel once; nothing else that matters.
// Flops     gemm: 16 rows x 2 columns a dot product. AVX2 needs 4 instructions for it (2 of them products, 2 a cycle):
//           32 multiply-adds a cycle at best; AVX-512 VNNI one.
// Budget    AVX-512: T integer + T float sums, one vector, one scale; T = 12 leaves 4 of 32 registers. AVX2: 2 T integer
//           sums, 2 of the weights, a broadcast, a product: 16 at T = 6; the float sums are touched once a group.
// Order     the arithmetic of one result is the same in direct and gemm, for any T.
// The includer has included a simd_*-inl.h, vector_math-inl.h and float_linear-inl.h and defines LECTERN_TARGET.
#include "base/nn/cpu/linear_kernels.h"

namespace lectern::nn::LECTERN_TARGET {
namespace {

// Calls use(pair, codes of the pair) for the 16 pairs of a packed group, in order.
template <PackFormat kFormat, class Use>
SIMD_INLINE void ForEachPair(const uint8_t* p, const Use& use) {
  constexpr int kBits = BitsOf(kFormat);
  if constexpr (kBits == 4) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Codes v = LoadCodes(p + 64 * j);
      use(4 * j, Field<0, 4>(v));
      use(4 * j + 1, Field<4, 4>(v));
      use(4 * j + 2, Field<8, 4>(v));
      use(4 * j + 3, Field<12, 4>(v));
    }
  } else if constexpr (kBits == 5) {
    Codes last{};
#pragma GCC unroll 5
    for (int j = 0; j < 5; ++j) {
      const Codes v = LoadCodes(p + 64 * j);
      use(3 * j, Field<0, 5>(v));
      use(3 * j + 1, Field<5, 5>(v));
      use(3 * j + 2, Field<10, 5>(v));
      if (j == 0) last = Field<15, 1>(v);
      if (j == 1) last = Merge<14, 1, 1>(last, v);
      if (j == 2) last = Merge<13, 2, 1>(last, v);
      if (j == 3) last = Merge<12, 3, 1>(last, v);
      if (j == 4) last = Merge<11, 4, 1>(last, v);
    }
    use(15, last);
  } else if constexpr (kBits == 6) {
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) {
      const Codes v = LoadCodes(p + 64 * j);
      use(2 * j, Field<0, 6>(v));
      use(2 * j + 1, Field<6, 6>(v));
    }
#pragma GCC unroll 2
    for (int j = 0; j < 6; j += 3) {
      const Codes high = LoadCodes(p + 64 * (j + 1));
      use(12 + 2 * j / 3, Merge<8, 4, 3>(Field<12, 4>(LoadCodes(p + 64 * j)), high));
      use(13 + 2 * j / 3, Merge<10, 4, 3>(Field<12, 4>(LoadCodes(p + 64 * (j + 2))), high));
    }
  } else {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const Codes v = LoadCodes(p + 64 * j);
      use(2 * j, Field<0, 8>(v));
      use(2 * j + 1, Field<8, 8>(v));
    }
  }
}

// The one or two rows of float scales of group `g` (kPlain: d; kMin: d, m; kHalves: d of each 16 columns).
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

// Dot products and scaling of one group for kTokens tokens. x: the group's activations; pairs(use) calls use(pair, codes).
template <GroupKind kKind, int kTokens, class Pairs>
SIMD_INLINE void AddGroup(const Pairs& pairs, const Floats& first, const Floats& second, const uint8_t* x, int start_row,
                          Floats sums[kTokens]) {
  const auto* codes = reinterpret_cast<const int16_t*>(x);
  const auto* rows = reinterpret_cast<const int32_t*>(x + 64 * kTokens);
  const auto* d = reinterpret_cast<const float*>(rows);
  if constexpr (kKind == GroupKind::kHalves) start_row = 5;
  Ints acc[kTokens];
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) {
    acc[t] = kKind == GroupKind::kMin ? ZeroInts() : SplatInt(rows + start_row * kTokens + t);
  }
  pairs([&](int pair, const Codes& w) SIMD_INLINE_LAMBDA {
    if (kKind == GroupKind::kHalves && pair == 8) {
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) {
        sums[t] = MulAdd(Mul(ToFloats(acc[t]), first), SplatFloat(d[t]), sums[t]);
        acc[t] = SplatInt(rows + 6 * kTokens + t);
      }
    }
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) acc[t] = Dot(acc[t], w, codes + 2 * (pair * kTokens + t));
  });
  const Floats scale = kKind == GroupKind::kHalves ? second : first;
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) {
    if constexpr (kKind == GroupKind::kMin) sums[t] = MulAdd(second, SplatFloat(d[kTokens + t]), sums[t]);
    sums[t] = MulAdd(Mul(ToFloats(acc[t]), scale), SplatFloat(d[t]), sums[t]);
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
  const uint8_t* next_scales = task.scales + task.next_panel;  // far from the codes: no stream would bring them in time
  const uint8_t* x = task.x;
  for (int64_t g = 0; g < task.groups; ++g, codes += CodeBytes(kFormat), x += kActivationBytes * kTokens) {
    for (int64_t line = 0; line < CodeBytes(kFormat); line += 64) Prefetch(codes + kPrefetchAhead + line);
    Prefetch(next_scales + g * ScaleBytes(kFormat, 8) / 8);
    Floats first, second;
    LoadScales<kFormat>(task.scales, g, first, second);
    const auto pairs = [&](const auto& use) SIMD_INLINE_LAMBDA { ForEachPair<kFormat>(codes, use); };
    AddGroup<KindOf(kFormat), kTokens>(pairs, first, second, x, StartRow(kFormat), sums);
  }
  StoreTokens<kTokens>(task, sums);
}

template <PackFormat kFormat>
void Unpack(const uint8_t* codes, const uint8_t* scales, int64_t groups, uint8_t* out) {
  constexpr GroupKind kKind = KindOf(kFormat);
  for (int64_t g = 0; g < groups; ++g, codes += CodeBytes(kFormat), out += UnpackedBytes(kKind)) {
    ForEachPair<kFormat>(codes, [&](int pair, const Codes& v) SIMD_INLINE_LAMBDA { StoreCodes(out + 64 * pair, v); });
    Floats first, second;
    LoadScales<kFormat>(scales, g, first, second);
    StoreFloats(reinterpret_cast<float*>(out + 1024), first);
    if constexpr (UnpackedBytes(kKind) > 1088) StoreFloats(reinterpret_cast<float*>(out + 1088), second);
  }
}

template <GroupKind kKind, int kTokens>
void Gemm(const QuantTask& task) {
  Floats sums[kTokens];
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) sums[t] = ZeroFloats();
  const uint8_t* w = task.codes;
  const uint8_t* x = task.x;
  for (int64_t g = 0; g < task.groups; ++g, w += UnpackedBytes(kKind), x += kActivationBytes * kTokens) {
    const Floats first = LoadFloats(reinterpret_cast<const float*>(w + 1024));
    const Floats second = LoadFloats(reinterpret_cast<const float*>(w + UnpackedBytes(kKind) - 64));
    const auto pairs = [&](const auto& use) SIMD_INLINE_LAMBDA {
#pragma GCC unroll 16
      for (int pair = 0; pair < 16; ++pair) use(pair, LoadCodes(w + 64 * pair));
    };
    AddGroup<kKind, kTokens>(pairs, first, second, x, task.start_row, sums);
  }
  StoreTokens<kTokens>(task, sums);
}

// int16 codes and sums of a block of tokens: d = greatest / 32767 of each 32 columns, rounded to nearest even.
void QuantizeBlock(const float* x, int64_t x_stride, int tokens, int64_t groups, uint8_t* out) {
  using Shorts = int16_t __attribute__((vector_size(LECTERN_VECTOR_BYTES / 2)));
  constexpr int kVectors = 32 / kLanes;  // of a group
  for (int t = 0; t < tokens; ++t) {
    const float* from = x + t * x_stride;
    uint8_t* to = out;
    for (int64_t g = 0; g < groups; ++g, from += 32, to += kActivationBytes * tokens) {
      Vec peaks = Splat(0.0f);
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) peaks = MaxVec(peaks, AbsVec(LoadVec(from + i * kLanes)));
      const float peak = MaxLanes(peaks);
      const float d = peak / 32767.0f;
      const float scale = peak > 0.0f ? 32767.0f / peak : 0.0f;
      const Vec magic = Splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
      int16_t codes[32];
      int32_t sums[2];
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        IVec sum{};
#pragma GCC unroll 4
        for (int i = half * kVectors / 2; i < (half + 1) * kVectors / 2; ++i) {
          const IVec rounded = __builtin_convertvector((LoadVec(from + i * kLanes) * scale + magic) - magic, IVec);
          sum += rounded;
          const Shorts narrow = __builtin_convertvector(rounded, Shorts);
          __builtin_memcpy(codes + i * kLanes, &narrow, sizeof(narrow));
        }
        sums[half] = SumIntLanes(sum);
      }
      if (tokens == 1) {
        __builtin_memcpy(to, codes, sizeof(codes));
      } else {
#pragma GCC unroll 16
        for (int pair = 0; pair < 16; ++pair) __builtin_memcpy(to + 4 * (pair * tokens + t), codes + 2 * pair, 4);
      }
      const int32_t sum = sums[0] + sums[1];
      auto* floats = reinterpret_cast<float*>(to + 64 * tokens);
      auto* ints = reinterpret_cast<int32_t*>(to + 64 * tokens);
      floats[t] = d;
      floats[tokens + t] = d * static_cast<float>(sum);
      ints[2 * tokens + t] = -8 * sum;
      ints[3 * tokens + t] = -16 * sum;
      ints[4 * tokens + t] = -128 * sum;
      ints[5 * tokens + t] = -32 * sums[0];
      ints[6 * tokens + t] = -32 * sums[1];
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
    {LECTERN_GEMM_ROW(GroupKind::kPlain), LECTERN_GEMM_ROW(GroupKind::kMin), LECTERN_GEMM_ROW(GroupKind::kHalves)},
    {LECTERN_FLOAT_ROW(false, 1), LECTERN_FLOAT_ROW(false, 2)},
    {LECTERN_FLOAT_ROW(true, 1), LECTERN_FLOAT_ROW(true, 2)},
};

}  // namespace lectern::nn::LECTERN_TARGET
