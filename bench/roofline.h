// bench/roofline.h: what this machine can do at best, measured in the same process as what is judged by it.
//
//   const Roof roof = MeasureRoof(pool, 256 << 20);
//   const double share = std::max(bytes / roof.bytes_per_s, flops / roof.flops_per_s) / seconds;
//
// Shapes:  bytes per second of plain reads over a buffer far beyond the caches, in huge pages; fp32 multiply-adds count two flops.
// Threads: all of the pool.
// Errors:  none.
// Cost:    about a second; best of several passes: a roof is what was seen once.
#pragma once

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "base/cpu_target.h"
#include "base/thread_pool.h"

namespace lectern::bench {

struct Roof {
  double bytes_per_s = 0;
  double flops_per_s = 0;
};

inline double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

__attribute__((target("avx2"))) inline uint64_t SumWords(const uint64_t* p, int64_t words) {
  __m256i sum[4] = {};
  for (int64_t i = 0; i + 16 <= words; i += 16) {
    _mm_prefetch(reinterpret_cast<const char*>(p + i) + 2048, _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(p + i) + 2112, _MM_HINT_T0);
    for (int j = 0; j < 4; ++j) sum[j] = _mm256_add_epi64(sum[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i + 4 * j)));
  }
  const __m256i all = _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
  uint64_t lanes[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), all);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

// 12 independent chains of `steps` multiply-adds on the widest vectors of the target. Returns flops done.
__attribute__((target("avx2,fma"))) inline double FmaAvx2(int64_t steps, float* sink) {
  __m256 sum[12];
  for (auto& s : sum) s = _mm256_set1_ps(1.0f);
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) sum[j] = _mm256_fmadd_ps(sum[j], a, b);
  }
  for (int j = 1; j < 12; ++j) sum[0] = _mm256_add_ps(sum[0], sum[j]);
  *sink = _mm256_cvtss_f32(sum[0]);
  return static_cast<double>(steps) * 12 * 8 * 2;
}
__attribute__((target("avx512f"))) inline double FmaAvx512(int64_t steps, float* sink) {
  __m512 sum[12];
  for (auto& s : sum) s = _mm512_set1_ps(1.0f);
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) sum[j] = _mm512_fmadd_ps(sum[j], a, b);
  }
  float lanes[16];
  for (int j = 1; j < 12; ++j) sum[0] = _mm512_add_ps(sum[0], sum[j]);
  _mm512_storeu_ps(lanes, sum[0]);
  *sink = lanes[0];
  return static_cast<double>(steps) * 12 * 16 * 2;
}

constexpr int64_t kHugePage = 2 << 20;
// Zeros, in huge pages where the system has them to give; `bytes` is a multiple of kHugePage. For std::free.
inline void* AllocateHuge(size_t bytes) {
  void* memory = std::aligned_alloc(kHugePage, bytes);
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // advice: may fail
  std::memset(memory, 0, bytes);
  return memory;
}

// What all threads take to read a multiple of 4 KiB in one plain loop.
inline double ReadSeconds(ThreadPool& pool, const uint64_t* words, int64_t bytes) {
  std::vector<uint64_t> sums(static_cast<size_t>(pool.num_threads()) * 8);
  const double start = Now();
  pool.ParallelFor(bytes / 4096, [&](int64_t begin, int64_t end, int thread) {
    sums[static_cast<size_t>(thread) * 8] += SumWords(words + begin * 512, (end - begin) * 512);
  });
  const double seconds = Now() - start;
  volatile uint64_t keep = sums[0];
  static_cast<void>(keep);
  return seconds;
}

inline Roof MeasureRoof(ThreadPool& pool, int64_t buffer_bytes) {
  Roof roof;
  if (ActiveCpuTarget() == CpuTarget::kScalar) return roof;
  buffer_bytes = (buffer_bytes + kHugePage - 1) / kHugePage * kHugePage;
  const std::unique_ptr<uint64_t, decltype(&std::free)> buffer(
      static_cast<uint64_t*>(AllocateHuge(static_cast<size_t>(buffer_bytes))), std::free);
  for (int pass = 0; pass < 7; ++pass) {
    const double seconds = ReadSeconds(pool, buffer.get(), buffer_bytes);
    roof.bytes_per_s = std::max(roof.bytes_per_s, static_cast<double>(buffer_bytes) / seconds);
  }
  std::vector<float> sinks(static_cast<size_t>(pool.num_threads()) * 16);
  for (int pass = 0; pass < 7; ++pass) {
    std::vector<double> flops(static_cast<size_t>(pool.num_threads()) * 8);
    const double start = Now();
    pool.RunOnAll([&](int thread) {
      const auto run = ActiveCpuTarget() >= CpuTarget::kAvx512 ? FmaAvx512 : FmaAvx2;
      flops[static_cast<size_t>(thread) * 8] = run(8 << 20, &sinks[static_cast<size_t>(thread) * 16]);
    });
    double total = 0;
    for (double f : flops) total += f;
    roof.flops_per_s = std::max(roof.flops_per_s, total / (Now() - start));
  }
  return roof;
}

}  // namespace lectern::bench
