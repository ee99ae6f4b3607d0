#include "base/nn/float_matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/dtype.h"
#include "base/rng.h"

namespace lectern::nn {
namespace {

std::vector<float> Random(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = static_cast<float>(rng.Normal());
  return x;
}

struct Shape {
  int64_t rows, inner, cols;
};
const Shape kShapes[] = {{1, 1, 1},   {1, 384, 96}, {3, 7, 5},    {14, 32, 32}, {15, 33, 33}, {29, 64, 31},
                         {17, 2, 64}, {13, 50, 48}, {28, 128, 16}, {40, 19, 65}};

std::vector<double> Truth(const Shape& s, const std::vector<float>& a, const std::vector<float>& w, const float* bias,
                          std::vector<double>* magnitude) {
  std::vector<double> c(s.rows * s.cols);
  magnitude->assign(c.size(), 0);
  for (int64_t i = 0; i < s.rows; ++i) {
    for (int64_t j = 0; j < s.cols; ++j) {
      double sum = bias == nullptr ? 0 : bias[j], size = std::abs(sum);
      for (int64_t k = 0; k < s.inner; ++k) {
        const double product = double{a[i * s.inner + k]} * double{w[j * s.inner + k]};
        sum += product;
        size += std::abs(product);
      }
      c[i * s.cols + j] = sum;
      (*magnitude)[i * s.cols + j] = size;
    }
  }
  return c;
}

TEST(FloatMatmul, Float32EqualsTheDoubleSumOnEveryTargetAndShapesThatDoNotDivide) {
  for (const FloatMatmul& matmul : AllFloatMatmuls()) {
    for (const Shape& s : kShapes) {
      const std::vector<float> a = Random(s.rows * s.inner, 1), w = Random(s.cols * s.inner, 2), bias = Random(s.cols, 3);
      std::vector<float> panels(matmul.PanelElements(s.inner, s.cols));
      matmul.pack_f32(w.data(), 1, s.inner, s.inner, s.cols, panels.data());
      for (const float* b : {bias.data(), static_cast<const float*>(nullptr)}) {
        std::vector<double> magnitude;
        const std::vector<double> truth = Truth(s, a, w, b, &magnitude);
        const int64_t stride = s.cols + 3;
        std::vector<float> c(s.rows * stride, 77.0f);
        matmul.f32(a.data(), s.inner, s.rows, panels.data(), s.inner, s.cols, b, c.data(), stride);
        for (int64_t i = 0; i < s.rows; ++i) {
          for (int64_t j = 0; j < s.cols; ++j) {
            ASSERT_NEAR(c[i * stride + j], truth[i * s.cols + j], (s.inner + 2) * 6e-8 * magnitude[i * s.cols + j])
                << CpuTargetName(matmul.target) << " " << s.rows << "x" << s.inner << "x" << s.cols;
          }
          for (int64_t j = s.cols; j < stride; ++j) ASSERT_EQ(c[i * stride + j], 77.0f) << "wrote past its columns";
        }
      }
    }
  }
}

TEST(FloatMatmul, Bf16EqualsTheDoubleSumOfRoundedOperands) {
  bool any = false;
  for (const FloatMatmul& matmul : AllFloatMatmuls()) {
    if (matmul.bf16 == nullptr) continue;
    any = true;
    for (const Shape& s : kShapes) {
      std::vector<float> a = Random(s.rows * s.inner, 1), w = Random(s.cols * s.inner, 2);
      const int64_t even = s.inner + s.inner % 2;
      std::vector<uint16_t> a16(s.rows * even, 0), w16(s.cols * s.inner), panels(matmul.PanelElements(even, s.cols));
      for (int64_t i = 0; i < s.rows; ++i) matmul.round_bf16(&a[i * s.inner], s.inner, &a16[i * even]);
      matmul.round_bf16(w.data(), static_cast<int64_t>(w.size()), w16.data());
      for (int64_t i = 0; i < s.rows * s.inner; ++i) {
        const bf16 rounded = ToBf16(a[i]);
        ASSERT_EQ(a16[i / s.inner * even + i % s.inner], rounded.bits);
        a[i] = ToFloat(rounded);
      }
      for (float& x : w) x = ToFloat(ToBf16(x));
      matmul.pack_bf16(w16.data(), 1, s.inner, s.inner, s.cols, panels.data());
      std::vector<uint16_t> transposed(w16.size()), again(panels.size());
      for (int64_t j = 0; j < s.cols; ++j) {
        for (int64_t k = 0; k < s.inner; ++k) transposed[k * s.cols + j] = w16[j * s.inner + k];
      }
      matmul.pack_bf16(transposed.data(), s.cols, 1, s.inner, s.cols, again.data());
      ASSERT_EQ(panels, again) << "packing must not depend on the source's strides";
      std::vector<double> magnitude;
      const std::vector<double> truth = Truth(s, a, w, nullptr, &magnitude);
      std::vector<float> c(s.rows * s.cols);
      matmul.bf16(a16.data(), even, s.rows, panels.data(), even, s.cols, nullptr, c.data(), s.cols);
      for (size_t i = 0; i < c.size(); ++i) ASSERT_NEAR(c[i], truth[i], (s.inner + 2) * 6e-8 * magnitude[i] + 1e-37);
    }
  }
  if (!any) GTEST_SKIP() << "left out: this processor has no bf16 products";
}

TEST(FloatMatmul, ARowHasTheSameBitsWhateverRowsAndPanelsStandBesideIt) {
  const int64_t rows = 31, inner = 130, cols = 96;
  const std::vector<float> a = Random(rows * inner, 4), w = Random(cols * inner, 5), bias = Random(cols, 6);
  for (const FloatMatmul& matmul : AllFloatMatmuls()) {
    std::vector<float> panels(matmul.PanelElements(inner, cols)), all(rows * cols), one(cols);
    std::vector<uint16_t> a16(a.size()), w16(w.size()), panels16(panels.size());
    matmul.pack_f32(w.data(), 1, inner, inner, cols, panels.data());
    for (bool half : {false, true}) {
      if (half && matmul.bf16 == nullptr) continue;
      const auto run = [&](int64_t row, int64_t count, int64_t panel, int64_t num_panels, float* c) {
        const int64_t b_at = panel * matmul.panel_cols * inner, col = panel * matmul.panel_cols;
        if (half) {
          matmul.bf16(&a16[row * inner], inner, count, &panels16[b_at], inner, num_panels * matmul.panel_cols, &bias[col], c + col, cols);
        } else {
          matmul.f32(&a[row * inner], inner, count, &panels[b_at], inner, num_panels * matmul.panel_cols, &bias[col], c + col, cols);
        }
      };
      if (half) {
        matmul.round_bf16(a.data(), rows * inner, a16.data());
        matmul.round_bf16(w.data(), cols * inner, w16.data());
        matmul.pack_bf16(w16.data(), 1, inner, inner, cols, panels16.data());
      }
      run(0, rows, 0, matmul.NumPanels(cols), all.data());
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t panel = 0; panel < matmul.NumPanels(cols); ++panel) run(row, 1, panel, 1, one.data());
        ASSERT_EQ(0, std::memcmp(one.data(), &all[row * cols], cols * sizeof(float))) << CpuTargetName(matmul.target);
      }
    }
  }
}

}  // namespace
}  // namespace lectern::nn
