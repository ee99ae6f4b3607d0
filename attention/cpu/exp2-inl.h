// attention/cpu/exp2-inl.h: powers of two on vectors, for the files that define F.

constexpr float kLog2e = 1.44269504088896340736f;

// 2^x for x < 127, to 1.6e-7; exactly 0 below -126.5 (and for -inf and NaN), exactly 1 at 0.
inline F Exp2(F x) {
  // Behind 1.5 * 2^23 a float holds whole numbers: its low bits become the exponent of 2^n, which at n = -127 is 0.
  const F whole = Set(12582912.0f + 127.0f);
  const F clamped = Max(x, Set(-127.0f));
  const F n = Add(clamped, whole);
  const F f = Sub(clamped, Sub(n, whole));  // [-0.5, 0.5]
  F p = Set(1.32647244e-3f);  // least relative error on [-0.5, 0.5] among polynomials of degree 5 that are 1 at 0
  p = Fma(p, f, Set(9.67151324e-3f));
  p = Fma(p, f, Set(5.55073376e-2f));
  p = Fma(p, f, Set(2.40222421e-1f));
  p = Fma(p, f, Set(6.93146978e-1f));
  p = Fma(p, f, Set(1.0f));
  return Mul(p, ExponentOf(n));
}
