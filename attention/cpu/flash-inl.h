// attention/cpu/flash-inl.h: softmax attention over pages of 64 keys, written once, compiled for each CPU target.
//
// Dataflow  for each page, for each block of R rows: scores[R, 64] = Q K; mask, running max, exp2, running sum;
//           acc[R, width] = acc * correction + P V. Rows are (query, head of the group), so the heads that share a
//           KV head read each K and V block once from L1. Keys lie along the vector lanes in Q K and value columns in
//           P V: both products are Panel(), a broadcast of one lane of a row times a vector, with no sum across lanes.
//           A tile of 64 keys is a page or, for a list of blocks shorter than that, up to four pieces of pages.
// Shapes    as attention/cpu/flash_args.h and attention/paged_kv.h (BlockLayout::kLanes).
// Bytes     decode: 4 * width bytes a key and KV head in bf16, once. Prefill: the same once a tile of rows, from L2. The
//           next tile is asked for while this one is computed (feed-inl.h).
// Flops     4 * width a row and key. R = 7 in bf16 (one vdpbf16ps a cycle): 1,800 cycles for a page of 16 KiB, so one
//           core asks for about 25 GB/s: at the memory bandwidth of a core.
// Budget    R x 2 accumulators, 2 vectors of B and one broadcast: 27 of 32 registers at R = 12.
//
// The including file defines, in its own namespace: F (a float vector), kLanes, kRowBlock, and the functions Load,
// Store, Set, Add, Mul, Div, Max, Fma, Round, Scale2, Keep (-inf outside lo..hi), ZeroBelow, ReduceMax, ReduceAdd; behind
// the include the type Bf16Lane: LoadLanes takes kPack keys or columns of one lane, LoadFirst clears the second of them
// (past the last key there may be anything), Broadcast takes as many elements of a row.

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

#include "attention/cpu/exp2-inl.h"
#include "attention/cpu/feed-inl.h"

// c[r][v] += sum over t < steps of elements kPack t .. of row r of A, times lanes of row t of B.
// Each step also asks for the line at `ahead`.
template <class Lane, bool kFirstOnly, int R, int V>
inline __attribute__((always_inline)) void Panel(const uint32_t* a, int64_t a_stride, const uint32_t* b,
                                                 int64_t b_stride, int64_t steps, Ahead ahead, F (&c)[R][V]) {
  for (int64_t t = 0; t < steps; ++t) {
    __builtin_prefetch(ahead.at, 0, 2);
    ahead.at += ahead.step;
    typename Lane::B column[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      if constexpr (kFirstOnly) {
        column[v] = Lane::LoadFirst(b + t * b_stride + v * kLanes);
      } else {
        column[v] = Lane::LoadLanes(b + t * b_stride + v * kLanes);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const typename Lane::B row = Lane::Broadcast(a + r * a_stride + t * (Lane::kPack / Lane::kRowPack));
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) c[r][v] = Lane::Dot(c[r][v], row, column[v]);
    }
  }
}

template <class Lane, int R, int V>
inline void ScoreColumns(const FlashTile& t, const uint32_t* q, const char* k, Ahead ahead, float* scores) {
  F c[R][V];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) c[r][v] = Set(0.0f);
  }
  Panel<Lane, false, R, V>(q, t.key_width / Lane::kRowPack, reinterpret_cast<const uint32_t*>(k), kPage,
                           t.key_width / Lane::kPack, ahead, c);
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) Store(scores + r * kPage + v * kLanes, c[r][v]);
  }
}

