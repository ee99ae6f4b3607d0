// bench/manifold_cuda_data.h: vectors made on the card, plain fp64 distances, and the read roof.
//
//   int error = MakeVectors(Vectors::kSurface, n, 384, /*seed=*/1, vectors, stream);
//
// Shapes:  vectors [n, dim] fp32, unit length; distances [queries, n] fp64.
// Threads: the calling thread's current device.
// Errors:  a cudaError_t.
// Cost:    a few hundred operations an element.
#pragma once

#include <cstdint>

namespace lectern::bench {

enum class Vectors {
  kSurface,  // a smooth surface of 8 dimensions (64 random frequencies), and noise of .01 a coordinate
  kPlanes,   // 5,000 pieces of 16-dimensional planes, and noise of .002 a coordinate: the 16 directions are determined
};

int MakeVectors(Vectors kind, long long n, int dim, uint64_t seed, float* vectors, void* stream);
// distances[q, j] = |half(vectors[rows[q]]) - half(vectors[j])|^2, one thread a pair, in the order of the columns.
int PlainDistances(const float* vectors, long long n, int dim, const int32_t* rows, int queries, double* distances, void* stream);
// Reads `bytes` once; sink [1] is never written.
int ReadAll(const void* from, long long bytes, float* sink, void* stream);

}  // namespace lectern::bench
