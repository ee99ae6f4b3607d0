// service/answer/span_automaton.h: which tokens can continue a span of the packed passages.
//
//   VocabularyTrie vocabulary(reader.tokenizer());                 // once per tokenizer
//   SpanAutomaton automaton(passages, SpanAutomaton::Bounds::kWords);
//   SpanAutomaton::State state = automaton.Start();
//   std::vector<LegalToken> legal = vocabulary.Legal(automaton, state);   // ids, with the state each leads to
//
// Shapes:  passages are byte strings; a span never crosses from one to the next. Bounds::kBytes: every substring and
//          nothing else. Bounds::kWords: spans that start and end at word boundaries of some occurrence.
// Threads: immutable after construction; SpanConstraint belongs to one generation.
// Errors:  none: bad input gives an automaton with nothing legal.
// Cost:    building is linear in the bytes (about 1 ms for 5 KB); Legal visits the pairs (automaton path, vocabulary
//          prefix): about 10,000 from the start state, a few dozen once two words are fixed.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "decoder/reader.h"
#include "decoder/tokenizer/tokenizer.h"

namespace lectern::service::answer {

class SpanAutomaton {
 public:
  enum class Bounds { kBytes, kWords };
  struct State {
    int32_t node = 0;        // 0: the start; -1: dead
    int32_t length = 0;      // bytes matched
    bool blank_taken = false;  // the free leading blank is used up
    bool operator==(const State&) const = default;
  };
  struct Occurrence {
    int64_t passage = 0, begin = 0, end = 0;  // bytes of that passage
  };

  SpanAutomaton(std::span<const std::string_view> passages, Bounds bounds);

  State Start() const { return {}; }
  // One byte on; node -1 where no span continues so.
  State Step(State state, uint8_t byte) const;
  bool CanEnd(const State& state) const;
  // Where the span of `state` stands, in passage order. With kWords only occurrences at word boundaries.
  std::vector<Occurrence> Occurrences(const State& state, bool must_end) const;
  std::string Text(const State& state) const;
  // Outgoing bytes of a node, ascending.
  std::span<const std::pair<uint8_t, int32_t>> Edges(int32_t node) const { return {edges_.data() + nodes_[node].first_edge, static_cast<size_t>(nodes_[node].num_edges)}; }

 private:
  struct Node {
    int32_t length = 0, link = -1;
    int32_t first_edge = 0, num_edges = 0;
    int32_t first_end = 0, num_ends = 0;   // its end positions in ends_
  };
  bool HasStart(int32_t node, int32_t length) const;

  Bounds bounds_;
  std::string text_;                      // passages, one after the other
  std::vector<int64_t> passage_begin_;    // and one past the last
  std::vector<bool> word_start_, word_end_;   // by byte of text_; word_end_[i]: a span may end before byte i
  std::vector<Node> nodes_;
  std::vector<std::pair<uint8_t, int32_t>> edges_;
  std::vector<int32_t> ends_;             // end positions (exclusive), grouped by subtree of the link tree
};

struct LegalToken {
  int32_t id = 0;
  SpanAutomaton::State next;
};

class VocabularyTrie {
 public:
  explicit VocabularyTrie(const tokenizer::Tokenizer& tokenizer);   // keeps views of its pieces
  // Tokens whose bytes continue a span from `state`, ascending by bytes. One leading blank is free at the start.
  std::vector<LegalToken> Legal(const SpanAutomaton& automaton, const SpanAutomaton::State& state) const;
  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }

 private:
  void Walk(const SpanAutomaton& automaton, SpanAutomaton::State state, int32_t begin, int32_t end, int32_t depth,
            std::vector<LegalToken>& out) const;
  std::vector<std::pair<std::string_view, int32_t>> pieces_;   // sorted by bytes, then id
  std::vector<int32_t> first_byte_;                            // [257]
};

// For Reader::Generate: only spans of the passages, then an end token.
class SpanConstraint : public decoder::TokenConstraint {
 public:
  SpanConstraint(const SpanAutomaton& automaton, const VocabularyTrie& vocabulary, std::span<const int32_t> end_ids);
  void Mask(std::span<float> logits) override;
  void Accept(int32_t token) override;
  const SpanAutomaton::State& state() const { return state_; }
  bool ended() const { return ended_; }

 private:
  const SpanAutomaton& automaton_;
  const VocabularyTrie& vocabulary_;
  std::vector<int32_t> end_ids_;
  SpanAutomaton::State state_;
  std::vector<LegalToken> legal_;
  bool ended_ = false;
};

}  // namespace lectern::service::answer
