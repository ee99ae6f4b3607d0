// index/cpu/bert_scalar.cc: the scalar target of the BERT row operations.
#include <cstddef>
#include <cstdint>

#include "index/cpu/bert_kernels.h"

#define LECTERN_TARGET_NAMESPACE scalar
namespace lectern::index::scalar {
namespace {
constexpr int64_t kLanes = 4;
}  // namespace
}  // namespace lectern::index::scalar

#include "index/cpu/bert-inl.h"
