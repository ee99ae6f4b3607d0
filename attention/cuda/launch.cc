#include "attention/cuda/launch.h"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace lectern::attention::cuda {
namespace {

constexpr long long kMost = 1LL << 31;  // what the kernels count in 32 bits
constexpr int kSharedPercent = 85;      // 196 of an H100's 228 KB

// The tiles of a decode kernel. Two stages of eight warps at d = 128, 128 KiB: three are 2 % slower from 500 MB on, and no faster
// below. Older cards have 115 KiB.
KernelId DecodeId(const DecodeProblem& p, bool sparse) {
  KernelId id{.family = KernelFamily::kDecode, .fp16 = p.fp16, .d = p.d, .row_tiles = p.group > 8 ? 2 : 1, .sparse = sparse,
              .soft_cap = p.soft_cap, .ptx80 = p.form == 1};
  id.warps = id.ptx80 ? 4 : 8;
  id.stages = (id.ptx80 ? 3 : 2) * 128 / p.d;
  return id;
}

struct SelectForm {
  int ctas, warps;
};
constexpr SelectForm kSelectForms[] = {{4, 8}, {8, 8}, {8, 16}, {2, 8}, {2, 16}}, kLargestForm{8, 16};

// CTAs and warps of a selector's row: many where rows are few and long, two CTAs where the rows themselves fill the device. Pairs
// are twice the bytes and want more of both sooner. Where each query head chooses, a CTA a head. Measured on an H100.
SelectForm FormFor(int d, bool fp16, ScoreKind kind, long long rows, long long max_blocks) {
  const bool heads = kind == ScoreKind::kQuestHeads, many = rows >= 40 && !heads, query = kind == ScoreKind::kGateQuery;
  if (kind == ScoreKind::kGateProject) return many ? SelectForm{2, 8} : SelectForm{8, 8};
  if (d == 64) return many ? SelectForm{2, 8} : heads ? SelectForm{8, 8} : SelectForm{4, 8};
  if (heads || max_blocks > (many ? 2048 : query ? 1024 : 512)) return {8, 16};
  if (many) return query && !fp16 && max_blocks > 256 ? SelectForm{2, 16} : SelectForm{2, 8};  // compiled at run time two of 16 warps do not fit
  return max_blocks > (query ? 512 : 128) ? SelectForm{8, 8} : SelectForm{4, 8};
}

KernelId SelectId(int d, bool fp16, ScoreKind kind, SelectForm form) {
  if (kind == ScoreKind::kOracle) return {.family = KernelFamily::kOracle, .fp16 = fp16, .d = d};
  return {.family = KernelFamily::kSelect, .fp16 = fp16, .d = d, .warps = form.warps, .kind = kind, .ctas = form.ctas};
}

KernelId AppendId(const DecodeProblem& p) { return {.family = KernelFamily::kAppend, .fp16 = p.fp16, .d = p.d}; }

long long Up(long long x, long long to) { return (x + to - 1) / to * to; }

cudaError_t Launch(const void* kernel, dim3 grid, int threads, int shared, int cluster, bool programmatic, void* params,
                   void* stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  cudaLaunchAttribute attributes[2];
  config.attrs = attributes;
  if (cluster > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
    ++config.numAttrs;
  }
  if (programmatic) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs].val.programmaticStreamSerializationAllowed = 1;
    ++config.numAttrs;
  }
  void* args[] = {params};
  return cudaLaunchKernelExC(&config, kernel, args);
}

// All kernels ask for one split between L1 and shared memory, enough for a decode CTA and a selector's: a processor changes its
// split only when it is empty, and the second kernel would wait for that.
bool Allow(const void* kernel, int shared_bytes) {
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes) == cudaSuccess &&
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, kSharedPercent) == cudaSuccess) {
    return true;
  }
  cudaGetLastError();  // said in words instead
  return false;
}

// The most CTAs of a cluster of which the device holds `clusters` at once, if these are three in eight of its processors: processors
// come in groups of unlike sizes, and a cluster lies within one.
int ClusterCtas(const DecodeChoice& choice, const CudaDevice& device, long long clusters) {
  constexpr int kMost = 16;  // of a Hopper device, where a kernel asks for more than the 8 that all have
  const void* kernel = FindKernel(choice.cluster);
  if (kernel == nullptr || !Allow(kernel, device.shared_bytes)) return 0;
  int ctas = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) == cudaSuccess ? kMost : 0;
  for (; ctas > 1 && ctas * clusters * 8 >= device.processors * 3; --ctas) {
    if (ctas * clusters > device.processors) continue;
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(ctas), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(ctas * clusters));
    config.blockDim = dim3(choice.cluster.warps * 32);
    config.dynamicSmemBytes = choice.shared;
    config.attrs = &attribute;
    config.numAttrs = 1;
    int fit = 0;
    if (cudaOccupancyMaxActiveClusters(&fit, kernel, &config) == cudaSuccess && fit >= clusters) return ctas;
  }
  cudaGetLastError();  // what does not fit is no error
  return 0;
}

}  // namespace

