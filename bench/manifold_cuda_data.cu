#include "bench/manifold_cuda_data.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace lectern::bench {
namespace {

constexpr int kFrequencies = 64, kSurfaceDim = 8, kPlaneDim = 16, kPieces = 5000, kThreads = 128;

__device__ uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
__device__ float Uniform(uint64_t seed, uint64_t a, uint64_t b) {
  return (static_cast<float>(Mix(Mix(seed + a * 0x9e3779b97f4a7c15ull) + b) >> 40) + .5f) * 0x1p-24f;
}
__device__ float Normal(uint64_t seed, uint64_t a, uint64_t b) {
  return sqrtf(-2 * logf(Uniform(seed, a, 2 * b))) * cosf(6.2831853f * Uniform(seed, a, 2 * b + 1));
}

// A CTA a vector.
__global__ void __launch_bounds__(kThreads) Make(Vectors kind, int dim, uint64_t seed, float* vectors) {
  __shared__ float feature[2 * kFrequencies], sums[kThreads];
  const long long i = blockIdx.x;
  float* out = vectors + i * dim;
  const uint64_t piece = Mix(seed + 77 * static_cast<uint64_t>(i)) % kPieces;
  const int features = kind == Vectors::kSurface ? 2 * kFrequencies : kPlaneDim;
  if (static_cast<int>(threadIdx.x) < features) {
    const int f = static_cast<int>(threadIdx.x);
    if (kind == Vectors::kSurface) {
      float phase = 6.2831853f * Uniform(seed, 1, f / 2), norm2 = 1;
      for (int j = 0; j < kSurfaceDim; ++j) {
        const float w = Normal(seed, 2, static_cast<uint64_t>(f / 2 * kSurfaceDim + j));
        norm2 += w * w;
        phase += w * 2 * Uniform(seed + 3, static_cast<uint64_t>(i), static_cast<uint64_t>(j));
      }
      feature[f] = (f % 2 == 0 ? cosf(phase) : sinf(phase)) / sqrtf(norm2);
    } else {
      feature[f] = .1f * Normal(seed + 4, static_cast<uint64_t>(i), static_cast<uint64_t>(f));
    }
  }
  __syncthreads();
  float squared = 0;
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += kThreads) {
    float x = kind == Vectors::kSurface ? 0 : Normal(seed + 5, piece, static_cast<uint64_t>(c));
    const uint64_t map = kind == Vectors::kSurface ? seed + 6 : seed + 7 + 1000 * piece;
    for (int f = 0; f < features; ++f) x += feature[f] * Normal(map, static_cast<uint64_t>(c), static_cast<uint64_t>(f));
    out[c] = x;
    squared += x * x;
  }
  const auto all = [&](float x) {
    sums[threadIdx.x] = x;
    __syncthreads();
    float total = 0;
    for (int t = 0; t < kThreads; ++t) total += sums[t];
    __syncthreads();
    return total;
  };
  const float scale = rsqrtf(all(squared)), sigma = kind == Vectors::kSurface ? .01f : .002f;
  squared = 0;
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += kThreads) {
    out[c] = out[c] * scale + sigma * Normal(seed + 8, static_cast<uint64_t>(i), static_cast<uint64_t>(c));
    squared += out[c] * out[c];
  }
  const float unit = rsqrtf(all(squared));
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += kThreads) out[c] *= unit;
}

__global__ void Distances(const float* vectors, long long n, int dim, const int32_t* rows, double* distances) {
  const long long j = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (j >= n) return;
  const float *a = vectors + static_cast<long long>(rows[blockIdx.y]) * dim, *b = vectors + j * dim;
  double sum = 0;
  for (int c = 0; c < dim; ++c) {
    const double difference = static_cast<double>(__half2float(__float2half_rn(a[c]))) - static_cast<double>(__half2float(__float2half_rn(b[c])));
    sum += difference * difference;
  }
  distances[blockIdx.y * n + j] = sum;
}

__global__ void Read(const float4* from, long long count, float* sink) {
  float sum = 0;
  const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
#pragma unroll 8
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const float4 x = __ldg(from + i);
    sum += x.x + x.y + x.z + x.w;
  }
  if (sum == 1.2345e30f) *sink = sum;
}

}  // namespace

int MakeVectors(Vectors kind, long long n, int dim, uint64_t seed, float* vectors, void* stream) {
  Make<<<static_cast<unsigned>(n), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kind, dim, seed, vectors);
  return cudaGetLastError();
}

int PlainDistances(const float* vectors, long long n, int dim, const int32_t* rows, int queries, double* distances, void* stream) {
  const dim3 grid(static_cast<unsigned>((n + 127) / 128), static_cast<unsigned>(queries));
  Distances<<<grid, 128, 0, static_cast<cudaStream_t>(stream)>>>(vectors, n, dim, rows, distances);
  return cudaGetLastError();
}

int ReadAll(const void* from, long long bytes, float* sink, void* stream) {
  Read<<<132 * 8, 512, 0, static_cast<cudaStream_t>(stream)>>>(static_cast<const float4*>(from), bytes / 16, sink);
  return cudaGetLastError();
}

}  // namespace lectern::bench
