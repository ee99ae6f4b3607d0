// attention/cpu/flash-inl.h: softmax attention over pages of 64 keys, written once, compiled for each CPU target.
//
// Dataflow  for each page, for each block of R rows: scores[R, 64] = Q K; mask, running max, exp2, running sum;
//           acc[R, width] = acc * correction + P V. Rows are (query, head of the group), so the heads that share a
//           KV head read each K and V block once from L1. Keys lie along the vector lanes in Q K and value columns in
//           P V: both products are Panel(), a broadcast of one lane of a row times a vector, with no sum across lanes.
// Shapes    as attention/cpu/flash_args.h and attention/paged_kv.h (BlockLayout::kLanes).
// Bytes     decode: 4 * width bytes a key and KV head in bf16, once. Prefill: the same once a tile of rows, from L2.
// Flops     4 * width a row and key. R = 7 in bf16 (one vdpbf16ps a cycle): 1,800 cycles for a page of 16 KiB, so one
//           core asks for about 25 GB/s: at the memory bandwidth of a core.
// Budget    R x 2 accumulators, 2 vectors of B and one broadcast: 27 of 32 registers at R = 12.
//
// The including file defines, in its own namespace: F (a float vector), kLanes, kRowBlock, and the functions Load,
// Store, Set, Add, Mul, Div, Max, Fma, Round, Scale2, Keep (-inf outside lo..hi), ZeroBelow, ReduceMax, ReduceAdd; behind
// the include the type Bf16Lane: LoadLanes takes kPack keys or columns of one lane, Broadcast as many elements of a row.

// Queries and weights of the softmax as floats; only a processor that multiplies bf16 rounds them.
struct FloatRows {
  static constexpr int kRowPack = 1;  // elements in four bytes of a row
  static void Put(uint32_t* row, int64_t element, F value) { Store(reinterpret_cast<float*>(row) + element, value); }
  static void PutOne(uint32_t* row, int64_t element, float value) { reinterpret_cast<float*>(row)[element] = value; }
};

struct F32Lane : FloatRows {
  static constexpr int kPack = 1;
  using B = F;
  static B LoadLanes(const uint32_t* p) { return Load(reinterpret_cast<const float*>(p)); }
  static B Broadcast(const uint32_t* p) { return Set(*reinterpret_cast<const float*>(p)); }
  static F Dot(F acc, B a, B b) { return Fma(a, b, acc); }
};

constexpr int kPage = 64;
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

// c[r][v] += sum over t < steps of elements kPack t .. of row r of A, times lanes of row t of B.
template <class Lane, int R, int V>
inline __attribute__((always_inline)) void Panel(const uint32_t* a, int64_t a_stride, const uint32_t* b,
                                                 int64_t b_stride, int64_t steps, F (&c)[R][V]) {
  for (int64_t t = 0; t < steps; ++t) {
    typename Lane::B column[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) column[v] = Lane::LoadLanes(b + t * b_stride + v * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const typename Lane::B row = Lane::Broadcast(a + r * a_stride + t * (Lane::kPack / Lane::kRowPack));
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) c[r][v] = Lane::Dot(c[r][v], row, column[v]);
    }
  }
}

inline void Prefetch(const char* p, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at, 0, 3);
}

// scores[R, 64] of one page; columns at or past `valid` are left as they are.
template <class Lane, int R>
inline void Scores(const FlashTile& t, const uint32_t* q, const char* k_block, int64_t valid, const char* prefetch,
                   int64_t prefetch_bytes) {
  const int64_t steps = t.key_width / Lane::kPack;
  constexpr int kChunks = kPage / (2 * kLanes);
  for (int64_t column = 0; column < valid; column += 2 * kLanes) {
    const int64_t share = prefetch_bytes / kChunks;
    if (prefetch != nullptr) Prefetch(prefetch + column / (2 * kLanes) * share, share);
    F c[R][2];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) c[r][0] = c[r][1] = Set(0.0f);
    Panel<Lane, R, 2>(q, t.key_width / Lane::kRowPack, reinterpret_cast<const uint32_t*>(k_block) + column, kPage, steps, c);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      Store(t.scores + r * kPage + column, c[r][0]);
      Store(t.scores + r * kPage + column + kLanes, c[r][1]);
    }
  }
}

