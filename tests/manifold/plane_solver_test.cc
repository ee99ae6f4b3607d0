// The solver of the CUDA planes, run in a plain loop on Gram matrices as the kernel makes them: equal to the CPU's planes.
#include "manifold/cuda/plane_solver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "manifold/fitter.h"
#include "manifold/plane.h"
#include "tests/manifold/clouds.h"

namespace lectern::manifold {
namespace {

struct Foot {
  std::vector<float> offset;
  float gap = 0;
};

// What cuda/plane.cuh does around Solve(): differences in fp32, their parts in two bf16, three products.
template <int kRows, int kBlock>
Foot DevicePlane(const std::vector<float>& v, int64_t dim, int64_t point, std::span<const int32_t> ids, int64_t k, int d) {
  const int count = static_cast<int>(ids.size());
  std::vector<float> z(static_cast<size_t>(kRows * dim), 0.0f), mean(static_cast<size_t>(dim), 0.0f), high(z.size()), low(z.size());
  for (int i = 0; i < count; ++i) {
    for (int64_t c = 0; c < dim; ++c) mean[c] += z[i * dim + c] = v[ids[i] * dim + c] - v[point * dim + c];
  }
  for (float& x : mean) x /= static_cast<float>(count);
  for (int i = 0; i < count; ++i) {
    for (int64_t c = 0; c < dim; ++c) z[i * dim + c] -= mean[c];
  }
  for (size_t i = 0; i < z.size(); ++i) high[i] = ToFloat(ToBf16(z[i])), low[i] = ToFloat(ToBf16(z[i] - high[i]));
  using Memory = cuda::SolverMemory<kRows, kBlock>;
  const auto memory = std::make_unique<Memory>();
  cuda::SolverResult<kRows> result;
  float total = 0;
  for (int i = 0; i < kRows; ++i) {
    float at = 0;
    for (int64_t c = 0; c < dim; ++c) at -= (high[i * dim + c] + low[i * dim + c]) * mean[c];
    result.at[i] = at;
    for (int j = 0; j < kRows; ++j) {
      float sum = 0;
      for (int64_t c = 0; c < dim; ++c) {
        sum += low[i * dim + c] * high[j * dim + c] + high[i * dim + c] * low[j * dim + c] + high[i * dim + c] * high[j * dim + c];
      }
      memory->g[i * Memory::kStride + j] = sum;
    }
    total += memory->g[i * Memory::kStride + i];
  }
  for (float& x : memory->g) x *= total > 1e-36f ? 1 / total : 0;
  const std::vector<float> start = StartBlock(k, kRows, kBlock, kBlock);
  cuda::Solve(cuda::LoopTeam{}, *memory, result, start.data(), total, d);
  Foot foot{.offset = mean, .gap = result.gap};
  for (int i = 0; i < count; ++i) {
    for (int64_t c = 0; c < dim; ++c) foot.offset[c] += result.coefficient[i] * z[i * dim + c];
  }
  return foot;
}

template <int kRows, int kBlock>
void ExpectEqualPlanes(int manifold_d, int64_t n, int64_t dim, int64_t k, int d, float scale = 1) {
  ThreadPool pool(2);
  Cloud cloud = MakeCloud(manifold_d, static_cast<int>(dim), n, .02, 21);
  for (float& x : cloud.noisy) x *= scale;
  Neighbours near = Near(cloud.noisy, dim, k, pool);
  for (int64_t i = 0; i < n; i += 5) {  // some lists are short
    for (int64_t j = d + 2 + i % (k - d - 1); j < k; ++j) near.ids[i * k + j] = -1;
  }
  auto planes = FitPlanes({.points = cloud.noisy, .planes = cloud.noisy, .means = cloud.noisy, .dim = dim, .neighbours = near.ids, .k = k, .d = d},
                          pool);
  ASSERT_TRUE(planes.ok()) << planes.status();
  int64_t judged = 0;
  float worst = 0;
  for (int64_t i = 0; i < n; i += 3) {
    const Foot foot = DevicePlane<kRows, kBlock>(cloud.noisy, dim, i, {near.ids.data() + i * k, static_cast<size_t>(planes->count[i])}, k, d);
    EXPECT_NEAR(foot.gap, planes->gap[i], 2e-3) << i;
    if (planes->gap[i] < kAmbiguousGap) continue;
    ++judged;
    for (int64_t c = 0; c < dim; ++c) worst = std::max(worst, std::abs(foot.offset[c] - planes->offset[i * dim + c]));
  }
  EXPECT_GT(judged, 10);
  EXPECT_LT(worst, 1e-4f * scale);
}

TEST(PlaneSolver, EqualsTheCpuPlanes) {
  ExpectEqualPlanes<64, 24>(8, 240, 384, 64, 16);
  ExpectEqualPlanes<64, 16>(4, 300, 50, 64, 8);
  ExpectEqualPlanes<64, 16>(3, 300, 37, 21, 5);
  ExpectEqualPlanes<64, 40>(8, 240, 96, 64, 30);
  ExpectEqualPlanes<128, 32>(8, 240, 96, 100, 20);
}

TEST(PlaneSolver, ScaleDoesNotMatter) {
  ExpectEqualPlanes<64, 16>(3, 240, 40, 32, 6, 1e4f);
  ExpectEqualPlanes<64, 16>(3, 240, 40, 32, 6, 3e-2f);
}

// Fewer directions than d: neighbours on a line, and all in one place.
TEST(PlaneSolver, MissingDirectionsDropOut) {
  std::vector<float> line;
  for (int i = 0; i < 40; ++i) {
    for (int c = 0; c < 8; ++c) line.push_back(c == 0 ? .01f * static_cast<float>(i) : c == 1 ? .5f : 0);
  }
  line[1] = .75f;  // the point, a quarter above
  std::vector<int32_t> ids;
  for (int i = 1; i < 33; ++i) ids.push_back(i);
  const Foot foot = DevicePlane<64, 16>(line, 8, 0, ids, 32, 3);
  EXPECT_EQ(foot.gap, 0);
  EXPECT_NEAR(foot.offset[0], 0, 1e-4);
  EXPECT_NEAR(foot.offset[1], -.25, 1e-6);
  const std::vector<float> same(40 * 8, .5f);
  const Foot still = DevicePlane<64, 16>(same, 8, 0, ids, 32, 3);
  for (const float x : still.offset) EXPECT_EQ(x, 0);
}

}  // namespace
}  // namespace lectern::manifold
