// The device of cuda_runtime_api.h, and its kernels: kernels.h for a machine without CUDA.
#include "tests/attention/simt/simt_ptx.h"

#include "attention/cuda/decode.cuh"
#include "attention/cuda/oracle.cuh"
#include "attention/cuda/select.cuh"

#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <map>
#include <utility>

#include "attention/cuda/kernels.h"

struct CUgraph_st {
  std::vector<std::function<cudaError_t()>> launches;
};

namespace lectern::attention {

constexpr int kMostShared = 232448;
alignas(1024) char shared[kMostShared + simt::kBehind];  // what the kernels declare

namespace {

CUgraph_st* recording = nullptr;

// Clusters one after the other, in any order.
template <class Params>
cudaError_t Run(void (*kernel)(Params), const simt::Grid& cluster, unsigned ctas, const Params& params) {
  static unsigned seed = 0;
  std::vector<int> blocks;
  for (unsigned block = 0; block < ctas; block += cluster.ctas) blocks.push_back(static_cast<int>(block));
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937(seed));
  for (const int block : blocks) {
    simt::Grid grid = cluster;
    grid.first_block = block;
    grid.all_blocks = static_cast<int>(ctas);
    ptx::pending_copies.clear();
    simt::late.Begin();
    simt::RunCluster(grid, ++seed, [&] { kernel(params); });
    if (!simt::late.landed) simt::Fail("a cluster ended without having waited for what was before it");
  }
  return cudaSuccess;
}

using Launch = std::function<cudaError_t()>;
template <class Params, void (*kKernel)(Params)>
Launch Bind(const simt::Grid& cluster, unsigned ctas, const void* params) {
  return [cluster, ctas, held = *static_cast<const Params*>(params)] { return Run(kKernel, cluster, ctas, held); };
}

struct HostKernel {
  cuda::KernelId id;
  Launch (*bind)(const simt::Grid& cluster, unsigned ctas, const void* params) = nullptr;  // null: it can be planned for, not launched
};

template <class Element, int kD, int kRowTiles, bool kSparse, bool kCluster = false>
constexpr HostKernel kDecode = {{.family = cuda::KernelFamily::kDecode, .fp16 = std::is_same_v<Element, ptx::Fp16>, .d = kD, .warps = 8, .row_tiles = kRowTiles,
                                 .stages = 2 * 128 / kD, .sparse = kSparse, .cluster = kCluster},
                                &Bind<DecodeParams, &DecodeKernel<Element, kD, kRowTiles, 2 * 128 / kD, 8, kSparse, false, kCluster>>};

template <class Element, int kD>
constexpr cuda::KernelId SelectId(ScoreKind kind, int ctas, int warps) {
  return {.family = cuda::KernelFamily::kSelect, .fp16 = std::is_same_v<Element, ptx::Fp16>, .d = kD, .warps = warps, .kind = kind, .ctas = ctas};
}
template <class Element, int kD, ScoreKind kKind, int kCtas, int kWarps>
constexpr HostKernel kEntry = {SelectId<Element, kD>(kKind, kCtas, kWarps), &Bind<SelectParams, &SelectKernel<Element, kD, kKind, kCtas, kWarps>>};
template <class Element, int kD>
constexpr HostKernel kOracle = {{.family = cuda::KernelFamily::kOracle, .fp16 = std::is_same_v<Element, ptx::Fp16>, .d = kD}, &Bind<SelectParams, &OracleKernel<Element, kD>>};

// Each form of launch.cc once at least; all of them LECTERN_EVERY_FORM.
const HostKernel kKernels[] = {
    kEntry<ptx::Bf16, 128, ScoreKind::kGateQuery, 4, 8>, kEntry<ptx::Bf16, 128, ScoreKind::kGateQuery, 8, 8>, kEntry<ptx::Bf16, 128, ScoreKind::kGateQuery, 2, 16>,
    kEntry<ptx::Bf16, 128, ScoreKind::kGateQuery, 8, 16>,
    kEntry<ptx::Bf16, 128, ScoreKind::kGateQuery, 2, 8>, kEntry<ptx::Bf16, 128, ScoreKind::kGateProject, 8, 8>, kEntry<ptx::Bf16, 128, ScoreKind::kGateProject, 2, 8>,
    kEntry<ptx::Bf16, 128, ScoreKind::kResa, 4, 8>, kEntry<ptx::Bf16, 128, ScoreKind::kResa, 8, 8>, kEntry<ptx::Bf16, 128, ScoreKind::kResa, 8, 16>,
    kEntry<ptx::Bf16, 128, ScoreKind::kQuest, 4, 8>, kEntry<ptx::Bf16, 128, ScoreKind::kQuest, 2, 8>, kEntry<ptx::Bf16, 128, ScoreKind::kQuest, 8, 8>,
    kEntry<ptx::Bf16, 128, ScoreKind::kQuest, 8, 16>,
    kEntry<ptx::Bf16, 128, ScoreKind::kQuestHeads, 8, 16>,
    kEntry<ptx::Bf16, 64, ScoreKind::kGateQuery, 4, 8>, kEntry<ptx::Bf16, 64, ScoreKind::kGateProject, 8, 8>, kEntry<ptx::Bf16, 64, ScoreKind::kResa, 2, 8>,
    kEntry<ptx::Bf16, 64, ScoreKind::kQuest, 4, 8>, kEntry<ptx::Bf16, 64, ScoreKind::kQuestHeads, 8, 8>,
    kEntry<ptx::Fp16, 128, ScoreKind::kGateQuery, 4, 8>, kEntry<ptx::Fp16, 128, ScoreKind::kQuest, 4, 8>, kOracle<ptx::Bf16, 128>,
#ifdef LECTERN_EVERY_FORM
    kEntry<ptx::Bf16, 128, ScoreKind::kResa, 2, 8>, kEntry<ptx::Bf16, 64, ScoreKind::kGateQuery, 2, 8>, kEntry<ptx::Bf16, 64, ScoreKind::kGateProject, 2, 8>,
    kEntry<ptx::Bf16, 64, ScoreKind::kResa, 4, 8>, kEntry<ptx::Bf16, 64, ScoreKind::kQuest, 2, 8>, kOracle<ptx::Bf16, 64>, kOracle<ptx::Fp16, 128>, kOracle<ptx::Fp16, 64>,
    kEntry<ptx::Fp16, 128, ScoreKind::kGateQuery, 2, 8>, kEntry<ptx::Fp16, 128, ScoreKind::kGateQuery, 8, 8>, kEntry<ptx::Fp16, 128, ScoreKind::kGateQuery, 8, 16>,
    kEntry<ptx::Fp16, 128, ScoreKind::kGateProject, 8, 8>, kEntry<ptx::Fp16, 128, ScoreKind::kGateProject, 2, 8>,
    kEntry<ptx::Fp16, 128, ScoreKind::kResa, 4, 8>, kEntry<ptx::Fp16, 128, ScoreKind::kResa, 8, 8>, kEntry<ptx::Fp16, 128, ScoreKind::kResa, 2, 8>, kEntry<ptx::Fp16, 128, ScoreKind::kResa, 8, 16>,
    kEntry<ptx::Fp16, 128, ScoreKind::kQuest, 2, 8>, kEntry<ptx::Fp16, 128, ScoreKind::kQuest, 8, 8>, kEntry<ptx::Fp16, 128, ScoreKind::kQuest, 8, 16>,
    kEntry<ptx::Fp16, 128, ScoreKind::kQuestHeads, 8, 16>,
    kEntry<ptx::Fp16, 64, ScoreKind::kGateQuery, 4, 8>, kEntry<ptx::Fp16, 64, ScoreKind::kGateProject, 8, 8>, kEntry<ptx::Fp16, 64, ScoreKind::kResa, 4, 8>,
    kEntry<ptx::Fp16, 64, ScoreKind::kQuest, 4, 8>, kEntry<ptx::Fp16, 64, ScoreKind::kQuestHeads, 8, 8>,
#endif
    kDecode<ptx::Bf16, 128, 1, false>, kDecode<ptx::Bf16, 128, 1, true>, kDecode<ptx::Bf16, 128, 1, true, true>,
    kDecode<ptx::Bf16, 64, 1, false>, kDecode<ptx::Bf16, 64, 1, true>,
#ifdef LECTERN_EVERY_FORM
    kDecode<ptx::Bf16, 128, 2, false>, kDecode<ptx::Bf16, 128, 2, true>, kDecode<ptx::Bf16, 64, 2, false>, kDecode<ptx::Bf16, 64, 2, true>,
    kDecode<ptx::Fp16, 128, 1, false>, kDecode<ptx::Fp16, 128, 1, true>, kDecode<ptx::Fp16, 128, 1, true, true>,
    kDecode<ptx::Fp16, 64, 1, false>, kDecode<ptx::Fp16, 64, 1, true>,
    kDecode<ptx::Fp16, 128, 2, false>, kDecode<ptx::Fp16, 128, 2, true>, kDecode<ptx::Fp16, 64, 2, false>, kDecode<ptx::Fp16, 64, 2, true>,
#endif
};
const HostKernel kNotHere{};

}  // namespace

