#include "index/dense_index.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "index/hnsw_graph.h"
#include "index/top_k.h"
#include "index/vector_table.h"

namespace lectern::index {
namespace {

constexpr int64_t kMaxBreadth = 10000;          // of a walk or an insertion
constexpr char kFittedFile[] = "fitted.bin";
constexpr int64_t kMaxRows = int64_t{1} << 30;  // node numbers are 32 bits
constexpr int64_t kScanBlock = 256;             // codes of a block stay in L2 (96 KiB at 384)
constexpr int64_t kAlwaysScan = 4096;           // rows below which a scan beats a walk, and is exact

bool BetterHit(const DenseHit& a, const DenseHit& b) { return a.score != b.score ? a.score > b.score : a.chunk < b.chunk; }

// Exact search: byte products bound each score from both sides; only rows whose upper bound reaches the k-th best are scored
// in float32. 1.06 bytes a value are read instead of four.
std::vector<DenseHit> Scan(const VectorTable& table, std::span<const float> query, const CodedQuery& coded, int64_t k,
                           const std::function<bool(int64_t)>& allowed) {
  std::vector<DenseHit> candidates;   // score = upper bound
  std::vector<float> floor;           // min-heap of the k best lower bounds
  float threshold = -INFINITY;
  int32_t dots[kScanBlock];
  float upper[kScanBlock], width[kScanBlock];
  for (int64_t row = 0; row < table.rows(); row += kScanBlock) {
    const int64_t count = std::min(kScanBlock, table.rows() - row);
    table.kernels().dots(table.codes() + row * table.code_bytes(), table.code_bytes(), count, coded.codes.data(), dots);
    table.kernels().bounds(dots, coded.offset, coded.scale, table.scale() + row, table.residual() + row, table.norm() + row,
                           coded.by_residual, coded.by_norm, count, upper, width);
    for (int64_t i = 0; i < count; ++i) {
      if (!(upper[i] >= threshold)) continue;
      if (allowed != nullptr && !allowed(row + i)) continue;
      candidates.push_back({row + i, upper[i]});
      const float lower = upper[i] - 2 * width[i];
      if (static_cast<int64_t>(floor.size()) < k) {
        floor.push_back(lower);
        std::push_heap(floor.begin(), floor.end(), std::greater<>());
      } else if (lower > floor.front()) {
        std::pop_heap(floor.begin(), floor.end(), std::greater<>());
        floor.back() = lower;
        std::push_heap(floor.begin(), floor.end(), std::greater<>());
      }
      if (static_cast<int64_t>(floor.size()) == k) threshold = floor.front();
    }
  }
  std::erase_if(candidates, [&](const DenseHit& c) { return c.score < threshold; });
  std::sort(candidates.begin(), candidates.end(), BetterHit);
  std::vector<DenseHit> best;  // heap, worst first
  for (const DenseHit& candidate : candidates) {
    if (static_cast<int64_t>(best.size()) == k && candidate.score < best.front().score) break;  // no bound reaches further
    const DenseHit exact{candidate.chunk, table.Dot(query.data(), candidate.chunk)};
    if (static_cast<int64_t>(best.size()) < k) {
      best.push_back(exact);
    } else if (BetterHit(exact, best.front())) {
      std::pop_heap(best.begin(), best.end(), BetterHit);
      best.back() = exact;
    } else {
      continue;
    }
    std::push_heap(best.begin(), best.end(), BetterHit);
  }
  std::sort(best.begin(), best.end(), BetterHit);
  return best;
}

class TableIndex : public DenseIndex {
 public:
  TableIndex(VectorTable table, std::unique_ptr<HnswGraph> graph) : table_(std::move(table)), graph_(std::move(graph)) {}

  absl::StatusOr<std::vector<FileEntry>> Write(SegmentFolder& folder) const override {
    std::vector<FileEntry> files(1);
    ASSIGN_OR_RETURN(files[0], table_.Write(folder));
    if (graph_ != nullptr) {
      ASSIGN_OR_RETURN(files.emplace_back(), graph_->Write(folder));
    }
    return files;
  }

