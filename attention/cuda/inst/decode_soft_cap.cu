#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

extern const DecodeEntry kDecodeSoftCap[] = {
    Entry<ptx::Bf16, 128, 1, 2, 8, false, true>(0), Entry<ptx::Bf16, 128, 1, 2, 8, true, true>(0),
    Entry<ptx::Bf16, 64, 1, 4, 8, false, true>(0), Entry<ptx::Bf16, 64, 1, 4, 8, true, true>(0),
};

}  // namespace lectern::attention::cuda
