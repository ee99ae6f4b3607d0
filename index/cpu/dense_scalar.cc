// index/cpu/dense_scalar.cc: the scalar target of the inner products.
#include <cstddef>
#include <cstdint>

#include "index/cpu/dense_kernels.h"

#define LECTERN_TARGET_NAMESPACE scalar
namespace lectern::index::scalar {
namespace {
constexpr int64_t kLanes = 4;
inline int32_t DotBytes(const uint8_t* a, const int8_t* b, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += int32_t{a[i]} * int32_t{b[i]};
  return sum;
}
int32_t DotCodes(const uint8_t* a, const uint8_t* b, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (int32_t{a[i]} - 128) * (int32_t{b[i]} - 128);
  return sum;
}
}  // namespace
}  // namespace lectern::index::scalar

#include "index/cpu/dense-inl.h"
