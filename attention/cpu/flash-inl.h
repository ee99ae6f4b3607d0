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
// Flops     4 * width a row and key. A step of a product adds R x V products a part (the even and the odd elements of bf16
//           lanes, in one part where the processor multiplies bf16): V loads and conversions, R broadcasts.
// Budget    R x V accumulators, V columns, a broadcast and a mask fit the registers: 6 x 2 on 16, 6 x 4 and 12 x 2 on 32.
//           Fewer rows take four vectors, so that there are products enough to hide the latency of an addition.
//
// The including file defines, in its own namespace: F (a float vector), kLanes, kRegisters, kRowBlock, and the functions
// Load, Store, Set, Add, Sub, Mul, Div, Max, Fma, MulAdd, ExponentOf, LoadEven and LoadOdd (halves of bf16 pairs as floats),
// Keep (-inf outside lo..hi), ReduceMax, ReduceAdd. A Lane type says how kPack keys or columns of one lane are multiplied:
// LoadLanes and Broadcast take a part of them, LoadFirst clears the second (past the last key there may be anything).

// Queries and weights of the softmax as floats; only a processor that multiplies bf16 rounds them.
struct FloatRows {
  static constexpr int kRowPack = 1;  // elements in four bytes of a row
  static void Put(uint32_t* row, int64_t element, F value) { Store(reinterpret_cast<float*>(row) + element, value); }
  static void PutOne(uint32_t* row, int64_t element, float value) { reinterpret_cast<float*>(row)[element] = value; }
};

struct F32Lane : FloatRows {
  static constexpr int kPack = 1, kParts = 1;
  using B = F;
  template <int>
  static B LoadLanes(const uint32_t* p) { return Load(reinterpret_cast<const float*>(p)); }
  template <int>
  static B Broadcast(const uint32_t* p) { return Set(*reinterpret_cast<const float*>(p)); }
  static void AddProduct(F& acc, B a, B b) { MulAdd(acc, a, b); }
};

// bf16 pairs on a processor that multiplies floats: first the even elements, then the odd ones.
struct SplitLane : FloatRows {
  static constexpr int kPack = 2, kParts = 2;
  using B = F;
  template <int kPart>
  static B LoadLanes(const uint32_t* p) { return kPart == 0 ? LoadEven(p) : LoadOdd(p); }
  template <int kPart>
  static B Broadcast(const uint32_t* p) { return Set(reinterpret_cast<const float*>(p)[kPart]); }
  static void AddProduct(F& acc, B a, B b) { MulAdd(acc, a, b); }
};

#include "attention/cpu/exp2-inl.h"
#include "attention/cpu/feed-inl.h"

// Vectors of B that R rows are multiplied with at once.
template <int R>
constexpr int kVectors = R * 4 + 4 + 2 <= kRegisters ? 4 : 2;

template <class Lane, int kPart, bool kFirstOnly, int R, int V>
inline __attribute__((always_inline)) void PanelPart(const uint32_t* a, int64_t a_stride, const uint32_t* b, int64_t group,
                                                     F (&c)[R][V]) {
  typename Lane::B column[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const uint32_t* lanes = b + v * kLanes / kGroup * group + v * kLanes % kGroup;
    if constexpr (kFirstOnly && Lane::kParts == 1) {
      column[v] = Lane::LoadFirst(lanes);
    } else {
      column[v] = Lane::template LoadLanes<kPart>(lanes);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    const typename Lane::B row = Lane::template Broadcast<kPart>(a + r * a_stride);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Lane::AddProduct(c[r][v], row, column[v]);
  }
}

// c[r][v] += sum over t < steps of elements kPack t .. of row r of A, times line t of B; groups of B are `group` lanes apart.
// A step asks for as many lines as it reads, from `ahead` on.
template <class Lane, bool kFirstOnly, int R, int V>
inline __attribute__((always_inline)) void Panel(const uint32_t* a, int64_t a_stride, const uint32_t* b,
                                                 int64_t group, int64_t steps, Ahead ahead, F (&c)[R][V]) {
  for (int64_t t = 0; t < steps; ++t) {
    for (int line = 0; line < GroupsOf(V * kLanes); ++line) __builtin_prefetch(ahead.at + line * 64, 0, 2);
    ahead.at += ahead.step;
    PanelPart<Lane, 0, kFirstOnly, R, V>(a, a_stride, b, group, c);
    if constexpr (Lane::kParts == 2 && !kFirstOnly) PanelPart<Lane, 1, false, R, V>(a, a_stride, b, group, c);
    a += Lane::kPack / Lane::kRowPack;
    b += kGroup;
  }
}

template <class Lane, int R, int V>
inline void ScoreColumns(const FlashTile& t, const uint32_t* q, const char* k, Ahead ahead, float* scores) {
  F c[R][V];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) c[r][v] = Set(0.0f);
  }
  Panel<Lane, false, R, V>(q, t.key_width / Lane::kRowPack, reinterpret_cast<const uint32_t*>(k), KeyGroup<Lane>(t),
                           t.key_width / Lane::kPack, ahead, c);
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Store(scores + r * kPage + v * kLanes, c[r][v]);
  }
}