// Cap, mask. Columns outside [lo, hi) become -inf.
inline void Shape(const FlashTile& t, float* scores, int64_t lo, int64_t hi) {
  if (t.soft_cap > 0) {
    const F to_exp = Set(2 * kLog2e / t.soft_cap), cap = Set(t.soft_cap * kLog2e), one = Set(1.0f);
    for (int column = 0; column < kPage; column += kLanes) {
      // tanh(y) = 1 - 2 / (1 + e^2y); beyond |2y log2e| = 30 it is 1 to the last bit.
      const F y2 = Max(Set(-30.0f), Mul(Set(-1.0f), Max(Set(-30.0f), Mul(Mul(Load(scores + column), to_exp), Set(-1.0f)))));
      const F tanh = Fma(Set(-2.0f), Div(one, Add(one, Exp2(y2))), one);
      Store(scores + column, Mul(cap, tanh));
    }
  }
  if (lo <= 0 && hi >= kPage) return;
  for (int column = 0; column < kPage; column += kLanes) {
    Store(scores + column, Keep(Load(scores + column), column, static_cast<int>(lo < 0 ? 0 : lo),
                                static_cast<int>(hi > kPage ? kPage : hi)));
  }
}

// One page for R rows starting at `row`.
template <class Lane, int R>
void Block(const FlashTile& t, int64_t row, int64_t page, const char* k_block, const char* v_block,
           const char* next_k) {
  const int64_t base = page * kPage;
  const int64_t* bounds = t.bounds + row * 2;
  const int64_t last = bounds[(R - 1) * 2 + 1];  // rows are in order of position: the last one sees furthest
  int64_t valid = last - base < kPage ? last - base : kPage;
  if (valid <= 0) return;
  if (bounds[0] >= base + kPage) return;  // and the first one furthest back
  const int64_t v_bytes = t.value_width * kPage * 4 / Lane::kPack, k_bytes = t.key_width * kPage * 4 / Lane::kPack;
  Scores<Lane, R>(t, t.packed_q + row * (t.key_width / Lane::kRowPack), k_block, valid, row == 0 ? v_block : nullptr, v_bytes);

  constexpr float kInfinity = __builtin_inff();
  float correction[R];
  for (int r = 0; r < R; ++r) {
    float* scores = t.scores + r * kPage;
    Shape(t, scores, bounds[r * 2] - base, bounds[r * 2 + 1] - base);
    F high = Load(scores);
    for (int column = kLanes; column < kPage; column += kLanes) high = Max(high, Load(scores + column));
    const float old = t.peak[row + r], page_peak = ReduceMax(high);
    const float peak = page_peak > old ? page_peak : old;
    const float shift = peak == -kInfinity ? 0.0f : peak;
    F total = Set(0.0f);
    for (int column = 0; column < kPage; column += kLanes) {
      const F weight = Exp2(Add(Load(scores + column), Set(-shift)));
      total = Add(total, weight);
      Lane::Put(t.weights + r * (kPage / Lane::kRowPack), column, weight);
    }
    alignas(64) float one[kLanes];
    correction[r] = 1.0f;
    if (peak != old) {
      Store(one, Exp2(Set(old - shift)));
      correction[r] = one[0];
    }
    t.peak[row + r] = peak;
    t.sum[row + r] = t.sum[row + r] * correction[r] + ReduceAdd(total);
  }

  const int64_t steps = (valid + Lane::kPack - 1) / Lane::kPack;
  int64_t column = 0;
  const int64_t share = next_k == nullptr ? 0 : k_bytes * 2 * kLanes / t.value_width;
  for (; column + 2 * kLanes <= t.value_width; column += 2 * kLanes) {
    if (next_k != nullptr) Prefetch(next_k + column / (2 * kLanes) * share, share);
    F c[R][2];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const float* acc = t.acc + (row + r) * t.value_width + column;
      c[r][0] = Mul(Load(acc), Set(correction[r]));
      c[r][1] = Mul(Load(acc + kLanes), Set(correction[r]));
    }
    Panel<Lane, R, 2>(t.weights, kPage / Lane::kRowPack, reinterpret_cast<const uint32_t*>(v_block) + column,
                      t.value_width, steps, c);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      float* acc = t.acc + (row + r) * t.value_width + column;
      Store(acc, c[r][0]);
      Store(acc + kLanes, c[r][1]);
    }
  }
  for (; column < t.value_width; column += kLanes) {
    F c[R][1];
    for (int r = 0; r < R; ++r) c[r][0] = Mul(Load(t.acc + (row + r) * t.value_width + column), Set(correction[r]));
    Panel<Lane, R, 1>(t.weights, kPage / Lane::kRowPack, reinterpret_cast<const uint32_t*>(v_block) + column,
                      t.value_width, steps, c);
    for (int r = 0; r < R; ++r) Store(t.acc + (row + r) * t.value_width + column, c[r][0]);
  }
}