namespace cuda {

const void* FindKernel(const KernelId& id) {
  for (const HostKernel& kernel : kKernels) {
    if (kernel.id == id) return &kernel;
  }
  return id.family == KernelFamily::kSelect || id.family == KernelFamily::kOracle ? nullptr : &kNotHere;
}
const char* BuildKernel(const KernelId& id) { return FindKernel(id) != nullptr ? nullptr : "the host has no such selector"; }

}  // namespace cuda
}  // namespace lectern::attention

using namespace lectern::attention;

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** arguments) {
  const HostKernel& host = *static_cast<const HostKernel*>(kernel);
  if (host.bind == nullptr) return cudaErrorNotSupported;
  simt::Grid cluster{.threads = static_cast<int>(config->blockDim.x), .shared_bytes = static_cast<int>(config->dynamicSmemBytes), .shared = shared};
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id == cudaLaunchAttributeClusterDimension) cluster.ctas = static_cast<int>(config->attrs[i].val.clusterDim.x);
  }
  if (config->gridDim.x % cluster.ctas != 0 || cluster.shared_bytes > kMostShared || cluster.threads > 1024) return cudaErrorInvalidValue;
  const Launch run = host.bind(cluster, config->gridDim.x, arguments[0]);
  if (recording == nullptr) return run();
  recording->launches.push_back(run);
  return cudaSuccess;
}