// scores[R, V vectors from `column` on] of a piece, or narrower ones at its end. Returns the columns done.
template <class Lane, int R, int V>
inline int64_t ScorePiece(const FlashTile& t, const uint32_t* q, const Piece& piece, int64_t column, float* scores,
                          Feed<Lane>* feed) {
  if constexpr (V > 1) {
    if (piece.columns - column <= (V - 1) * kLanes) return ScorePiece<Lane, R, V / 2>(t, q, piece, column, scores, feed);
  }
  Ahead ahead{reinterpret_cast<const char*>(q), 0};
  if (feed != nullptr) {
    ahead = feed->Take(t.key_width / Lane::kPack, GroupsOf(V * kLanes), q);
  }
  ScoreColumns<Lane, R, V>(t, q, piece.k + GroupOffset(column, KeyGroup<Lane>(t)), ahead, scores + column);
  return V * kLanes;
}

// scores[R, 64] of one tile; columns past its pieces are left as they are.
template <class Lane, int R>
inline void Scores(const FlashTile& t, const uint32_t* q, const Tile& tile, Feed<Lane>* feed) {
  float* scores = t.scores;
  for (int64_t i = 0; i < tile.count; ++i) {
    const Piece& piece = tile.pieces[i];
    for (int64_t column = 0; column < piece.columns;) {
      column += ScorePiece<Lane, R, kVectors<R>>(t, q, piece, column, scores, feed);
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
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) c[r][v] = Mul(Load(acc + v * kLanes), Set(correction[r]));
  }
  const uint32_t* weights = t.weights;
  for (int64_t i = 0; i < tile.count; ++i) {
    const Piece& piece = tile.pieces[i];
    const int64_t whole = piece.columns / Lane::kPack;
    const uint32_t* v = reinterpret_cast<const uint32_t*>(piece.v + GroupOffset(column, kValueGroup<Lane>));
    Panel<Lane, false, R, V>(weights, kPage / Lane::kRowPack, v, kValueGroup<Lane>, whole,
                             feed->Take(whole, GroupsOf(V * kLanes), weights), c);
    if constexpr (Lane::kPack == 2) {
      if (piece.columns % 2 != 0) {
        Panel<Lane, true, R, V>(weights + whole * (Lane::kPack / Lane::kRowPack), kPage / Lane::kRowPack,
                                v + whole * kGroup, kValueGroup<Lane>, 1,
                                {reinterpret_cast<const char*>(weights), 0}, c);
      }
    }
    weights += whole * (Lane::kPack / Lane::kRowPack);
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    float* acc = t.acc + (row + r) * t.value_width + column;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Store(acc + v * kLanes, c[r][v]);
  }
}

