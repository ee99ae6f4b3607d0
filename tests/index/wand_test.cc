#include "index/wand.h"

#include <gtest/gtest.h>

#include <map>

#include "base/cpu_target.h"
#include "base/rng.h"

namespace lectern::index {
namespace {

std::string Word(int64_t rank) { return "w" + std::to_string(rank) + "q"; }

std::shared_ptr<const Bm25Segment> Build(const std::vector<std::string>& texts) {
  const auto analyzer = *Analyzer::Named("icu");
  Bm25SegmentWriter writer(*analyzer);
  for (const std::string& text : texts) EXPECT_TRUE(writer.Add("", text).ok());
  auto segment = Bm25Segment::FromBytes(*writer.Serialize());
  EXPECT_TRUE(segment.ok()) << segment.status();
  return *segment;
}

std::vector<std::string> RandomTexts(Rng& rng, int64_t count, int64_t words, int64_t vocabulary) {
  std::vector<std::string> texts;
  for (int64_t i = 0; i < count; ++i) {
    std::string text;
    for (int64_t n = rng.Below(words); n > 0; --n) text += Word(rng.Below(1 + rng.Below(vocabulary))) + " ";
    texts.push_back(text);
  }
  return texts;
}

std::vector<QueryTerm> RandomQuery(Rng& rng, int64_t vocabulary) {
  std::map<std::string, int64_t> counts;
  for (int64_t n = 1 + rng.Below(rng.Below(10) == 0 ? 40 : 7); n > 0; --n) {
    ++counts[Word(rng.Below(1 + rng.Below(vocabulary)))];
  }
  std::vector<QueryTerm> terms;
  for (const auto& [term, count] : counts) terms.push_back({term, count});
  return terms;
}

struct ByName final : ChunkOrder {   // an order unlike that of segments and chunks
  bool Before(ChunkPlace a, ChunkPlace b) const override { return Key(a) < Key(b); }
  static std::pair<uint32_t, uint32_t> Key(ChunkPlace p) { return {(p.chunk * 7919u) % 101u, p.chunk * 2 + p.segment}; }
};

void ExpectSame(const Bm25Result& want, const Bm25Result& got, const char* what) {
  ASSERT_EQ(want.hits.size(), got.hits.size()) << what;
  for (size_t i = 0; i < want.hits.size(); ++i) {
    ASSERT_EQ(want.hits[i].place, got.hits[i].place) << what << " rank " << i;
    ASSERT_EQ(want.hits[i].score, got.hits[i].score) << what << " rank " << i;
  }
}

TEST(Wand, EveryStrategyFindsWhatExhaustiveScoringFindsToTheLastBit) {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    Rng rng(seed, 21);
    const int64_t vocabulary = 3 + rng.Below(400);
    std::vector<Bm25Part> parts;
    for (int64_t s = 1 + rng.Below(3); s > 0; --s) {
      // Some corpora pass one window of 4,096 chunks; in others every chunk is like many others, so that ties abound.
      const int64_t chunks = rng.Below(12) == 0 ? 9000 : 1 + rng.Below(700);
      Bm25Part part{Build(RandomTexts(rng, chunks, 2 + rng.Below(30), vocabulary)), std::nullopt};
      if (rng.Below(2) == 0) {
        part.live = ChunkSet(chunks, true);
        for (int64_t dead = rng.Below(chunks); dead > 0; --dead) part.live->Remove(static_cast<uint32_t>(rng.Below(chunks)));
      }
      parts.push_back(std::move(part));
    }
    const Bm25Searcher searcher(parts);
    for (int round = 0; round < 12; ++round) {
      const std::vector<QueryTerm> terms = RandomQuery(rng, vocabulary);
      Bm25SearchOptions options;
      options.k = std::vector<int64_t>{1, 2, 10, 100, 129, 1000}[static_cast<size_t>(rng.Below(6))];
      options.params = {rng.Below(5) == 0 ? 0 : rng.Uniform() * 3, rng.Below(5) == 0 ? 1 : rng.Uniform()};
      const ByName by_name;
      if (rng.Below(2) == 0) options.order = &by_name;
      std::vector<ChunkSet> allowed;
      if (rng.Below(3) == 0) {
        for (const Bm25Part& part : parts) {
          allowed.emplace_back(part.segment->num_chunks());
          for (int64_t i = 0; i < part.segment->num_chunks(); ++i) {
            if (rng.Below(4) == 0) allowed.back().Add(static_cast<uint32_t>(i));
          }
        }
        options.allowed = allowed;
      }
      if (rng.Below(4) == 0) options.accepts = [](ChunkPlace place) { return place.chunk % 3 != 1; };
      options.strategy = Bm25Strategy::kExhaustive;
      const auto want = searcher.Search(terms, options);
      ASSERT_TRUE(want.ok()) << want.status();
      std::vector<ChunkPlace> places;   // what was found, backwards, and anything else
      for (const Bm25Hit& hit : want->hits) places.insert(places.begin(), hit.place);
      for (int i = 0; i < 5; ++i) {
        const auto segment = static_cast<uint32_t>(rng.Below(static_cast<int64_t>(parts.size())));
        places.push_back({segment, static_cast<uint32_t>(rng.Below(parts[segment].segment->num_chunks()))});
      }
      const std::vector<double> scores = searcher.ScoresOf(terms, options.params, places);
      for (size_t i = 0; i < want->hits.size(); ++i) ASSERT_EQ(scores[i], want->hits[want->hits.size() - 1 - i].score);
      for (size_t i = want->hits.size(); i < places.size(); ++i) {
        double sum = 0;
        for (const Bm25TermPart& part : searcher.Explain(terms, options.params, places[i])) sum += part.contribution;
        ASSERT_EQ(scores[i], sum);
      }
      for (const CpuTarget target : SupportedCpuTargets()) {
        SetCpuTargetForTest(target);
        for (const Bm25Strategy strategy : {Bm25Strategy::kMaxScore, Bm25Strategy::kBlockMaxWand}) {
          options.strategy = strategy;
          const auto got = searcher.Search(terms, options);
          ASSERT_TRUE(got.ok()) << got.status();
          ExpectSame(*want, *got, CpuTargetName(target));
          if (HasFatalFailure()) FAIL() << "seed " << seed << " round " << round << " k " << options.k;
        }
      }
      SetCpuTargetForTest(SupportedCpuTargets().back());
    }
  }
}

TEST(Wand, ScoresAsTheFormulaSays) {
  Rng rng(5);
  const std::vector<std::string> texts = RandomTexts(rng, 500, 40, 50);
  const auto segment = Build(texts);
  const Bm25Searcher searcher({{segment, std::nullopt}});
  const std::vector<QueryTerm> terms = {{Word(1), 1}, {Word(7), 3}, {Word(30), 1}};
  const Bm25Params params{0.9, 0.4};
  const auto found = searcher.Search(terms, {.k = 500, .params = params});
  ASSERT_TRUE(found.ok());
  const auto analyzer = *Analyzer::Named("icu");
  std::vector<std::vector<std::string>> tokens;
  double total = 0;
  for (const std::string& text : texts) {
    tokens.push_back(analyzer->Terms(text));
    total += static_cast<double>(tokens.back().size());
  }
  size_t matching = 0;
  std::map<uint32_t, double> scores;
  for (const Bm25Hit& hit : found->hits) scores[hit.place.chunk] = hit.score;
  for (uint32_t chunk = 0; chunk < tokens.size(); ++chunk) {
    double want = 0;
    for (const QueryTerm& term : terms) {
      double df = 0;
      for (const auto& words : tokens) df += std::count(words.begin(), words.end(), term.term) > 0;
      const double tf = static_cast<double>(std::count(tokens[chunk].begin(), tokens[chunk].end(), term.term));
      const double length = static_cast<double>(tokens[chunk].size()) / (total / static_cast<double>(tokens.size()));
      const double idf = std::log(1 + (500 - df + 0.5) / (df + 0.5));
      want += idf * static_cast<double>(term.count) * tf / (tf + params.k1 * (1 - params.b + params.b * length));
    }
    if (want == 0) continue;
    ++matching;
    ASSERT_NEAR(scores[chunk], want, 1e-5) << chunk;
    double parts = 0;
    for (const Bm25TermPart& part : searcher.Explain(terms, params, {0, chunk})) parts += part.contribution;
    ASSERT_EQ(parts, scores[chunk]);
  }
  EXPECT_EQ(matching, found->hits.size());
}

TEST(Wand, SegmentsAndDeletesDoNotChangeScores) {
  Rng rng(6);
  const std::vector<std::string> texts = RandomTexts(rng, 900, 30, 200);
  std::vector<std::string> kept;
  ChunkSet live_first(400, true), live_second(500, true);
  std::vector<ChunkPlace> place_of_kept;
  for (uint32_t i = 0; i < 900; ++i) {
    const bool dead = rng.Below(4) == 0;
    if (dead) (i < 400 ? live_first : live_second).Remove(i < 400 ? i : i - 400);
    if (!dead) {
      kept.push_back(texts[i]);
      place_of_kept.push_back(i < 400 ? ChunkPlace{0, i} : ChunkPlace{1, i - 400});
    }
  }
  const Bm25Searcher two({{Build({texts.begin(), texts.begin() + 400}), live_first},
                          {Build({texts.begin() + 400, texts.end()}), live_second}});
  const Bm25Searcher folded({{Build(kept), std::nullopt}});
  for (int round = 0; round < 100; ++round) {
    const std::vector<QueryTerm> terms = RandomQuery(rng, 200);
    const auto a = two.Search(terms, {.k = 50}), b = folded.Search(terms, {.k = 50});
    ASSERT_EQ(a->hits.size(), b->hits.size());
    for (size_t i = 0; i < a->hits.size(); ++i) {
      ASSERT_EQ(a->hits[i].score, b->hits[i].score);
      ASSERT_EQ(a->hits[i].place, place_of_kept[b->hits[i].place.chunk]);
    }
  }
}

TEST(Wand, BreaksTiesByTheGivenOrderWhateverK) {
  const std::vector<std::string> texts(3000, "same text here");
  const ByName order;
  const Bm25Searcher searcher({{Build(texts), std::nullopt}, {Build(texts), std::nullopt}});
  for (const int64_t k : {1, 10, 500}) {
    const auto found = searcher.Search(std::vector<QueryTerm>{{"same", 1}, {"here", 1}}, {.k = k, .order = &order});
    ASSERT_EQ(static_cast<int64_t>(found->hits.size()), k);
    EXPECT_EQ(found->hits[0].place, (ChunkPlace{0, 0}));
    for (size_t i = 1; i < found->hits.size(); ++i) {
      ASSERT_TRUE(order.Before(found->hits[i - 1].place, found->hits[i].place));
    }
  }
}

TEST(Wand, RefusesBadParametersNamingTheLimit) {
  const Bm25Searcher searcher({{Build({"a b"}), std::nullopt}});
  const std::vector<QueryTerm> terms = {{"a", 1}};
  EXPECT_FALSE(searcher.Search(terms, {.k = 0}).ok());
  EXPECT_FALSE(searcher.Search(terms, {.params = {-1, 0.5}}).ok());
  EXPECT_FALSE(searcher.Search(terms, {.params = {1, 1.5}}).ok());
  EXPECT_FALSE(searcher.Search(terms, {.params = {std::nan(""), 0.5}}).ok());
  EXPECT_TRUE(searcher.Search({}, {}).ok());
}

TEST(Wand, StopsWhenCancelledAndSaysSo) {
  const Bm25Searcher searcher({{Build({"a b"}), std::nullopt}});
  CancelToken cancel;
  cancel.Cancel();
  const auto found = searcher.Search(std::vector<QueryTerm>{{"a", 1}}, {.cancel = &cancel});
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->stopped);
  EXPECT_TRUE(found->hits.empty());
}

}  // namespace
}  // namespace lectern::index
