// base/nn/cpu/float_matmul_avx2.cc: the avx2 target of float_matmul.
#include <cstddef>
#include <cstdint>

#include "base/nn/cpu/float_matmul_targets.h"

#define LECTERN_TARGET_NAMESPACE avx2
namespace lectern::nn::avx2 {
namespace {
constexpr int kLanes = 8;
constexpr int kRows = 4;
constexpr int kVecs = 3;
constexpr int64_t kPanel = 24;
}  // namespace
}  // namespace lectern::nn::avx2

#include "base/nn/cpu/float_matmul-inl.h"

namespace lectern::nn::avx2 {
FloatMatmulFns FloatMatmulTable() { return {kPanel, PackF32, MatmulF32, nullptr, nullptr, nullptr}; }
}  // namespace lectern::nn::avx2
