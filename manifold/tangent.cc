#include "manifold/tangent.h"

#include <algorithm>
#include <cmath>

namespace lectern::manifold {
namespace {

constexpr int kSteps = 3;

float Dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void Orthonormalise(float* rows, int64_t d, int64_t dim) {
  for (int64_t i = 0; i < d; ++i) {
    float* row = rows + i * dim;
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t j = 0; j < i; ++j) {
        const float c = Dot(row, rows + j * dim, dim);
        for (int64_t t = 0; t < dim; ++t) row[t] -= c * rows[j * dim + t];
      }
    }
    const float norm2 = Dot(row, row, dim);
    const float scale = norm2 > 1e-12f ? 1 / std::sqrt(norm2) : 0.0f;  // a dependent direction drops out
    for (int64_t t = 0; t < dim; ++t) row[t] *= scale;
  }
}

}  // namespace

absl::StatusOr<PlaneResult> FitAveragedPlanes(const PlaneRequest& request, ThreadPool& pool) {
  const int64_t dim = request.dim, d = request.d, k = request.k;
  if (request.points.size() != request.planes.size()) {
    return NotSupported("tangent averaging needs the planes of all neighbours: points outside the corpus have none");
  }
  const int64_t bytes = static_cast<int64_t>(request.points.size()) * d * 4;
  if (bytes > kMaxBasisBytes) {
    return ResourceExhausted("tangent averaging holds every point's plane, ", bytes, " bytes; the limit is ", kMaxBasisBytes);
  }
  PlaneRequest with_basis = request;
  with_basis.want_basis = true;
  ASSIGN_OR_RETURN(PlaneResult result, FitPlanes(with_basis, pool));
  const int64_t n = static_cast<int64_t>(request.points.size()) / dim;
  pool.ParallelFor(n, [&](int64_t begin, int64_t end, int) {
    std::vector<float> block(static_cast<size_t>(d * dim)), next(block.size()), mean(static_cast<size_t>(dim));
    for (int64_t i = begin; i < end; ++i) {
      if (result.count[i] < d + 2) continue;
      const float* x = request.points.data() + i * dim;
      std::copy_n(result.basis.data() + i * d * dim, d * dim, block.begin());
      for (int step = 0; step < kSteps; ++step) {
        std::fill(next.begin(), next.end(), 0.0f);
        for (int64_t j = 0; j < std::min<int64_t>(kAveragedPlanes, result.count[i]); ++j) {
          const float* basis = result.basis.data() + int64_t{request.neighbours[i * k + j]} * d * dim;
          for (int64_t r = 0; r < d; ++r) {
            for (int64_t c = 0; c < d; ++c) {
              const float weight = Dot(basis + r * dim, block.data() + c * dim, dim);
              for (int64_t t = 0; t < dim; ++t) next[c * dim + t] += weight * basis[r * dim + t];
            }
          }
        }
        block = next;
        Orthonormalise(block.data(), d, dim);
      }
      std::fill(mean.begin(), mean.end(), 0.0f);
      for (int64_t j = 0; j < result.count[i]; ++j) {
        const float* row = request.means.data() + int64_t{request.neighbours[i * k + j]} * dim;
        for (int64_t t = 0; t < dim; ++t) mean[t] += (row[t] - x[t]) / static_cast<float>(result.count[i]);
      }
      // X - x = mean - (components of mean along the plane).
      float* offset = result.offset.data() + i * dim;
      std::copy(mean.begin(), mean.end(), offset);
      for (int64_t r = 0; r < d; ++r) {
        const float along = Dot(block.data() + r * dim, mean.data(), dim);
        for (int64_t t = 0; t < dim; ++t) offset[t] -= along * block[r * dim + t];
      }
      result.residual2[i] = Dot(offset, offset, dim);
    }
  });
  if (!request.want_basis) result.basis.clear();
  return result;
}

}  // namespace lectern::manifold
