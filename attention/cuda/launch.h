// attention/cuda/launch.h: where plain C++ meets the kernels: numbers and pointers in, an error code of the runtime out.
//
//   DecodeChoice choice;
//   const char* why = ChooseDecode({.d = 128, .group = 4, .rows = 64, .max_keys = 131072}, &choice);   // null: served
//   int error = LaunchDecode(choice, params, /*sparse=*/false, /*programmatic=*/true, stream);          // 0: launched
//
// Shapes:  as the parameter structs say.
// Threads: any; the current device of the calling thread.
// Errors:  ChooseDecode and the others return why not, or null; Launch functions a cudaError_t.
// Cost:    a launch neither allocates nor waits.
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

struct DecodeProblem {
  int d = 0, group = 0, rows = 0;
  long long max_keys = 0;
  bool soft_cap = false;
  int form = 0;
  long long chunk_keys = 0;
};

struct DecodeChoice {
  const DecodeEntry* dense = nullptr;
  const DecodeEntry* sparse = nullptr;
  int grid = 0;
  int chunk_units = 0, min_units = 0, max_parts = 0;
  long long slots = 0, counters_at = 0, stats_at = 0, workspace_bytes = 0;
};

const char* ChooseDecode(const DecodeProblem& problem, DecodeChoice* choice);
// Fills what of `params` the choice decides: workspace pointers, chunks.
void BindWorkspace(const DecodeProblem& problem, const DecodeChoice& choice, void* workspace, DecodeParams* params);
int LaunchDecode(const DecodeChoice& choice, const DecodeProblem& problem, const DecodeParams& params, bool sparse,
                 bool programmatic, void* stream);

// CTAs and warps of a selector's row: many where rows are few and long, two CTAs where the rows themselves fill the device.
struct SelectForm {
  int ctas, warps;
};
inline constexpr SelectForm kShortRows{4, 8}, kLongRows{8, 16}, kManyRows{2, 16};

const char* WhyNoSelect(int d, int group, ScoreKind kind, long long max_blocks);
int LaunchSelect(const SelectParams& params, int d, ScoreKind kind, bool programmatic, void* stream);
int LaunchAppend(const AppendParams& params, int d, bool programmatic, void* stream);

int ClearBytes(void* at, long long bytes, void* stream);
int Multiprocessors();  // of the current device; 0 without one
const char* ErrorName(int error);

}  // namespace lectern::attention::cuda
