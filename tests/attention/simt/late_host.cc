// tests/attention/cuda/late.h over the threads of simt.h.
#include "tests/attention/simt/late.h"

#include <cstring>

#include "tests/attention/cuda/late.h"

namespace simt {

void Late::Begin() {
  for (const Piece& piece : pieces) std::memcpy(piece.to, piece.before.data(), piece.before.size());
  waiting = 0;
  landed = pieces.empty();
}
void Late::Land() {
  for (const Piece& piece : pieces) std::memcpy(piece.to, piece.after.data(), piece.after.size());
  landed = true;
}

}  // namespace simt

namespace lectern::attention {

void LaunchLate(const LateCopies& copies, void*) {
  EndLate();
  for (int i = 0; i < copies.count; ++i) {
    const auto bytes = [&](const void* at) {
      const char* from = static_cast<const char*>(at);
      return std::vector<char>(from, from + copies.copy[i].words * size_t{4});
    };
    simt::late.pieces.push_back({copies.copy[i].to, bytes(copies.copy[i].to), bytes(copies.copy[i].from)});
  }
}
void EndLate() { simt::late.pieces.clear(); }
int LateRounds() { return 1; }

}  // namespace lectern::attention
