#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

extern const DecodeEntry kDecodeD128[] = {
    Entry<ptx::Bf16, 128, 1, 2, 8, false, false>(0), Entry<ptx::Bf16, 128, 1, 2, 8, true, false>(0),
    Entry<ptx::Bf16, 128, 1, 3, 8, false, false>(0), Entry<ptx::Bf16, 128, 1, 3, 8, true, false>(0),
};

}  // namespace lectern::attention::cuda
