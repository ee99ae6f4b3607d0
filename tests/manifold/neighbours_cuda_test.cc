// The CUDA search against fp64 distances of the rounded vectors; needs a device.
#include "manifold/neighbours.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/cancel.h"
#include "base/rng.h"
#include "manifold/cuda/launch.h"
#include "tests/manifold/clouds.h"
#include "tests/manifold/halves.h"

namespace lectern::manifold {
namespace {

// ids by (distance, id), distances in fp64.
std::vector<int32_t> ExactIds(const std::vector<float>& corpus, const std::vector<float>& queries, int64_t dim, int64_t k,
                              const std::vector<int32_t>& self) {
  const int64_t rows = static_cast<int64_t>(corpus.size()) / dim, n = static_cast<int64_t>(queries.size()) / dim;
  std::vector<int32_t> ids(static_cast<size_t>(n * k), -1), order(static_cast<size_t>(rows));
  std::vector<double> distance(static_cast<size_t>(rows));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < rows; ++j) {
      double sum = 0;
      for (int64_t c = 0; c < dim; ++c) sum += (double{queries[i * dim + c]} - corpus[j * dim + c]) * (double{queries[i * dim + c]} - corpus[j * dim + c]);
      distance[j] = sum;
    }
    order.resize(static_cast<size_t>(rows));
    std::iota(order.begin(), order.end(), 0);
    if (!self.empty()) order.erase(order.begin() + self[i]);
    const auto last = order.begin() + std::min<int64_t>(k, static_cast<int64_t>(order.size()));
    std::partial_sort(order.begin(), last, order.end(), [&](int32_t a, int32_t b) {
      return distance[a] != distance[b] ? distance[a] < distance[b] : a < b;
    });
    std::copy(order.begin(), last, ids.begin() + i * k);
  }
  return ids;
}

Neighbours OnCard(const std::vector<float>& corpus, const std::vector<float>& queries, int64_t dim, const NeighbourOptions& options) {
  ThreadPool pool(1);
  auto table = NeighbourTable::Make(corpus, dim, Device::kCuda);
  EXPECT_TRUE(table.ok()) << table.status();
  if (!table.ok()) return {};
  auto near = table->Search(queries, options, pool);
  EXPECT_TRUE(near.ok()) << near.status();
  return near.ok() ? *std::move(near) : Neighbours{};
}

TEST(CudaNeighbours, AreExactForTheRoundedVectors) {
  struct Shape {
    int64_t n, dim, k;
    int d;
  };
  for (const Shape& s : {Shape{1000, 384, 64, 6}, Shape{700, 37, 10, 3}, Shape{2500, 128, 64, 4}, Shape{900, 768, 32, 8}, Shape{300, 1024, 8, 4},
                         Shape{257, 64, 100, 3}, Shape{1500, 448, 64, 12}, Shape{640, 449, 20, 5}, Shape{1, 16, 4, 2}, Shape{2, 16, 4, 2},
                         Shape{65, 384, 64, 3}}) {
    const std::vector<float> v = Rounded(MakeCloud(s.d, static_cast<int>(s.dim), s.n, .02, 31).noisy);
    const Neighbours near = OnCard(v, v, s.dim, {.k = s.k, .self = AllRows(s.n)});
    EXPECT_EQ(near.ids, ExactIds(v, v, s.dim, s.k, AllRows(s.n))) << s.n << " x " << s.dim;
    for (int64_t i = 0; i < static_cast<int64_t>(near.ids.size()); ++i) {
      if (near.ids[i] < 0) {
        EXPECT_TRUE(std::isinf(near.distances[i]));
        continue;
      }
      double sum = 0;
      for (int64_t c = 0; c < s.dim; ++c) sum += std::pow(double{v[i / s.k * s.dim + c]} - v[int64_t{near.ids[i]} * s.dim + c], 2);
      ASSERT_NEAR(near.distances[i], std::sqrt(sum), 1e-6);
    }
  }
}

TEST(CudaNeighbours, LengthsAndFarAwayClustersCount) {
  std::vector<float> v = MakeCloud(3, 96, 1200, .02, 5).noisy;
  for (size_t i = 0; i < v.size(); ++i) v[i] = v[i] * (1 + static_cast<float>(i / 96 % 7)) + (i / 96 % 3 == 0 ? 2.0f : 0.0f);
  v = Rounded(v);
  EXPECT_EQ(OnCard(v, v, 96, {.k = 32, .self = AllRows(1200)}).ids, ExactIds(v, v, 96, 32, AllRows(1200)));
}

