#include "tests/attention/cuda/late.h"

#include "attention/cuda/ptx.cuh"

namespace lectern::attention {
namespace {

__global__ void WriteLate(const __grid_constant__ LateCopies copies) {
  ptx::LaunchDependents();
  constexpr long long kCycles = 36000;  // 20 us at 1.8 GHz
  const long long begin = clock64();
  while (clock64() - begin < kCycles) {
  }
  for (int i = 0; i < copies.count; ++i) {
    for (int word = threadIdx.x; word < copies.copy[i].words; word += blockDim.x) {
      static_cast<unsigned*>(copies.copy[i].to)[word] = static_cast<const unsigned*>(copies.copy[i].from)[word];
    }
  }
}

}  // namespace

void LaunchLate(const LateCopies& copies, void* stream) { WriteLate<<<1, 256, 0, static_cast<cudaStream_t>(stream)>>>(copies); }
void EndLate() {}
int LateRounds() { return 200; }

}  // namespace lectern::attention