// scores[R, 64] of one tile; columns past its pieces are left as they are.
template <class Lane, int R>
inline void Scores(const FlashTile& t, const uint32_t* q, const Tile& tile, Feed<Lane>* feed) {
  float* scores = t.scores;
  for (int64_t i = 0; i < tile.count; ++i) {
    const Piece& piece = tile.pieces[i];
    for (int64_t column = 0; column < piece.columns; column += 2 * kLanes) {
      const int64_t left = piece.columns - column;
      Ahead ahead{reinterpret_cast<const char*>(q), 0};
      if (feed != nullptr) {
        feed->Advance(left < 2 * kLanes ? left : 2 * kLanes);
        ahead = Feed<Lane>::Take(&feed->keys, t.key_width / Lane::kPack, q);
      }
      if (left > kLanes) {
        ScoreColumns<Lane, R, 2>(t, q, piece.k + column * 4, ahead, scores + column);
      } else {
        ScoreColumns<Lane, R, 1>(t, q, piece.k + column * 4, ahead, scores + column);
      }
    }
    scores += piece.columns;
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

// acc[R, V vectors of columns] = acc * correction + weights times the values of the tile.
template <class Lane, int R, int V>
inline void AddValues(const FlashTile& t, int64_t row, const Tile& tile, int64_t column, const float* correction,
                      Feed<Lane>* feed) {
  F c[R][V];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    const float* acc = t.acc + (row + r) * t.value_width + column;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) c[r][v] = Mul(Load(acc + v * kLanes), Set(correction[r]));
  }
  const uint32_t* weights = t.weights;
  for (int64_t i = 0; i < tile.count; ++i) {
    const Piece& piece = tile.pieces[i];
    const int64_t whole = piece.columns / Lane::kPack;
    const uint32_t* v = reinterpret_cast<const uint32_t*>(piece.v) + column;
    Panel<Lane, false, R, V>(weights, kPage / Lane::kRowPack, v, t.value_width, whole,
                             Feed<Lane>::Take(&feed->values, whole, weights), c);
    if constexpr (Lane::kPack == 2) {
      if (piece.columns % 2 != 0) {
        Panel<Lane, true, R, V>(weights + whole * (Lane::kPack / Lane::kRowPack), kPage / Lane::kRowPack,
                                v + whole * t.value_width, t.value_width, 1,
                                {reinterpret_cast<const char*>(weights), 0}, c);
      }
    }
    weights += whole * (Lane::kPack / Lane::kRowPack);
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    float* acc = t.acc + (row + r) * t.value_width + column;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) Store(acc + v * kLanes, c[r][v]);
  }
}