// One tile for R rows starting at `row`.
template <class Lane, int R>
void Block(const FlashTile& t, int64_t row, const Tile& tile, Feed<Lane>* feed) {
  const int64_t* bounds = t.bounds + row * 2;
  Scores<Lane, R>(t, t.packed_q + row * (t.key_width / Lane::kRowPack), tile, feed);

  constexpr float kInfinity = __builtin_inff();
  float peak[R];
  alignas(64) float correction[kMaxRowBlock + kLanes];
  for (int r = 0; r < R; ++r) {
    float* scores = t.scores + r * kPage;
    Shape(t, scores, bounds[r * 2] - tile.base, bounds[r * 2 + 1] - tile.base);
    F high = Load(scores);
    for (int column = kLanes; column < kPage; column += kLanes) high = Max(high, Load(scores + column));
    const float old = t.peak[row + r], tile_peak = ReduceMax(high);
    t.peak[row + r] = tile_peak > old ? tile_peak : old;
    peak[r] = t.peak[row + r] == -kInfinity ? 0.0f : t.peak[row + r];
    correction[r] = old - peak[r];
  }
  for (int r = R; r % kLanes != 0; ++r) correction[r] = 0;
  for (int r = 0; r < R; r += kLanes) Store(correction + r, Exp2(Load(correction + r)));
  for (int r = 0; r < R; ++r) {
    const float* scores = t.scores + r * kPage;
    F total = Set(0.0f);
    for (int column = 0; column < kPage; column += kLanes) {
      const F weight = Exp2(Sub(Load(scores + column), Set(peak[r])));
      total = Add(total, weight);
      Lane::Put(t.weights + r * (kPage / Lane::kRowPack), column, weight);
    }
    t.sum[row + r] = t.sum[row + r] * correction[r] + ReduceAdd(total);
  }

  constexpr int V = kVectors<R>;
  int64_t column = 0;
  for (; column + V * kLanes <= t.value_width; column += V * kLanes) AddValues<Lane, R, V>(t, row, tile, column, correction, feed);
  for (; column < t.value_width; column += kLanes) AddValues<Lane, R, 1>(t, row, tile, column, correction, feed);
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

inline int64_t RowBlocks(int64_t rows) { return (rows + kRowBlock - 1) / kRowBlock; }
// Rows of the next block of `left`: as even as they come, but for three: too many for four vectors, too few to fill two.
inline int64_t NextRows(int64_t left) {
  const int64_t rows = (left + RowBlocks(left) - 1) / RowBlocks(left);
  return rows < kRowBlock && left - rows == 3 ? rows + 1 : rows;
}

template <class Lane>
bool FirstTile(const FlashTile* t, Tile* tile);

// Asks for the keys of `tile` unless they are on their way, then, while it is computed, for those of the next tile.
template <class Lane>
inline Feed<Lane> StartFeed(const FlashTile& t, const Tile* tile) {
  Feed<Lane> feed{t, RowBlocks(t.num_rows)};
  if (!t.asked) feed.Start(tile);
  return feed;
}

template <class Lane>
void FlashPages(const FlashTile& t) {
  const int64_t begin = t.bounds[0], end = t.bounds[(t.num_rows - 1) * 2 + 1];  // the first row sees furthest back
  if (begin >= end) return;
  const Tile first = PageTile(t, begin / kPage, end - begin / kPage * kPage);
  Feed<Lane> feed = StartFeed<Lane>(t, &first);
  Tile then;
  const Tile* last = FirstTile<Lane>(t.then, &then) ? &then : nullptr;
  for (int64_t page = begin / kPage; page * kPage < end; ++page) {
    const int64_t base = page * kPage;
    const bool more = base + kPage < end;
    const Tile next = PageTile(t, more ? page + 1 : page, end - base - kPage);
    feed.Start(more ? &next : last);
    for (int64_t row = 0, rows; row < t.num_rows; row += rows) {
      rows = NextRows(t.num_rows - row);
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
      const int64_t page = key / kPage, cut = key % kGroup, slot = key % kPage - cut;
      if (cut != 0) *lo = columns + cut;  // a window begins inside its first block
      int64_t taken = end - key + cut;
      if (taken > kPage - slot) taken = kPage - slot;
      if (taken > kPage - columns) taken = kPage - columns;
      if (page == last_page && slot == last_slot) {
        tile->pieces[tile->count - 1].columns += taken;
      } else {
        tile->pieces[tile->count++] = {t.k + t.pages[page] * t.k_page_bytes + GroupOffset(slot, KeyGroup<Lane>(t)),
                                       t.v + t.pages[page] * t.v_page_bytes + slot / Lane::kPack * kGroup * 4, taken};
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
bool FirstTile(const FlashTile* t, Tile* tile) {
  int64_t lo, hi;
  if (t == nullptr || t->key_begin >= t->key_end) return false;
  if (t->blocks != nullptr) return ListWalk<Lane>{*t}.Next(tile, &lo, &hi);
  *tile = PageTile(*t, t->key_begin / kPage, t->key_end - t->key_begin / kPage * kPage);
  return true;
}

template <class Lane>
void FlashList(const FlashTile& t) {
  ListWalk<Lane> walk{t};
  Tile tiles[2];
  int64_t lo, hi, next_lo, next_hi;
  bool more = walk.Next(&tiles[0], &lo, &hi);
  Feed<Lane> feed = StartFeed<Lane>(t, more ? &tiles[0] : nullptr);
  Tile then;
  const Tile* last = FirstTile<Lane>(t.then, &then) ? &then : nullptr;
  for (int now = 0; more; now ^= 1, lo = next_lo, hi = next_hi) {
    more = walk.Next(&tiles[now ^ 1], &next_lo, &next_hi);
    feed.Start(more ? &tiles[now ^ 1] : last);
    for (int64_t row = 0; row < t.num_rows; ++row) t.bounds[row * 2] = lo, t.bounds[row * 2 + 1] = hi;
    for (int64_t row = 0, rows; row < t.num_rows; row += rows) {
      rows = NextRows(t.num_rows - row);
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
