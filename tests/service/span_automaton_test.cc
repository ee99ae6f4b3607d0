#include "service/answer/span_automaton.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <set>

#include "base/rng.h"
#include "fake_model.h"
#include "service/answer/span_search.h"
#include "service/answer/text_units.h"
#include "tests/support/temp_dir.h"

namespace lectern::service::answer {
namespace {

using lectern::testing::FakeModel;
using lectern::testing::FakeTokenizer;
using Bounds = SpanAutomaton::Bounds;

std::string RandomPassage(Rng& rng, int length) {
  static const std::vector<std::string> pieces = {"a", "b", "ab", " ", "é", "1", "."};
  std::string text;
  for (int i = 0; i < length; ++i) text += pieces[rng.Below(static_cast<int64_t>(pieces.size()))];
  return text;
}

SpanAutomaton::State Feed(const SpanAutomaton& automaton, std::string_view text) {
  SpanAutomaton::State state = automaton.Start();
  for (char c : text) state = automaton.Step(state, static_cast<uint8_t>(c));
  return state;
}

TEST(SpanAutomaton, TakesEverySubstringOfAPassageAndNothingElse) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    const std::string one = RandomPassage(rng, 20), two = RandomPassage(rng, 15);
    const std::vector<std::string_view> passages = {one, two};
    const SpanAutomaton automaton(passages, Bounds::kBytes);
    std::set<std::string> substrings;
    for (std::string_view p : passages) {
      for (size_t i = 0; i < p.size(); ++i) {
        for (size_t n = 1; i + n <= p.size(); ++n) substrings.emplace(p.substr(i, n));
      }
    }
    for (const std::string& s : substrings) {
      const auto state = Feed(automaton, s);
      ASSERT_GE(state.node, 0) << seed << " '" << s << "'";
      EXPECT_TRUE(automaton.CanEnd(state));
      EXPECT_EQ(automaton.Text(state), s);
      for (const auto& at : automaton.Occurrences(state, true)) {
        EXPECT_EQ(passages[at.passage].substr(at.begin, at.end - at.begin), s);
      }
      for (char c : std::string("ab 1.\xC3\xA9x")) {
        EXPECT_EQ(automaton.Step(state, static_cast<uint8_t>(c)).node >= 0, substrings.contains(s + c)) << seed;
      }
    }
  }
}

TEST(SpanAutomaton, FindsEveryOccurrenceInPassageOrder) {
  const std::vector<std::string_view> passages = {"abab", "xab"};
  const SpanAutomaton automaton(passages, Bounds::kBytes);
  const auto at = automaton.Occurrences(Feed(automaton, "ab"), true);
  ASSERT_EQ(at.size(), 3u);
  EXPECT_EQ(at[1].begin, 2);
  EXPECT_EQ(at[2].passage, 1);
  EXPECT_EQ(at[2].end, 3);
}

TEST(SpanAutomaton, WithWordBoundsGivesWholeWordsOnly) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed, 3);
    const std::string text = RandomPassage(rng, 24);
    const std::vector<std::string_view> passages = {text};
    const SpanAutomaton automaton(passages, Bounds::kWords);
    const auto n = static_cast<int64_t>(text.size());
    std::set<std::string> spans, prefixes;
    for (int64_t i = 0; i < n; ++i) {
      if (!IsWordStart(text, i)) continue;
      for (int64_t j = i + 1; j <= n; ++j) {
        prefixes.insert(text.substr(i, j - i));
        if (IsWordEnd(text, j)) spans.insert(text.substr(i, j - i));
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i + 1; j <= n; ++j) {
        const std::string s = text.substr(i, j - i);
        const auto state = Feed(automaton, s);
        EXPECT_EQ(state.node >= 0, prefixes.contains(s)) << seed << " '" << s << "'";
        EXPECT_EQ(automaton.CanEnd(state), spans.contains(s)) << seed << " '" << s << "'";
      }
    }
  }
}

