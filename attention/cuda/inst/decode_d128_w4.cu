#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

extern const DecodeEntry kDecodeD128W4[] = {
    Entry<ptx::Bf16, 128, 1, 4, 4, false, false>(0), Entry<ptx::Bf16, 128, 1, 4, 4, true, false>(0),
};

}  // namespace lectern::attention::cuda