template <class Lane, int R>
void BlockOf(int64_t rows, const FlashTile& t, int64_t row, int64_t page, const char* k_block, const char* v_block,
             const char* next_k) {
  if constexpr (R > 1) {
    if (rows < R) return BlockOf<Lane, R - 1>(rows, t, row, page, k_block, v_block, next_k);
  }
  Block<Lane, R>(t, row, page, k_block, v_block, next_k);
}

// Packs the queries, with the scale folded in, and notes which keys each row sees.
template <class Lane>
void Pack(const FlashTile& t) {
  const float scale = t.soft_cap > 0 ? t.scale : t.scale * kLog2e;
  for (int64_t row = 0; row < t.num_rows; ++row) {
    const int64_t query = row / t.group;
    const float* q = t.q + query * t.q_query_stride + row % t.group * t.q_head_stride;
    uint32_t* to = t.packed_q + row * (t.key_width / Lane::kRowPack);
    int64_t column = 0;
    for (; column + kLanes <= t.key_width; column += kLanes) Lane::Put(to, column, Mul(Load(q + column), Set(scale)));
    for (; column < t.key_width; ++column) Lane::PutOne(to, column, q[column] * scale);
    const int64_t position = t.first_position + query;
    int64_t lo = t.key_begin, hi = t.key_end;
    if (t.causal && position + 1 < hi) hi = position + 1;
    if (t.window > 0 && position - t.window + 1 > lo) lo = position - t.window + 1;
    t.bounds[row * 2] = lo;
    t.bounds[row * 2 + 1] = hi;
  }
}

template <class Lane>
void Flash(const FlashTile& t) {
  Pack<Lane>(t);
  for (int64_t row = 0; row < t.num_rows; ++row) {
    t.peak[row] = -__builtin_inff();
    t.sum[row] = 0;
  }
  for (int64_t at = 0; at < t.num_rows * t.value_width; ++at) t.acc[at] = 0;
  const int64_t begin = t.bounds[0], end = t.bounds[(t.num_rows - 1) * 2 + 1];  // the first row sees furthest back
  for (int64_t page = begin / kPage; page * kPage < end; ++page) {
    const char* k_block = t.k + t.pages[page] * t.k_page_bytes;
    const char* v_block = t.v + t.pages[page] * t.v_page_bytes;
    const bool more = (page + 1) * kPage < end;
    for (int64_t row = 0; row < t.num_rows; row += kRowBlock) {
      const int64_t rows = t.num_rows - row < kRowBlock ? t.num_rows - row : kRowBlock;
      const bool last = row + rows == t.num_rows;
      BlockOf<Lane, kRowBlock>(rows, t, row, page, k_block, v_block,
                               more && last ? t.k + t.pages[page + 1] * t.k_page_bytes : nullptr);
    }
  }
}

template <class Lane, int R>
void MassOf(const KeyMassTile& m, int64_t row, int64_t rows, int64_t page, const char* k_block) {
  if constexpr (R > 1) {
    if (rows < R) return MassOf<Lane, R - 1>(m, row, rows, page, k_block);
  }
  const FlashTile& t = m.tile;
  const int64_t lo = t.bounds[row * 2] - page * kPage, hi = t.bounds[row * 2 + 1] - page * kPage;
  Scores<Lane, R>(t, t.packed_q + row * (t.key_width / Lane::kRowPack), k_block, hi < kPage ? hi : kPage, nullptr, 0);
  for (int r = 0; r < R; ++r) {
    float* scores = t.scores + r * kPage;
    Shape(t, scores, lo, hi);
    for (int column = 0; column < kPage; column += kLanes) {
      Store(scores + column, Exp2(Add(Load(scores + column), Set(-t.peak[row + r]))));
    }
    for (int64_t column = lo < 0 ? 0 : lo; column < hi && column < kPage; ++column) {
      m.mass[page * kPage + column] += scores[column];
    }
  }
}

template <class Lane>
void KeyMass(const KeyMassTile& m) {
  const FlashTile& t = m.tile;
  Pack<Lane>(t);
  for (int64_t page = t.bounds[0] / kPage; page * kPage < t.bounds[1]; ++page) {
    for (int64_t row = 0; row < t.num_rows; row += kRowBlock) {
      const int64_t rows = t.num_rows - row < kRowBlock ? t.num_rows - row : kRowBlock;
      MassOf<Lane, kRowBlock>(m, row, rows, page, t.k + t.pages[page] * t.k_page_bytes);
    }
  }
}
