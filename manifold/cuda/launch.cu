#include "manifold/cuda/launch.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <climits>

#include "manifold/cuda/gate.cuh"
#include "manifold/cuda/inst/plane_entry.cuh"
#include "manifold/cuda/neighbours.cuh"

namespace lectern::manifold::cuda {

extern const PlaneEntry kPlanes64[4], kPlanes128[4];

namespace {

const PlaneEntry* Find(int k, int d) {
  if (k > 128 || d > 32) return nullptr;
  return (k <= 64 ? kPlanes64 : kPlanes128) + (PlaneBlock(d) / 8 - 2);
}

int SharedLimit() {
  int device = 0, bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  return cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess ? bytes : 0;
}

cudaError_t Launch(const void* kernel, long long grid, int threads, int shared, void** arguments, void* stream) {
  if (grid == 0) return cudaSuccess;
  if (grid > INT_MAX) return cudaErrorInvalidConfiguration;
  if (shared > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (error != cudaSuccess) return error;
  }
  return cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(grid)), dim3(static_cast<unsigned>(threads)), arguments,
                          static_cast<size_t>(shared), static_cast<cudaStream_t>(stream));
}

}  // namespace

const char* WhyNoDevice() {
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
    cudaGetLastError();
    return "no CUDA device";
  }
  return major == 9 ? nullptr : "the CUDA kernels are built for compute capability 9.0";
}

const char* ErrorName(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int PlaneRows(int k) { return k <= 64 ? 64 : 128; }
int PlaneBlock(int d) { return (d + kExtraColumns + 7) / 8 * 8; }

const char* WhyNoPlanes(int k, int d) {
  if (k > 128) return "the CUDA kernels serve k up to 128";
  if (d > 32) return "the CUDA kernels serve d up to 32";
  return nullptr;
}

int LaunchPlanes(const PlaneParams& params, void* stream) {
  const PlaneEntry* entry = Find(params.k, params.d);
  if (entry == nullptr) return cudaErrorInvalidValue;
  PlaneParams copy = params;
  void* arguments[] = {&copy};
  return Launch(entry->kernel, params.n, 3 * entry->rows, entry->shared_bytes, arguments, stream);
}

int LaunchGate(const GateParams& params, void* stream) {
  GateParams copy = params;
  void* arguments[] = {&copy};
  return Launch(reinterpret_cast<const void*>(&ApplyGate), (params.n + kGateWarps - 1) / kGateWarps, 32 * kGateWarps, 0, arguments, stream);
}

const char* PlanSearch(int dim, int keep, SearchPlan* plan) {
  if (keep > kMaxKept) return "the CUDA search keeps at most 192 neighbours, 32 of them spare where near-duplicates collapse";
  const int limit = SharedLimit(), pieces = TablePieces(dim);
  for (const int tile_rows : {128, 64}) {
    for (int stages = kMaxStages; stages >= 2; --stages) {
      const int bytes = pieces * tile_rows * kTableInner * 2 + stages * kStageBytes + static_cast<int>(sizeof(SearchShared));
      if (bytes > limit || (tile_rows == 128 && stages < 3)) continue;
      int device = 0;
      cudaGetDevice(&device);
      cudaDeviceGetAttribute(&plan->ctas, cudaDevAttrMultiProcessorCount, device);
      plan->tile_rows = tile_rows;
      plan->stages = stages;
      plan->shared_bytes = bytes;
      const long long wave = static_cast<long long>(plan->ctas) * tile_rows;
      plan->list_bytes = static_cast<size_t>(wave) * kListEntries * sizeof(Candidate);
      plan->rows_a_launch = std::max(1LL, (300LL << 20) / (wave * kListKept * 4)) * wave;
      return nullptr;
    }
  }
  return "the CUDA search serves dimensions up to 1216";
}

int LaunchPack(const float* rows, const Table& table, void* stream) {
  Table copy = table;
  void* arguments[] = {&rows, &copy};
  return Launch(reinterpret_cast<const void*>(&PackTable<float>), table.blocks * kTableRows / 8, 256, 0, arguments, stream);
}

int LaunchSearch(const SearchPlan& plan, const SearchParams& params, void* stream) {
  if (params.begin % kTableRows % plan.tile_rows != 0) return cudaErrorInvalidValue;
  const long long row_blocks = (params.end - params.begin + plan.tile_rows - 1) / plan.tile_rows;
  SearchParams copy = params;
  int stages = plan.stages;
  void* arguments[] = {&copy, &stages};
  const int groups = plan.tile_rows / 64;
  const void* kernel = groups == 2 ? reinterpret_cast<const void*>(&SearchTable<2>) : reinterpret_cast<const void*>(&SearchTable<1>);
  return Launch(kernel, std::min<long long>(plan.ctas, row_blocks), groups * 128 + 32, plan.shared_bytes, arguments, stream);
}

int LaunchRank(const RankParams& params, void* stream) {
  RankParams copy = params;
  void* arguments[] = {&copy};
  return Launch(reinterpret_cast<const void*>(&Rank), (params.end - params.begin + kRankWarps - 1) / kRankWarps, 32 * kRankWarps, 0, arguments,
                stream);
}

int Allocate(size_t bytes, void** at) { return cudaMalloc(at, std::max<size_t>(bytes, 1)); }
void Release(void* at) { cudaFree(at); }
int Upload(void* to, const void* from, size_t bytes) { return cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice); }
int Download(void* to, const void* from, size_t bytes) { return cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost); }
int Clear(void* at, size_t bytes) { return cudaMemset(at, 0, bytes); }
int Finish() { return cudaDeviceSynchronize(); }

}  // namespace lectern::manifold::cuda