TEST(VocabularyTrie, AllowsExactlyTheTokensWhoseBytesContinueASpan) {
  const FakeTokenizer tokenizer({"ab", " ab", "aba", " a", "b ", "ab a", "  a", "\xC3\xA9", "1.", "xyz"});
  const VocabularyTrie vocabulary(tokenizer);
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Rng rng(seed, 5);
    const std::string text = RandomPassage(rng, 16);
    const std::vector<std::string_view> passages = {text};
    const SpanAutomaton automaton(passages, Bounds::kBytes);
    for (size_t i = 0; i < text.size(); ++i) {
      for (size_t n = 0; i + n <= text.size(); ++n) {
        const std::string so_far = text.substr(i, n);
        const auto state = Feed(automaton, so_far);
        std::set<int32_t> got;
        for (const LegalToken& token : vocabulary.Legal(automaton, state)) {
          EXPECT_TRUE(got.insert(token.id).second) << "twice";
          const std::string longer = so_far + std::string(tokenizer.Piece(token.id));
          EXPECT_TRUE(automaton.Text(token.next) == longer || (n == 0 && " " + automaton.Text(token.next) == longer) ||
                      (n == 0 && longer == " "));
        }
        for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
          if (tokenizer.IsControl(id)) continue;
          const std::string piece(tokenizer.Piece(id));
          bool want = text.find(so_far + piece) != std::string::npos;
          if (n == 0 && piece[0] == ' ') want = want || text.find(piece.substr(1)) != std::string::npos;
          EXPECT_EQ(got.contains(id), want) << seed << " '" << so_far << "' + '" << piece << "'";
        }
      }
    }
  }
}

TEST(SpanConstraint, LetsEverySubstringBeSpelledAndLeavesATokenLegalAlways) {
  const FakeTokenizer tokenizer({"ab", " ab", "b a"});
  const VocabularyTrie vocabulary(tokenizer);
  const std::vector<std::string_view> passages = {"ab ab. a1"};
  const SpanAutomaton automaton(passages, Bounds::kBytes);
  for (size_t i = 0; i < passages[0].size(); ++i) {
    for (size_t n = 1; i + n <= passages[0].size(); ++n) {
      SpanConstraint constraint(automaton, vocabulary, tokenizer.end_ids());
      for (int32_t id : tokenizer.Encode(passages[0].substr(i, n))) {
        std::vector<float> logits(tokenizer.vocab_size(), 1.0f);
        constraint.Mask(logits);
        EXPECT_FALSE(std::isinf(logits[id]));
        constraint.Accept(id);
      }
      std::vector<float> logits(tokenizer.vocab_size(), 1.0f);
      constraint.Mask(logits);
      EXPECT_FALSE(std::isinf(logits[tokenizer.end_ids()[0]]));
      constraint.Accept(tokenizer.end_ids()[0]);
      EXPECT_TRUE(constraint.ended());
    }
  }
  SpanConstraint constraint(automaton, vocabulary, tokenizer.end_ids());
  std::vector<float> logits(tokenizer.vocab_size(), 1.0f);
  constraint.Mask(logits);
  EXPECT_TRUE(std::isinf(logits['z']));
  EXPECT_TRUE(std::isinf(logits[tokenizer.end_ids()[0]])) << "an empty answer is none";
}

TEST(SearchSpans, FindsTheMostProbableSpanEvenWhenItsFirstTokenIsNot) {
  // "x" is likelier than "y" as a start, but leads nowhere likely; the exact search must not be greedy.
  class Skewed : public FakeModel {
   public:
    Skewed() : FakeModel([](std::string_view) { return ""; }) {}
    absl::StatusOr<std::vector<float>> NextLogits(std::span<const int32_t> tokens, const CancelToken*) override {
      const std::string said = tokenizer().Decode(tokens);
      std::vector<float> logits(tokenizer().vocab_size(), -20.0f);
      const int32_t end = tokenizer().end_ids()[0];
      if (said.empty()) { logits['x'] = 1.0f; logits['y'] = 0.5f; }
      else if (said == "y") logits[end] = 5;
      else for (char c = 'a'; c < 'z'; ++c) logits[static_cast<int>(c)] = 0;   // after x: 25 ways, none likely
      return logits;
    }
  } model;
  const VocabularyTrie vocabulary(model.tokenizer());
  const std::vector<std::string_view> passages = {"xa xb y"};
  const SpanAutomaton automaton(passages, Bounds::kWords);
  const auto found = SearchSpans(model, {}, automaton, vocabulary, {});
  ASSERT_TRUE(found.ok());
  ASSERT_FALSE(found->candidates.empty());
  EXPECT_EQ(found->candidates[0].text, "y");
  ASSERT_EQ(found->candidates[0].occurrences.size(), 1u);
  EXPECT_EQ(found->candidates[0].occurrences[0].begin, 6);
}

TEST(SearchSpans, StopsAtItsBudgetAndWhenCancelled) {
  FakeModel model([](std::string_view) { return "long answer here"; });
  const VocabularyTrie vocabulary(model.tokenizer());
  const std::vector<std::string_view> passages = {"a long answer here"};
  const SpanAutomaton automaton(passages, Bounds::kWords);
  const auto found = SearchSpans(model, {}, automaton, vocabulary, {.max_expansions = 5});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->expansions, 5);
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(SearchSpans(model, {}, automaton, vocabulary, {.cancel = &cancel}).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace lectern::service::answer
