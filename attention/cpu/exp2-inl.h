// attention/cpu/exp2-inl.h: powers of two on vectors, for the files that define F.

constexpr float kLog2e = 1.44269504088896340736f;

// 2^x to about one ulp; exactly 0 below -126 (and for -inf).
inline F Exp2(F x) {
  const F clamped = Max(x, Set(-127.0f));
  const F n = Round(clamped);
  const F f = Add(clamped, Mul(n, Set(-1.0f)));  // [-0.5, 0.5]
  F p = Set(1.52527338e-5f);                     // ln2^k / k!
  p = Fma(p, f, Set(1.54035304e-4f));
  p = Fma(p, f, Set(1.33335581e-3f));
  p = Fma(p, f, Set(9.61812911e-3f));
  p = Fma(p, f, Set(5.55041087e-2f));
  p = Fma(p, f, Set(2.40226507e-1f));
  p = Fma(p, f, Set(6.93147181e-1f));
  p = Fma(p, f, Set(1.0f));
  return ZeroBelow(x, Set(-126.0f), Scale2(p, n));
}
