#include "attention/cuda/append.cuh"
#include "attention/cuda/kernels.h"

namespace lectern::attention::cuda {

extern const CompiledKernel kAppend[] = {
    {{.family = KernelFamily::kAppend, .d = 128}, reinterpret_cast<const void*>(&AppendKernel<ptx::Bf16, 128>)},
    {{.family = KernelFamily::kAppend, .d = 64}, reinterpret_cast<const void*>(&AppendKernel<ptx::Bf16, 64>)},
};

}  // namespace lectern::attention::cuda
