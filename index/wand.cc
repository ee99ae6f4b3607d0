#include "index/wand.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/check.h"
#include "index/wand-inl.h"

namespace lectern::index {
namespace {

constexpr int64_t kMaxResults = int64_t{1} << 30;
constexpr uint32_t kUnknown = ~uint32_t{0};

}  // namespace

struct Bm25Searcher::Impl {
  std::vector<Bm25Part> parts;
  Bm25Statistics statistics;
  ChunkOrder default_order;
  // [part][term]: live chunks with the term, counted when first asked for; only of parts with dead chunks.
  std::vector<std::unique_ptr<std::atomic<uint32_t>[]>> live_frequency;

  absl::Mutex mu;
  std::vector<std::unique_ptr<TermCursor>> idle ABSL_GUARDED_BY(mu);

  uint32_t LiveFrequency(size_t part, uint32_t term) const;
};

uint32_t Bm25Searcher::Impl::LiveFrequency(size_t part, uint32_t term) const {
  const PostingsView list = parts[part].segment->Postings(term);
  if (!parts[part].live.has_value()) return list.document_frequency;
  std::atomic<uint32_t>& known = live_frequency[part][term];
  uint32_t count = known.load(std::memory_order_relaxed);
  if (count != kUnknown) return count;
  const ChunkSet& live = *parts[part].live;
  const PostingsKernels& kernels = ActivePostingsKernels();
  PostingsBlock block;
  count = 0;
  for (size_t b = 0; b < list.blocks.size(); ++b) {
    DecodeChunks(kernels, list, b, block);
    for (int i = 0; i < block.count; ++i) count += live.Has(block.chunks[i]);
  }
  known.store(count, std::memory_order_relaxed);
  return count;
}

Bm25Searcher::Bm25Searcher(std::vector<Bm25Part> parts) : impl_(std::make_unique<Impl>()) {
  impl_->parts = std::move(parts);
  for (const Bm25Part& part : impl_->parts) {
    const auto lengths = part.segment->lengths();
    impl_->live_frequency.emplace_back();
    if (!part.live.has_value()) {
      impl_->statistics.num_chunks += part.segment->num_chunks();
      impl_->statistics.total_length += part.segment->total_length();
      continue;
    }
    CHECK(part.live->size() == part.segment->num_chunks());
    for (size_t i = 0; i < lengths.size(); ++i) {
      if (!part.live->Has(static_cast<uint32_t>(i))) continue;
      ++impl_->statistics.num_chunks;
      impl_->statistics.total_length += lengths[i];
    }
    const auto terms = static_cast<size_t>(part.segment->num_terms());
    impl_->live_frequency.back().reset(new std::atomic<uint32_t>[terms]);
    for (size_t i = 0; i < terms; ++i) impl_->live_frequency.back()[i].store(kUnknown, std::memory_order_relaxed);
  }
}
Bm25Searcher::~Bm25Searcher() = default;

const Bm25Statistics& Bm25Searcher::statistics() const { return impl_->statistics; }
const std::vector<Bm25Part>& Bm25Searcher::parts() const { return impl_->parts; }

int64_t Bm25Searcher::DocumentFrequency(std::string_view term) const {
  int64_t frequency = 0;
  for (size_t p = 0; p < impl_->parts.size(); ++p) {
    const auto found = impl_->parts[p].segment->FindTerm(term);
    if (found.has_value()) frequency += impl_->LiveFrequency(p, *found);
  }
  return frequency;
}

ChunkSet Bm25Searcher::ChunksWith(uint32_t segment, std::string_view term) const {
  const Bm25Segment& part = *impl_->parts[segment].segment;
  ChunkSet set(part.num_chunks());
  const auto list = part.Find(term);
  if (!list.has_value()) return set;
  PostingsBlock block;
  for (size_t b = 0; b < list->blocks.size(); ++b) {
    DecodeChunks(ActivePostingsKernels(), *list, b, block);
    for (int i = 0; i < block.count; ++i) set.Add(block.chunks[i]);
  }
  return set;
}

absl::StatusOr<Bm25Result> Bm25Searcher::Search(std::span<const QueryTerm> terms,
                                                const Bm25SearchOptions& options) const {
  if (options.k < 1 || options.k > kMaxResults) {
    return InvalidArgument("k must be in 1..", kMaxResults, ", got ", options.k);
  }
  RETURN_IF_ERROR(CheckBm25Params(options.params));
  if (static_cast<int64_t>(terms.size()) > kMaxQueryTerms) {
    return InvalidArgument("a query may have at most ", kMaxQueryTerms, " distinct terms, got ", terms.size());
  }
  Impl& impl = *impl_;
  const size_t num_parts = impl.parts.size();
  CHECK(options.allowed.empty() || options.allowed.size() == num_parts);

  std::vector<std::optional<uint32_t>> ordinals(terms.size() * num_parts);  // [term, part]
  std::vector<double> weights(terms.size());
  for (size_t t = 0; t < terms.size(); ++t) {
    int64_t frequency = 0;
    for (size_t p = 0; p < num_parts; ++p) {
      auto& ordinal = ordinals[t * num_parts + p];
      ordinal = impl.parts[p].segment->FindTerm(terms[t].term);
      if (ordinal.has_value()) frequency += impl.LiveFrequency(p, *ordinal);
    }
    if (frequency > 0) {
      weights[t] = Bm25Idf(frequency, impl.statistics.num_chunks) * static_cast<double>(terms[t].count);
    }
  }
  const Bm25Scale scale = ScaleFor(weights);

  TopK top(options.k, options.order != nullptr ? *options.order : impl.default_order);
  Bm25Result result;
  std::vector<std::unique_ptr<TermCursor>> own;
  for (size_t p = 0; p < num_parts && !result.stopped; ++p) {
    const Bm25Segment& segment = *impl.parts[p].segment;
    SegmentPass pass{.kernels = ActivePostingsKernels(), .top = top};
    pass.segment = static_cast<uint32_t>(p);
    pass.num_chunks = segment.num_chunks();
    pass.lengths = segment.lengths().data();
    if (!options.allowed.empty()) pass.allowed = &options.allowed[p];
    else if (impl.parts[p].live.has_value()) pass.allowed = &*impl.parts[p].live;
    if (options.accepts != nullptr) pass.accepts = &options.accepts;
    pass.cancel = options.cancel;
    size_t used = 0;
    for (size_t t = 0; t < terms.size(); ++t) {
      const auto ordinal = ordinals[t * num_parts + p];
      if (!ordinal.has_value() || weights[t] == 0) continue;
      if (used == own.size()) {
        absl::MutexLock lock(&impl.mu);
        if (impl.idle.empty()) {
          own.push_back(std::make_unique<TermCursor>());
        } else {
          own.push_back(std::move(impl.idle.back()));
          impl.idle.pop_back();
        }
      }
      TermCursor& cursor = *own[used++];
      cursor.list = segment.Postings(*ordinal);
      cursor.terms = TermsOf(options.params, impl.statistics, weights[t], scale);
      cursor.block = 0;
      cursor.position = 0;
      cursor.loaded = false;
      pass.Prepare(cursor);
      pass.cursors.push_back(&cursor);
    }
    if (!pass.cursors.empty()) {
      switch (options.strategy) {
        case Bm25Strategy::kAuto:
        case Bm25Strategy::kMaxScore: RunMaxScore(pass, /*exhaustive=*/false); break;
        case Bm25Strategy::kExhaustive: RunMaxScore(pass, /*exhaustive=*/true); break;
        case Bm25Strategy::kBlockMaxWand: RunBlockMaxWand(pass); break;
      }
    }
    result.postings_scored += pass.postings_scored;
    result.stopped = pass.stopped;
  }
  {
    constexpr size_t kKeptCursors = 256;  // about 1.2 KiB each
    absl::MutexLock lock(&impl.mu);
    for (auto& cursor : own) {
      if (impl.idle.size() < kKeptCursors) impl.idle.push_back(std::move(cursor));
    }
  }
  for (const ScoredChunk& scored : top.Take()) result.hits.push_back({scored.place, scale.ToScore(scored.sum)});
  return result;
}

std::vector<Bm25TermPart> Bm25Searcher::Explain(std::span<const QueryTerm> terms, const Bm25Params& params,
                                                ChunkPlace place) const {
  std::vector<Bm25TermPart> all;
  std::vector<double> weights;
  for (const QueryTerm& term : terms) {
    Bm25TermPart part;
    part.term = term.term;
    part.count = term.count;
    part.document_frequency = DocumentFrequency(term.term);
    if (part.document_frequency > 0) part.idf = Bm25Idf(part.document_frequency, impl_->statistics.num_chunks);
    weights.push_back(part.idf * static_cast<double>(part.count));
    all.push_back(std::move(part));
  }
  const Bm25Scale scale = ScaleFor(weights);
  const Bm25Segment& segment = *impl_->parts[place.segment].segment;
  const PostingsKernels& kernels = ActivePostingsKernels();
  PostingsBlock block;
  for (size_t t = 0; t < all.size(); ++t) {
    all[t].length = segment.lengths()[place.chunk];
    const auto list = segment.Find(all[t].term);
    if (!list.has_value() || weights[t] == 0) continue;
    for (size_t b = 0; b < list->blocks.size(); ++b) {
      if (list->blocks[b].last_chunk < place.chunk) continue;
      DecodeChunks(kernels, *list, b, block);
      DecodeFrequencies(kernels, *list, b, block);
      for (int i = 0; i < block.count; ++i) {
        if (block.chunks[i] != place.chunk) continue;
        all[t].frequency = block.frequencies[i];
        uint32_t contribution[16];
        PostingsKernelsScalar()->score(&block.chunks[i], &block.frequencies[i], 1, segment.lengths().data(),
                                       TermsOf(params, impl_->statistics, weights[t], scale), contribution);
        all[t].contribution = scale.ToScore(contribution[0]);
      }
      break;
    }
  }
  return all;
}

std::vector<double> Bm25Searcher::ScoresOf(std::span<const QueryTerm> terms, const Bm25Params& params,
                                           std::span<const ChunkPlace> places) const {
  std::vector<double> weights;
  for (const QueryTerm& term : terms) {
    const int64_t frequency = DocumentFrequency(term.term);
    weights.push_back(frequency == 0 ? 0 : Bm25Idf(frequency, impl_->statistics.num_chunks) * static_cast<double>(term.count));
  }
  const Bm25Scale scale = ScaleFor(weights);
  std::vector<uint32_t> order(places.size());  // places in the order of the postings
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(places[a].segment, places[a].chunk) < std::pair(places[b].segment, places[b].chunk);
  });
  const PostingsKernels& kernels = ActivePostingsKernels();
  std::vector<uint32_t> sums(places.size(), 0);
  PostingsBlock block;
  for (size_t begin = 0, end; begin < order.size(); begin = end) {
    const uint32_t segment_number = places[order[begin]].segment;
    for (end = begin; end < order.size() && places[order[end]].segment == segment_number;) ++end;
    const Bm25Segment& segment = *impl_->parts[segment_number].segment;
    for (size_t t = 0; t < terms.size(); ++t) {
      const auto list = segment.Find(terms[t].term);
      if (!list.has_value() || weights[t] == 0) continue;
      const ScoreTerms score = TermsOf(params, impl_->statistics, weights[t], scale);
      size_t at = 0, decoded = ~size_t{0};
      for (size_t i = begin; i < end; ++i) {
        const uint32_t chunk = places[order[i]].chunk;
        at = static_cast<size_t>(std::partition_point(list->blocks.begin() + static_cast<std::ptrdiff_t>(at), list->blocks.end(),
                                                      [chunk](const BlockMeta& b) { return b.last_chunk < chunk; }) -
                                 list->blocks.begin());
        if (at == list->blocks.size()) break;
        if (decoded != at) {
          DecodeChunks(kernels, *list, at, block);
          DecodeFrequencies(kernels, *list, at, block);
          decoded = at;
        }
        const uint32_t* const found = std::lower_bound(block.chunks, block.chunks + block.count, chunk);
        if (found == block.chunks + block.count || *found != chunk) continue;
        uint32_t contribution[16];
        PostingsKernelsScalar()->score(&chunk, &block.frequencies[found - block.chunks], 1, segment.lengths().data(), score, contribution);
        sums[order[i]] += contribution[0];
      }
    }
  }
  std::vector<double> scores;
  for (const uint32_t sum : sums) scores.push_back(scale.ToScore(sum));
  return scores;
}

}  // namespace lectern::index
