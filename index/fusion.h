// index/fusion.h: one ranking out of several.
//
//   std::vector<RankedList> lists = {{"bm25", 1.0, hits}, {"dense", 1.0, other_hits}};
//   std::vector<FusedHit> fused = Fuse(lists, {.method = FusionMethod::kLinear}, order);
//
// Shapes:  each list best first, a chunk at most once. rank counts from 1. A fused score is the sum of its parts:
//            kRrf            weight / (rrf_k + rank); a chunk the list lacks gets 0
//            kLinear         weight * score / best score of the list, with the retriever's own score of a chunk that only
//                            other lists found (`others`): how deep the lists were cut changes no part
//            kRelativeScore  weight * (score - lowest) / (highest - lowest); a chunk the list lacks gets 0, and a list of
//                            equal scores gives 1
// Threads: pure.
// Errors:  none; CheckFusion refuses weights and rrf_k out of range.
// Cost:    one sort of the union.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "index/top_k.h"

namespace lectern::index {

inline constexpr int kMaxRrfK = 1000000;

enum class FusionMethod { kRrf, kLinear, kRelativeScore };
const char* FusionMethodName(FusionMethod method);

struct RankedChunk {
  ChunkPlace place;
  double score = 0;
};

struct RankedList {
  std::string name;
  double weight = 1;
  std::vector<RankedChunk> hits;     // what the retriever found
  std::vector<RankedChunk> others;   // its scores of chunks that only other lists found; may be left empty
};

struct FusionPart {
  size_t list = 0;             // which of the lists
  int64_t rank = 0;            // 0: not among what the retriever found
  bool scored = false;         // by the retriever, found or not
  double score = 0;            // as the retriever gave it
  double contribution = 0;     // to the fused score
};

struct FusedHit {
  ChunkPlace place;
  double score = 0;
  std::vector<FusionPart> parts;   // one a list, in their order
};

struct FusionOptions {
  FusionMethod method = FusionMethod::kLinear;
  int rrf_k = 60;
};

absl::Status CheckFusion(const std::vector<RankedList>& lists, const FusionOptions& options);

// Score descending, then by `order`. One list alone keeps its scores.
std::vector<FusedHit> Fuse(const std::vector<RankedList>& lists, const FusionOptions& options, const ChunkOrder& order);

}  // namespace lectern::index
