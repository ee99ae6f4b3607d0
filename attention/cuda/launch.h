// attention/cuda/launch.h: where plain C++ meets the kernels: numbers and pointers in, an error code of the runtime out.
//
//   CudaDevice device;
//   const char* why = AskDevice(&device);                                                   // null: there is one
//   DecodeProblem problem{.device = device, .d = 128, .group = 4, .rows = 64, .max_keys = 131072};
//   DecodeChoice choice;
//   why = ChooseDecode(problem, &choice);                                                   // null: served
//   why = Prepare(choice, problem, &device);                                                // once, while planning
//   why = PrepareSelect(problem, ScoreKind::kGateQuery, 64);                                // likewise
//   int error = LaunchDecode(problem, choice, params, /*sparse=*/false, /*programmatic=*/true, stream);  // 0: launched
//
// Shapes:  as the parameter structs say.
// Threads: any. A launch needs the plan's device to be the current one of the calling thread.
// Errors:  ChooseDecode and the others return why not, or null; Launch functions a cudaError_t.
// Cost:    ChooseDecode and the WhyNo functions only compare; a launch neither allocates nor waits. Prepare and PrepareSelect
//          compile what is not in the closed list (kernels.h), about a second a kernel.
#pragma once

#include "attention/cuda/decode_params.h"
#include "attention/cuda/kernels.h"
#include "attention/cuda/select_params.h"

namespace lectern::attention::cuda {

// What a plan knows of the device it is for.
struct CudaDevice {
  int ordinal = 0, processors = 0;
  int shared_bytes = 0;    // of dynamic shared memory, a CTA at most
  bool selectors = false;  // the closed list's selectors of the plan's width run on it
  int cluster_ctas = 0;    // of one sequence's KV head where its parts meet within a cluster; 0: through L2
};

struct DecodeProblem {
  CudaDevice device;
  int d = 0, group = 0, kv_heads = 0;
  long long rows = 0, max_keys = 0;
  bool fp16 = false, soft_cap = false;
  int form = 0;  // 0: sm_90a code; 1: PTX of compute_80
  long long chunk_keys = 0;
};

struct DecodeChoice {
  KernelId dense, sparse;
  KernelId cluster;  // sparse, of one sequence
  int grid = 0, shared = 0;
  int chunk_units = 0, min_units = 0, max_parts = 0;
  long long slots = 0, counters_at = 0, stats_at = 0, workspace_bytes = 0;
};

const char* AskDevice(CudaDevice* device);  // about the calling thread's current device
int CurrentDevice();                        // its ordinal; -1 without one
const char* ChooseDecode(const DecodeProblem& problem, DecodeChoice* choice);
// Builds what is missing of the choice's kernels, and lets them and the closed list's selectors have all the shared memory there
// is. That limit belongs to the kernel, not to the plan: every plan sets the same, so that none takes away what another needs.
const char* Prepare(const DecodeChoice& choice, const DecodeProblem& problem, CudaDevice* device);
// The same for the forms of a selector that the plan may launch; says what WhyNoSelect would.
const char* PrepareSelect(const DecodeProblem& problem, ScoreKind kind, long long block_tokens);
// The sizes a step brings along, before they become 32-bit numbers. capacity: of the list of a row; 0: no lists.
const char* WhyNoStep(const DecodeProblem& problem, long long batch, long long page_table_stride, long long capacity);
const char* WhyNoPages(long long num_pages);  // of a pool: 0, not said, or more
const char* WhyNoDescriptorStrides(long long page, long long head, long long block);  // in elements
int PagesToAskFor(long long num_pages);  // as the kernels' 32-bit number: of a pool of more pages, the first ones
// Fills what of `params` the choice decides: workspace pointers, chunks.
void BindWorkspace(const DecodeChoice& choice, void* workspace, DecodeParams* params);
int LaunchDecode(const DecodeProblem& problem, const DecodeChoice& choice, const DecodeParams& params, bool sparse, bool programmatic, void* stream);

const char* WhyNoSelect(const DecodeProblem& problem, ScoreKind kind, long long block_tokens);
const char* WhyNoBlocks(long long block_tokens);  // sizes of blocks that selectors and descriptors know
int LaunchSelect(const DecodeProblem& problem, const SelectParams& params, ScoreKind kind, bool programmatic, void* stream);
int LaunchAppend(const DecodeProblem& problem, const AppendParams& params, bool programmatic, void* stream);

int ClearBytes(void* at, long long bytes, void* stream);
const char* ErrorName(int error);

}  // namespace lectern::attention::cuda
