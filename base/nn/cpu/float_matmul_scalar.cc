// base/nn/cpu/float_matmul_scalar.cc: the scalar target of float_matmul.
#include <cstddef>
#include <cstdint>

#include "base/nn/cpu/float_matmul_targets.h"

#define LECTERN_TARGET_NAMESPACE scalar
namespace lectern::nn::scalar {
namespace {
constexpr int kLanes = 4;
constexpr int kRows = 6;
constexpr int kVecs = 2;
constexpr int64_t kPanel = 32;
}  // namespace
}  // namespace lectern::nn::scalar

#include "base/nn/cpu/float_matmul-inl.h"

namespace lectern::nn::scalar {
FloatMatmulFns FloatMatmulTable() { return {kPanel, PackF32, MatmulF32, nullptr, nullptr, nullptr}; }
}  // namespace lectern::nn::scalar
