// attention/cpu/key_mass-inl.h: what else is read off the scores of one query: the softmax weight of each key, and the
// largest score of each block of keys. K alone is read, page by page, with flash-inl.h's products.

template <class Lane, int R>
void MassOf(const KeyMassTile& m, int64_t row, int64_t rows, const Tile& tile) {
  if constexpr (R > 1) {
    if (rows < R) return MassOf<Lane, R - 1>(m, row, rows, tile);
  }
  const FlashTile& t = m.tile;
  const int64_t lo = t.bounds[row * 2] - tile.base, hi = t.bounds[row * 2 + 1] - tile.base;
  Scores<Lane, R>(t, t.packed_q + row * (t.key_width / Lane::kRowPack), tile, nullptr);
  for (int r = 0; r < R; ++r) {
    float* scores = t.scores + r * kPage;
    Shape(t, scores, lo, hi);
    for (int column = 0; column < kPage; column += kLanes) {
      Store(scores + column, Exp2(Add(Load(scores + column), Set(-t.peak[row + r]))));
    }
    for (int64_t column = lo < 0 ? 0 : lo; column < hi && column < kPage; ++column) {
      m.mass[tile.base + column] += scores[column];
    }
  }
}

template <class Lane>
void KeyMass(const KeyMassTile& m) {
  const FlashTile& t = m.tile;
  Pack<Lane>(t);
  for (int64_t page = t.bounds[0] / kPage; page * kPage < t.bounds[1]; ++page) {
    const Tile tile = PageTile(t, page, t.bounds[1] - page * kPage);
    for (int64_t row = 0, rows; row < t.num_rows; row += rows) {
      rows = NextRows(t.num_rows - row);
      MassOf<Lane, kRowBlock>(m, row, rows, tile);
    }
  }
}

template <class Lane, int R>
void PeaksOf(const BlockPeaksTile& m, int64_t row, int64_t rows, const Tile& tile) {
  if constexpr (R > 1) {
    if (rows < R) return PeaksOf<Lane, R - 1>(m, row, rows, tile);
  }
  const FlashTile& t = m.tile;
  Scores<Lane, R>(t, t.packed_q + row * (t.key_width / Lane::kRowPack), tile, nullptr);
  for (int r = 0; r < R; ++r) {
    float* scores = t.scores + r * kPage;
    Shape(t, scores, 0, tile.pieces[0].columns);
    float* peaks = m.peaks + (row + r) * m.stride;
    float page_peak = -__builtin_inff();
    for (int64_t column = 0; column < tile.pieces[0].columns; ++column) {
      float* peak = peaks + (tile.base + column) / m.block_tokens;
      if (scores[column] > *peak) *peak = scores[column];
      if (scores[column] > page_peak) page_peak = scores[column];
    }
    const float old = t.peak[row + r], peak = page_peak > old ? page_peak : old;
    F total = Set(0.0f);
    for (int column = 0; column < kPage; column += kLanes) total = Add(total, Exp2(Add(Load(scores + column), Set(-peak))));
    alignas(64) float correction[kLanes];
    Store(correction, Exp2(Set(old - peak)));
    t.peak[row + r] = peak;
    t.sum[row + r] = t.sum[row + r] * correction[0] + ReduceAdd(total);
  }
}

template <class Lane>
void BlockPeaks(const BlockPeaksTile& m) {
  const FlashTile& t = m.tile;
  Pack<Lane>(t);
  for (int64_t row = 0; row < t.num_rows; ++row) {
    t.peak[row] = -__builtin_inff();
    t.sum[row] = 0;
    for (int64_t i = 0; i * m.block_tokens < t.key_end; ++i) m.peaks[row * m.stride + i] = -__builtin_inff();
  }
  for (int64_t page = 0; page * kPage < t.key_end; ++page) {
    const Tile tile = PageTile(t, page, t.key_end - page * kPage);
    for (int64_t row = 0, rows; row < t.num_rows; row += rows) {
      rows = NextRows(t.num_rows - row);
      PeaksOf<Lane, kRowBlock>(m, row, rows, tile);
    }
  }
}
