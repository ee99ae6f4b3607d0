#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

extern const DecodeEntry kDecodeD64[] = {
    Entry<ptx::Bf16, 64, 1, 4, 8, false, false>(0), Entry<ptx::Bf16, 64, 1, 4, 8, true, false>(0),
};

}  // namespace lectern::attention::cuda
