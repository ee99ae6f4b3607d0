// index/dense_index.h: nearest chunks by embedding; FAISS behind an interface of ours.
//
//   ASSIGN_OR_RETURN(auto built, DenseIndex::Build(vectors, dim, {.kind = DenseKind::kHnsw}, pool));
//   RETURN_IF_ERROR(built->Write(segment));                    // vectors.bin, and hnsw.bin for kHnsw
//   ASSIGN_OR_RETURN(auto index, DenseIndex::Open(files));              // index/data_directory.h
//   ASSIGN_OR_RETURN(auto hits, index->Search(query, {.k = 10}));
//
// Shapes:  vectors [n, dim] float32, row-major, unit length; row number = chunk ordinal in the segment;
//          score = inner product, higher is better.
// Threads: Search() from any thread.
// Errors:  kInvalidArgument (shape, k, non-finite values), kDataLoss (checksum on Open), kResourceExhausted.
// Cost:    flat: exact, n * dim bytes read a query (a byte a value bounds each score; the few rows that can matter are read
//          in float32). HNSW: about ef * m byte products; small segments, large ef and narrow filters are scanned instead,
//          so that k allowed chunks are found wherever there are k. Ties break by chunk, ascending. Building a graph runs
//          on one thread: the same vectors give the same graph, and a score has the same bits by either way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "index/data_directory.h"

namespace lectern::index {

enum class DenseKind { kFlat, kHnsw };

struct DenseBuildOptions {
  DenseKind kind = DenseKind::kFlat;
  int m = 16;
  int ef_construction = 200;
};

struct DenseHit {
  int64_t chunk = 0;
  float score = 0;
};

struct DenseSearchOptions {
  int64_t k = 10;
  int ef = 128;
  std::function<bool(int64_t chunk)> allowed;   // null: all. Deleted and filtered chunks return false.
};

class DenseIndex {
 public:
  static absl::StatusOr<std::unique_ptr<DenseIndex>> Build(std::vector<float> vectors, int64_t dim,
                                                           const DenseBuildOptions& options, ThreadPool& pool);
  static absl::StatusOr<std::unique_ptr<DenseIndex>> Open(SegmentFiles& files);
  // Fitted vectors beside the raw ones: fitted.bin, searched exactly. Null where the segment has none.
  static absl::StatusOr<FileEntry> WriteFitted(std::vector<float> vectors, int64_t dim, SegmentFolder& folder, ThreadPool& pool);
  static absl::StatusOr<std::unique_ptr<DenseIndex>> OpenFitted(SegmentFiles& files);
  virtual ~DenseIndex() = default;
  virtual absl::StatusOr<std::vector<FileEntry>> Write(SegmentFolder& folder) const = 0;
  virtual absl::StatusOr<std::vector<DenseHit>> Search(std::span<const float> query,
                                                       const DenseSearchOptions& options) const = 0;
  virtual int64_t size() const = 0;
  virtual int64_t dim() const = 0;
  virtual DenseKind kind() const = 0;
  virtual std::span<const float> Vector(int64_t chunk) const = 0;   // as stored
  // One chunk's score, with the bits that Search gives it. REQUIRES: query.size() == dim(), chunk < size().
  virtual float Score(std::span<const float> query, int64_t chunk) const = 0;
};

}  // namespace lectern::index
