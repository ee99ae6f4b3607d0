// index/cpu/dense-inl.h: inner products over vectors of kLanes floats and bytes, once for all CPU targets.
//
// Included by the target files only, which define kLanes, DotBytes, DotCodes and LECTERN_TARGET_NAMESPACE before.
#pragma once

namespace lectern::index::LECTERN_TARGET_NAMESPACE {
namespace {

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef float VecAnywhere __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vec Load(const float* p) { return *reinterpret_cast<const VecAnywhere*>(p); }

// Four running sums hide the latency of the multiply-add; their order is fixed.
float Dot(const float* a, const float* b, int64_t n) {
  Vec s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    s0 += Load(a + i) * Load(b + i);
    s1 += Load(a + i + kLanes) * Load(b + i + kLanes);
    s2 += Load(a + i + 2 * kLanes) * Load(b + i + 2 * kLanes);
    s3 += Load(a + i + 3 * kLanes) * Load(b + i + 3 * kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) s0 += Load(a + i) * Load(b + i);
  const Vec all = (s0 + s1) + (s2 + s3);
  float lanes[kLanes];
  *reinterpret_cast<VecAnywhere*>(lanes) = all;
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  float sum = lanes[0];
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void Dots(const uint8_t* codes, int64_t stride, int64_t count, const int8_t* query, int32_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = DotBytes(codes + i * stride, query, stride);
}

void DotsAt(const uint8_t* codes, int64_t stride, const int32_t* rows, int64_t count, const int8_t* query, int32_t* out) {
  constexpr int64_t kAhead = 3;  // rows lie anywhere: ask for them before they are needed
  const auto fetch = [&](int64_t i) {
    const uint8_t* row = codes + static_cast<int64_t>(rows[i]) * stride;
    for (int64_t byte = 0; byte < stride; byte += 64) __builtin_prefetch(row + byte);
  };
  for (int64_t i = 0; i < kAhead && i < count; ++i) fetch(i);
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < count) fetch(i + kAhead);
    out[i] = DotBytes(codes + static_cast<int64_t>(rows[i]) * stride, query, stride);
  }
}

void Bounds(const int32_t* dots, int32_t offset, float query_scale, const float* scale, const float* residual,
            const float* norm, float by_residual, float by_norm, int64_t count, float* upper, float* width) {
  for (int64_t i = 0; i < count; ++i) {
    const float w = residual[i] * by_residual + norm[i] * by_norm;
    width[i] = w;
    upper[i] = static_cast<float>(dots[i] - offset) * (scale[i] * query_scale) + w;
  }
}

}  // namespace

DenseKernels DenseTable() { return {Dot, Dots, DotsAt, DotCodes, Bounds}; }

}  // namespace lectern::index::LECTERN_TARGET_NAMESPACE
