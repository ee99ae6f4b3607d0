// attention/cpu/plan_cpu.h: the CPU side of the batched calls, and how a workspace is cut up.
//
//   RETURN_IF_ERROR(cpu::Decode(plan, rows, &blocks, execution));
//
// Shapes:  as attention/attention.h; a workspace holds the buffers of each thread, then what the threads share.
// Threads: as attention/attention.h. Results do not depend on the number of threads, nor on the rest of the batch.
// Errors:  as attention/attention.h.
// Cost:    one fork and join a call; none below kForkBytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/attention.h"
#include "attention/cpu/cpu_kernels.h"

namespace lectern::attention::cpu {

constexpr int64_t kForkBytes = 64 << 10;  // below this a fork and join costs more than it saves
constexpr int64_t kMaxChunks = 32;        // key ranges a row is cut into, at most
constexpr int64_t kMinSelectBlock = 16;   // the shortest blocks a plan's workspace has room to select among

// A DecodeBatch whose rows may be strided.
struct DecodeRows {
  const float* q = nullptr;
  float* out = nullptr;
  float* lse = nullptr;
  int64_t q_batch_stride = 0, q_head_stride = 0, out_batch_stride = 0, out_head_stride = 0;
  int64_t lse_batch_stride = 0, lse_head_stride = 0;
  KvView k, v;
  const int32_t* page_table = nullptr;
  int64_t page_table_stride = 0;
  const int32_t* lengths = nullptr;
  int64_t batch = 0;
};

absl::Status CheckCache(const AttentionPlan& plan, const KvView& k, const KvView& v);
absl::Status CheckWorkspace(const AttentionPlan& plan, const Execution& execution);
absl::Status CheckLengths(const AttentionPlan& plan, const int32_t* lengths, int64_t batch, int64_t page_table_stride);

absl::Status Decode(const AttentionPlan& plan, const DecodeRows& rows, const BlockIds* blocks, const Execution& execution);
absl::Status Select(const AttentionPlan& plan, const Selector& selector, const SelectBatch& batch, const BlockIds& blocks,
                    const Execution& execution);
absl::Status Append(const AttentionPlan& plan, const AppendBatch& batch, const AppendConfig& config,
                    const Execution& execution);

int64_t DecodeBytes(const AttentionPlan& plan);
int64_t SelectBytes(const AttentionPlan& plan, int64_t block_tokens, int64_t gate_width);
int64_t AppendBytes(const AttentionPlan& plan, int64_t gate_width);

// Hands out 64-byte aligned pieces of a workspace.
class Carver {
 public:
  explicit Carver(std::byte* at) : at_(at) {}
  template <class T>
  T* Take(int64_t count) {
    T* piece = reinterpret_cast<T*>(at_);
    at_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return piece;
  }
  std::byte* at() const { return at_; }
  int64_t bytes() const { return reinterpret_cast<intptr_t>(at_); }  // of a carver that began at null

 private:
  std::byte* at_;
};

inline std::byte* AlignUp(std::byte* p) {
  return reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(p) + 63) / 64 * 64);
}
inline int64_t ElementBytes(DType type) { return type == DType::kF32 ? 4 : 2; }

// The buffers of one thread for tiles of at most `rows` rows.
void CarveTile(const AttentionPlan& plan, int64_t rows, Carver& carver, FlashTile* tile);
int64_t TileBytes(const AttentionPlan& plan, int64_t rows);
inline int64_t TileRows(const AttentionPlan& plan) { return plan.tile_queries * plan.group(); }

float Lse(float peak, float sum);  // natural, of a peak in units of log2; -inf for no keys

}  // namespace lectern::attention::cpu
