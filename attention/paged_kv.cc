#include "attention/paged_kv.h"

#include <algorithm>

#include "base/check.h"

namespace lectern::attention {
namespace {

constexpr int64_t kGroup = 16;  // lanes of 4 bytes: a cache line

// Offset of (slot, column) inside a block, in elements.
int64_t KeyOffset(const KvView& k, int64_t slot, int64_t column) {
  if (k.layout == BlockLayout::kRows) return slot * k.slot_stride + column;
  const int64_t pack = k.type == DType::kF32 ? 1 : 2;
  return slot / kGroup * kGroup * k.width + (column / pack * kGroup + slot % kGroup) * pack + column % pack;
}

int64_t ValueOffset(const KvView& v, int64_t slot, int64_t column) {
  if (v.layout == BlockLayout::kRows) return slot * v.slot_stride + column;
  const int64_t pack = v.type == DType::kF32 ? 1 : 2, first = column / kGroup * kGroup;
  const int64_t lanes = std::min(kGroup, v.width - first);
  return first * kPageSlots + (slot / pack * lanes + column - first) * pack + slot % pack;
}

int64_t BlockOffset(const KvView& view, std::span<const int32_t> pages, int64_t key, int64_t head) {
  return int64_t{pages[key / kPageSlots]} * view.page_stride + head * view.head_stride;
}

template <class Offset>
void Store(const KvView& view, std::span<const int32_t> pages, int64_t first_key, const float* rows, int64_t count,
           Offset offset) {
  CHECK(view.type == DType::kF32 || view.type == DType::kBF16 || view.type == DType::kF16);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t slot = (first_key + i) % kPageSlots;
    for (int64_t head = 0; head < view.heads; ++head) {
      const float* row = rows + (i * view.heads + head) * view.width;
      const int64_t block = BlockOffset(view, pages, first_key + i, head);
      if (view.type == DType::kF32) {
        float* to = reinterpret_cast<float*>(view.base) + block;
        for (int64_t column = 0; column < view.width; ++column) to[offset(view, slot, column)] = row[column];
      } else if (view.type == DType::kBF16) {
        bf16* to = reinterpret_cast<bf16*>(view.base) + block;
        for (int64_t column = 0; column < view.width; ++column) to[offset(view, slot, column)] = ToBf16(row[column]);
      } else {
        fp16* to = reinterpret_cast<fp16*>(view.base) + block;
        for (int64_t column = 0; column < view.width; ++column) to[offset(view, slot, column)] = ToFp16(row[column]);
      }
    }
  }
}

float Element(const KvView& view, int64_t at) {
  if (view.type == DType::kF16) return ToFloat(reinterpret_cast<const fp16*>(view.base)[at]);
  return view.type == DType::kF32 ? reinterpret_cast<const float*>(view.base)[at]
                                  : ToFloat(reinterpret_cast<const bf16*>(view.base)[at]);
}

}  // namespace

void StoreKeys(const KvView& k, std::span<const int32_t> pages, int64_t first_key, const float* rows, int64_t count) {
  Store(k, pages, first_key, rows, count, [](const KvView& view, int64_t s, int64_t c) { return KeyOffset(view, s, c); });
}

void StoreValues(const KvView& v, std::span<const int32_t> pages, int64_t first_key, const float* rows,
                 int64_t count) {
  Store(v, pages, first_key, rows, count,
        [](const KvView& view, int64_t s, int64_t c) { return ValueOffset(view, s, c); });
}

float KeyAt(const KvView& k, std::span<const int32_t> pages, int64_t key, int64_t head, int64_t column) {
  return Element(k, BlockOffset(k, pages, key, head) + KeyOffset(k, key % kPageSlots, column));
}

float ValueAt(const KvView& v, std::span<const int32_t> pages, int64_t key, int64_t head, int64_t column) {
  return Element(v, BlockOffset(v, pages, key, head) + ValueOffset(v, key % kPageSlots, column));
}

}  // namespace lectern::attention
