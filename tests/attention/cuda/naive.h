// tests/attention/cuda/naive.h: attention of one query a sequence in fp64 on the device, one CTA a query head, no tricks.
#pragma once

#include <cstdint>

namespace lectern::attention {

struct NaiveStep {
  const uint16_t* q;  // [batch, q_head, d]
  const uint16_t *k, *v;  // [page, kv_head, 64, d]
  double* out;        // [batch, q_head, d]
  double* lse;        // [batch, q_head]
  const int32_t *page_table, *lengths;
  const int32_t *ids, *counts;  // null: dense
  int page_table_stride, batch, q_heads, kv_heads, d, capacity, block_tokens;
  double scale, soft_cap;
  bool fp16;  // or bf16
};

void NaiveDecode(const NaiveStep& step);

}  // namespace lectern::attention