TEST(CudaNeighbours, QueriesNeedNotBeOfTheCorpus) {
  const std::vector<float> v = Rounded(MakeCloud(3, 80, 1500, .02, 6).noisy), q = Rounded(MakeCloud(3, 80, 333, .05, 7).noisy);
  EXPECT_EQ(OnCard(v, q, 80, {.k = 20}).ids, ExactIds(v, q, 80, 20, {}));
}

// More equal distances than a list holds: the row is looked at in fp64 altogether.
TEST(CudaNeighbours, TiesGoToTheLowerId) {
  std::vector<float> v;
  Rng rng(4);
  for (int i = 0; i < 2600; ++i) {
    for (int c = 0; c < 24; ++c) v.push_back(c < 3 ? .25f * static_cast<float>(rng.Below(4)) : 0.0f);  // 64 places
  }
  EXPECT_EQ(OnCard(v, v, 24, {.k = 64, .self = AllRows(2600)}).ids, ExactIds(v, v, 24, 64, AllRows(2600)));
  const std::vector<float> same(24 * 1000, .5f);
  EXPECT_EQ(OnCard(same, same, 24, {.k = 10, .self = AllRows(1000)}).ids, ExactIds(same, same, 24, 10, AllRows(1000)));
}

// A near-duplicate of the query, or of a nearer neighbour, is no neighbour.
TEST(CudaNeighbours, NearDuplicatesCollapse) {
  const int64_t dim = 64, k = 32, kept = k + kSpareNeighbours;
  Cloud cloud = MakeCloud(3, static_cast<int>(dim), 900, .02, 8);
  for (int copy = 0; copy < 60; ++copy) {
    for (int c = 0; c < dim; ++c) cloud.noisy.push_back(cloud.noisy[static_cast<size_t>(copy % 9 * dim + c)]);
  }
  const std::vector<float> v = Rounded(cloud.noisy);
  const auto distance = [&](int64_t a, int64_t b) {
    double sum = 0;
    for (int64_t c = 0; c < dim; ++c) sum += std::pow(double{v[a * dim + c]} - v[b * dim + c], 2);
    return std::sqrt(sum);
  };
  const std::vector<int32_t> all = ExactIds(v, v, dim, kept, AllRows(960));
  std::vector<int32_t> want;
  int64_t collapsed = 0;
  for (int64_t i = 0; i < 960; ++i) {
    std::vector<int32_t> row;
    for (int64_t j = 0; j < kept && static_cast<int64_t>(row.size()) < k; ++j) {
      const int32_t id = all[i * kept + j];
      const bool twin = distance(i, id) < kNearDuplicate ||
                        std::any_of(row.begin(), row.end(), [&](int32_t other) { return distance(other, id) < kNearDuplicate; });
      if (twin) ++collapsed;
      else row.push_back(id);
    }
    row.resize(static_cast<size_t>(k), -1);
    want.insert(want.end(), row.begin(), row.end());
  }
  const Neighbours got = OnCard(v, v, dim, {.k = k, .self = AllRows(960), .collapse = true});
  EXPECT_EQ(got.ids, want);
  EXPECT_EQ(got.collapsed, collapsed);
  EXPECT_GT(collapsed, 0);
}

TEST(CudaNeighbours, SameBitsOnEveryRun) {
  const std::vector<float> v = MakeCloud(6, 384, 6000, .02, 9).noisy;
  const Neighbours first = OnCard(v, v, 384, {.k = 64, .self = AllRows(6000)});
  for (int run = 0; run < 3; ++run) {
    const Neighbours again = OnCard(v, v, 384, {.k = 64, .self = AllRows(6000)});
    EXPECT_EQ(first.ids, again.ids);
    EXPECT_EQ(first.distances, again.distances);
  }
}

TEST(CudaNeighbours, BadInputIsNamed) {
  std::vector<float> v = MakeCloud(2, 16, 40, .02, 8).noisy;
  std::vector<float> bad = v;
  bad[16 * 5 + 3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(NeighbourTable::Make(bad, 16, Device::kCuda).status().message(), "vectors must be finite and within 1e6, row 5 has nan at 3");
  bad[16 * 5 + 3] = 70000;
  EXPECT_EQ(NeighbourTable::Make(bad, 16, Device::kCuda).status().message(),
            "vectors must be within fp16's 65504 for the CUDA search, row 5 has 70000 at 3");
  EXPECT_EQ(NeighbourTable::Make(std::vector<float>(4096, 0.0f), 2048, Device::kCuda).status().code(), absl::StatusCode::kUnimplemented);
  ThreadPool pool(1);
  auto table = NeighbourTable::Make(v, 16, Device::kCuda);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->Search(v, {.k = 193}, pool).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(table->Search(v, {.k = 0}, pool).status().code(), absl::StatusCode::kInvalidArgument);
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(table->Search(v, {.k = 4, .cancel = &cancel}, pool).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace lectern::manifold
