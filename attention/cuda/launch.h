// attention/cuda/launch.h: where plain C++ meets the kernels: numbers and pointers in, an error code of the runtime out.
//
//   CudaDevice device;
//   const char* why = AskDevice(&device);                                                   // null: there is one
//   DecodeChoice choice;
//   why = ChooseDecode({.device = device, .d = 128, .group = 4, .rows = 64, .max_keys = 131072}, &choice);  // null: served
//   why = Prepare(choice, 128, &device);                                                    // once, while planning
//   int error = LaunchDecode(choice, params, /*sparse=*/false, /*programmatic=*/true, stream);  // 0: launched
//
// Shapes:  as the parameter structs say.
// Threads: any. A launch needs the plan's device to be the current one of the calling thread.
// Errors:  ChooseDecode and the others return why not, or null; Launch functions a cudaError_t.
// Cost:    ChooseDecode and the WhyNo functions only compare; a launch neither allocates nor waits.
#pragma once

#include "attention/cuda/decode_params.h"
#include "attention/cuda/select_params.h"

namespace lectern::attention::cuda {

// One compiled decode kernel. The closed list of them is in inst/.
struct DecodeEntry {
  int d, row_tiles, stages, warps;
  bool sparse, soft_cap;
  int form;  // 0: sm_90a code; 1: PTX of compute_80
  const void* kernel;
  int fixed_bytes;  // of shared memory, and 4 more a row
};

// What a plan knows of the device it is for.
struct CudaDevice {
  int ordinal = 0, processors = 0;
  int shared_bytes = 0;    // of dynamic shared memory, a CTA at most
  bool selectors = false;  // the selectors of the plan's width run on it
};

struct DecodeProblem {
  CudaDevice device;
  int d = 0, group = 0;
  long long rows = 0, max_keys = 0;
  bool soft_cap = false;
  int form = 0;
  long long chunk_keys = 0;
};

struct DecodeChoice {
  const DecodeEntry* dense = nullptr;
  const DecodeEntry* sparse = nullptr;
  int grid = 0, shared_dense = 0, shared_sparse = 0;
  int chunk_units = 0, min_units = 0, max_parts = 0;
  long long slots = 0, counters_at = 0, stats_at = 0, workspace_bytes = 0;
};

const char* AskDevice(CudaDevice* device);  // about the calling thread's current device
int CurrentDevice();                        // its ordinal; -1 without one
const char* ChooseDecode(const DecodeProblem& problem, DecodeChoice* choice);
// Lets the kernels that the choice and its selectors may launch have all the shared memory there is. That limit belongs to
// the kernel, not to the plan: every plan sets the same, so that none takes away what another needs.
const char* Prepare(const DecodeChoice& choice, int d, CudaDevice* device);
// The sizes a step brings along, before they become 32-bit numbers. capacity: of the list of a row; 0: no lists.
const char* WhyNoStep(const DecodeProblem& problem, long long batch, long long page_table_stride, long long capacity);
// Fills what of `params` the choice decides: workspace pointers, chunks.
void BindWorkspace(const DecodeChoice& choice, void* workspace, DecodeParams* params);
int LaunchDecode(const DecodeChoice& choice, const DecodeParams& params, bool sparse, bool programmatic, void* stream);

// CTAs and warps of a selector's row: many where rows are few and long, two CTAs where the rows themselves fill the device.
// Where each query head chooses (kQuestHeads), a CTA a head: eight.
struct SelectForm {
  int ctas, warps;
};
inline constexpr SelectForm kShortRows{4, 8}, kLongRows{8, 16}, kManyRows{2, 16};

const char* WhyNoSelect(const DecodeProblem& problem, ScoreKind kind, long long block_tokens);
const char* WhyNoBlocks(long long block_tokens);  // sizes of blocks that selectors and descriptors know
int LaunchSelect(const SelectParams& params, int d, ScoreKind kind, bool programmatic, void* stream);
int LaunchAppend(const AppendParams& params, int d, bool programmatic, void* stream);

int ClearBytes(void* at, long long bytes, void* stream);
const char* ErrorName(int error);

}  // namespace lectern::attention::cuda
