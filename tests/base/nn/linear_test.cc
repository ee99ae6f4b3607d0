#include "base/nn/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/cpu_target.h"
#include "base/nn/dequantize.h"
#include "tests/base/nn/quant_samples.h"

namespace lectern::nn {
namespace {

class LinearTest : public ::testing::TestWithParam<CpuTarget> {
 protected:
  LinearTest() : before_(ActiveCpuTarget()) { SetCpuTargetForTest(GetParam()); }
  ~LinearTest() override { SetCpuTargetForTest(before_); }

 private:
  CpuTarget before_;
};

std::vector<float> Dequantized(DType type, const std::vector<std::byte>& bytes, int64_t rows, int64_t cols) {
  std::vector<float> w(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    Dequantize(type, bytes.data() + r * RowBytes(type, cols), cols, w.data() + r * cols);
  }
  return w;
}

std::vector<double> Truth(const std::vector<float>& w, const std::vector<float>& x, int64_t n, int64_t rows, int64_t cols) {
  std::vector<double> y(static_cast<size_t>(n * rows));
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < cols; ++c) sum += double{w[r * cols + c]} * x[t * cols + c];
      y[t * rows + r] = sum;
    }
  }
  return y;
}

// The plain form of each fast path: activations to 16 bits in blocks of 32, or everything to bf16.
std::vector<float> NaiveActivations(DType type, std::vector<float> x) {
  if (type <= DType::kBF16) {
    for (float& v : x) v = ToFloat(ToBf16(v));
    return x;
  }
  for (size_t i = 0; i < x.size(); i += 32) {
    float peak = 0;
    for (size_t j = 0; j < 32; ++j) peak = std::max(peak, std::abs(x[i + j]));
    const float d = peak / 32767;
    for (size_t j = 0; j < 32; ++j) x[i + j] = d == 0 ? 0 : std::nearbyint(x[i + j] / d) * d;
  }
  return x;
}

double RootMeanSquare(const std::vector<float>& got, const std::vector<double>& truth) {
  double sum = 0;
  for (size_t i = 0; i < truth.size(); ++i) sum += (got[i] - truth[i]) * (got[i] - truth[i]);
  return std::sqrt(sum / static_cast<double>(truth.size()));
}

std::vector<float> Multiply(const Linear& linear, const std::vector<float>& x, int64_t n, ThreadPool& pool) {
  LinearScratch scratch;
  std::vector<float> y(static_cast<size_t>(n * linear.rows()), NAN);
  linear.Apply(x.data(), n, y.data(), pool, scratch);
  return y;
}

TEST_P(LinearTest, EveryTypeIsNoWorseThanTwiceTheNaiveForm) {
  ThreadPool pool(2);
  uint64_t seed = 1;
  for (DType type : AllLinearTypes()) {
    for (int64_t cols : {int64_t{256}, int64_t{768}}) {
      for (int64_t rows : {1, 7, 16, 33}) {
        const auto bytes = RandomMatrix(type, rows, cols, ++seed);
        const auto w = Dequantized(type, bytes, rows, cols);
        auto naive_w = w;
        if (type <= DType::kBF16) {
          for (float& v : naive_w) v = ToFloat(ToBf16(v));
        }
        auto fast = Linear::Pack(type, bytes, rows, cols, Arithmetic::kFast, pool);
        auto exact = Linear::Pack(type, bytes, rows, cols, Arithmetic::kExact, pool);
        ASSERT_TRUE(fast.ok()) << fast.status();
        ASSERT_TRUE(exact.ok()) << exact.status();
        for (int64_t n : {1, 2, 5, 17, 64}) {
          SCOPED_TRACE(::testing::Message() << DTypeName(type) << " rows " << rows << " cols " << cols << " n " << n);
          const auto x = RandomFloats(n * cols, ++seed);
          const auto truth = Truth(w, x, n, rows, cols);
          const auto naive = Truth(naive_w, NaiveActivations(type, x), n, rows, cols);
          const double naive_error = RootMeanSquare(std::vector<float>(naive.begin(), naive.end()), truth);
          EXPECT_LE(RootMeanSquare(Multiply(*fast, x, n, pool), truth), 2 * naive_error + 1e-6);
          double size = 0;
          std::vector<float> abs_w = w, abs_x = x;
          for (float& v : abs_w) v = std::abs(v);
          for (float& v : abs_x) v = std::abs(v);
          for (double v : Truth(abs_w, abs_x, n, rows, cols)) size = std::max(size, v);
          const auto got = Multiply(*exact, x, n, pool);
          for (size_t i = 0; i < truth.size(); ++i) ASSERT_NEAR(got[i], truth[i], 5e-7 * size + 1e-6);
        }
      }
    }
  }
}

