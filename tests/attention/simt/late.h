// tests/attention/simt/late.h: what the kernel before a launch writes while the launch has begun, and what is asked of L2 meanwhile.
//
//   simt::late.pieces = {{to, before, after}};       // of each cluster of each launch, until the list is empty again
//   ... launches ...                                 // EXPECT_GT(simt::late.asked, 0)
//
// Shapes:  before and after have the bytes of a piece.
// Threads: as simt.h.
// Errors:  as simt.h: a cluster that ends without having waited.
// Cost:    a copy of every piece a cluster.
#pragma once

#include <cstdint>
#include <vector>

namespace simt {

struct Late {
  struct Piece {
    void* to;
    std::vector<char> before, after;
  };
  std::vector<Piece> pieces;
  int64_t asked = 0;     // runs that were asked for ahead
  int64_t waiting = 0;   // threads of the present cluster
  bool landed = false;   // pieces hold `after`

  void Begin();
  void Land();
};
inline Late late;

}  // namespace simt
