#include "attention/cuda/inst/decode_entry.cuh"

namespace lectern::attention::cuda {

// Compiled to PTX of compute_80, and to code of sm_80 from it, so that ptxas sees what spills (CMakeLists.txt). 115 KiB of shared memory, which
// such cards have; newer ones compile the PTX when it is loaded.
struct Bf16Ptx80 : ptx::Bf16 {};
extern const CompiledKernel kDecodePtx80[] = {
    DecodeRow<Bf16Ptx80, 128, 1, 3, 4, false>(true), DecodeRow<Bf16Ptx80, 128, 1, 3, 4, true>(true),
    DecodeRow<Bf16Ptx80, 64, 1, 6, 4, false>(true), DecodeRow<Bf16Ptx80, 64, 1, 6, 4, true>(true),
};

}  // namespace lectern::attention::cuda