// One tile for R rows starting at `row`.
template <class Lane, int R>
void Block(const FlashTile& t, int64_t row, const Tile& tile, Feed<Lane>* feed) {
  const int64_t* bounds = t.bounds + row * 2;
  Scores<Lane, R>(t, t.packed_q + row * (t.key_width / Lane::kRowPack), tile, feed);

  constexpr float kInfinity = __builtin_inff();
  float correction[R];
  for (int r = 0; r < R; ++r) {
    float* scores = t.scores + r * kPage;
    Shape(t, scores, bounds[r * 2] - tile.base, bounds[r * 2 + 1] - tile.base);
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

  const int64_t parts = (t.value_width + 2 * kLanes - 1) / (2 * kLanes);
  for (int64_t part = 0; part < parts; ++part) {
    feed->Advance(2 * kLanes);
    const int64_t column = part * 2 * kLanes;
    if (column + 2 * kLanes <= t.value_width) {
      AddValues<Lane, R, 2>(t, row, tile, column, correction, feed);
    } else {
      AddValues<Lane, R, 1>(t, row, tile, column, correction, feed);
    }
  }
}

template <class Lane, int R>
void BlockOf(int64_t rows, const FlashTile& t, int64_t row, const Tile& tile, Feed<Lane>* feed) {
  if constexpr (R > 1) {
    if (rows < R) return BlockOf<Lane, R - 1>(rows, t, row, tile, feed);
  }
  Block<Lane, R>(t, row, tile, feed);
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

inline Tile PageTile(const FlashTile& t, int64_t page, int64_t columns) {
  Tile tile;
  tile.count = 1;
  tile.base = page * kPage;
  tile.pieces[0] = {t.k + t.pages[page] * t.k_page_bytes, t.v + t.pages[page] * t.v_page_bytes,
                    columns < kPage ? columns : kPage};
  return tile;
}

inline int64_t RowBlocks(const FlashTile& t) { return (t.num_rows + kRowBlock - 1) / kRowBlock; }

template <class Lane>
void FlashPages(const FlashTile& t) {
  const int64_t begin = t.bounds[0], end = t.bounds[(t.num_rows - 1) * 2 + 1];  // the first row sees furthest back
  if (begin >= end) return;
  const Tile first = PageTile(t, begin / kPage, end - begin / kPage * kPage);
  Feed<Lane> feed;
  feed.All(t, first);
  for (int64_t page = begin / kPage; page * kPage < end; ++page) {
    const int64_t base = page * kPage;
    const bool more = base + kPage < end;
    const Tile next = PageTile(t, more ? page + 1 : page, end - base - kPage);
    feed.Start(t, more ? &next : nullptr, RowBlocks(t), kPage);
    for (int64_t row = 0; row < t.num_rows; row += kRowBlock) {
      const int64_t rows = t.num_rows - row < kRowBlock ? t.num_rows - row : kRowBlock;
      // Rows are in order of position: the last one sees furthest, the first one furthest back.
      const int64_t seen = t.bounds[(row + rows - 1) * 2 + 1] - base;
      if (seen <= 0 || t.bounds[row * 2] >= base + kPage) continue;
      BlockOf<Lane, kRowBlock>(rows, t, row, PageTile(t, page, seen), &feed);
    }
  }
}

// Walks the listed blocks and fills tiles of 64 keys.
template <class Lane>
struct ListWalk {
  const FlashTile& t;
  int64_t block = 0, key = 0, end = 0;  // what is left of the current block

  // False at the end. Columns [lo, hi) of the tile are keys to see.
  bool Next(Tile* tile, int64_t* lo, int64_t* hi) {
    tile->count = tile->base = 0;
    *lo = 0;
    int64_t columns = 0, last_page = -1, last_slot = 0;
    while (columns < kPage) {
      if (key >= end) {
        if (block == t.num_blocks) break;
        key = int64_t{t.blocks[block++]} * t.block_tokens;
        end = key + t.block_tokens;
        if (key < t.key_begin) key = t.key_begin;
        if (end > t.key_end) end = t.key_end;
        continue;
      }
      const int64_t page = key / kPage, cut = key % kPieceSlots, slot = key % kPage - cut;
      if (cut != 0) *lo = columns + cut;  // a window begins inside its first block
      int64_t taken = end - key + cut;
      if (taken > kPage - slot) taken = kPage - slot;
      if (taken > kPage - columns) taken = kPage - columns;
      if (page == last_page && slot == last_slot) {
        tile->pieces[tile->count - 1].columns += taken;
      } else {
        tile->pieces[tile->count++] = {t.k + t.pages[page] * t.k_page_bytes + slot * 4,
                                       t.v + t.pages[page] * t.v_page_bytes + slot / Lane::kPack * t.value_width * 4, taken};
      }
      last_page = page;
      last_slot = slot + taken;
      key += taken - cut;
      columns += taken;
    }
    *hi = columns;
    return columns > 0;
  }
};

template <class Lane>
void FlashList(const FlashTile& t) {
  ListWalk<Lane> walk{t};
  Tile tiles[2];
  int64_t lo, hi, next_lo, next_hi;
  bool more = walk.Next(&tiles[0], &lo, &hi);
  Feed<Lane> feed;
  if (more) feed.All(t, tiles[0]);
  for (int now = 0; more; now ^= 1, lo = next_lo, hi = next_hi) {
    more = walk.Next(&tiles[now ^ 1], &next_lo, &next_hi);
    feed.Start(t, more ? &tiles[now ^ 1] : nullptr, RowBlocks(t), hi);
    for (int64_t row = 0; row < t.num_rows; ++row) t.bounds[row * 2] = lo, t.bounds[row * 2 + 1] = hi;
    for (int64_t row = 0; row < t.num_rows; row += kRowBlock) {
      const int64_t rows = t.num_rows - row < kRowBlock ? t.num_rows - row : kRowBlock;
      BlockOf<Lane, kRowBlock>(rows, t, row, tiles[now], &feed);
    }
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
  if (t.blocks == nullptr) {
    FlashPages<Lane>(t);
  } else {
    FlashList<Lane>(t);
  }
}