  absl::StatusOr<std::vector<DenseHit>> Search(std::span<const float> query,
                                               const DenseSearchOptions& options) const override {
    if (options.k < 1 || options.k > kMaxCandidates) return InvalidArgument("k must be in 1..", kMaxCandidates, ", got ", options.k);
    if (options.ef < 1 || options.ef > kMaxBreadth) return InvalidArgument("ef must be in 1..", kMaxBreadth, ", got ", options.ef);
    if (static_cast<int64_t>(query.size()) != dim()) {
      return InvalidArgument("a query vector must have ", dim(), " values, got ", query.size());
    }
    for (size_t i = 0; i < query.size(); ++i) {
      if (!(std::abs(query[i]) <= kMaxDenseValue)) {
        return InvalidArgument("a query vector must be finite and within ", kMaxDenseValue, ", it has ", query[i], " at ", i);
      }
    }
    const CodedQuery coded(table_, query);
    const int64_t k = std::min(options.k, size());
    if (k == 0) return std::vector<DenseHit>();
    std::vector<DenseHit> hits;
    const bool walk = graph_ != nullptr && size() > kAlwaysScan && std::max<int64_t>(options.ef, k) * 8 < size();
    if (walk && graph_->Search(table_, query, coded, k, options.ef, options.allowed, &hits)) return hits;
    return Scan(table_, query, coded, k, options.allowed);
  }

  int64_t size() const override { return table_.rows(); }
  int64_t dim() const override { return table_.dim(); }
  DenseKind kind() const override { return graph_ != nullptr ? DenseKind::kHnsw : DenseKind::kFlat; }
  std::span<const float> Vector(int64_t chunk) const override {
    return {table_.Row(chunk), static_cast<size_t>(table_.dim())};
  }
  float Score(std::span<const float> query, int64_t chunk) const override { return table_.Dot(query.data(), chunk); }

 private:
  VectorTable table_;
  std::unique_ptr<HnswGraph> graph_;  // null: flat
};

}  // namespace

absl::StatusOr<std::unique_ptr<DenseIndex>> DenseIndex::Build(std::vector<float> vectors, int64_t dim,
                                                              const DenseBuildOptions& options, ThreadPool& pool) {
  if (options.m < 2 || options.m > 256) return InvalidArgument("m must be in 2..256, got ", options.m);
  if (options.ef_construction < 1 || options.ef_construction > kMaxBreadth) {
    return InvalidArgument("ef_construction must be in 1..", kMaxBreadth, ", got ", options.ef_construction);
  }
  ASSIGN_OR_RETURN(VectorTable table, VectorTable::Make(std::move(vectors), dim, pool));
  if (table.rows() > kMaxRows) return ResourceExhausted("a segment holds ", kMaxRows, " vectors at most, got ", table.rows());
  std::unique_ptr<HnswGraph> graph;
  if (options.kind == DenseKind::kHnsw) {
    ASSIGN_OR_RETURN(graph, HnswGraph::Build(table, options));
  }
  return std::unique_ptr<DenseIndex>(new TableIndex(std::move(table), std::move(graph)));
}

absl::StatusOr<FileEntry> DenseIndex::WriteFitted(std::vector<float> vectors, int64_t dim, SegmentFolder& folder, ThreadPool& pool) {
  ASSIGN_OR_RETURN(const VectorTable table, VectorTable::Make(std::move(vectors), dim, pool));
  return table.Write(folder, kFittedFile);
}

absl::StatusOr<std::unique_ptr<DenseIndex>> DenseIndex::OpenFitted(SegmentFiles& files) {
  if (files.entry().Find(kFittedFile) == nullptr) return std::unique_ptr<DenseIndex>();
  ASSIGN_OR_RETURN(VectorTable table, VectorTable::Open(files, kFittedFile));
  return std::unique_ptr<DenseIndex>(new TableIndex(std::move(table), nullptr));
}

absl::StatusOr<std::unique_ptr<DenseIndex>> DenseIndex::Open(SegmentFiles& files) {
  ASSIGN_OR_RETURN(VectorTable table, VectorTable::Open(files));
  std::unique_ptr<HnswGraph> graph;
  if (files.entry().Find("hnsw.bin") != nullptr) {
    ASSIGN_OR_RETURN(graph, HnswGraph::Open(files, table));
  }
  return std::unique_ptr<DenseIndex>(new TableIndex(std::move(table), std::move(graph)));
}

}  // namespace lectern::index
