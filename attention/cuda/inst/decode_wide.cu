#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

// Groups of 9 to 16 query heads: two tiles of rows, so twice the merge buffer.
extern const DecodeEntry kDecodeWide[] = {
    Entry<ptx::Bf16, 128, 2, 2, 8, false, false>(0), Entry<ptx::Bf16, 128, 2, 2, 8, true, false>(0),
    Entry<ptx::Bf16, 64, 2, 4, 8, false, false>(0), Entry<ptx::Bf16, 64, 2, 4, 8, true, false>(0),
};

}  // namespace lectern::attention::cuda
