#include "manifold/plane.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "base/cpu_target.h"
#include "base/rng.h"
#include "manifold/cpu/plane_kernels.h"

namespace lectern::manifold {
namespace {

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

struct AlignedFloats {
  explicit AlignedFloats(int64_t n) : data(static_cast<float*>(::operator new(static_cast<size_t>(n) * 4, std::align_val_t(64)))) {}
  ~AlignedFloats() { ::operator delete(data, std::align_val_t(64)); }
  AlignedFloats(const AlignedFloats&) = delete;
  float* data;
};

// A walk from each point to its nearest that was not yet visited: neighbours in turn share most of their own neighbours,
// which are then in the second-level cache. Results do not depend on it.
std::vector<int32_t> WalkOrder(std::span<const int32_t> neighbours, int64_t n, int64_t k, bool points_are_rows) {
  std::vector<int32_t> order;
  order.reserve(static_cast<size_t>(n));
  std::vector<uint8_t> seen(static_cast<size_t>(n), 0);
  for (int64_t start = 0; start < n; ++start) {
    for (int64_t at = start; at >= 0 && seen[at] == 0;) {
      seen[at] = 1;
      order.push_back(static_cast<int32_t>(at));
      const int32_t* list = neighbours.data() + at * k;
      at = -1;
      for (int64_t j = 0; points_are_rows && j < k && list[j] >= 0; ++j) {
        if (seen[list[j]] != 0) continue;
        at = list[j];
        break;
      }
    }
  }
  return order;
}

}  // namespace

std::vector<float> StartBlock(int64_t k, int64_t k_padded, int64_t block, int64_t stride) {
  std::vector<float> start(static_cast<size_t>(k_padded * stride), 0.0f);
  for (int64_t i = 0; i < k; ++i) {
    Rng rng(/*seed=*/0x706c616e65, static_cast<uint64_t>(i));
    for (int64_t j = 0; j < block; ++j) start[i * stride + j] = rng.Next() >> 63 ? 1.0f : -1.0f;
  }
  return start;
}

absl::StatusOr<std::vector<int32_t>> CheckPlanes(const PlaneRequest& request) {
  const int64_t dim = request.dim, k = request.k, d = request.d;
  if (dim < 2) return InvalidArgument("dim must be 2 or more, got ", dim);
  if (d < 1 || d >= dim || d > kMaxPlaneDimension) {
    return InvalidArgument("d must be in 1..", std::min(dim - 1, kMaxPlaneDimension), ", got ", d);
  }
  if (k < d + 2 || k > kMaxNeighbours) return InvalidArgument("k must be in d + 2 = ", d + 2, "..", kMaxNeighbours, ", got ", k);
  if (request.points.size() % static_cast<size_t>(dim) != 0 || request.planes.size() % static_cast<size_t>(dim) != 0 ||
      request.means.size() != request.planes.size()) {
    return InvalidArgument("points, planes and means must be whole rows of ", dim, ", got ", request.points.size(), ", ",
                           request.planes.size(), " and ", request.means.size(), " values");
  }
  const int64_t n = static_cast<int64_t>(request.points.size()) / dim, rows = static_cast<int64_t>(request.planes.size()) / dim;
  if (static_cast<int64_t>(request.neighbours.size()) != n * k) {
    return InvalidArgument("neighbours must be ", n, " rows of ", k, ", got ", request.neighbours.size(), " values");
  }
  std::vector<int32_t> counts(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    int64_t count = 0;
    while (count < k && request.neighbours[i * k + count] >= 0) ++count;
    for (int64_t j = 0; j < k; ++j) {
      const int64_t id = request.neighbours[i * k + j];
      if (id >= rows || (j >= count && id >= 0)) {
        return InvalidArgument("neighbours must be in 0..", rows - 1, " and -1 only behind them, row ", i, " has ", id, " at ", j);
      }
    }
    counts[i] = static_cast<int32_t>(count);
  }
  return counts;
}

absl::StatusOr<PlaneResult> FitPlanes(const PlaneRequest& request, ThreadPool& pool) {
  PlaneResult result;
  ASSIGN_OR_RETURN(result.count, CheckPlanes(request));
  const int64_t dim = request.dim, k = request.k, d = request.d;
  const int64_t n = static_cast<int64_t>(request.points.size()) / dim, rows = static_cast<int64_t>(request.planes.size()) / dim;
  result.offset.assign(static_cast<size_t>(n * dim), 0.0f);
  result.residual2.assign(static_cast<size_t>(n), 0.0f);
  result.gap.assign(static_cast<size_t>(n), 0.0f);
  if (request.want_basis) result.basis.assign(static_cast<size_t>(n * d * dim), 0.0f);
  const int64_t block = RoundUp(d + kExtraColumns, kLanes), block_padded = RoundUp(block, kPad);
  const int64_t dim_padded = RoundUp(dim, kPad), k_padded = RoundUp(k, 4);
  const std::vector<float> start = StartBlock(k, k_padded, block, block_padded);
  const auto fit = ActiveCpuTarget() >= CpuTarget::kAvx512 ? avx512::FitPlanes
                   : ActiveCpuTarget() >= CpuTarget::kAvx2 ? avx2::FitPlanes
                                                           : scalar::FitPlanes;
  const std::vector<int32_t> order = WalkOrder(request.neighbours, n, k, n == rows);
  std::atomic<int64_t> next{0};
  constexpr int64_t kStride = 64;  // points of the walk a turn
  pool.RunOnAll([&](int) {
    const AlignedFloats scratch(PlaneScratch(k_padded, dim_padded, block, block_padded));
    for (int64_t begin = next.fetch_add(kStride); begin < n; begin = next.fetch_add(kStride)) {
      const int64_t end = std::min(n, begin + kStride);
      for (int64_t at = begin; at < end;) {
        PlaneArgs args{.planes = request.planes.data(), .means = request.means.data(), .dim = dim, .d = d, .k_padded = k_padded,
                       .dim_padded = dim_padded, .block = block, .block_padded = block_padded, .start = start.data(),
                       .scratch = scratch.data};
        int32_t row[kBatch];
        for (; at < end && args.points < kBatch; ++at) {
          const int64_t i = order[at], lane = args.points;
          if (result.count[i] < d + 2) continue;
          row[lane] = order[at];
          args.point[lane] = request.points.data() + i * dim;
          args.ids[lane] = request.neighbours.data() + i * k;
          args.k[lane] = result.count[i];
          args.offset[lane] = result.offset.data() + i * dim;
          args.basis[lane] = request.want_basis ? result.basis.data() + i * d * dim : nullptr;
          ++args.points;
        }
        if (args.points == 0) continue;
        fit(args);
        for (int64_t lane = 0; lane < args.points; ++lane) {
          result.residual2[row[lane]] = args.residual2[lane];
          result.gap[row[lane]] = args.gap[lane];
        }
      }
    }
  });
  return result;
}

}  // namespace lectern::manifold
