// The embedding form: planes against fp64 eigenvectors on every CPU target, the gate, the inputs that break programs.
#include "manifold/fitter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/cpu_target.h"
#include "base/rng.h"
#include "manifold/noise.h"
#include "manifold/plane.h"
#include "tests/manifold/clouds.h"

namespace lectern::manifold {
namespace {

struct PlaneShape {
  int64_t n, dim, k, d;
  int manifold_d;
};

TEST(FitPlanes, EqualsTheEigenvectorsWhereTheyAreDeterminedOnEveryTarget) {
  ThreadPool pool(2);
  const CpuTarget before = ActiveCpuTarget();
  for (const PlaneShape& shape : {PlaneShape{600, 128, 64, 8, 4}, {500, 37, 21, 5, 3}, {400, 384, 64, 16, 8}, {300, 50, 16, 12, 4},
                                  {300, 24, 9, 2, 2}}) {
    const Cloud cloud = MakeCloud(shape.manifold_d, static_cast<int>(shape.dim), shape.n, .02, 3);
    const Neighbours near = Near(cloud.noisy, shape.dim, shape.k, pool);
    for (const CpuTarget target : SupportedCpuTargets()) {
      SetCpuTargetForTest(target);
      auto planes = FitPlanes({.points = cloud.noisy, .planes = cloud.noisy, .means = cloud.noisy, .dim = shape.dim,
                               .neighbours = near.ids, .k = shape.k, .d = shape.d}, pool);
      ASSERT_TRUE(planes.ok()) << planes.status();
      int64_t judged = 0;
      double worst = 0;
      for (int64_t i = 0; i < shape.n; i += 7) {
        double gap = 0;
        const std::vector<double> truth = PlaneTruth(cloud.noisy, shape.dim, i, near.ids.data() + i * shape.k, shape.k, shape.d, &gap);
        double squared = 0;
        for (int64_t t = 0; t < shape.dim; ++t) {
          squared += truth[t] * truth[t];
          if (gap >= .05) worst = std::max(worst, std::abs(truth[t] - planes->offset[i * shape.dim + t]));
        }
        judged += gap >= .05;
        // The residual hardly depends on directions that tie.
        EXPECT_NEAR(planes->residual2[i], squared, .02 * squared) << CpuTargetName(target) << " row " << i;
      }
      EXPECT_GT(judged, 0);
      EXPECT_LT(worst, 2e-3) << CpuTargetName(target) << " dim " << shape.dim << " k " << shape.k << " d " << shape.d;
    }
    SetCpuTargetForTest(before);
  }
}

TEST(FitPlanes, SameBitsOnAnyNumberOfThreads) {
  const Cloud cloud = MakeCloud(4, 64, 500, .02, 1);
  ThreadPool one(1), three(3);
  const Neighbours near = Near(cloud.noisy, 64, 32, one);
  EXPECT_EQ(near.ids, Near(cloud.noisy, 64, 32, three).ids);
  const FitParams params{.k = 32, .d = 8, .sigma2 = 4e-4f};
  auto a = FitBatch(cloud.noisy, 64, near, params, one), b = FitBatch(cloud.noisy, 64, near, params, three);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->vectors, b->vectors);
  auto again = FitBatch(cloud.noisy, 64, near, params, three);
  EXPECT_EQ(std::memcmp(a->vectors.data(), again->vectors.data(), a->vectors.size() * 4), 0);
}

TEST(Gate, WorkedNumbers) {
  EXPECT_FLOAT_EQ(Gate(.004f, .01f), .6f);
  EXPECT_EQ(Gate(.01f, .01f), 0);
  EXPECT_EQ(Gate(.02f, .01f), 0);
  EXPECT_EQ(Gate(0, .01f), 1);
  EXPECT_EQ(Gate(0, 0), 1);
}

TEST(FitBatch, WorkedPlaneAndGateOfTwelvePoints) {
  // The point is a query of the plane of {0, 1, 11, 2}.
  const std::vector<float> corpus = {1.03f, 0, .8314f, .48f, .51f, .8833f, 0, .99f, -.525f, .9093f, -.84f, .485f,
                                     -1.01f, 0, -.8141f, -.47f, -.52f, -.9007f, 0, -.98f, .5f, -.866f, .8227f, -.475f};
  const std::vector<float> x = {1.2f, .1f};
  ThreadPool pool(1);
  auto table = NeighbourTable::Make(corpus, 2);
  auto near = table->Search(x, {.k = 4}, pool);
  EXPECT_EQ(near->ids, (std::vector<int32_t>{0, 1, 11, 2}));
  auto planes = FitPlanes({.points = x, .planes = corpus, .means = corpus, .dim = 2, .neighbours = near->ids, .k = 4, .d = 1,
                           .want_basis = true}, pool);
  ASSERT_TRUE(planes.ok()) << planes.status();
  EXPECT_NEAR(x[0] + planes->offset[0], 0.853537157260, 2e-6);
  EXPECT_NEAR(x[1] + planes->offset[1], 0.010089678566, 2e-6);
  EXPECT_NEAR(std::abs(planes->basis[0]), 0.251188910811, 2e-6);
  EXPECT_NEAR(std::abs(planes->basis[1]), 0.967938082258, 2e-6);
  EXPECT_NEAR(planes->gap[0], 1 - 0.018367653761 / 0.275999149989, 2e-6);
  // s = .25: choose sigma2 so that the gate says so, the pool being the point alone (the corpus has no residuals yet).
  std::vector<float> residual2(12, planes->residual2[0]);
  FitParams params{.k = 4, .d = 1, .sigma2 = .75f * planes->residual2[0], .sigma2_factor = 1, .normalise = false};
  auto fit = FitPoints(x, corpus, 2, *near, residual2, params, pool);
  ASSERT_TRUE(fit.ok()) << fit.status();
  EXPECT_NEAR(fit->info[0].s, .25, 1e-6);
  EXPECT_NEAR(fit->vectors[0], 0.940152867945, 2e-6);
  EXPECT_NEAR(fit->vectors[1], 0.032567258924, 2e-6);
  params.normalise = true;
  fit = FitPoints(x, corpus, 2, *near, residual2, params, pool);
  EXPECT_NEAR(fit->vectors[0], 0.999400561225, 2e-6);
  EXPECT_NEAR(fit->vectors[1], 0.034619621932, 2e-6);
}

TEST(FitBatch, ZeroNoiseReturnsTheSameBits) {
  const Cloud cloud = MakeCloud(4, 40, 300, .03, 2);
  std::vector<float> odd = cloud.noisy;
  for (size_t i = 0; i < odd.size(); i += 3) odd[i] *= 1.37f;  // not of unit length
  odd[7] = -0.0f;
  ThreadPool pool(2);
  auto fit = FitBatch(odd, 40, Near(odd, 40, 24, pool), {.k = 24, .d = 6, .sigma2 = 0}, pool);
  ASSERT_TRUE(fit.ok());
  EXPECT_EQ(std::memcmp(fit->vectors.data(), odd.data(), odd.size() * 4), 0);
  for (const FitInfo& info : fit->info) EXPECT_EQ(info.flag, FitFlag::kNoOp);
}

// Without `normalise` lengths are data like any other; with it, what is moved has unit length and what is not keeps its bits.
TEST(FitBatch, VectorsOfAnyLengthAreFitted) {
  const int64_t n = 400, dim = 40;
  Cloud cloud = MakeCloud(3, static_cast<int>(dim), n, .02, 12);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t t = 0; t < dim; ++t) cloud.noisy[i * dim + t] *= 1 + .5f * cloud.clean[i * dim];
  }
  ThreadPool pool(2);
  FitParams params{.k = 24, .d = 6, .sigma2 = 4e-4f};
  const Neighbours near = Near(cloud.noisy, dim, 24, pool);
  auto unit = FitBatch(cloud.noisy, dim, near, params, pool);
  params.normalise = false;
  auto free = FitBatch(cloud.noisy, dim, near, params, pool);
  ASSERT_TRUE(unit.ok() && free.ok());
  for (int64_t i = 0; i < n; ++i) {
    double length = 0, dot = 0, own = 0;
    for (int64_t t = 0; t < dim; ++t) {
      const double a = unit->vectors[i * dim + t], b = free->vectors[i * dim + t];
      length += a * a, dot += a * b, own += b * b;
    }
    ASSERT_LT(unit->info[i].s, 1);
    EXPECT_NEAR(length, 1, 1e-5);
    EXPECT_NEAR(dot / std::sqrt(own), 1, 1e-5);   // one direction, two lengths
  }
  // Neighbours all around the origin: their mean is no place for x.
  std::vector<float> cross;
  for (int i = 0; i < 12; ++i) {
    for (int t = 0; t < 6; ++t) cross.push_back(t == i / 2 ? (i % 2 == 0 ? 1.0f : -1.0f) : 0.0f);
  }
  auto far = FitBatch(cross, 6, Near(cross, 6, 11, pool), {.k = 11, .d = 1, .sigma2 = .1f}, pool);
  ASSERT_TRUE(far.ok());
  for (int64_t i = 0; i < 12; ++i) {
    if (far->info[i].flag != FitFlag::kNotLocal) continue;
    EXPECT_EQ(std::memcmp(&far->vectors[i * 6], &cross[i * 6], 24), 0);
  }
  EXPECT_EQ(std::count_if(far->info.begin(), far->info.end(), [](const FitInfo& info) { return info.flag == FitFlag::kNotLocal; }), 12);
}

