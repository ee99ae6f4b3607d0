// Single rows for AVX-512.
#include <cstddef>
#include <cstdint>
#include <immintrin.h>

#include "attention/cpu/row_args.h"

namespace lectern::attention::avx512 {
void Project(const ProjectArgs&);
void Dots(const DotsArgs&);
float Exponentials(float*, int64_t, float*);
void Norm(const NormArgs&);
void Rotate(const RotateArgs&);
void MinMax(const MinMaxArgs&);
void Pool(const PoolArgs&);

namespace {

#include "attention/cpu/vector_avx512-inl.h"
#include "attention/cpu/rows-inl.h"

}  // namespace

void Project(const ProjectArgs& a) { return a.bf16 ? ProjectRow<Bf16Row>(a) : ProjectRow<F32Row>(a); }
void Dots(const DotsArgs& a) { return a.bf16 ? DotsRow<Bf16Row>(a) : DotsRow<F32Row>(a); }
float Exponentials(float* x, int64_t n, float* to) { return ExponentialsRow(x, n, to); }
void Norm(const NormArgs& a) { NormRow(a); }
void Rotate(const RotateArgs& a) { RotateRow(a); }
void MinMax(const MinMaxArgs& a) { return a.bf16 ? MinMaxRow<Bf16Row>(a) : MinMaxRow<F32Row>(a); }
void Pool(const PoolArgs& a) { PoolRow(a); }

}  // namespace lectern::attention::avx512
