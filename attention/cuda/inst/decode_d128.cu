#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

extern const CompiledKernel kDecodeD128[] = {
    DecodeRow<ptx::Bf16, 128, 1, 2, 8, false>(false), DecodeRow<ptx::Bf16, 128, 1, 2, 8, true>(false),
    DecodeRow<ptx::Bf16, 128, 1, 2, 8, true, true>(false),
};

}  // namespace lectern::attention::cuda
