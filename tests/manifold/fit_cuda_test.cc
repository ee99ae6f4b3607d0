// The fit on the card against the CPU's and against fp64 eigenvectors; needs a device.
#include "manifold/fitter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "tests/manifold/clouds.h"

namespace lectern::manifold {
namespace {

struct FitShape {
  int64_t n, dim, k, d;
  int manifold_d;
  float scale = 1;
};

FitParams OnCard(FitParams params) {
  params.device = Device::kCuda;
  return params;
}

// Every point: to 1e-4 where its direction d is determined.
void ExpectEqualFits(const FitResult& got, const FitResult& want, int64_t dim, float scale, const char* what) {
  ASSERT_EQ(got.vectors.size(), want.vectors.size());
  int64_t judged = 0, ambiguous = 0;
  float worst = 0;
  for (size_t i = 0; i < want.info.size(); ++i) {
    const FitInfo &a = got.info[i], &b = want.info[i];
    EXPECT_NEAR(a.gap, b.gap, 2e-3) << what << " row " << i;
    EXPECT_NEAR(got.residual2[i], want.residual2[i], 1e-2f * want.residual2[i] + 1e-9f) << what << " row " << i;
    if (std::abs(b.gap - kAmbiguousGap) > 2e-3f) {
      EXPECT_EQ(a.flag, b.flag) << what << " row " << i;
    }
    if (b.gap < kAmbiguousGap && b.flag != FitFlag::kTooFew) {
      ++ambiguous;
      continue;
    }
    ++judged;
    for (int64_t c = 0; c < dim; ++c) worst = std::max(worst, std::abs(got.vectors[i * dim + c] - want.vectors[i * dim + c]));
  }
  EXPECT_GT(judged, 0) << what;
  EXPECT_LE(worst, 1e-4f * scale) << what;
  std::printf("%s: %lld points judged, max |delta| %.2e; %lld ambiguous (%.1f %%)\n", what, static_cast<long long>(judged), worst,
              static_cast<long long>(ambiguous), 100.0 * static_cast<double>(ambiguous) / static_cast<double>(want.info.size()));
}

TEST(CudaFit, EqualsTheCpu) {
  ThreadPool pool(4);
  for (const FitShape& s : {FitShape{900, 384, 64, 16, 8}, FitShape{600, 128, 64, 8, 4}, FitShape{500, 37, 21, 5, 3}, FitShape{300, 50, 16, 12, 4},
                            FitShape{300, 24, 9, 2, 2}, FitShape{500, 768, 64, 16, 8}, FitShape{500, 96, 64, 24, 8}, FitShape{500, 384, 100, 24, 8},
                            FitShape{400, 100, 128, 32, 6}, FitShape{400, 130, 100, 8, 4}, FitShape{400, 97, 70, 16, 4},
                            FitShape{400, 64, 32, 8, 3, 1e4f}, FitShape{400, 64, 32, 8, 3, .25f}}) {
    Cloud cloud = MakeCloud(s.manifold_d, static_cast<int>(s.dim), s.n, .02, 3);
    for (float& x : cloud.noisy) x *= s.scale;
    const Neighbours near = Near(cloud.noisy, s.dim, s.k, pool);
    const FitParams params{.k = s.k, .d = s.d, .sigma2 = 4e-4f * s.scale * s.scale, .normalise = s.scale == 1};
    auto want = FitBatch(cloud.noisy, s.dim, near, params, pool), got = FitBatch(cloud.noisy, s.dim, near, OnCard(params), pool);
    ASSERT_TRUE(want.ok() && got.ok()) << want.status() << got.status();
    const std::string what = internal::Concat("dim ", s.dim, " k ", s.k, " d ", s.d, " scale ", s.scale);
    ExpectEqualFits(*got, *want, s.dim, s.scale, what.c_str());
  }
}

TEST(CudaFit, PlanesEqualTheEigenvectorsWhereTheyAreDetermined) {
  ThreadPool pool(4);
  for (const FitShape& s : {FitShape{400, 384, 64, 16, 8}, FitShape{400, 60, 40, 6, 3}}) {
    const Cloud cloud = MakeCloud(s.manifold_d, static_cast<int>(s.dim), s.n, .02, 3);
    const Neighbours near = Near(cloud.noisy, s.dim, s.k, pool);
    const FitParams params{.k = s.k, .d = s.d, .sigma2 = 1, .gate = false, .normalise = false};
    auto on_cpu = FitBatch(cloud.noisy, s.dim, near, params, pool), fit = FitBatch(cloud.noisy, s.dim, near, OnCard(params), pool);
    ASSERT_TRUE(on_cpu.ok() && fit.ok()) << fit.status();
    int judged = 0;
    for (int64_t i = 0; i < s.n; i += 3) {
      double gap = 0, of_cpu = 0, of_card = 0;
      const std::vector<double> truth = PlaneTruth(cloud.noisy, s.dim, i, near.ids.data() + i * s.k, s.k, s.d, &gap);
      EXPECT_EQ(fit->info[i].flag == FitFlag::kNotLocal, on_cpu->info[i].flag == FitFlag::kNotLocal) << i;
      if (gap < .05 || on_cpu->info[i].flag == FitFlag::kNotLocal) continue;  // that far from its neighbours it keeps its bits
      ++judged;
      for (int64_t c = 0; c < s.dim; ++c) {
        const double want = cloud.noisy[i * s.dim + c] + truth[c];
        of_cpu = std::max(of_cpu, std::abs(want - on_cpu->vectors[i * s.dim + c]));
        of_card = std::max(of_card, std::abs(want - fit->vectors[i * s.dim + c]));
      }
      EXPECT_LT(of_card, of_cpu + 1e-4) << i;  // the same six steps leave the same of the next direction
      EXPECT_LT(of_card, 1e-2) << i;
    }
    EXPECT_GT(judged, 50);
  }
}

TEST(CudaFit, RaggedListsDuplicatesAndFewPoints) {
  ThreadPool pool(2);
  const FitParams params{.k = 24, .d = 4, .sigma2 = 4e-4f};
  Cloud cloud = MakeCloud(3, 48, 500, .02, 6);
  Neighbours near = Near(cloud.noisy, 48, 24, pool);
  for (int64_t i = 0; i < 500; ++i) {  // 0 to 24 neighbours
    for (int64_t j = i % 25; j < 24; ++j) near.ids[i * 24 + j] = -1;
  }
  auto want = FitBatch(cloud.noisy, 48, near, params, pool), got = FitBatch(cloud.noisy, 48, near, OnCard(params), pool);
  ASSERT_TRUE(want.ok() && got.ok()) << got.status();
  ExpectEqualFits(*got, *want, 48, 1, "ragged");
  EXPECT_EQ(std::memcmp(got->vectors.data(), cloud.noisy.data(), 48 * 4), 0);  // no neighbours: its own bits
  EXPECT_EQ(got->info[0].flag, FitFlag::kTooFew);
  for (const int64_t n : {1, 2, 5, 7}) {
    const Cloud few = MakeCloud(2, 16, n, .02, 6);
    const FitParams small{.k = 8, .d = 2, .sigma2 = 1e-3f};
    const Neighbours all = Near(few.noisy, 16, 8, pool);
    auto a = FitBatch(few.noisy, 16, all, small, pool), b = FitBatch(few.noisy, 16, all, OnCard(small), pool);
    ASSERT_TRUE(a.ok() && b.ok()) << b.status();
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(a->info[i].flag == FitFlag::kTooFew, b->info[i].flag == FitFlag::kTooFew);
    if (n < 5) {
      EXPECT_EQ(b->vectors, few.noisy);
    }
  }
  // Neighbours all in one place, and on one line: no number is lost.
  std::vector<float> same(static_cast<size_t>(48 * 30), .25f);
  Neighbours all;
  all.k = 24;
  for (int i = 0; i < 30; ++i) {
    for (int j = 0, added = 0; added < 24; ++j) {
      if (j != i) all.ids.push_back(j), ++added;
    }
  }
  all.distances.resize(all.ids.size());
  auto still = FitBatch(same, 48, all, OnCard(params), pool);
  ASSERT_TRUE(still.ok()) << still.status();
  for (const float x : still->vectors) ASSERT_TRUE(std::isfinite(x));
  for (int i = 0; i < 30; ++i) same[i * 48] = .01f * static_cast<float>(i);
  auto line = FitBatch(same, 48, all, OnCard(params), pool);
  ASSERT_TRUE(line.ok()) << line.status();
  for (const float x : line->vectors) ASSERT_TRUE(std::isfinite(x));
}

TEST(CudaFit, ZeroNoiseAndFarFeetKeepTheirBits) {
  ThreadPool pool(2);
  const Cloud cloud = MakeCloud(4, 40, 300, .03, 2);
  auto fit = FitBatch(cloud.noisy, 40, Near(cloud.noisy, 40, 24, pool), OnCard({.k = 24, .d = 6, .sigma2 = 0}), pool);
  ASSERT_TRUE(fit.ok());
  EXPECT_EQ(std::memcmp(fit->vectors.data(), cloud.noisy.data(), cloud.noisy.size() * 4), 0);
  std::vector<float> cross;  // neighbours all around the origin: their mean is no place for x
  for (int i = 0; i < 12; ++i) {
    for (int t = 0; t < 6; ++t) cross.push_back(t == i / 2 ? (i % 2 == 0 ? 1.0f : -1.0f) : 0.0f);
  }
  auto far = FitBatch(cross, 6, Near(cross, 6, 11, pool), OnCard({.k = 11, .d = 1, .sigma2 = .1f}), pool);
  ASSERT_TRUE(far.ok()) << far.status();
  for (const FitInfo& info : far->info) EXPECT_EQ(info.flag, FitFlag::kNotLocal);
  EXPECT_EQ(std::memcmp(far->vectors.data(), cross.data(), cross.size() * 4), 0);
}

// Noise as long as the vectors shortens every foot: the card, too, holds it against the vector without its noise.
TEST(CudaFit, NoiseAloneLeavesNoPartOfACorpusRaw) {
  ThreadPool pool(2);
  const Cloud cloud = MakeCloud(3, 96, 1500, .2, 4);
  const FitParams params{.k = 48, .d = 6, .sigma2 = .04f / (1 + 96 * .04f)};
  const Neighbours near = Near(cloud.noisy, 96, 48, pool);
  auto want = FitBatch(cloud.noisy, 96, near, params, pool), got = FitBatch(cloud.noisy, 96, near, OnCard(params), pool);
  ASSERT_TRUE(want.ok() && got.ok()) << got.status();
  for (size_t i = 0; i < got->info.size(); ++i) {
    EXPECT_NE(got->info[i].flag, FitFlag::kNotLocal) << i;
    EXPECT_GT(got->info[i].step, 0) << i;
    EXPECT_NEAR(got->info[i].s, want->info[i].s, 1e-3) << i;
  }
  EXPECT_LT(SquaredError(cloud, got->vectors), .8 * SquaredError(cloud, cloud.noisy));
}

TEST(CudaFit, PointsOutsideTheCorpusAndSecondPasses) {
  ThreadPool pool(2);
  const Cloud cloud = MakeCloud(3, 64, 900, .02, 11), other = MakeCloud(3, 64, 200, .02, 12);
  FitParams params{.k = 32, .d = 8, .sigma2 = 4e-4f};
  auto table = NeighbourTable::Make(cloud.noisy, 64);
  auto near = table->Search(other.noisy, {.k = 32}, pool);
  auto corpus = FitBatch(cloud.noisy, 64, Near(cloud.noisy, 64, 32, pool), params, pool);
  ASSERT_TRUE(near.ok() && corpus.ok());
  auto want = FitPoints(other.noisy, cloud.noisy, 64, *near, corpus->residual2, params, pool);
  auto got = FitPoints(other.noisy, cloud.noisy, 64, *near, corpus->residual2, OnCard(params), pool);
  ASSERT_TRUE(want.ok() && got.ok()) << got.status();
  ExpectEqualFits(*got, *want, 64, 1, "points outside");
  params.passes = 2;
  params.sigma2_factor = 1;
  auto twice = FitBatch(cloud.noisy, 64, Near(cloud.noisy, 64, 32, pool), OnCard(params), pool);
  auto on_cpu = FitBatch(cloud.noisy, 64, Near(cloud.noisy, 64, 32, pool), params, pool);
  ASSERT_TRUE(twice.ok() && on_cpu.ok()) << twice.status();
  EXPECT_NEAR(SquaredError(cloud, twice->vectors), SquaredError(cloud, on_cpu->vectors), .02 * SquaredError(cloud, on_cpu->vectors));
}

TEST(CudaFit, SameBitsOnEveryRun) {
  ThreadPool pool(2);
  const Cloud cloud = MakeCloud(8, 384, 4000, .02, 1);
  const Neighbours near = Near(cloud.noisy, 384, 64, pool);
  const FitParams params = OnCard({.k = 64, .d = 16, .sigma2 = 4e-4f});
  auto first = FitBatch(cloud.noisy, 384, near, params, pool);
  ASSERT_TRUE(first.ok()) << first.status();
  for (int run = 0; run < 3; ++run) {
    auto again = FitBatch(cloud.noisy, 384, near, params, pool);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(std::memcmp(first->vectors.data(), again->vectors.data(), first->vectors.size() * 4), 0);
    EXPECT_EQ(std::memcmp(first->info.data(), again->info.data(), first->info.size() * sizeof(FitInfo)), 0);
  }
}

TEST(CudaFit, BadInputIsNamed) {
  ThreadPool pool(1);
  const Cloud cloud = MakeCloud(2, 16, 200, .02, 8);
  const Neighbours near = Near(cloud.noisy, 16, 8, pool);
  FitParams params = OnCard({.k = 8, .d = 2, .sigma2 = 1e-3f});
  std::vector<float> bad = cloud.noisy;
  bad[16 * 5 + 3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(FitBatch(bad, 16, near, params, pool).status().message(), "vectors must be finite and within 1e6, row 5 has nan at 3");
  Neighbours wild = near;
  wild.ids[3] = 200;
  EXPECT_EQ(FitBatch(cloud.noisy, 16, wild, params, pool).status().message(),
            "neighbours must be in 0..199 and -1 only behind them, row 0 has 200 at 3");
  params.tangent_average = true;
  EXPECT_EQ(FitBatch(cloud.noisy, 16, near, params, pool).status().code(), absl::StatusCode::kUnimplemented);
  params.tangent_average = false;
  params.k = 150;
  const Neighbours many = Near(cloud.noisy, 16, 150, pool);
  EXPECT_EQ(FitBatch(cloud.noisy, 16, many, params, pool).status().message(), "the CUDA kernels serve k up to 128, got k 150 and d 2");
}

}  // namespace
}  // namespace lectern::manifold
