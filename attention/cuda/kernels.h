// attention/cuda/kernels.h: which kernels there are: a closed list compiled with the program, the rest compiled when first planned.
//
//   const KernelId id{.family = KernelFamily::kAppend, .fp16 = true, .d = 128};
//   const char* why = BuildKernel(id);     // while planning; null: it is there
//   const void* kernel = FindKernel(id);   // in a step: what cudaLaunchKernelExC takes; null: nobody built it
//
// Shapes:  the closed list is bf16 without a soft cap: decode, append and every selector but the oracle, 39 kernels in inst/. A
//          16-bit float cache, a soft cap and the oracle are the same templates, compiled by NVRTC from strings.
// Threads: any. What is built stays, for the process and all its devices.
// Errors:  BuildKernel and Compile say why not in words: no NVRTC to load, or what the compiler found.
// Cost:    FindKernel compares some forty ids. BuildKernel compiles for about a second, once; NVRTC is loaded by then, not before.
#pragma once

#include <compare>
#include <string>

#include "attention/cuda/select_params.h"

namespace lectern::attention::cuda {

enum class KernelFamily { kDecode, kSelect, kOracle, kAppend };

struct KernelId {
  KernelFamily family = KernelFamily::kDecode;
  bool fp16 = false;
  int d = 0, warps = 0;
  int row_tiles = 0, stages = 0;  // decode
  bool sparse = false, soft_cap = false, cluster = false, ptx80 = false;
  ScoreKind kind{};  // selectors
  int ctas = 0;
  auto operator<=>(const KernelId&) const = default;
};

struct CompiledKernel {
  KernelId id;
  const void* kernel;
};

const void* FindKernel(const KernelId& id);
const char* BuildKernel(const KernelId& id);

// What BuildKernel does before it loads anything: needs no device. `image` is SASS, or PTX for ptx80; `name` as it is in there.
// `log` is the compiler's, empty where all is well.
struct KernelImage {
  std::string image, name, log;
};
bool Compile(const KernelId& id, KernelImage* to);  // false: `log` says why

}  // namespace lectern::attention::cuda
