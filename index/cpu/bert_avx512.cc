// index/cpu/bert_avx512.cc: the avx512 target of the BERT row operations.
#include <cstddef>
#include <cstdint>

#include "index/cpu/bert_kernels.h"

#define LECTERN_TARGET_NAMESPACE avx512
namespace lectern::index::avx512 {
namespace {
constexpr int64_t kLanes = 16;
}  // namespace
}  // namespace lectern::index::avx512

#include "index/cpu/bert-inl.h"