// Behind an allocation, and before it, lies a page that nobody may touch: who reads or writes there ends the program.
namespace {
constexpr size_t kPage = 4096;
struct Mapping {
  void* pages;
  size_t bytes;
};
std::map<const void*, Mapping> allocations;
}  // namespace

bool simt::IsMemory(const void* at, size_t bytes) {
  auto it = allocations.upper_bound(at);
  if (it == allocations.begin()) return false;
  --it;
  const char *end = static_cast<const char*>(it->second.pages) + it->second.bytes - kPage, *from = static_cast<const char*>(at);
  return from < end && bytes <= static_cast<size_t>(end - from);
}

cudaError_t cudaMalloc(void** to, size_t bytes) {
  constexpr size_t kAlignment = 16;
  const size_t used = (bytes + kAlignment - 1) / kAlignment * kAlignment, inside = (used + kPage - 1) / kPage * kPage;
  char* pages = static_cast<char*>(mmap(nullptr, inside + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (pages == MAP_FAILED || mprotect(pages + kPage, inside, PROT_READ | PROT_WRITE) != 0) return cudaErrorInvalidValue;
  *to = pages + kPage + inside - used;
  std::memset(*to, 0xa5, used);
  allocations[*to] = {pages, inside + 2 * kPage};
  return cudaSuccess;
}
cudaError_t cudaFree(void* at) {
  const auto it = allocations.find(at);
  if (at == nullptr) return cudaSuccess;
  if (it == allocations.end()) return cudaErrorInvalidValue;
  munmap(it->second.pages, it->second.bytes);
  allocations.erase(it);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) { return cudaMemcpy(to, from, bytes, kind); }
cudaError_t cudaMemset(void* at, int byte, size_t bytes) {
  if (bytes > 0) std::memset(at, byte, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* at, int byte, size_t bytes, cudaStream_t) { return cudaMemset(at, byte, bytes); }
cudaError_t cudaGetDevice(int* ordinal) {
  *ordinal = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? 132 : kMostShared;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) { return error == cudaErrorNotSupported ? "not a kernel of the host" : error == cudaSuccess ? "no error" : "invalid value"; }
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
// Groups of processors as one H100 has them: seven of 16 and more, one of 9.
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*, const cudaLaunchConfig_t* config) {
  const int ctas = static_cast<int>(config->attrs[0].val.clusterDim.x);
  *clusters = 7 * (16 / ctas) + 9 / ctas;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  recording = new CUgraph_st;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(recording, nullptr);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraph_st(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return cudaGraphDestroy(exec); }
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  for (const auto& launch : exec->launches) {
    if (const cudaError_t error = launch(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
