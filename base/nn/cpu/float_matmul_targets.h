// base/nn/cpu/float_matmul_targets.h: what each target file gives the table in float_matmul.cc. Plain C++ only.
#pragma once

#include <cstdint>

namespace lectern::nn {

using PackF32Fn = void (*)(const float*, int64_t, int64_t, int64_t, int64_t, float*);
using MatmulF32Fn = void (*)(const float*, int64_t, int64_t, const float*, int64_t, int64_t, const float*, float*, int64_t);
using PackBf16Fn = void (*)(const uint16_t*, int64_t, int64_t, int64_t, int64_t, uint16_t*);
using MatmulBf16Fn = void (*)(const uint16_t*, int64_t, int64_t, const uint16_t*, int64_t, int64_t, const float*, float*,
                              int64_t);
using RoundBf16Fn = void (*)(const float*, int64_t, uint16_t*);

struct FloatMatmulFns {
  int64_t panel_cols;
  PackF32Fn pack_f32;
  MatmulF32Fn f32;
  PackBf16Fn pack_bf16;
  MatmulBf16Fn bf16;
  RoundBf16Fn round_bf16;
};

namespace scalar { FloatMatmulFns FloatMatmulTable(); }
namespace avx2 { FloatMatmulFns FloatMatmulTable(); }
namespace avx512 { FloatMatmulFns FloatMatmulTable(); }
namespace avx512bf16 { FloatMatmulFns FloatMatmulTable(); }

}  // namespace lectern::nn