// Noise as long as the vectors shortens the mean of any neighbours; a corpus is fitted whole all the same, for a part left raw is
// a part that no query finds beside the rest.
TEST(FitBatch, NoiseAloneLeavesNoPartOfACorpusRaw) {
  ThreadPool pool(2);
  constexpr double kSigma = .2;   // 1.96 beside vectors of length 1, which are then made that long again
  const Cloud cloud = MakeCloud(3, 96, 1500, kSigma, 4);
  const float sigma2 = static_cast<float>(kSigma * kSigma / (1 + 96 * kSigma * kSigma));
  auto fit = FitBatch(cloud.noisy, 96, Near(cloud.noisy, 96, 48, pool), {.k = 48, .d = 6, .sigma2 = sigma2}, pool);
  ASSERT_TRUE(fit.ok());
  for (const FitInfo& info : fit->info) {
    EXPECT_NE(info.flag, FitFlag::kNotLocal);
    EXPECT_GT(info.step, 0);
  }
  EXPECT_LT(SquaredError(cloud, fit->vectors), .8 * SquaredError(cloud, cloud.noisy));
}

TEST(FitBatch, RemovesMostOfTheNoiseOfASmoothManifold) {
  const Cloud cloud = MakeCloud(3, 96, 3000, .02, 4);
  ThreadPool pool(2);
  auto fit = FitBatch(cloud.noisy, 96, Near(cloud.noisy, 96, 48, pool), {.k = 48, .d = 6, .sigma2 = 4e-4f, .sigma2_factor = 1}, pool);
  ASSERT_TRUE(fit.ok());
  EXPECT_LT(SquaredError(cloud, fit->vectors), .25 * SquaredError(cloud, cloud.noisy));
}

