#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

extern const CompiledKernel kDecodeD64[] = {
    DecodeRow<ptx::Bf16, 64, 1, 4, 8, false>(false), DecodeRow<ptx::Bf16, 64, 1, 4, 8, true>(false),
};

}  // namespace lectern::attention::cuda
