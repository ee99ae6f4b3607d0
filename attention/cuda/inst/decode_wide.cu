#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

// Groups of 9 to 16 query heads: two tiles of rows, so twice the merge buffer.
extern const CompiledKernel kDecodeWide[] = {
    DecodeRow<ptx::Bf16, 128, 2, 2, 8, false>(false), DecodeRow<ptx::Bf16, 128, 2, 2, 8, true>(false),
    DecodeRow<ptx::Bf16, 64, 2, 4, 8, false>(false), DecodeRow<ptx::Bf16, 64, 2, 4, 8, true>(false),
};

}  // namespace lectern::attention::cuda