TEST(FitBatch, OrderRotationAndScaleDoNotMatter) {
  const int64_t n = 400, dim = 24, k = 20;
  const Cloud cloud = MakeCloud(3, static_cast<int>(dim), n, .02, 5);
  ThreadPool pool(2);
  const FitParams params{.k = k, .d = 5, .sigma2 = 4e-4f, .normalise = false};
  auto plain = FitBatch(cloud.noisy, dim, Near(cloud.noisy, dim, k, pool), params, pool);
  ASSERT_TRUE(plain.ok());
  // Rotation.
  std::vector<double> rotation(static_cast<size_t>(dim * dim));
  Rng rng(3);
  for (double& value : rotation) value = rng.Normal();
  Orthonormalise(rotation.data(), dim, dim);
  const auto rotate = [&](const std::vector<float>& v) {
    std::vector<float> out(v.size());
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t a = 0; a < dim; ++a) {
        double sum = 0;
        for (int64_t b = 0; b < dim; ++b) sum += rotation[a * dim + b] * v[i * dim + b];
        out[i * dim + a] = static_cast<float>(sum);
      }
    }
    return out;
  };
  const std::vector<float> turned = rotate(cloud.noisy), want = rotate(plain->vectors);
  auto rotated = FitBatch(turned, dim, Near(turned, dim, k, pool), params, pool);
  // Scale.
  std::vector<float> large = cloud.noisy;
  for (float& value : large) value *= 4;
  FitParams wide = params;
  wide.sigma2 *= 16;
  auto scaled = FitBatch(large, dim, Near(large, dim, k, pool), wide, pool);
  // Order.
  std::vector<float> reversed;
  for (int64_t i = n; i-- > 0;) reversed.insert(reversed.end(), &cloud.noisy[i * dim], &cloud.noisy[i * dim] + dim);
  auto back = FitBatch(reversed, dim, Near(reversed, dim, k, pool), params, pool);
  ASSERT_TRUE(rotated.ok() && scaled.ok() && back.ok());
  int64_t judged = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (plain->info[i].gap < .1) continue;
    ++judged;
    for (int64_t t = 0; t < dim; ++t) {
      const float x = plain->vectors[i * dim + t];
      EXPECT_NEAR(rotated->vectors[i * dim + t], want[i * dim + t], 1e-3);
      EXPECT_NEAR(scaled->vectors[i * dim + t], 4 * x, 4e-3);
      EXPECT_NEAR(back->vectors[(n - 1 - i) * dim + t], x, 1e-3);
    }
  }
  EXPECT_GT(judged, 20);
}

