// index/cpu/bert_avx2.cc: the avx2 target of the BERT row operations.
#include <cstddef>
#include <cstdint>

#include "index/cpu/bert_kernels.h"

#define LECTERN_TARGET_NAMESPACE avx2
namespace lectern::index::avx2 {
namespace {
constexpr int64_t kLanes = 8;
}  // namespace
}  // namespace lectern::index::avx2

#include "index/cpu/bert-inl.h"
