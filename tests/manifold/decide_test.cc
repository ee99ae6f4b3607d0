// Whether denoising is kept: replicas, the check on held-out documents, and a fit that grows with its corpus.
#include "manifold/decide.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "manifold/growth.h"
#include "tests/manifold/clouds.h"

namespace lectern::manifold {
namespace {

constexpr int64_t kDim = 64, kRows = 2500;

struct Replicated {
  std::vector<float> raw, first, second;
  std::vector<int32_t> rows;
  DenoiseInput input() const { return {.raw = raw, .dim = kDim, .first = first, .second = second, .rows = rows}; }
};

// Documents with noise `sigma`, and two more draws of the same noise for every third of them.
Replicated Replicate(int d, double sigma, uint64_t seed) {
  const Cloud cloud = MakeCloud(d, kDim, kRows, sigma, seed);
  Replicated out{.raw = cloud.noisy};
  for (int32_t i = 0; i < kRows; i += 3) {
    out.rows.push_back(i);
    out.first.insert(out.first.end(), &cloud.clean[i * kDim], &cloud.clean[i * kDim] + kDim);
  }
  out.second = out.first;
  AddNoise(VectorNoise::kGaussian, {.sigma = sigma}, seed + 100, kDim, out.first);
  AddNoise(VectorNoise::kGaussian, {.sigma = sigma}, seed + 200, kDim, out.second);
  return out;
}

const DenoiseOptions kSmallGrid{.grid = {.ks = {32, 64}, .ds = {4, 8}}};

TEST(Denoise, WithoutReplicasNothingIsMovedAndTheReasonIsSaid) {
  ThreadPool pool(2);
  const Replicated data = Replicate(3, .02, 1);
  auto result = Denoise({.raw = data.raw, .dim = kDim}, {}, pool);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->on);
  EXPECT_TRUE(result->vectors.empty());
  EXPECT_EQ(result->reason, "no replicas, so the noise is unknown and nothing is moved");
}

TEST(Denoise, EqualReplicasSayThatThereIsNoNoise) {
  ThreadPool pool(2);
  Replicated data = Replicate(3, .02, 1);
  data.second = data.first;
  auto result = Denoise(data.input(), kSmallGrid, pool);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->on);
  EXPECT_EQ(result->reason, "the replicas are equal: no noise, nothing to remove");
}

TEST(Denoise, AutoIsOnWhereNoiseHidesNeighboursAndTheCorpusComesOutNearer) {
  ThreadPool pool(2);
  const Replicated data = Replicate(3, .04, 2);
  auto result = Denoise(data.input(), kSmallGrid, pool), again = Denoise(data.input(), kSmallGrid, pool);
  ASSERT_TRUE(result.ok() && again.ok()) << result.status();
  EXPECT_TRUE(result->on) << result->reason;
  EXPECT_GT(result->check.low, 0);
  EXPECT_NEAR(result->noise.sigma2, 16e-4, 2e-4);
  EXPECT_EQ(result->vectors, again->vectors);
  const Cloud cloud = MakeCloud(3, kDim, kRows, .04, 2);
  EXPECT_LT(SquaredError(cloud, result->vectors), .5 * SquaredError(cloud, cloud.noisy));
}

TEST(Denoise, AutoStaysOffWhereNoiseIsSmallAndOnIsAnOrder) {
  ThreadPool pool(2);
  const Replicated data = Replicate(12, .0005, 3);
  auto result = Denoise(data.input(), kSmallGrid, pool);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->on) << result->check.low;
  DenoiseOptions forced = kSmallGrid;
  forced.mode = DenoiseMode::kOn;
  result = Denoise(data.input(), forced, pool);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->on);
  EXPECT_EQ(result->reason, "on by request");
  EXPECT_GT(result->median_s, .5);   // small noise: the gate moves little
}

TEST(Denoise, BadInputIsNamedAndACallerCanStopIt) {
  ThreadPool pool(2);
  Replicated data = Replicate(3, .02, 4);
  data.second[kDim * 7 + 2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(Denoise(data.input(), kSmallGrid, pool).ok());
  data = Replicate(3, .02, 4);
  data.raw[kDim * 9] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Denoise(data.input(), kSmallGrid, pool).status().message(), "vectors must be finite and within 1e6, row 9 has inf at 0");
  data = Replicate(3, .02, 4);
  data.rows.pop_back();
  EXPECT_FALSE(Denoise(data.input(), kSmallGrid, pool).ok());
  data = Replicate(3, .02, 4);
  CancelToken cancel;
  cancel.Cancel();
  DenoiseOptions options = kSmallGrid;
  options.cancel = &cancel;
  EXPECT_EQ(Denoise(data.input(), options, pool).status().code(), absl::StatusCode::kCancelled);
}

