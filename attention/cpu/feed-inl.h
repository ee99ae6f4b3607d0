// attention/cpu/feed-inl.h: tiles of 64 keys, and how their lines come into the cache before they are used.

constexpr int kPage = 64, kPieceSlots = 16;  // pieces begin at multiples of 16 slots: whole cache lines of K and V

// Some keys of a page: k and v point at the first of its slots.
struct Piece {
  const char* k;
  const char* v;
  int64_t columns;
};
struct Tile {
  Piece pieces[kPage / kPieceSlots];
  int64_t count, base;  // base: what the rows' bounds count from
};

// Lines that a loop asks for, one a step.
struct Ahead {
  const char* at;
  int64_t step;  // bytes; below 64 a line is asked for again
};

// Brings the lines of the next tile into L2 at an even pace while a tile is computed: bursts of them would wait for each
// other in the miss buffers, and lines asked for later than a tile before their use arrive late. A whole page goes by
// address, one line a step of the products; pieces of pages go by themselves, some before each product.
template <class Lane>
struct Feed {
  const Tile* tile = nullptr;
  int64_t width = 0, value_width = 0;
  Ahead keys = {nullptr, 0}, values = {nullptr, 0};
  double lines_per_column = 0, due = 0;
  int64_t piece = 0, row = 0;
  const char* at = nullptr;
  const char* end = nullptr;

  // REQUIRES: `next`, if any, outlives the work on `row_blocks` blocks of rows of a tile of `columns` keys.
  void Start(const FlashTile& t, const Tile* next, int64_t row_blocks, int64_t columns) {
    *this = {};
    if (next == nullptr) return;
    width = t.key_width;
    value_width = t.value_width;
    const int64_t key_bytes = width * 4 / Lane::kPack * kPage, value_bytes = value_width * 4 / Lane::kPack * kPage;
    if (next->count == 1 && next->pieces[0].columns == kPage) {
      const int64_t chunks = (columns + 2 * kLanes - 1) / (2 * kLanes), parts = (value_width + 2 * kLanes - 1) / (2 * kLanes);
      const int64_t key_steps = row_blocks * chunks * (width / Lane::kPack), value_steps = row_blocks * parts * ((columns + 1) / Lane::kPack);
      keys = {next->pieces[0].k, (key_bytes + key_steps - 1) / key_steps};
      values = {next->pieces[0].v, (value_bytes + value_steps - 1) / value_steps};
      return;
    }
    tile = next;
    int64_t keys_listed = 0;
    for (int64_t i = 0; i < tile->count; ++i) keys_listed += tile->pieces[i].columns;
    lines_per_column = static_cast<double>((key_bytes + value_bytes) / kPage * keys_listed) /
                       static_cast<double>(64 * row_blocks * (columns + value_width));
    StartPiece();
  }
  void All(const FlashTile& t, const Tile& first) {
    for (int64_t i = 0; i < first.count; ++i) {
      const Piece& p = first.pieces[i];
      for (int64_t r = 0; r < t.key_width / Lane::kPack; ++r) {
        for (int64_t b = 0; b < p.columns * 4; b += 64) __builtin_prefetch(p.k + r * kPage * 4 + b, 0, 2);
      }
      for (int64_t b = 0; b < p.columns / Lane::kPack * t.value_width * 4; b += 64) __builtin_prefetch(p.v + b, 0, 2);
    }
  }
  void StartPiece() {
    if (piece == tile->count) return;
    row = 0;
    at = tile->pieces[piece].k;
    end = at + tile->pieces[piece].columns * 4;
  }
  void NextSegment() {  // the rows of K, then V
    const Piece& p = tile->pieces[piece];
    const int64_t rows = width / Lane::kPack;
    if (++row < rows) {
      at = p.k + row * kPage * 4;
      end = at + p.columns * 4;
    } else if (row == rows) {
      at = p.v;
      end = at + p.columns / Lane::kPack * value_width * 4;
    } else {
      ++piece;
      StartPiece();
    }
  }
  void Advance(int64_t columns) {
    if (tile == nullptr) return;
    due += static_cast<double>(columns) * lines_per_column;
    int64_t lines = static_cast<int64_t>(due);
    due -= static_cast<double>(lines);
    while (lines > 0 && piece < tile->count) {
      for (; lines > 0 && at < end; --lines, at += 64) __builtin_prefetch(at, 0, 2);
      if (at >= end) NextSegment();
    }
  }
  static Ahead Take(Ahead* from, int64_t steps, const void* otherwise) {
    const Ahead taken = from->at == nullptr ? Ahead{static_cast<const char*>(otherwise), 0} : *from;
    if (from->at != nullptr) from->at += steps * from->step;
    return taken;
  }
};
