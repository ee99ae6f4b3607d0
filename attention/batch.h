// attention/batch.h: what a decode step of several sequences is given, on either device.
//
//   DecodeBatch step{.q = q, .out = out, .type = DType::kBF16, .k = k, .v = v, .page_table = table,
//                    .page_table_stride = 2048, .lengths = lengths, .batch = 8};
//   BlockIds blocks{.ids = ids, .counts = counts, .capacity = 205, .block_tokens = 64};
//   RETURN_IF_ERROR(SparseDecode(plan, step, blocks, {.stream = stream, .workspace = workspace}));
//
// Shapes:  q, out [batch, q_head, width] contiguous; page_table [batch, page_table_stride] page ids; lengths [batch],
//          the keys of each sequence, the newest included. ids [batch, kv_head, capacity]: ascending, unique, the
//          valid ones first, -1 behind; counts [batch, kv_head], kAllBlocks: every block (ids are not read).
//          Block i covers the keys [i * block_tokens, min(length, (i + 1) * block_tokens)). Kernels want block_tokens a
//          multiple of 16; blocks of more than 64 span pages.
// Threads: values; whoever made the memory decides.
// Errors:  none here.
// Cost:    none. Pointers are of the plan's device, lengths, page_table, ids and counts too: nothing in a step depends
//          on a host value, so that a captured CUDA graph stays valid for every length up to the plan's max_keys.
// Ahead:   a programmatic CUDA launch reads lengths, counts and page_table before its predecessors have ended, as a hint what to
//          bring to L2. They must be memory by then, and may hold the step before, or anything: all of it is read again
//          afterwards, and only that counts. A page that a hint names is asked for if it is one of the pool's first num_pages,
//          which must be memory too. A gate's weights, norm and frequencies are not read again: no kernel that still runs may write them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "attention/paged_kv.h"
#include "base/dtype.h"
#include "base/thread_pool.h"

namespace lectern::attention {

inline constexpr int32_t kAllBlocks = -1;  // BlockIds::counts: dense, without a list

struct DecodeBatch {
  const void* q = nullptr;
  void* out = nullptr;
  float* lse = nullptr;  // [batch, q_head] natural log-sum-exp, or null
  DType type = DType::kF32;  // of q and out: kF32 on CPU, the cache's on CUDA
  KvView k, v;
  const int32_t* page_table = nullptr;
  int64_t page_table_stride = 0;
  const int32_t* lengths = nullptr;
  int64_t batch = 0;
};

struct BlockIds {
  int32_t* ids = nullptr;
  int32_t* counts = nullptr;
  int64_t capacity = 0;
  int64_t block_tokens = 64;
};

// Where a call runs. CPU: pool and workspace. CUDA: stream (a cudaStream_t) and workspace in device memory.
struct Execution {
  ThreadPool* pool = nullptr;
  void* stream = nullptr;
  std::span<std::byte> workspace;
};

// One vector a (page, kv_head, block in page): what selectors read instead of K. Blocks longer than a page keep theirs
// with the page of their first token.
//   gate      [width]        the projected, normalised, rotated key of a closed block
//   min_max   [2, width]     the running minimum, then maximum, of the rotated keys of a block, open ones too
struct DescriptorView {
  std::byte* base = nullptr;
  DType type = DType::kBF16;  // kF32 or kBF16 on CPU, the cache's on CUDA
  int64_t width = 0;
  int64_t page_stride = 0, head_stride = 0, block_stride = 0;  // elements
  int64_t num_pages = 0;  // as KvView::num_pages
};

inline int64_t NumBlocks(int64_t length, int64_t block_tokens) { return (length + block_tokens - 1) / block_tokens; }
inline int64_t BlocksPerPage(int64_t block_tokens) {
  return block_tokens >= kPageSlots ? 1 : kPageSlots / block_tokens;
}
// Offset of the descriptor of `block`, in elements. `pages` is the sequence's row of the page table.
inline int64_t DescriptorOffset(const DescriptorView& view, const int32_t* pages, int64_t head, int64_t block,
                                int64_t block_tokens) {
  const int64_t token = block * block_tokens;
  return int64_t{pages[token / kPageSlots]} * view.page_stride + head * view.head_stride +
         token % kPageSlots / block_tokens * view.block_stride;
}

}  // namespace lectern::attention