TEST(CheckHarm, AFitThatHarmsIsSeenAndItsListVetoed) {
  ThreadPool pool(2);
  const Cloud cloud = MakeCloud(3, kDim, 600, .002, 5);
  std::vector<float> spoiled = cloud.noisy;   // the second half becomes one heap
  for (int64_t i = 300; i < 600; ++i) {
    for (int64_t t = 0; t < kDim; ++t) spoiled[i * kDim + t] = .01f * cloud.noisy[i * kDim + t] + cloud.noisy[300 * kDim + t];
  }
  std::vector<int32_t> list(600, 0);
  std::fill(list.begin() + 300, list.end(), 1);
  const std::vector<int32_t> rows = AllRows(600);
  auto check = CheckHarm({.first = cloud.noisy, .second = cloud.clean, .rows = rows, .raw = cloud.noisy, .fitted = spoiled, .dim = kDim, .list = list}, pool);
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_FALSE(check->helps);
  EXPECT_LT(check->high, 0);
  ASSERT_EQ(check->lists.size(), 2u);
  EXPECT_TRUE(check->lists[1].vetoed);
  auto same = CheckHarm({.first = cloud.noisy, .second = cloud.clean, .rows = rows, .raw = cloud.noisy, .fitted = cloud.noisy, .dim = kDim}, pool);
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(same->gain, 0);
  EXPECT_FALSE(same->helps);   // no gain is no reason
  const std::span<const float> few(cloud.noisy.data(), 15 * kDim);
  EXPECT_FALSE(CheckHarm({.first = few, .second = few, .rows = std::span(rows).first(15), .raw = few, .fitted = few, .dim = kDim}, pool).ok());
  std::vector<int32_t> outside = rows;
  outside[7] = 600;
  EXPECT_EQ(CheckHarm({.first = cloud.noisy, .second = cloud.clean, .rows = outside, .raw = cloud.noisy, .fitted = cloud.noisy, .dim = kDim}, pool).status().message(),
            "a held-out document must be in 0..599, got 600");
}

// Thirty heaps of forty: a fit that gives every document more of its next sibling than of its own keeps all of them in their heaps,
// but no longer shows which one was asked for.
TEST(CheckHarm, AFitThatBlursSiblingsIsSeenByTheQuestions) {
  ThreadPool pool(2);
  constexpr int64_t kHeaps = 30, kOfAHeap = 40, kAll = kHeaps * kOfAHeap;
  std::vector<float> heaps, own, clean, blurred, questions;
  Rng rng(11, 1);
  for (int64_t i = 0; i < kHeaps * kDim; ++i) heaps.push_back(static_cast<float>(rng.Normal()));
  for (int64_t i = 0; i < kAll * kDim; ++i) own.push_back(static_cast<float>(.3 * rng.Normal()));
  for (int64_t i = 0; i < kAll * kDim; ++i) {
    const int64_t row = i / kDim, heap = row / kOfAHeap, next = heap * kOfAHeap + (row + 1) % kOfAHeap;
    const float middle = heaps[heap * kDim + i % kDim];
    clean.push_back(middle + own[i]);
    blurred.push_back(middle + .4f * own[i] + .6f * own[next * kDim + i % kDim]);
    questions.push_back(middle + own[i] + static_cast<float>(.15 * rng.Normal()));
  }
  for (std::vector<float>* vectors : {&clean, &blurred, &questions}) Normalise(*vectors, kDim);
  const std::vector<int32_t> rows = AllRows(kAll);
  auto check = CheckHarm({.first = clean, .second = clean, .rows = rows, .raw = clean, .fitted = blurred, .dim = kDim,
                          .questions = questions, .answers = rows}, pool);
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_EQ(check->questions, kAll);
  EXPECT_GT(check->found_raw, .95);
  EXPECT_LT(check->found_high, -.01);
  EXPECT_FALSE(check->keeps_answers);
  EXPECT_FALSE(check->helps);
  check = CheckHarm({.first = clean, .second = clean, .rows = rows, .raw = clean, .fitted = clean, .dim = kDim, .questions = questions, .answers = rows}, pool);
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_EQ(check->found_gain, 0);
  EXPECT_TRUE(check->keeps_answers);
}

constexpr FitParams kGrowing{.k = 24, .d = 5, .sigma2 = 4e-4f};

TEST(GrowingFit, StartsAsTheBatchFit) {
  ThreadPool pool(2);
  const Cloud cloud = MakeCloud(3, kDim, 800, .02, 6);
  auto growing = GrowingFit::Make(cloud.noisy, kDim, kGrowing, 8, pool);
  auto batch = FitBatch(cloud.noisy, kDim, Near(cloud.noisy, kDim, 24, pool), kGrowing, pool);
  ASSERT_TRUE(growing.ok() && batch.ok());
  for (int64_t i = 0; i < 800; ++i) {
    ASSERT_EQ(std::memcmp(growing->Fitted(i).data(), batch->vectors.data() + i * kDim, kDim * 4), 0) << i;
  }
}

