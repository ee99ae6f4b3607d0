#include "index/fusion.h"

#include <algorithm>
#include <unordered_map>

namespace lectern::index {
namespace {

// What turns a list's scores into contributions.
struct Normaliser {
  double shift = 0, scale = 1, constant = 0;
  double operator()(double score) const { return scale == 0 ? constant : (score - shift) * scale; }
};

Normaliser NormaliserOf(const std::vector<RankedChunk>& hits, FusionMethod method) {
  Normaliser n;
  if (hits.empty()) return n;
  double lowest = hits.front().score, highest = lowest;
  for (const RankedChunk& hit : hits) {
    lowest = std::min(lowest, hit.score);
    highest = std::max(highest, hit.score);
  }
  if (method == FusionMethod::kRelativeScore) {
    n.shift = lowest;
    n.constant = 1;
    n.scale = highest > lowest ? 1 / (highest - lowest) : 0;
  } else if (highest > 0) {
    n.scale = 1 / highest;
  }
  return n;
}

}  // namespace

const char* FusionMethodName(FusionMethod method) {
  constexpr const char* kNames[] = {"rrf", "linear", "relative"};
  return kNames[static_cast<int>(method)];
}

absl::Status CheckFusion(const std::vector<RankedList>& lists, const FusionOptions& options) {
  if (options.rrf_k < 1 || options.rrf_k > kMaxRrfK) {
    return InvalidArgument("rrf_k must be in 1..", kMaxRrfK, ", got ", options.rrf_k);
  }
  double sum = 0;
  for (const RankedList& list : lists) {
    if (!(list.weight >= 0 && list.weight <= 1e6)) {
      return InvalidArgument("the weight of ", list.name, " must be in 0..1000000, got ", list.weight);
    }
    sum += list.weight;
  }
  if (!lists.empty() && sum == 0) return InvalidArgument("one retriever's weight must be above 0, all are 0");
  return absl::OkStatus();
}

std::vector<FusedHit> Fuse(const std::vector<RankedList>& lists, const FusionOptions& options, const ChunkOrder& order) {
  std::vector<FusedHit> fused;
  if (lists.size() == 1) {  // already in order
    for (size_t i = 0; i < lists[0].hits.size(); ++i) {
      const RankedChunk& hit = lists[0].hits[i];
      fused.push_back({hit.place, hit.score, {{0, static_cast<int64_t>(i) + 1, true, hit.score, hit.score}}});
    }
    return fused;
  }
  std::unordered_map<uint64_t, size_t> at;
  for (size_t l = 0; l < lists.size(); ++l) {
    for (size_t i = 0; i < lists[l].hits.size(); ++i) {
      const RankedChunk& hit = lists[l].hits[i];
      const auto [found, is_new] = at.try_emplace(hit.place.key(), fused.size());
      if (is_new) {
        fused.push_back({hit.place, 0, std::vector<FusionPart>(lists.size())});
        for (size_t p = 0; p < lists.size(); ++p) fused.back().parts[p].list = p;
      }
      FusionPart& part = fused[found->second].parts[l];
      part.rank = static_cast<int64_t>(i) + 1;
      part.scored = true;
      part.score = hit.score;
    }
  }
  for (size_t l = 0; l < lists.size(); ++l) {
    for (const RankedChunk& other : lists[l].others) {
      FusionPart& part = fused[at.at(other.place.key())].parts[l];
      part.scored = true;
      part.score = other.score;
    }
  }
  for (size_t l = 0; l < lists.size(); ++l) {
    const Normaliser normaliser = NormaliserOf(lists[l].hits, options.method);
    for (FusedHit& hit : fused) {
      FusionPart& part = hit.parts[l];
      if (options.method == FusionMethod::kRrf) {
        part.contribution = part.rank == 0 ? 0 : lists[l].weight / static_cast<double>(options.rrf_k + part.rank);
      } else if (part.rank > 0 || (part.scored && options.method == FusionMethod::kLinear)) {
        part.contribution = lists[l].weight * normaliser(part.score);
      }
      hit.score += part.contribution;
    }
  }
  std::sort(fused.begin(), fused.end(), [&order](const FusedHit& a, const FusedHit& b) {
    return a.score != b.score ? a.score > b.score : order.Before(a.place, b.place);
  });
  return fused;
}

}  // namespace lectern::index
