#include "manifold/linear_algebra.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

extern "C" void dsyev_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w, double* work,
                       const int* lwork, int* info);

namespace lectern::manifold {
namespace {

// Cyclic Jacobi; at the end `a` is diagonal and row j of v belongs to a[j, j].
void Jacobi(std::vector<double>& a, int64_t n, std::vector<double>& v) {
  v.assign(static_cast<size_t>(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i) v[i * n + i] = 1;
  for (int sweep = 0; sweep < 60; ++sweep) {
    double off = 0, on = 0;
    for (int64_t i = 0; i < n; ++i) {
      on += a[i * n + i] * a[i * n + i];
      for (int64_t j = i + 1; j < n; ++j) off += a[i * n + j] * a[i * n + j];
    }
    if (off <= 1e-32 * on || off == 0) return;
    for (int64_t p = 0; p < n; ++p) {
      for (int64_t q = p + 1; q < n; ++q) {
        const double apq = a[p * n + q];
        if (apq == 0) continue;
        const double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
        const double t = (theta >= 0 ? 1.0 : -1.0) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (int64_t k = 0; k < n; ++k) {
          const double x = a[k * n + p], y = a[k * n + q];
          a[k * n + p] = c * x - s * y;
          a[k * n + q] = s * x + c * y;
        }
        for (int64_t k = 0; k < n; ++k) {
          const double x = a[p * n + k], y = a[q * n + k];
          a[p * n + k] = c * x - s * y;
          a[q * n + k] = s * x + c * y;
          const double vx = v[p * n + k], vy = v[q * n + k];
          v[p * n + k] = c * vx - s * vy;
          v[q * n + k] = s * vx + c * vy;
        }
      }
    }
  }
}

}  // namespace

void SymmetricEigen(std::vector<double> a, int64_t n, std::vector<double>& values, std::vector<double>& vectors) {
  CHECK(n >= 1 && static_cast<int64_t>(a.size()) == n * n);
  std::vector<double> found, diagonal(static_cast<size_t>(n));
  if (n <= 8) {
    Jacobi(a, n, found);
    for (int64_t i = 0; i < n; ++i) diagonal[i] = a[i * n + i];
  } else {
    const int order = static_cast<int>(n);
    int info = 0, lwork = -1;
    double size = 0;
    dsyev_("V", "U", &order, a.data(), &order, diagonal.data(), &size, &lwork, &info);
    lwork = static_cast<int>(size);
    std::vector<double> work(static_cast<size_t>(lwork));
    dsyev_("V", "U", &order, a.data(), &order, diagonal.data(), work.data(), &lwork, &info);
    CHECK(info == 0);
    found = std::move(a);  // LAPACK's columns are our rows
  }
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) { return diagonal[x] > diagonal[y]; });
  values.resize(static_cast<size_t>(n));
  vectors.resize(static_cast<size_t>(n * n));
  for (int64_t j = 0; j < n; ++j) {
    values[j] = diagonal[order[j]];
    const double* from = found.data() + order[j] * n;
    int64_t peak = 0;
    for (int64_t k = 1; k < n; ++k) {
      if (std::abs(from[k]) > std::abs(from[peak])) peak = k;
    }
    const double sign = from[peak] < 0 ? -1 : 1;
    for (int64_t k = 0; k < n; ++k) vectors[j * n + k] = sign * from[k];
  }
}

void Orthonormalise(double* rows, int64_t num_rows, int64_t dim) {
  CHECK(num_rows <= dim);
  for (int64_t i = 0; i < num_rows; ++i) {
    double* row = rows + i * dim;
    int64_t axis = 0;
    for (;;) {
      double before = 0, after = 0;
      for (int64_t k = 0; k < dim; ++k) before += row[k] * row[k];
      for (int pass = 0; pass < 2; ++pass) {
        for (int64_t j = 0; j < i; ++j) {
          const double* other = rows + j * dim;
          double dot = 0;
          for (int64_t k = 0; k < dim; ++k) dot += row[k] * other[k];
          for (int64_t k = 0; k < dim; ++k) row[k] -= dot * other[k];
        }
      }
      for (int64_t k = 0; k < dim; ++k) after += row[k] * row[k];
      if (after > 1e-24 * before && after > 0) {
        const double scale = 1 / std::sqrt(after);
        for (int64_t k = 0; k < dim; ++k) row[k] *= scale;
        break;
      }
      std::fill(row, row + dim, 0.0);
      row[axis++] = 1;
    }
  }
}

}  // namespace lectern::manifold
