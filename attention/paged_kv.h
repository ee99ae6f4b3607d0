// attention/paged_kv.h: K and V in pages of 64 tokens, as two views over memory that somebody else owns.
//
//   KvView k{.base = pool, .type = DType::kBF16, .heads = 2, .width = 64, .page_stride = ..., .head_stride = ...};
//   StoreKeys(k, pages, /*first_key=*/130, rows, /*count=*/3);     // rows [token, head, width] float
//   PagedKv kv{k, v, pages, /*num_keys=*/133};
//
// Shapes:  key j lies in page pages[j / 64], slot j % 64. A block is what one (page, head) holds: 64 slots x width.
//          kLanes, for the CPU kernels: a 4-byte lane holds what is multiplied together, pack = 4 / sizeof(type)
//          elements, and 16 of them a cache line: K block [slot / 16][width / pack][slot % 16][pack], V block
//          [width / 16][slot / pack][width % 16][pack]. So products read on and on, and 16 keys of K lie together.
//          kRows: block [slot][width], row by row, slot_stride apart.
//          K and V have their own heads and widths; all strides count elements.
// Threads: views are values; different tokens may be stored by different threads.
// Errors:  none: a page id or width that does not fit the memory is a bug of the caller.
// Cost:    a store converts and scatters count * heads * width elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace lectern::attention {

inline constexpr int64_t kPageSlots = 64;  // two 8 KiB blocks a head at width 64 in bf16: a page's K and V fit L1

enum class BlockLayout { kLanes, kRows };

struct KvView {
  std::byte* base = nullptr;
  DType type = DType::kF32;  // kF32, kBF16, kF16
  int64_t heads = 0, width = 0;
  int64_t page_stride = 0, head_stride = 0;
  int64_t slot_stride = 0;  // kRows only
  BlockLayout layout = BlockLayout::kLanes;
  int64_t num_pages = 0;    // of the pool: memory that may be read. 0: not said, and a CUDA step asks for nothing ahead of its predecessors
};

struct PagedKv {
  KvView k, v;
  std::span<const int32_t> pages;
  int64_t num_keys = 0;
};

// REQUIRES: in the last page, slots past num_keys hold finite values (fresh memory is zero, old tokens are finite).
void StoreKeys(const KvView& k, std::span<const int32_t> pages, int64_t first_key, const float* rows, int64_t count);
void StoreValues(const KvView& v, std::span<const int32_t> pages, int64_t first_key, const float* rows, int64_t count);

// One element, for the reference and for tests.
float KeyAt(const KvView& k, std::span<const int32_t> pages, int64_t key, int64_t head, int64_t column);
float ValueAt(const KvView& v, std::span<const int32_t> pages, int64_t key, int64_t head, int64_t column);

}  // namespace lectern::attention