int CurrentDevice() {
  int ordinal = 0;
  return cudaGetDevice(&ordinal) == cudaSuccess ? ordinal : -1;
}

const char* AskDevice(CudaDevice* device) {
  *device = {.ordinal = CurrentDevice()};
  if (device->ordinal < 0 ||
      cudaDeviceGetAttribute(&device->processors, cudaDevAttrMultiProcessorCount, device->ordinal) != cudaSuccess ||
      cudaDeviceGetAttribute(&device->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device->ordinal) != cudaSuccess) {
    return "no CUDA device";
  }
  return nullptr;
}

const char* ChooseDecode(const DecodeProblem& p, DecodeChoice* choice) {
  if (p.d != 64 && p.d != 128) return "the CUDA kernels serve head widths of 64 and 128";
  if (p.group < 1 || p.group > 16) return "the CUDA kernels serve 1 to 16 query heads a KV head";
  if (p.rows < 1 || p.rows >= kMost) return "rows (sequences times KV heads) must be at least 1, and fit 31 bits";
  if (p.max_keys < 1 || p.max_keys >= 1LL << 24) return "the CUDA kernels serve 1 to 16777215 keys a sequence";
  if (p.chunk_keys < 0 || p.chunk_keys % kUnitKeys != 0) return "fixed chunks must be a multiple of 16 keys, and not negative";
  if (p.chunk_keys >= 1LL << 24) return "the CUDA kernels serve fixed chunks of up to 16777200 keys";
  if (p.form < 0 || p.form > 1) return "the form must be 0 or 1";
  choice->dense = DecodeId(p, false);
  choice->sparse = DecodeId(p, true);
  choice->cluster = choice->sparse;
  choice->cluster.cluster = true;
  const KernelId& id = choice->dense;
  const long long shared = DecodeSharedBytes(id.d, id.row_tiles, id.stages, id.warps, p.rows);
  if (shared > p.device.shared_bytes) return "no CUDA kernel fits: so many rows need more shared memory than the device has";
  choice->shared = static_cast<int>(shared);
  choice->grid = p.device.processors;
  const long long units = p.rows * ((p.max_keys + p.chunk_keys) / kUnitKeys + 1);
  if (units * choice->grid >= kMost) return "rows times keys is too large for one launch";
  choice->chunk_units = static_cast<int>(p.chunk_keys / kUnitKeys);
  // Measured on an H100: below these, another CTA costs more in meeting than it brings in reading.
  choice->min_units = 4;
  choice->max_parts = 128;
  choice->slots = 2LL * choice->grid;
  if (p.chunk_keys > 0) choice->slots = p.rows * ((p.max_keys + p.chunk_keys - 1) / p.chunk_keys + 1);
  if (choice->slots * p.group * p.d >= kMost) return "rows times chunks times heads is too large for 31-bit offsets of partial sums";
  choice->stats_at = Up(choice->slots * p.group * p.d * 4, 256);
  choice->counters_at = choice->stats_at + Up(choice->slots * p.group * 8, 256);
  choice->workspace_bytes = choice->counters_at + Up(4LL * p.group * (p.rows + choice->grid), 256);
  return nullptr;
}

const char* Prepare(const DecodeChoice& choice, const DecodeProblem& p, CudaDevice* device) {
  for (const KernelId& id : {choice.dense, choice.sparse, AppendId(p)}) {
    if (const char* why = BuildKernel(id)) return why;
    if (!Allow(FindKernel(id), id.family == KernelFamily::kAppend ? 0 : device->shared_bytes)) {
      return "the device cannot run this kernel, or lacks the shared memory for it";
    }
  }
  device->cluster_ctas = ClusterCtas(choice, *device, p.kv_heads);
  device->selectors = true;
  for (const SelectForm form : kSelectForms) {
    for (const ScoreKind kind : {ScoreKind::kGateQuery, ScoreKind::kGateProject, ScoreKind::kResa, ScoreKind::kQuest, ScoreKind::kQuestHeads}) {
      const void* kernel = FindKernel(SelectId(p.d, p.fp16, kind, form));
      device->selectors = device->selectors && (kernel == nullptr || Allow(kernel, device->shared_bytes));
    }
  }
  return nullptr;
}