TEST(FitBatch, DuplicatesFewPointsAndListsOfOneAreDefined) {
  ThreadPool pool(2);
  const FitParams params{.k = 8, .d = 2, .sigma2 = 1e-3f};
  for (const int64_t n : {1, 2, 3, 5}) {  // fewer than k
    Cloud cloud = MakeCloud(2, 16, n, .02, 6);
    auto fit = FitBatch(cloud.noisy, 16, Near(cloud.noisy, 16, 8, pool), params, pool);
    ASSERT_TRUE(fit.ok()) << fit.status();
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(fit->info[i].flag == FitFlag::kTooFew, n < 5) << n;
    }
    EXPECT_EQ(fit->vectors == cloud.noisy, n < 5);
  }
  // Two hundred copies of one vector beside a few others: the copies are one point.
  Cloud cloud = MakeCloud(2, 16, 40, .02, 7);
  for (int copy = 0; copy < 200; ++copy) cloud.noisy.insert(cloud.noisy.end(), cloud.noisy.begin(), cloud.noisy.begin() + 16);
  const Neighbours near = Near(cloud.noisy, 16, 8, pool);
  EXPECT_GT(near.collapsed, 0);
  auto fit = FitBatch(cloud.noisy, 16, near, params, pool);
  ASSERT_TRUE(fit.ok()) << fit.status();
  for (const float value : fit->vectors) EXPECT_TRUE(std::isfinite(value));
}

