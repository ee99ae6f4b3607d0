// manifold/cuda/gate.cuh: how far each point moves towards its plane: fitter.cc's Apply(), a warp a point.
//
// Dataflow  the residuals of the point's neighbourhood -> rho^2 -> s; then x + (1 - s)(X - x) at unit length, sums in fp64.
// Bytes     12 dim a point, and k residuals out of L2: 5 GB a million points, 2 ms.
#pragma once

#include "manifold/cuda/plane_params.h"

namespace lectern::manifold::cuda {

constexpr int kGateWarps = 8;

__global__ void __launch_bounds__(kGateWarps * 32) ApplyGate(const GateParams p) {
  const long long point = static_cast<long long>(blockIdx.x) * kGateWarps + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (point >= p.n) return;
  const auto all = [](double x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
  };
  const float* x = p.points + point * p.dim;
  float* out = p.vectors + point * p.dim;
  GateInfo info{1, 0, 0, p.gap[point], 0};
  const int count = p.count[point];
  const auto keep = [&](uint8_t flag) {
    for (int c = lane; c < p.dim; c += 32) out[c] = x[c];
    info.flag = flag;
    if (lane == 0) p.info[point] = info;
  };
  if (count < p.d + 2) return keep(4);
  double sum = 0, pooled = 0;
  for (int j = lane; j < count; j += 32) {
    const long long id = p.ids[point * p.k + j];
    if (p.pool_count != nullptr && p.pool_count[id] < p.d + 2) continue;
    sum += static_cast<double>(p.pool_residual2[id]);
    pooled += 1;
  }
  sum = all(sum) + static_cast<double>(p.residual2[point]);
  pooled = all(pooled) + 1;
  info.rho2 = static_cast<float>(sum / pooled / static_cast<double>(p.dim - p.d));
  info.s = !p.gate ? 0.0f : p.sigma2 == 0 ? 1.0f : !(info.rho2 > p.sigma2) ? 0.0f : 1 - p.sigma2 / info.rho2;
  const double pull = 1.0 - static_cast<double>(info.s);
  double foot = 0, own = 0, moved = 0;
  for (int c = lane; c < p.dim; c += 32) {
    const double a = x[c], o = out[c];
    foot += (a + o) * (a + o);
    own += a * a;
    moved += (a + pull * o) * (a + pull * o);
  }
  foot = all(foot), own = all(own), moved = all(moved);
  const double without_noise = fmax(0.0, own - static_cast<double>(p.noise2) * (p.dim - p.d));
  if (foot < 0.25 * without_noise) {
    info.s = 1;
    return keep(2);
  }
  if (info.s == 1) return keep(0);
  const double scale = p.normalise && moved > 0 ? 1 / sqrt(moved) : 1.0;
  double step2 = 0;
  for (int c = lane; c < p.dim; c += 32) {
    const double a = x[c];
    const float to = static_cast<float>(scale * (a + pull * static_cast<double>(out[c])));
    out[c] = to;
    step2 += (static_cast<double>(to) - a) * (static_cast<double>(to) - a);
  }
  step2 = all(step2);
  info.step = static_cast<float>(sqrt(step2));
  if (info.gap < 0.05f) info.flag = 3;
  if (lane == 0) p.info[point] = info;
}

}  // namespace lectern::manifold::cuda
