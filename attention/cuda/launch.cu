#include "attention/cuda/launch.h"

#include <cuda_runtime.h>

#include "attention/cuda/append.cuh"

namespace lectern::attention::cuda {

// The closed list: these 16, the selectors of SelectD128 (13) and SelectD64 (9), and two of append: 40, and no more.
extern const DecodeEntry kDecodeD128[2], kDecodeD64[2], kDecodeWide[4], kDecodeSoftCap[4], kDecodePtx80[4];
const void* SelectD128(SelectForm form, ScoreKind kind, int* shared, int max_blocks);
const void* SelectD64(SelectForm form, ScoreKind kind, int* shared, int max_blocks);

namespace {

struct Table {
  const DecodeEntry* entries;
  int count;
};
const Table kTables[] = {{kDecodeD128, 2}, {kDecodeD64, 2}, {kDecodeWide, 4}, {kDecodeSoftCap, 4}, {kDecodePtx80, 4}};
constexpr long long kMost = 1LL << 31;  // what the kernels count in 32 bits
constexpr SelectForm kForms[] = {kShortRows, kLongRows, kManyRows};

SelectForm FormFor(int d, ScoreKind kind, long long rows, long long max_blocks) {
  if (kind == ScoreKind::kQuestHeads) return kLongRows;
  if (rows >= 40) return kManyRows;
  return d == 64 || max_blocks <= 512 ? kShortRows : kLongRows;
}

long long Up(long long x, long long to) { return (x + to - 1) / to * to; }

long long Shared(const DecodeEntry& e, long long rows) { return e.fixed_bytes + 4 * rows; }

const DecodeEntry* Find(const DecodeProblem& p, bool sparse) {
  const int tiles = p.group > 8 ? 2 : 1;
  for (const Table& table : kTables) {
    for (int i = 0; i < table.count; ++i) {
      const DecodeEntry& e = table.entries[i];
      if (e.d != p.d || e.row_tiles != tiles || e.sparse != sparse || e.soft_cap != p.soft_cap || e.form != p.form ||
          Shared(e, p.rows) > p.device.shared_bytes) {
        continue;
      }
      return &e;
    }
  }
  return nullptr;
}

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

const void* SelectFor(int d, SelectForm form, ScoreKind kind, int max_blocks, int* shared) {
  return d == 128 ? SelectD128(form, kind, shared, max_blocks) : SelectD64(form, kind, shared, max_blocks);
}

bool Allow(const void* kernel, int shared_bytes) {
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes) == cudaSuccess) return true;
  cudaGetLastError();  // said in words instead
  return false;
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
  choice->dense = Find(p, false);
  choice->sparse = Find(p, true);
  if (choice->dense == nullptr) return "no compiled CUDA kernel fits these heads, this soft cap and so many rows";
  choice->shared_dense = static_cast<int>(Shared(*choice->dense, p.rows));
  if (choice->sparse != nullptr) choice->shared_sparse = static_cast<int>(Shared(*choice->sparse, p.rows));
  choice->grid = p.device.processors;
  const long long units = p.rows * ((p.max_keys + p.chunk_keys) / kUnitKeys + 1);
  if (units * choice->grid >= kMost) return "rows times keys is too large for one launch";
  choice->chunk_units = static_cast<int>(p.chunk_keys / kUnitKeys);
  // Measured on an H100: below these, another CTA costs more in meeting than it brings in reading.
  choice->min_units = 8;
  choice->max_parts = 128;
  choice->slots = 2LL * choice->grid;
  if (p.chunk_keys > 0) choice->slots = p.rows * ((p.max_keys + p.chunk_keys - 1) / p.chunk_keys + 1);
  if (choice->slots * p.group * p.d >= kMost) return "rows times chunks times heads is too large for 31-bit offsets of partial sums";
  choice->stats_at = Up(choice->slots * p.group * p.d * 4, 256);
  choice->counters_at = choice->stats_at + Up(choice->slots * p.group * 8, 256);
  choice->workspace_bytes = choice->counters_at + Up(4LL * (p.rows + choice->grid), 256);
  return nullptr;
}