const char* WhyNoStep(const DecodeProblem& p, long long batch, long long page_table_stride, long long capacity) {
  if (CurrentDevice() != p.device.ordinal) return "the plan is for another CUDA device than the calling thread's current one";
  if (page_table_stride < 1 || page_table_stride >= kMost) return "page_table_stride must be at least 1, and fit 31 bits";
  if (capacity < 0 || capacity >= kMost) return "the capacity of the lists must not be negative, and fit 31 bits";
  // The kernels count ids and pages, four bytes each, in 31 bits.
  if (p.rows * capacity + batch * page_table_stride >= kMost / 4) return "the lists and the page table are too large for 31-bit offsets";
  return nullptr;
}

const char* WhyNoPages(long long num_pages) { return num_pages < 0 ? "num_pages of a pool must not be negative" : nullptr; }

const char* WhyNoDescriptorStrides(long long page, long long head, long long block) {
  if ((page | head | block) % 8 != 0) return "the strides of descriptors must be multiples of 8 elements";
  for (const long long stride : {page, head, block}) {  // the selectors multiply them in 32 bits
    if (stride < 0 || stride >= kMost / 2) return "the strides of descriptors must not be negative, and be below 2147483648 bytes";
  }
  if (block >= kMost / 2 / 64) return "a block's stride of descriptors must be below 33554432 bytes: a page has up to 64 blocks";
  return nullptr;
}

int PagesToAskFor(long long num_pages) { return static_cast<int>(num_pages < kMost ? num_pages : kMost - 1); }

void BindWorkspace(const DecodeChoice& choice, void* workspace, DecodeParams* params) {
  char* base = static_cast<char*>(workspace);
  params->part_out = reinterpret_cast<float*>(base);
  params->part_stats = reinterpret_cast<float*>(base + choice.stats_at);
  params->counters = reinterpret_cast<unsigned*>(base + choice.counters_at);
  params->chunk_units = choice.chunk_units;
  params->min_units = choice.min_units;
  params->max_parts = choice.max_parts;
  params->heads_magic = DivideMagic(params->kv_heads);
  params->block_magic = DivideMagic(params->block_units);
}

int LaunchDecode(const DecodeProblem& problem, const DecodeChoice& choice, const DecodeParams& params, bool sparse, bool programmatic, void* stream) {
  // One sequence, lists of few blocks: a KV head's parts meet within a cluster. More are read faster by all processors. Measured on an H100.
  constexpr long long kMostUnits = 6656;  // 52 MiB
  const bool cluster = sparse && params.batch == 1 && problem.device.cluster_ctas > 0 && choice.chunk_units == 0 &&
                       params.kv_heads * problem.device.cluster_ctas <= choice.grid && 1LL * params.kv_heads * params.capacity * params.block_units <= kMostUnits;
  const KernelId& id = cluster ? choice.cluster : sparse ? choice.sparse : choice.dense;
  const int ctas = cluster ? problem.device.cluster_ctas : 1;
  DecodeParams copy = params;
  // What may be read before it is written is held to what a step may say, so that the kernels' numbers stay within 32 bits: 2^20 units a row.
  constexpr long long kGuessUnits = 1 << 20;
  const auto guess = [](long long said, long long of_units) { return static_cast<int>(said < of_units ? said : of_units); };
  copy.guess_keys = guess(64LL * copy.page_table_stride, kGuessUnits * kUnitKeys);
  copy.guess_blocks = sparse ? guess(copy.capacity, kGuessUnits / copy.block_units) : 0;
  // A second round of copies would cost what it saves.
  const auto vectors = [](long long words) { return (words + 3) / 4; };
  const bool aligned = reinterpret_cast<uintptr_t>(copy.page_table) % 16 == 0 && (!sparse || reinterpret_cast<uintptr_t>(copy.ids) % 16 == 0);
  const long long ids = sparse ? vectors(1LL * copy.batch * copy.kv_heads * copy.capacity) : 0, pages = vectors(1LL * copy.batch * copy.page_table_stride);
  const long long queries = 1LL * (cluster ? 1 : copy.batch * copy.kv_heads) * copy.group * id.d / 8, most = kStagedVectors * id.warps * 32;
  if (aligned && ids + pages <= most) {
    copy.staged_ids = static_cast<int>(ids);
    copy.staged_pages = static_cast<int>(pages);
    copy.staged = static_cast<int>(ids + pages + (ids + pages + queries <= most ? queries : 0));
  }
  return Launch(FindKernel(id), dim3(cluster ? params.kv_heads * ctas : choice.grid), id.warps * 32, choice.shared, ctas, programmatic, &copy, stream);
}

const char* WhyNoBlocks(long long block_tokens) {
  if (block_tokens < 1 || block_tokens >= 1LL << 24 || (block_tokens < 64 ? 64 % block_tokens : block_tokens % 64) != 0) {
    return "block_tokens must divide the page of 64 tokens or be a multiple of it";
  }
  return nullptr;
}

