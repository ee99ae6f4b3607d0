// manifold/neighbours.h: exact nearest neighbours, leave-one-out, near-duplicates collapsed to one.
//
//   ASSIGN_OR_RETURN(NeighbourTable table, NeighbourTable::Make(corpus, /*dim=*/384));
//   ASSIGN_OR_RETURN(Neighbours near, table.Search(corpus, {.k = 64, .self = AllRows(n)}, pool));
//   ASSIGN_OR_RETURN(NeighbourTable on_card, NeighbourTable::Make(corpus, 384, Device::kCuda));   // same calls
//
// Shapes:  corpus [rows, dim], queries [n, dim] row-major fp32; ids [n, k], -1 behind the last; distances [n, k], ascending.
// Threads: the pool's; a row's result does not depend on the rows beside it or on the number of threads.
// Errors:  kInvalidArgument (shapes, k, a value that is not finite: row and column); those of the cancel token. CUDA:
//          kUnimplemented without the kernels or the device, or beyond what they serve; kResourceExhausted (its memory).
// Cost:    2 * n * rows * dim operations in register-tiled products; ties break by id, ascending. CUDA: exact for the vectors
//          rounded to fp16, 2 * rows * dim bytes of the card; a million in a million of 384 in seconds.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "base/thread_pool.h"

namespace lectern::manifold {

namespace cuda { class DeviceTable; }

enum class Device { kCpu, kCuda };  // CUDA: the calling thread's current device

inline constexpr int64_t kSpareNeighbours = 32;  // candidates beyond k that near-duplicates may use up
inline constexpr float kNearDuplicate = 1e-3f;  // nearer vectors are one text twice: its noise is the same, not a second look

struct NeighbourOptions {
  int64_t k = 64;
  std::vector<int32_t> self;  // [n] the corpus row that each query is, left out; empty: queries are not of the corpus
  bool collapse = false;      // near-duplicates of the query left out, of each other collapsed to the lowest id
  const CancelToken* cancel = nullptr;
};

struct Neighbours {
  int64_t k = 0;
  std::vector<int32_t> ids;       // [n, k]
  std::vector<float> distances;   // [n, k]; infinity behind the last
  int64_t collapsed = 0;          // near-duplicates dropped, over all rows
};

class NeighbourTable {
 public:
  // Keeps a packed copy; `corpus` must outlive it.
  static absl::StatusOr<NeighbourTable> Make(std::span<const float> corpus, int64_t dim, Device device = Device::kCpu);
  absl::StatusOr<Neighbours> Search(std::span<const float> queries, const NeighbourOptions& options, ThreadPool& pool) const;
  int64_t rows() const { return rows_; }
  int64_t dim() const { return dim_; }

 private:
  NeighbourTable() = default;
  void SearchBlock(const float* queries, int64_t begin, int64_t end, int64_t kept, const NeighbourOptions& options,
                   std::vector<float>& scores, Neighbours& out, int64_t* collapsed) const;
  int64_t rows_ = 0, dim_ = 0;
  std::span<const float> corpus_;
  std::shared_ptr<const cuda::DeviceTable> device_;  // null: on the CPU
  std::vector<float> panels_, bias_;  // bias: -|row|^2 / 2, so that the greatest product + bias is the nearest
};

// 0, 1, .., n - 1.
std::vector<int32_t> AllRows(int64_t n);

// kInvalidArgument naming the row and column of the first value that is not finite.
absl::Status CheckFinite(std::span<const float> vectors, int64_t dim, const char* what);

}  // namespace lectern::manifold
