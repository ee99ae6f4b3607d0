// What racecheck says of a shared buffer that is read, handed back over an mbarrier and filled again: the search's biases
// and nothing else (manifold/cuda/neighbours.cuh). Under compute-sanitizer, on a machine with a device:
//
//   compute-sanitizer --tool racecheck racecheck_case CASE
//
// Every case but `early`, which hands the buffer back before it reads, is ordered: reads, then (a barrier of the warp and) an
// arrival, then the wait of the thread that fills it. Exits with 1 if a value read is wrong.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#include "manifold/cuda/ptx.cuh"

namespace lectern::manifold::cuda {
namespace {

constexpr int kRounds = 12;
enum class Fill { kCopy, kStores };
enum class Free { kLaneZero, kAllLanes, kEarly };

// One warp reads, one thread of another fills. kStages barriers for kSlots buffers, in turn: with more buffers than
// stages, as in the search, a buffer is free once a later stage is.
template <Fill fill, Free free, int kStages, int kSlots>
__global__ void Refill(const float* from, float* sums) {
  __shared__ alignas(8) uint64_t full[kStages], empty[kStages];
  __shared__ alignas(16) float buffer[kSlots][32];
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      ptx::BarrierInit(ptx::SharedAddress(&full[s]), 1);
      ptx::BarrierInit(ptx::SharedAddress(&empty[s]), free == Free::kAllLanes ? 32 : 1);
    }
    ptx::FenceBarrierInit();
  }
  __syncthreads();
  if (threadIdx.x >= 32) {
    if (lane != 0) return;
    for (int round = 0; round < kRounds; ++round) {
      const int stage = round % kStages;
      const uint32_t at = ptx::SharedAddress(&full[stage]);
      ptx::Wait(ptx::SharedAddress(&empty[stage]), round / kStages % 2 ^ 1);
      if constexpr (fill == Fill::kCopy) {
        ptx::ArriveExpecting(at, sizeof(buffer[0]));
        ptx::CopyBulk(ptx::SharedAddress(buffer[round % kSlots]), from + round * 32, sizeof(buffer[0]), at);
      } else {
        for (int i = 0; i < 32; ++i) buffer[round % kSlots][i] = from[round * 32 + i];
        ptx::Arrive(at);
      }
    }
    return;
  }
  float sum = 0;
  for (int round = 0; round < kRounds; ++round) {
    const int stage = round % kStages;
    const uint32_t at = ptx::SharedAddress(&empty[stage]);
    ptx::Wait(ptx::SharedAddress(&full[stage]), round / kStages % 2);
    if (free == Free::kEarly && lane == 0) ptx::Arrive(at);
    sum += buffer[round % kSlots][lane];
    __syncwarp();
    if (free == Free::kAllLanes || (free == Free::kLaneZero && lane == 0)) ptx::Arrive(at);
  }
  sums[lane] = sum;
}

struct Case {
  const char* name;
  void (*kernel)(const float*, float*);
};
constexpr Case kCases[] = {
    {"copy-lane0", Refill<Fill::kCopy, Free::kLaneZero, 1, 1>},
    {"copy-all", Refill<Fill::kCopy, Free::kAllLanes, 1, 1>},
    {"stores-lane0", Refill<Fill::kStores, Free::kLaneZero, 1, 1>},
    {"stores-all", Refill<Fill::kStores, Free::kAllLanes, 1, 1>},
    {"copy-lane0-later", Refill<Fill::kCopy, Free::kLaneZero, 3, 4>},
    {"copy-all-later", Refill<Fill::kCopy, Free::kAllLanes, 3, 4>},
    {"early", Refill<Fill::kCopy, Free::kEarly, 1, 1>},
};

int Run(const Case& one) {
  float from[kRounds * 32], want[32] = {}, sums[32] = {}, *device = nullptr;
  for (int i = 0; i < kRounds * 32; ++i) from[i] = static_cast<float>(i * 7 % 101), want[i % 32] += from[i];
  if (cudaMalloc(&device, sizeof(from) + sizeof(sums)) != cudaSuccess) return std::fprintf(stderr, "no device\n"), 2;
  cudaMemcpy(device, from, sizeof(from), cudaMemcpyHostToDevice);
  one.kernel<<<1, 64>>>(device, device + kRounds * 32);
  const cudaError_t error = cudaMemcpy(sums, device + kRounds * 32, sizeof(sums), cudaMemcpyDeviceToHost);
  cudaFree(device);
  const bool right = error == cudaSuccess && std::memcmp(sums, want, sizeof(sums)) == 0;
  std::printf("%s: %s\n", one.name, error != cudaSuccess ? cudaGetErrorString(error) : right ? "values right" : "values wrong");
  return right ? 0 : 1;
}

}  // namespace
}  // namespace lectern::manifold::cuda

int main(int argc, char** argv) {
  for (const auto& one : lectern::manifold::cuda::kCases) {
    if (argc == 2 && std::strcmp(argv[1], one.name) == 0) return lectern::manifold::cuda::Run(one);
  }
  std::fprintf(stderr, "racecheck_case CASE, one of:");
  for (const auto& one : lectern::manifold::cuda::kCases) std::fprintf(stderr, " %s", one.name);
  std::fprintf(stderr, "\n");
  return 2;
}
