// manifold/linear_algebra.h: the few fp64 matrix functions the reference code needs, over LAPACK.
//
//   SymmetricEigen(matrix, n, values, vectors);   // values greatest first; row j of vectors belongs to values[j]
//
// Shapes:  matrix [n, n] row-major symmetric; values [n]; vectors [n, n], a row an eigenvector of unit length whose entry
//          of greatest magnitude is positive, so that signs never depend on the library.
// Threads: any.
// Errors:  none: a symmetric finite matrix always has its eigenvectors (CHECK).
// Cost:    O(n^3) by dsyev; n <= 8 by cyclic Jacobi, which is faster than the call.
#pragma once

#include <cstdint>
#include <vector>

namespace lectern::manifold {

void SymmetricEigen(std::vector<double> matrix, int64_t n, std::vector<double>& values, std::vector<double>& vectors);
// Replaces rows [rows, dim] by an orthonormal basis of their span, in order (two passes of Gram-Schmidt). A row that
// depends on those before it becomes the first unit axis that does not. REQUIRES: rows <= dim.
void Orthonormalise(double* rows, int64_t num_rows, int64_t dim);

}  // namespace lectern::manifold
