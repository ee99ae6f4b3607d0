// manifold/cuda/plane_params.h: what the kernels of the fit are given, as plain numbers and pointers of the device.
#pragma once

#include <cstdint>

namespace lectern::manifold::cuda {

struct PlaneParams {
  const float* points;   // [n, dim]
  const float* planes;   // [rows, dim]
  const float* means;    // [rows, dim], the same as planes but in a second pass
  const int32_t* ids;    // [n, k], -1 only behind the last
  long long n;
  int k, dim, d;
  const float* start;    // [rows of the kernel, block] the fixed start block
  // Results.
  float* offset;         // [n, dim]: X - point; zero where count < d + 2
  float* residual2;      // [n]
  float* gap;            // [n]
  int32_t* count;        // [n]
};

// manifold::FitInfo, which plane_cuda.cc asserts.
struct GateInfo {
  float s, rho2, step, gap;
  uint8_t flag;
};

struct GateParams {
  const float* points;          // [n, dim]
  const int32_t* ids;           // [n, k]
  const float* residual2;       // [n] of the points
  const float* gap;             // [n]
  const int32_t* count;         // [n]
  const float* pool_residual2;  // [rows] of the neighbours
  const int32_t* pool_count;    // [rows]; null: all of them have one
  long long n;
  int k, dim, d;
  float sigma2;                 // times its factor
  float noise2;                 // sigma2 without it
  bool gate, normalise;
  float* vectors;               // [n, dim] in: X - point, out: the fitted vector
  GateInfo* info;               // [n]
};

}  // namespace lectern::manifold::cuda
