#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

// Compiled to PTX of compute_80 alone (CMakeLists.txt): 115 KiB of shared memory, which such cards have.
struct Bf16Ptx80 : ptx::Bf16 {};
extern const DecodeEntry kDecodePtx80[] = {
    Entry<Bf16Ptx80, 128, 1, 3, 4, false, false>(1), Entry<Bf16Ptx80, 128, 1, 3, 4, true, false>(1),
    Entry<Bf16Ptx80, 64, 1, 6, 4, false, false>(1), Entry<Bf16Ptx80, 64, 1, 6, 4, true, false>(1),
};

}  // namespace lectern::attention::cuda
