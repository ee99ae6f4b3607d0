// Fits points of dim 384 to the planes of their 64 given neighbours (d = 16), and the exact neighbour search before it.
//
//   bench_manifold [POINTS] [THREADS] [OUT_FOLDER]
//
// Prints points a second and GFLOP/s of the fit for every CPU target, and writes the vectors and neighbours that
// bench/manifold_peer.py fits with batched numpy, so that both work on the same input.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "base/cpu_target.h"
#include "base/rng.h"
#include "manifold/fitter.h"
#include "manifold/plane.h"
#include "manifold/noise.h"
#include "manifold/shapes.h"

namespace {

using lectern::ThreadPool;
using Clock = std::chrono::steady_clock;
double Since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

constexpr int64_t kDim = 384, kNeighbours = 64, kPlane = 16;
constexpr int kRounds = 7;

template <class T>
void Write(const std::string& path, const std::vector<T>& values) {
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t points = argc > 1 ? std::atoll(argv[1]) : 20000;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 1;
  ThreadPool pool(threads);
  const lectern::manifold::RandomManifold surface(8, kDim, /*seed=*/1);
  std::vector<float> raw(static_cast<size_t>(points * kDim));
  lectern::Rng rng(1);
  std::vector<double> z(8);
  for (int64_t i = 0; i < points; ++i) {
    for (double& value : z) value = 2 * rng.Uniform();
    surface.Embed(z, raw.data() + i * kDim);
  }
  lectern::manifold::AddNoise(lectern::manifold::VectorNoise::kGaussian, {.sigma = .01}, 2, kDim, raw);
  auto table = lectern::manifold::NeighbourTable::Make(raw, kDim);
  Clock::time_point begin = Clock::now();
  auto near = table->Search(raw, {.k = kNeighbours, .self = lectern::manifold::AllRows(points)}, pool);
  if (!near.ok()) {
    std::fprintf(stderr, "%s\n", near.status().ToString().c_str());
    return 1;
  }
  const double search = Since(begin);
  std::printf("exact neighbours   %lld x %lld, k %lld, %d thread(s): %.2f s, %.1f GFLOP/s\n", static_cast<long long>(points), static_cast<long long>(kDim),
              static_cast<long long>(kNeighbours), threads, search, 2e-9 * static_cast<double>(points) * static_cast<double>(points) * kDim / search);
  const double flops = kNeighbours * kNeighbours * kDim + 7 * 2.0 * kNeighbours * kNeighbours * 24 + 8 * 4.0 * kNeighbours * 24 * 24 + 6.0 * kNeighbours * kDim;
  for (const lectern::CpuTarget target : lectern::SupportedCpuTargets()) {
    if (target > lectern::CpuTarget::kAvx512) continue;
    lectern::SetCpuTargetForTest(target);
    std::vector<double> seconds;
    // The plain target is twelve times slower: an eighth of the points says the same.
    const int64_t few = target == lectern::CpuTarget::kScalar ? points / 8 : points;
    const std::span<const float> some(raw.data(), static_cast<size_t>(few * kDim));
    const std::span<const int32_t> lists(near->ids.data(), static_cast<size_t>(few * kNeighbours));
    for (int round = 0; round < kRounds; ++round) {
      begin = Clock::now();
      auto planes = lectern::manifold::FitPlanes({.points = some, .planes = raw, .means = raw, .dim = kDim, .neighbours = lists, .k = kNeighbours, .d = kPlane}, pool);
      if (!planes.ok()) return 1;
      seconds.push_back(Since(begin));
    }
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[kRounds / 2], rate = static_cast<double>(few) / median;
    std::printf("planes, %-10s %lld points, k %lld, d %lld, %d thread(s): %.0f points/s (%.0f a thread), %.1f GFLOP/s, spread %.3f..%.3f s\n",
                lectern::CpuTargetName(target), static_cast<long long>(few), static_cast<long long>(kNeighbours), static_cast<long long>(kPlane), threads, rate,
                rate / threads, 1e-9 * flops * rate, seconds.front(), seconds.back());
  }
  std::vector<double> seconds;
  for (int round = 0; round < kRounds; ++round) {
    begin = Clock::now();
    auto fit = lectern::manifold::FitBatch(raw, kDim, *near, {.k = kNeighbours, .d = kPlane, .sigma2 = 1e-4f}, pool);
    if (!fit.ok()) return 1;
    seconds.push_back(Since(begin));
  }
  std::sort(seconds.begin(), seconds.end());
  std::printf("fit with gate      %.0f points/s (%.0f a thread)\n", static_cast<double>(points) / seconds[kRounds / 2],
              static_cast<double>(points) / seconds[kRounds / 2] / threads);
  if (argc > 3) {
    Write(std::string(argv[3]) + "/vectors.f32", raw);
    Write(std::string(argv[3]) + "/neighbours.i32", near->ids);
    auto planes = lectern::manifold::FitPlanes({.points = raw, .planes = raw, .means = raw, .dim = kDim, .neighbours = near->ids, .k = kNeighbours, .d = kPlane}, pool);
    Write(std::string(argv[3]) + "/offsets.f32", planes->offset);
  }
  return 0;
}