TEST(FitBatch, BadInputIsNamed) {
  ThreadPool pool(1);
  Cloud cloud = MakeCloud(2, 16, 40, .02, 8);
  const Neighbours near = Near(cloud.noisy, 16, 8, pool);
  FitParams params{.k = 8, .d = 2, .sigma2 = 1e-3f};
  std::vector<float> bad = cloud.noisy;
  bad[16 * 5 + 3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(FitBatch(bad, 16, near, params, pool).status().message(), "vectors must be finite and within 1e6, row 5 has nan at 3");
  params.d = 7;
  EXPECT_FALSE(FitBatch(cloud.noisy, 16, near, params, pool).ok());
  params.d = 2;
  params.k = 9;
  EXPECT_FALSE(FitBatch(cloud.noisy, 16, near, params, pool).ok());
  params.k = 8;
  params.sigma2 = -1;
  EXPECT_FALSE(FitBatch(cloud.noisy, 16, near, params, pool).ok());
  Neighbours wild = near;
  wild.ids[3] = 40;
  params.sigma2 = 1e-3f;
  EXPECT_EQ(FitBatch(cloud.noisy, 16, wild, params, pool).status().message(),
            "neighbours must be in 0..39 and -1 only behind them, row 0 has 40 at 3");
}

// Without the kernels or the card both calls say so by name; with them manifold_cuda_test is what judges.
TEST(FitBatch, CudaIsRefusedByNameWhereThereIsNone) {
  ThreadPool pool(1);
  const Cloud cloud = MakeCloud(2, 16, 40, .02, 8);
  const auto fit = FitBatch(cloud.noisy, 16, Near(cloud.noisy, 16, 8, pool), {.k = 8, .d = 2, .sigma2 = 1e-3f, .device = Device::kCuda}, pool);
  const auto table = NeighbourTable::Make(cloud.noisy, 16, Device::kCuda);
  EXPECT_EQ(fit.ok(), table.ok());
  if (fit.ok()) return;
  for (const absl::Status& status : {fit.status(), table.status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_NE(std::string(status.message()).find("CUDA"), std::string::npos) << status;
  }
}

TEST(FitBatch, SecondPassAndTangentAveragingRun) {
  const Cloud cloud = MakeCloud(3, 48, 800, .03, 9);
  ThreadPool pool(2);
  const Neighbours near = Near(cloud.noisy, 48, 32, pool);
  const auto error = [&](const FitParams& params) {
    auto fit = FitBatch(cloud.noisy, 48, near, params, pool);
    EXPECT_TRUE(fit.ok()) << fit.status();
    double sum = 0;
    for (size_t i = 0; i < cloud.clean.size(); ++i) sum += std::pow(fit->vectors[i] - cloud.clean[i], 2);
    return sum;
  };
  const FitParams plain{.k = 32, .d = 6, .sigma2 = 9e-4f, .sigma2_factor = 1};
  FitParams twice = plain, averaged = plain;
  twice.passes = 2;
  averaged.tangent_average = true;
  const double noise = 9e-4 * static_cast<double>(cloud.clean.size());
  EXPECT_LT(error(plain), .3 * noise);
  EXPECT_LT(error(twice), .4 * noise);
  EXPECT_LT(error(averaged), .5 * noise);
}

TEST(NoiseFromReplicas, FindsTheLevelAndTheDominantDirections) {
  const int64_t n = 800, dim = 64;
  std::vector<float> first(static_cast<size_t>(n * dim)), second(first.size());
  Rng rng(1);
  for (size_t i = 0; i < first.size(); ++i) {
    const double x = rng.Normal();
    first[i] = static_cast<float>(x + .1 * rng.Normal());
    second[i] = static_cast<float>(x + .1 * rng.Normal());
  }
  auto level = NoiseFromReplicas(first, second, dim);
  ASSERT_TRUE(level.ok());
  EXPECT_NEAR(level->sigma2, .01, 5e-4);
  EXPECT_FALSE(level->anisotropic);
  for (int64_t i = 0; i < n; ++i) second[i * dim] += static_cast<float>(3 * rng.Normal());
  level = NoiseFromReplicas(first, second, dim);
  EXPECT_TRUE(level->anisotropic);
  EXPECT_LT(level->sigma2, .012);
  EXPECT_GT(level->total, .05);
  EXPECT_FALSE(NoiseFromReplicas({}, {}, dim).ok());
}

}  // namespace
}  // namespace lectern::manifold