namespace {

// What a selector of such rows needs, whether or not it is built.
const char* WhyNoForm(const DecodeProblem& p, ScoreKind kind, long long block_tokens) {
  if (const char* why = WhyNoBlocks(block_tokens)) return why;
  if (!p.device.selectors) return "the device cannot run the CUDA selectors";
  if ((kind == ScoreKind::kQuest || kind == ScoreKind::kQuestHeads) && p.group > 8) return "the CUDA selectors serve 16 query heads a KV head, Quest 8";
  const long long max_blocks = (p.max_keys + block_tokens - 1) / block_tokens;
  if (max_blocks > 40960) return "the CUDA selectors serve 40960 blocks a sequence";
  const long long shared = kind == ScoreKind::kOracle ? OracleSharedBytes(max_blocks, block_tokens, p.group)
                                                      : SelectSharedBytes(kind, p.d, kLargestForm.ctas, kLargestForm.warps, max_blocks);
  return shared > p.device.shared_bytes ? "so many blocks need more shared memory than the device has" : nullptr;
}

// Both of the forms that a plan may launch: of one row, and of all.
template <class Visit>
const char* ForSelectKernels(const DecodeProblem& p, ScoreKind kind, long long block_tokens, const Visit& visit) {
  for (const long long rows : {1LL, p.rows}) {
    if (const char* why = visit(SelectId(p.d, p.fp16, kind, FormFor(p.d, p.fp16, kind, rows, (p.max_keys + block_tokens - 1) / block_tokens)))) return why;
  }
  return nullptr;
}

}  // namespace

const char* PrepareSelect(const DecodeProblem& p, ScoreKind kind, long long block_tokens) {
  if (const char* why = WhyNoForm(p, kind, block_tokens)) return why;
  return ForSelectKernels(p, kind, block_tokens, [&](const KernelId& id) -> const char* {
    if (const char* why = BuildKernel(id)) return why;
    return Allow(FindKernel(id), p.device.shared_bytes) ? nullptr : "the device cannot run this selector, or lacks the shared memory for it";
  });
}

const char* WhyNoSelect(const DecodeProblem& p, ScoreKind kind, long long block_tokens) {
  if (const char* why = WhyNoForm(p, kind, block_tokens)) return why;
  return ForSelectKernels(p, kind, block_tokens, [](const KernelId& id) {
    return FindKernel(id) != nullptr ? nullptr : "this selector is compiled at run time, which PrepareSelect does while planning";
  });
}

int LaunchSelect(const DecodeProblem& problem, const SelectParams& params, ScoreKind kind, bool programmatic, void* stream) {
  const unsigned rows = static_cast<unsigned>(params.batch * params.kv_heads);
  const bool oracle = kind == ScoreKind::kOracle;
  const SelectForm form = oracle ? SelectForm{kOracleCtas, kOracleWarps} : FormFor(problem.d, problem.fp16, kind, rows, params.max_blocks);
  const long long shared = oracle ? OracleSharedBytes(params.max_blocks, params.block_tokens, params.group)
                                  : SelectSharedBytes(kind, problem.d, form.ctas, form.warps, params.max_blocks);
  SelectParams copy = params;
  copy.heads_magic = DivideMagic(params.kv_heads);
  copy.block_magic = DivideMagic(params.block_tokens);
  const int blocks_a_page = params.block_tokens >= 64 ? 1 : 64 / params.block_tokens;
  copy.block_units = params.block_tokens >= 64 ? params.block_tokens / 64 : 1;
  copy.page_magic = DivideMagic(blocks_a_page);
  copy.in_page_mask = blocks_a_page - 1;
  if (oracle) copy.oracle_blocks = static_cast<int>(OracleBlocksACta(params.max_blocks, params.block_tokens));
  return Launch(FindKernel(SelectId(problem.d, problem.fp16, kind, form)), dim3(rows * form.ctas), form.warps * 32, static_cast<int>(shared),
                form.ctas, programmatic, &copy, stream);
}

int LaunchAppend(const DecodeProblem& problem, const AppendParams& params, bool programmatic, void* stream) {
  AppendParams copy = params;
  const dim3 grid(static_cast<unsigned>(params.kv_heads), static_cast<unsigned>(params.batch));
  return Launch(FindKernel(AppendId(problem)), grid, kAppendWarps * 32, 0, 1, programmatic, &copy, stream);
}

int ClearBytes(void* at, long long bytes, void* stream) {
  return cudaMemsetAsync(at, 0, static_cast<size_t>(bytes), static_cast<cudaStream_t>(stream));
}

const char* ErrorName(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace lectern::attention::cuda