TEST_P(LinearTest, ATokensResultDependsNeitherOnItsNeighboursNorOnThreads) {
  const int64_t rows = 50, cols = 512, n = 31;
  const auto x = RandomFloats(n * cols, 7);
  for (DType type : AllLinearTypes()) {
    for (Arithmetic arithmetic : {Arithmetic::kFast, Arithmetic::kExact}) {
      SCOPED_TRACE(DTypeName(type));
      const auto bytes = RandomMatrix(type, rows, cols, 3);
      ThreadPool one(1);
      auto linear = Linear::Pack(type, bytes, rows, cols, arithmetic, one);
      ASSERT_TRUE(linear.ok());
      const auto all = Multiply(*linear, x, n, one);
      for (int threads : {2, 3}) {
        ThreadPool pool(threads);
        EXPECT_EQ(Multiply(*linear, x, n, pool), all);
      }
      for (int64_t t : {0, 13, 30}) {
        const std::vector<float> single(x.begin() + t * cols, x.begin() + (t + 1) * cols);
        const auto got = Multiply(*linear, single, 1, one);
        EXPECT_TRUE(std::equal(got.begin(), got.end(), all.begin() + t * rows)) << t;
      }
      const std::vector<float> four(x.begin(), x.begin() + 4 * cols);
      const auto got = Multiply(*linear, four, 4, one);
      EXPECT_TRUE(std::equal(got.begin(), got.end(), all.begin()));
    }
  }
}

TEST_P(LinearTest, ApplyManyEqualsApplyForMixedTypes) {
  ThreadPool pool(2);
  const int64_t cols = 256;
  const DType types[] = {DType::kQ5_0, DType::kQ8_0, DType::kF16, DType::kQ6_K, DType::kQ4_K};
  const int64_t rows[] = {40, 8, 33, 16, 100};
  std::vector<Linear> linears;
  for (int i = 0; i < 5; ++i) {
    auto linear = Linear::Pack(types[i], RandomMatrix(types[i], rows[i], cols, 11 + i), rows[i], cols,
                               i == 4 ? Arithmetic::kExact : Arithmetic::kFast, pool);
    ASSERT_TRUE(linear.ok());
    linears.push_back(*std::move(linear));
  }
  for (int64_t n : {1, 3, 5, 40}) {
    const auto x = RandomFloats(n * cols, 5);
    std::vector<std::vector<float>> ys;
    std::vector<const Linear*> weights;
    std::vector<float*> outs;
    for (int i = 0; i < 5; ++i) ys.emplace_back(static_cast<size_t>(n * rows[i]), NAN);
    for (int i = 0; i < 5; ++i) {
      weights.push_back(&linears[i]);
      outs.push_back(ys[i].data());
    }
    LinearScratch scratch;
    Linear::ApplyMany(weights, x.data(), n, outs, pool, scratch);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(ys[i], Multiply(linears[i], x, n, pool)) << i << " n " << n;
  }
}

