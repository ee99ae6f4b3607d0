#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

// Two stages of eight warps, 128 KiB: three are 2 % slower from 500 MB on, and no faster below.
extern const DecodeEntry kDecodeD128[] = {
    Entry<ptx::Bf16, 128, 1, 2, 8, false, false>(0), Entry<ptx::Bf16, 128, 1, 2, 8, true, false>(0),
};

}  // namespace lectern::attention::cuda
