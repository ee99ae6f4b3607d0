// manifold/cpu/small_dense-inl.h: small dense problems of kBatch points at once, one point a lane.
//
// A Cholesky factor or an eigenproblem of 24 x 24 is a chain of square roots and divisions: alone it waits for each of them,
// eight side by side share the wait. Matrices are [row, column] of Lane. Included by plane-inl.h, inside its namespace.

typedef float Lane __attribute__((vector_size(4 * kBatch)));
typedef int32_t Mask __attribute__((vector_size(4 * kBatch)));   // all bits or none

inline Lane SplatLane(float x) { return Lane{} + x; }
inline Lane Abs(Lane x) { return x < 0 ? -x : x; }
inline Lane RootOf(Lane x) {
  Lane y;
  for (int64_t i = 0; i < kBatch; ++i) y[i] = __builtin_sqrtf(x[i]);
  return y;
}
inline bool Any(Mask m) {
  int32_t all = 0;
  for (int64_t i = 0; i < kBatch; ++i) all |= m[i];
  return all != 0;
}

// s [n, n], its upper half: -> r with s = r^T r; w, its upper half: r^-1. A column that depends on those before it gets a zero
// column in w, so that its direction drops out instead of blowing up.
inline void InverseRoot(Lane* s, int64_t n, Lane* w) {
  Lane inverse[kMaxBlock];
  for (int64_t i = 0; i < n; ++i) {
    Lane* row = s + i * n;
    const Lane first = row[i];
    int64_t j = i;
    for (; j + 4 <= n; j += 4) {
      Lane a = row[j], b = row[j + 1], c = row[j + 2], e = row[j + 3];
      for (int64_t t = 0; t < i; ++t) {
        const Lane x = s[t * n + i];
        const Lane* other = s + t * n + j;
        a -= x * other[0], b -= x * other[1], c -= x * other[2], e -= x * other[3];
      }
      row[j] = a, row[j + 1] = b, row[j + 2] = c, row[j + 3] = e;
    }
    for (; j < n; ++j) {
      Lane a = row[j];
      for (int64_t t = 0; t < i; ++t) a -= s[t * n + i] * s[t * n + j];
      row[j] = a;
    }
    const Lane pivot = row[i];
    const Mask alive = (pivot > 1e-6f * first) & (pivot > 1e-30f);
    const Lane scale = alive ? 1 / RootOf(alive ? pivot : SplatLane(1)) : Lane{};
    for (int64_t c = i; c < n; ++c) row[c] *= scale;
    inverse[i] = scale;
  }
  for (int64_t i = n - 1; i >= 0; --i) {  // row i of w = (e_i - sum_t r(i, t) w_t) / r(i, i)
    w[i * n + i] = inverse[i];
    for (int64_t j = i + 1; j < n; ++j) {
      Lane even = {}, odd = {};
      int64_t t = i + 1;
      for (; t + 1 <= j; t += 2) {
        even -= s[i * n + t] * w[t * n + j];
        odd -= s[i * n + t + 1] * w[(t + 1) * n + j];
      }
      if (t <= j) even -= s[i * n + t] * w[t * n + j];
      w[i * n + j] = (even + odd) * inverse[i];
    }
  }
}

