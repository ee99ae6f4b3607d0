// attention/cpu/feed-inl.h: tiles of 64 keys, and how their lines come into the cache before they are used.

constexpr int kPage = 64, kGroup = 16;  // a group of 16 slots or columns of lanes is a cache line; pieces begin at groups

// Some keys of a page: k and v point at the first of its slots.
struct Piece {
  const char* k;
  const char* v;
  int64_t columns;
};
struct Tile {
  Piece pieces[kPage / kGroup];
  int64_t count, base;  // base: what the rows' bounds count from
};

constexpr int64_t GroupsOf(int64_t columns) { return (columns + kGroup - 1) / kGroup; }

// Lanes from a group of 16 keys, or of 16 value columns, to the next one.
template <class Lane>
inline int64_t KeyGroup(const FlashTile& t) { return t.key_width / Lane::kPack * kGroup; }
template <class Lane>
constexpr int64_t kValueGroup = kPage / Lane::kPack * kGroup;
inline int64_t GroupOffset(int64_t column, int64_t group) { return (column / kGroup * group + column % kGroup) * 4; }

// What the steps of a product ask for: as many lines as they read, the first of them at `at`.
struct Ahead {
  const char* at;
  int64_t step;  // bytes
};

// Brings the lines of the next tile into L2 in the order of their addresses, at an even pace, while a tile is computed:
// bursts would wait for each other in the miss buffers, and lines asked for later than a tile before their use arrive late.
// Where blocks of rows share the tile, each asks for its share.
template <class Lane>
struct Feed {
  const FlashTile& t;
  int64_t row_blocks;
  const Tile* tile = nullptr;  // what is asked for
  int64_t piece = 0, run = 0;  // runs of lines: K of the piece, then its V: all of a page's, or one of each column group
  const char* at = nullptr;
  const char* end = nullptr;

  // Asks for what is left, then begins with `next`, which outlives the products to come; null: nothing.
  void Start(const Tile* next) {
    while (tile != nullptr) Ask(1);
    tile = next;
    piece = run = 0;
    if (tile != nullptr) StartRun();
  }
  // For `steps` steps that read `lines` lines each; without a tile to come, lines that are near.
  Ahead Take(int64_t steps, int64_t lines, const void* near) {
    if (tile == nullptr) return {static_cast<const char*>(near), 0};
    const Ahead ahead{at, (lines * 64 + row_blocks - 1) / row_blocks};
    if (end - at <= (steps - 1) * ahead.step) {  // the tile is not laid out as this one is
      Ask(steps * lines / row_blocks);
      return {static_cast<const char*>(near), 0};
    }
    Advance(steps * ahead.step);
    return ahead;
  }

 private:
  void Ask(int64_t lines) {
    for (; lines > 0 && tile != nullptr; --lines) {
      __builtin_prefetch(at, 0, 2);
      Advance(64);
    }
  }
  void StartRun() {
    const Piece& p = tile->pieces[piece];
    const int64_t slots = (p.columns + Lane::kPack - 1) / Lane::kPack * 64;
    if (run == 0) {
      at = p.k;
      end = at + GroupsOf(p.columns) * KeyGroup<Lane>(t) * 4;
    } else {
      at = p.v + (run - 1) * kValueGroup<Lane> * 4;
      end = at + (p.columns == kPage ? kPage * t.value_width * 4 / Lane::kPack : slots);
    }
  }
  void Advance(int64_t bytes) {
    if ((at += bytes) < end) return;
    const Piece& p = tile->pieces[piece];
    if (++run > (p.columns == kPage ? 1 : GroupsOf(t.value_width))) {
      run = 0;
      if (++piece == tile->count) tile = nullptr;
    }
    if (tile != nullptr) StartRun();
  }
};