TEST_P(LinearTest, APackedRowDequantisesToTheFilesOwnBits) {
  ThreadPool pool(2);
  const int64_t rows = 35, cols = 512;
  for (DType type : AllLinearTypes()) {
    const auto bytes = RandomMatrix(type, rows, cols, 21);
    auto w = Dequantized(type, bytes, rows, cols);
    if (type <= DType::kBF16) {
      for (float& v : w) v = ToFloat(ToBf16(v));
    }
    auto linear = Linear::Pack(type, bytes, rows, cols, Arithmetic::kFast, pool);
    ASSERT_TRUE(linear.ok());
    std::vector<float> row(cols);
    for (int64_t r = 0; r < rows; ++r) {
      linear->DequantizeRow(r, row.data());
      ASSERT_TRUE(std::equal(row.begin(), row.end(), w.begin() + r * cols)) << DTypeName(type) << " row " << r;
    }
  }
}

TEST_P(LinearTest, ZeroAndExtremeActivationsStayFinite) {
  ThreadPool pool(1);
  const int64_t rows = 16, cols = 256;
  for (DType type : AllLinearTypes()) {
    auto linear = Linear::Pack(type, RandomMatrix(type, rows, cols, 31), rows, cols, Arithmetic::kFast, pool);
    ASSERT_TRUE(linear.ok());
    for (float v : Multiply(*linear, std::vector<float>(cols, 0.0f), 1, pool)) EXPECT_EQ(v, 0.0f) << DTypeName(type);
    for (float v : Multiply(*linear, std::vector<float>(cols, 1e-30f), 1, pool)) EXPECT_TRUE(std::isfinite(v));
    for (float v : Multiply(*linear, std::vector<float>(cols, 1e30f), 1, pool)) EXPECT_TRUE(std::isfinite(v));
  }
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, LinearTest, ::testing::ValuesIn(SupportedCpuTargets()),
                         [](const auto& info) { return std::string(CpuTargetName(info.param)); });

TEST(Linear, RefusesBytesThatDoNotMatchTheShape) {
  ThreadPool pool(1);
  const auto bytes = RandomMatrix(DType::kQ4_K, 4, 512, 1);
  const auto code = [&](DType type, int64_t rows, int64_t cols) {
    return Linear::Pack(type, bytes, rows, cols, Arithmetic::kFast, pool).status().code();
  };
  EXPECT_EQ(code(DType::kQ4_K, 4, 512), absl::StatusCode::kOk);
  EXPECT_EQ(code(DType::kQ4_K, 5, 512), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(DType::kQ4_K, 4, 500), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(DType::kQ4_K, 0, 512), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(DType::kQ4_K, -4, 512), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(DType::kQ4_K, int64_t{1} << 60, 512), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(DType::kI32, 4, 512), absl::StatusCode::kUnimplemented);
}

TEST(Linear, AReferredTableReadsTheCallersBytes) {
  const auto bytes = RandomMatrix(DType::kQ6_K, 3, 256, 2);
  auto linear = Linear::Refer(DType::kQ6_K, bytes, 3, 256);
  ASSERT_TRUE(linear.ok());
  EXPECT_EQ(linear->packed_bytes(), 0);
  std::vector<float> got(256), want(256);
  linear->DequantizeRow(2, got.data());
  Dequantize(DType::kQ6_K, bytes.data() + 2 * RowBytes(DType::kQ6_K, 256), 256, want.data());
  EXPECT_EQ(got, want);
}

TEST(Linear, PackedWeightsStayWithinThreePercentOfTheFile) {
  ThreadPool pool(1);
  for (DType type : AllLinearTypes()) {
    if (type == DType::kF32) continue;
    auto linear = Linear::Pack(type, RandomMatrix(type, 64, 1024, 4), 64, 1024, Arithmetic::kFast, pool);
    ASSERT_TRUE(linear.ok());
    EXPECT_LE(linear->packed_bytes(), 1.03 * 64 * static_cast<double>(RowBytes(type, 1024))) << DTypeName(type);
  }
}

}  // namespace
}  // namespace lectern::nn