const char* Prepare(const DecodeChoice& choice, int d, CudaDevice* device) {
  for (const DecodeEntry* e : {choice.dense, choice.sparse}) {
    if (e != nullptr && !Allow(e->kernel, device->shared_bytes)) {
      return "the device cannot run this kernel, or lacks the shared memory for it";
    }
  }
  device->selectors = true;
  for (const SelectForm form : kForms) {
    for (const ScoreKind kind : {ScoreKind::kGateQuery, ScoreKind::kGateProject, ScoreKind::kResa, ScoreKind::kQuest,
                                 ScoreKind::kQuestHeads}) {
      int shared = 0;
      device->selectors = device->selectors && Allow(SelectFor(d, form, kind, 1, &shared), device->shared_bytes);
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

int LaunchDecode(const DecodeChoice& choice, const DecodeParams& params, bool sparse, bool programmatic, void* stream) {
  const DecodeEntry& e = sparse ? *choice.sparse : *choice.dense;
  DecodeParams copy = params;
  return Launch(e.kernel, dim3(choice.grid), e.warps * 32, sparse ? choice.shared_sparse : choice.shared_dense, 1, programmatic, &copy, stream);
}

const char* WhyNoBlocks(long long block_tokens) {
  if (block_tokens < 1 || block_tokens >= 1LL << 24 || (block_tokens < 64 ? 64 % block_tokens : block_tokens % 64) != 0) {
    return "block_tokens must divide the page of 64 tokens or be a multiple of it";
  }
  return nullptr;
}

const char* WhyNoSelect(const DecodeProblem& p, ScoreKind kind, long long block_tokens) {
  if (const char* why = WhyNoBlocks(block_tokens)) return why;
  if (!p.device.selectors) return "the device cannot run the CUDA selectors";
  if ((kind == ScoreKind::kQuest || kind == ScoreKind::kQuestHeads) && p.group > 8) return "the CUDA selectors serve 16 query heads a KV head, Quest 8";
  const long long max_blocks = (p.max_keys + block_tokens - 1) / block_tokens;
  if (max_blocks > 40960) return "the CUDA selectors serve 40960 blocks a sequence";
  for (const SelectForm form : kForms) {
    int shared = 0;
    SelectFor(p.d, form, kind, static_cast<int>(max_blocks), &shared);
    if (shared > p.device.shared_bytes) return "so many blocks need more shared memory than the device has";
  }
  return nullptr;
}

int LaunchSelect(const SelectParams& params, int d, ScoreKind kind, bool programmatic, void* stream) {
  int shared = 0;
  const unsigned rows = static_cast<unsigned>(params.batch * params.kv_heads);
  const SelectForm form = FormFor(d, kind, rows, params.max_blocks);
  const void* kernel = SelectFor(d, form, kind, params.max_blocks, &shared);
  SelectParams copy = params;
  copy.heads_magic = DivideMagic(params.kv_heads);
  const int blocks_a_page = params.block_tokens >= 64 ? 1 : 64 / params.block_tokens;
  copy.block_units = params.block_tokens >= 64 ? params.block_tokens / 64 : 1;
  copy.page_magic = DivideMagic(blocks_a_page);
  copy.in_page_mask = blocks_a_page - 1;
  return Launch(kernel, dim3(rows * form.ctas), form.warps * 32, shared, form.ctas, programmatic, &copy, stream);
}

int LaunchAppend(const AppendParams& params, int d, bool programmatic, void* stream) {
  const void* kernel = d == 128 ? reinterpret_cast<const void*>(&AppendKernel<128>)
                                : reinterpret_cast<const void*>(&AppendKernel<64>);
  AppendParams copy = params;
  const dim3 grid(static_cast<unsigned>(params.kv_heads), static_cast<unsigned>(params.batch));
  return Launch(kernel, grid, kAppendWarps * 32, 0, 1, programmatic, &copy, stream);
}

int ClearBytes(void* at, long long bytes, void* stream) {
  return cudaMemsetAsync(at, 0, static_cast<size_t>(bytes), static_cast<cudaStream_t>(stream));
}

const char* ErrorName(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace lectern::attention::cuda