// All lists stale: what comes out is the fit of what is there now, to the bit, whatever was there before.
TEST(GrowingFit, AfterALargeChangeItIsTheFitOfWhatIsThere) {
  ThreadPool pool(2);
  const Cloud cloud = MakeCloud(3, kDim, 1200, .02, 7);
  auto growing = GrowingFit::Make({cloud.noisy.begin(), cloud.noisy.begin() + 700 * kDim}, kDim, kGrowing, 6, pool);
  ASSERT_TRUE(growing.ok()) << growing.status();
  std::vector<int32_t> gone;
  std::vector<float> left;
  for (int32_t i = 0; i < 700; ++i) {
    if (i % 2 == 0) gone.push_back(i);
    else left.insert(left.end(), &cloud.noisy[i * kDim], &cloud.noisy[i * kDim] + kDim);
  }
  ASSERT_TRUE(growing->Change({cloud.noisy.data() + 700 * kDim, 500 * kDim}, gone, pool).ok());
  EXPECT_EQ(growing->refitted_rows(), 850);
  left.insert(left.end(), cloud.noisy.begin() + 700 * kDim, cloud.noisy.end());
  auto batch = FitBatch(left, kDim, Near(left, kDim, 24, pool), kGrowing, pool);
  ASSERT_TRUE(batch.ok());
  int64_t at = 0;
  for (int64_t i = 0; i < growing->rows(); ++i) {
    if (!growing->Alive(i)) continue;
    ASSERT_EQ(std::memcmp(growing->Fitted(i).data(), batch->vectors.data() + at++ * kDim, kDim * 4), 0) << i;
  }
  EXPECT_EQ(at, 850);
}

TEST(GrowingFit, ASmallChangeFitsTheNewRowsAlone) {
  ThreadPool pool(2);
  const Cloud cloud = MakeCloud(3, kDim, 1003, .02, 8);
  auto growing = GrowingFit::Make({cloud.noisy.begin(), cloud.noisy.begin() + 1000 * kDim}, kDim, kGrowing, 2, pool);
  ASSERT_TRUE(growing.ok()) << growing.status();
  const std::vector<float> before(growing->Fitted(5).begin(), growing->Fitted(5).end());
  ASSERT_TRUE(growing->Change({cloud.noisy.data() + 1000 * kDim, 3 * kDim}, std::vector<int32_t>{1}, pool).ok());
  EXPECT_EQ(growing->refitted_lists(), 0);
  EXPECT_EQ(growing->refitted_rows(), 3);
  EXPECT_EQ(std::memcmp(before.data(), growing->Fitted(5).data(), kDim * 4), 0);
  EXPECT_NE(std::memcmp(growing->Raw(1001).data(), growing->Fitted(1001).data(), kDim * 4), 0);
}

TEST(GrowingFit, OneVectorDuplicatesAndRowsThatAreNotThere) {
  ThreadPool pool(2);
  const Cloud cloud = MakeCloud(2, kDim, 40, .02, 9);
  auto growing = GrowingFit::Make({cloud.noisy.begin(), cloud.noisy.begin() + kDim}, kDim, kGrowing, 4, pool);   // lists of one
  ASSERT_TRUE(growing.ok()) << growing.status();
  EXPECT_EQ(std::memcmp(growing->Fitted(0).data(), cloud.noisy.data(), kDim * 4), 0);
  std::vector<float> copies;
  for (int i = 0; i < 60; ++i) copies.insert(copies.end(), cloud.noisy.begin(), cloud.noisy.begin() + kDim);
  ASSERT_TRUE(growing->Change(copies, {}, pool).ok());
  for (int64_t i = 0; i < growing->rows(); ++i) {   // one point, however often: no plane, own bits
    EXPECT_EQ(std::memcmp(growing->Fitted(i).data(), cloud.noisy.data(), kDim * 4), 0);
  }
  EXPECT_EQ(growing->Change({}, std::vector<int32_t>{3, 3}, pool).message(), "row 3 is deleted twice");
  EXPECT_TRUE(growing->Alive(3));   // refused whole
  EXPECT_FALSE(growing->Change({}, std::vector<int32_t>{2, 61}, pool).ok());
  EXPECT_TRUE(growing->Alive(2));
  std::vector<int32_t> all;
  for (int32_t i = 0; i < growing->rows(); ++i) all.push_back(i);
  EXPECT_TRUE(growing->Change({}, all, pool).ok());       // nothing left
  EXPECT_TRUE(growing->Change(cloud.noisy, {}, pool).ok());   // and filled again
  EXPECT_FALSE(growing->Change(std::vector<float>(kDim, std::nanf("")), {}, pool).ok());
  EXPECT_FALSE(GrowingFit::Make({}, kDim, kGrowing, 4, pool).ok());
}

}  // namespace
}  // namespace lectern::manifold