// a [n, n] symmetric -> tridiagonal: diagonal d [n], e [n - 1] beside it, and v [n, n], whose row c is column c of the rotation:
// a = v^T t v. By Householder reflections; a is used up.
inline void Tridiagonal(Lane* a, int64_t n, Lane* d, Lane* e, Lane* v) {
  Lane beta[kMaxBlock], p[kMaxBlock];
  for (int64_t k = 0; k + 2 < n; ++k) {
    Lane* x = a + k * n;  // row k, right of the diagonal, becomes the reflector
    Lane squared = {};
    for (int64_t i = k + 1; i < n; ++i) squared += x[i] * x[i];
    const Lane length = RootOf(squared), head = x[k + 1];
    const Lane to = head < 0 ? length : -length;
    x[k + 1] = head - to;
    const Lane norm = squared - head * head + x[k + 1] * x[k + 1];
    const Mask moves = norm > 1e-36f;
    beta[k] = moves ? 2 / (moves ? norm : SplatLane(1)) : Lane{};
    d[k] = x[k];
    e[k] = moves ? to : head;
    Lane along = {};
    for (int64_t i = k + 1; i < n; ++i) {
      Lane even = {}, odd = {};
      int64_t j = k + 1;
      for (; j + 2 <= n; j += 2) even += a[i * n + j] * x[j], odd += a[i * n + j + 1] * x[j + 1];
      if (j < n) even += a[i * n + j] * x[j];
      p[i] = (even + odd) * beta[k];
      along += p[i] * x[i];
    }
    const Lane half = along * beta[k] * 0.5f;
    for (int64_t i = k + 1; i < n; ++i) p[i] -= half * x[i];
    for (int64_t i = k + 1; i < n; ++i) {
      const Lane xi = x[i], pi = p[i];
      for (int64_t j = k + 1; j < n; ++j) a[i * n + j] -= xi * p[j] + pi * x[j];
    }
  }
  if (n >= 2) d[n - 2] = a[(n - 2) * n + n - 2], e[n - 2] = a[(n - 2) * n + n - 1];
  d[n - 1] = a[n * n - 1];
  for (int64_t i = 0; i < n * n; ++i) v[i] = Lane{};
  for (int64_t i = 0; i < n; ++i) v[i * n + i] = SplatLane(1);
  for (int64_t k = n - 3; k >= 0; --k) {  // v is the identity outside what the later reflectors touched
    const Lane* x = a + k * n;
    for (int64_t c = k + 1; c < n; ++c) {
      Lane dot = {};
      for (int64_t i = k + 1; i < n; ++i) dot += x[i] * v[c * n + i];
      dot *= beta[k];
      for (int64_t i = k + 1; i < n; ++i) v[c * n + i] -= dot * x[i];
    }
  }
}

// QL with implicit shifts, in step for all points: d becomes the eigenvalues (unsorted), row c of v the vector of d[c].
// e has n elements, the last one free.
inline void TridiagonalEigen(Lane* d, Lane* e, int64_t n, Lane* v) {
  const Lane one = SplatLane(1);
  e[n - 1] = Lane{};
  for (int32_t l = 0; l + 1 < n; ++l) {
    for (int round = 0; round < 40; ++round) {
      // Where each point's block ends: the first negligible e from l on.
      Mask last = Mask{} + static_cast<int32_t>(n - 1);
      Lane at_last = d[n - 1];
      for (int32_t i = static_cast<int32_t>(n) - 2; i >= l; --i) {
        const Mask small = Abs(e[i]) <= 1e-7f * (Abs(d[i]) + Abs(d[i + 1])) + 1e-12f;
        last = small ? Mask{} + i : last;
        at_last = small ? d[i] : at_last;
      }
      const Mask active = last > l;
      if (!Any(active)) break;
      const Lane beside = active ? e[l] : one;
      Lane g = (d[l + 1] - d[l]) / (2 * beside);
      Lane r = RootOf(g * g + 1);
      g = at_last - d[l] + beside / (g + (g < 0 ? -r : r));
      Lane s = one, c = one, p = {};
      Mask stopped = {};
      for (int32_t i = static_cast<int32_t>(n) - 2; i >= l; --i) {
        Mask in = active & (last > i) & ~stopped;
        if (!Any(in)) continue;
        const Lane f = s * e[i], b = c * e[i];
        r = RootOf(f * f + g * g);
        const Mask zero = in & (r == 0);
        e[i + 1] = in ? r : e[i + 1];
        d[i + 1] = zero ? d[i + 1] - p : d[i + 1];
        stopped |= zero;
        in &= ~zero;
        const Lane by = 1 / (in ? r : one);
        const Lane sine = in ? f * by : Lane{}, cosine = in ? g * by : one;
        const Lane from = d[i + 1] - p;
        const Lane turn = (d[i] - from) * sine + 2 * cosine * b;
        s = in ? sine : s;
        c = in ? cosine : c;
        p = in ? sine * turn : p;
        d[i + 1] = in ? from + p : d[i + 1];
        g = in ? cosine * turn - b : g;
        Lane *lower = v + i * n, *upper = lower + n;
        for (int64_t j = 0; j < n; ++j) {
          const Lane u = upper[j], w = lower[j];
          upper[j] = sine * w + cosine * u;
          lower[j] = cosine * w - sine * u;
        }
      }
      const Mask through = active & ~stopped;
      d[l] = through ? d[l] - p : d[l];
      e[l] = through ? g : e[l];
      for (int32_t i = l; i < n; ++i) e[i] = (active & (last == i)) ? Lane{} : e[i];
    }
  }
}
