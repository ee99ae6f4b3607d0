// base/nn/cpu/float_matmul_avx512.cc: the avx512 target of float_matmul.
#include <cstddef>
#include <cstdint>

#include "base/nn/cpu/float_matmul_targets.h"

#define LECTERN_TARGET_NAMESPACE avx512
namespace lectern::nn::avx512 {
namespace {
constexpr int kLanes = 16;
constexpr int kRows = 14;
constexpr int kVecs = 2;
constexpr int64_t kPanel = 32;
}  // namespace
}  // namespace lectern::nn::avx512

#include "base/nn/cpu/float_matmul-inl.h"

namespace lectern::nn::avx512 {
FloatMatmulFns FloatMatmulTable() { return {kPanel, PackF32, MatmulF32, nullptr, nullptr, nullptr}; }
}  // namespace lectern::nn::avx512
