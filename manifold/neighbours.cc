#include "manifold/neighbours.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/nn/float_matmul.h"
#include "manifold/cuda/fit_cuda.h"

namespace lectern::manifold {
namespace {

constexpr int64_t kQueryBlock = 48, kColumnBlock = 960;  // whole panels of 24 and of 32; 180 KiB of scores stay in L2

struct Candidate {
  float score;
  int32_t id;
  bool operator<(const Candidate& other) const { return score != other.score ? score > other.score : id < other.id; }
};

}  // namespace

std::vector<int32_t> AllRows(int64_t n) {
  std::vector<int32_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

absl::Status CheckFinite(std::span<const float> vectors, int64_t dim, const char* what) {
  if (dim < 1) return InvalidArgument("dim must be 1 or more, got ", dim);
  if (vectors.size() % static_cast<size_t>(dim) != 0) {
    return InvalidArgument(what, " must be whole rows of ", dim, ", got ", vectors.size(), " values");
  }
  for (size_t i = 0; i < vectors.size(); ++i) {
    if (!(std::abs(vectors[i]) <= 1e6f)) {
      return InvalidArgument(what, " must be finite and within 1e6, row ", i / static_cast<size_t>(dim), " has ", vectors[i], " at ",
                             i % static_cast<size_t>(dim));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<NeighbourTable> NeighbourTable::Make(std::span<const float> corpus, int64_t dim, Device device) {
  RETURN_IF_ERROR(CheckFinite(corpus, dim, "vectors"));
  NeighbourTable table;
  table.dim_ = dim;
  table.rows_ = static_cast<int64_t>(corpus.size()) / dim;
  if (table.rows_ > std::numeric_limits<int32_t>::max()) {
    return InvalidArgument("at most ", std::numeric_limits<int32_t>::max(), " vectors, got ", table.rows_);
  }
  table.corpus_ = corpus;
  if (device == Device::kCuda) {
    ASSIGN_OR_RETURN(table.device_, cuda::MakeTable(corpus, dim));
    return table;
  }
  const nn::FloatMatmul& matmul = nn::ActiveFloatMatmul();
  CHECK(kColumnBlock % matmul.panel_cols == 0);
  table.panels_.resize(static_cast<size_t>(matmul.PanelElements(dim, table.rows_)));
  matmul.pack_f32(corpus.data(), 1, dim, dim, table.rows_, table.panels_.data());
  table.bias_.resize(static_cast<size_t>(matmul.NumPanels(table.rows_) * matmul.panel_cols), 0.0f);
  for (int64_t i = 0; i < table.rows_; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < dim; ++j) sum += double{corpus[i * dim + j]} * corpus[i * dim + j];
    table.bias_[i] = static_cast<float>(-sum / 2);
  }
  return table;
}

void NeighbourTable::SearchBlock(const float* queries, int64_t begin, int64_t end, int64_t kept, const NeighbourOptions& options,
                                 std::vector<float>& scores, Neighbours& out, int64_t* collapsed) const {
  const nn::FloatMatmul& matmul = nn::ActiveFloatMatmul();
  const int64_t count = end - begin;
  std::vector<std::vector<Candidate>> best(static_cast<size_t>(count));
  std::vector<float> least(static_cast<size_t>(count), -std::numeric_limits<float>::infinity());
  for (int64_t column = 0; column < rows_; column += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, rows_ - column);
    matmul.f32(queries + begin * dim_, dim_, count, panels_.data() + column * dim_, dim_, width, bias_.data() + column, scores.data(),
               kColumnBlock);
    for (int64_t i = 0; i < count; ++i) {
      const float* row = scores.data() + i * kColumnBlock;
      const int64_t self = options.self.empty() ? -1 : options.self[begin + i] - column;
      auto& list = best[i];
      float bar = least[i];
      for (int64_t j = 0; j < width; ++j) {
        if (row[j] < bar || j == self) continue;  // equal scores come later, with greater ids, but a shrink may not have run
        list.push_back({row[j], static_cast<int32_t>(column + j)});
        if (static_cast<int64_t>(list.size()) < 4 * kept) continue;
        std::nth_element(list.begin(), list.begin() + kept - 1, list.end());
        list.resize(static_cast<size_t>(kept));
        bar = list.back().score;
        for (const Candidate& one : list) bar = std::min(bar, one.score);
      }
      least[i] = bar;
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    auto& list = best[i];
    std::sort(list.begin(), list.end());
    if (static_cast<int64_t>(list.size()) > kept) list.resize(static_cast<size_t>(kept));
    const float* query = queries + (begin + i) * dim_;
    double own = 0;
    for (int64_t j = 0; j < dim_; ++j) own += double{query[j]} * query[j];
    const auto exact = [&](const float* a, const float* b) {
      double sum = 0;
      for (int64_t j = 0; j < dim_; ++j) sum += (double{a[j]} - b[j]) * (double{a[j]} - b[j]);
      return std::sqrt(sum);
    };
    int32_t* ids = out.ids.data() + (begin + i) * options.k;
    float* distances = out.distances.data() + (begin + i) * options.k;
    int64_t found = 0;
    for (const Candidate& one : list) {
      if (found == options.k) break;
      const float* row = corpus_.data() + int64_t{one.id} * dim_;
      double distance = std::sqrt(std::max(0.0, own - 2 * double{one.score}));
      if (distance < 0.02) distance = exact(query, row);  // there the difference of two products has no digits left
      if (options.collapse) {
        bool twin = distance < kNearDuplicate;
        for (int64_t j = found; j-- > 0 && !twin && distance - distances[j] < 2 * kNearDuplicate;) {
          twin = exact(corpus_.data() + int64_t{ids[j]} * dim_, row) < kNearDuplicate;
        }
        if (twin) {
          ++*collapsed;
          continue;
        }
      }
      ids[found] = one.id;
      distances[found++] = static_cast<float>(distance);
    }
  }
}

absl::StatusOr<Neighbours> NeighbourTable::Search(std::span<const float> queries, const NeighbourOptions& options,
                                                  ThreadPool& pool) const {
  if (options.k < 1 || options.k > 4096) return InvalidArgument("k must be in 1..4096, got ", options.k);
  RETURN_IF_ERROR(CheckFinite(queries, dim_, "queries"));
  const int64_t n = static_cast<int64_t>(queries.size()) / dim_;
  if (!options.self.empty() && static_cast<int64_t>(options.self.size()) != n) {
    return InvalidArgument("self must name a row for each of ", n, " queries, got ", options.self.size());
  }
  if (device_ != nullptr) return cuda::SearchTable(*device_, queries, options);
  Neighbours out;
  out.k = options.k;
  out.ids.assign(static_cast<size_t>(n * options.k), -1);
  out.distances.assign(static_cast<size_t>(n * options.k), std::numeric_limits<float>::infinity());
  const int64_t kept = options.k + (options.collapse ? kSpareNeighbours : 0);
  std::atomic<int64_t> next{0}, collapsed{0};
  pool.RunOnAll([&](int) {
    std::vector<float> scores(static_cast<size_t>(kQueryBlock * kColumnBlock));
    int64_t own = 0;
    for (int64_t begin = next.fetch_add(kQueryBlock); begin < n && CheckCancel(options.cancel).ok(); begin = next.fetch_add(kQueryBlock)) {
      SearchBlock(queries.data(), begin, std::min(n, begin + kQueryBlock), kept, options, scores, out, &own);
    }
    collapsed += own;
  });
  RETURN_IF_ERROR(CheckCancel(options.cancel));
  out.collapsed = collapsed;
  return out;
}

}  // namespace lectern::manifold
