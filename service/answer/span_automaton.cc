#include "service/answer/span_automaton.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "service/answer/text_units.h"

namespace lectern::service::answer {

// Blumer et al. 1985, built online per passage as a generalised automaton: after each passage the current state goes
// back to the start, so no path crosses a border.
SpanAutomaton::SpanAutomaton(std::span<const std::string_view> passages, Bounds bounds) : bounds_(bounds) {
  struct Building {
    int32_t length = 0, link = -1;
    std::map<uint8_t, int32_t> next;
    std::vector<int32_t> ends;   // positions at which this prefix state was the last
  };
  std::vector<Building> states(1);
  for (std::string_view passage : passages) {
    const auto base = static_cast<int64_t>(text_.size());
    passage_begin_.push_back(base);
    text_ += passage;
    for (int64_t i = 0; i < static_cast<int64_t>(passage.size()); ++i) {
      word_start_.push_back(bounds == Bounds::kBytes || IsWordStart(passage, i));
    }
    int32_t last = 0;
    for (size_t i = 0; i < passage.size(); ++i) {
      const auto byte = static_cast<uint8_t>(passage[i]);
      const auto clone_of = [&](int32_t from, int32_t target) {
        const auto clone = static_cast<int32_t>(states.size());
        Building copy;
        copy.length = states[from].length + 1;
        copy.link = states[target].link;
        copy.next = states[target].next;
        states.push_back(std::move(copy));
        states[target].link = clone;
        for (int32_t p = from; p != -1; p = states[p].link) {
          const auto edge = states[p].next.find(byte);
          if (edge == states[p].next.end() || edge->second != target) break;
          edge->second = clone;
        }
        return clone;
      };
      int32_t current;
      if (const auto known = states[last].next.find(byte); known != states[last].next.end()) {
        current = known->second;
        if (states[current].length != states[last].length + 1) current = clone_of(last, current);
      } else {
        current = static_cast<int32_t>(states.size());
        states.push_back({});
        states[current].length = states[last].length + 1;
        int32_t p = last;
        while (p != -1 && !states[p].next.contains(byte)) {
          states[p].next[byte] = current;
          p = states[p].link;
        }
        if (p == -1) {
          states[current].link = 0;
        } else {
          const int32_t q = states[p].next[byte];
          states[current].link = states[q].length == states[p].length + 1 ? q : clone_of(p, q);
        }
      }
      states[current].ends.push_back(static_cast<int32_t>(base + static_cast<int64_t>(i) + 1));
      last = current;
    }
  }
  passage_begin_.push_back(static_cast<int64_t>(text_.size()));
  word_end_.assign(text_.size() + 1, bounds == Bounds::kBytes);
  if (bounds == Bounds::kWords) {
    for (size_t p = 0; p < passages.size(); ++p) {
      for (int64_t i = 1; i <= static_cast<int64_t>(passages[p].size()); ++i) {
        // Ends are looked up by the byte before them, so that two passages' borders do not share one flag.
        word_end_[passage_begin_[p] + i] = IsWordEnd(passages[p], i);
      }
    }
  }

  // Flatten: edges in byte order; end positions gathered over the link tree in depth-first order, so that the ends of a
  // node's subtree (all its occurrences) are one range.
  const auto n = static_cast<int32_t>(states.size());
  nodes_.resize(n);
  std::vector<std::vector<int32_t>> children(n);
  for (int32_t s = 0; s < n; ++s) {
    nodes_[s].length = states[s].length;
    nodes_[s].link = states[s].link;
    nodes_[s].first_edge = static_cast<int32_t>(edges_.size());
    nodes_[s].num_edges = static_cast<int32_t>(states[s].next.size());
    edges_.insert(edges_.end(), states[s].next.begin(), states[s].next.end());
    if (states[s].link >= 0) children[states[s].link].push_back(s);
  }
  std::vector<std::pair<int32_t, size_t>> stack = {{0, 0}};
  nodes_[0].first_end = 0;
  while (!stack.empty()) {
    auto& [s, child] = stack.back();
    if (child == 0) {
      nodes_[s].first_end = static_cast<int32_t>(ends_.size());
      ends_.insert(ends_.end(), states[s].ends.begin(), states[s].ends.end());
    }
    if (child < children[s].size()) {
      const int32_t next = children[s][child++];
      stack.push_back({next, 0});
    } else {
      nodes_[s].num_ends = static_cast<int32_t>(ends_.size()) - nodes_[s].first_end;
      stack.pop_back();
    }
  }
}

bool SpanAutomaton::HasStart(int32_t node, int32_t length) const {
  if (bounds_ == Bounds::kBytes) return true;
  const Node& at = nodes_[node];
  for (int32_t i = 0; i < at.num_ends; ++i) {
    if (word_start_[ends_[at.first_end + i] - length]) return true;
  }
  return false;
}

SpanAutomaton::State SpanAutomaton::Step(State state, uint8_t byte) const {
  const State dead{-1, 0, false};
  if (state.node < 0) return dead;
  const auto edges = Edges(state.node);
  const auto at = std::lower_bound(edges.begin(), edges.end(), byte, [](const auto& edge, uint8_t b) { return edge.first < b; });
  if (at == edges.end() || at->first != byte) return dead;
  const State next{at->second, state.length + 1, state.blank_taken};
  return HasStart(next.node, next.length) ? next : dead;
}

bool SpanAutomaton::CanEnd(const State& state) const {
  if (state.node <= 0 || state.length == 0) return false;
  const Node& at = nodes_[state.node];
  for (int32_t i = 0; i < at.num_ends; ++i) {
    const int32_t end = ends_[at.first_end + i];
    if (word_end_[end] && word_start_[end - state.length]) return true;
  }
  return false;
}

std::vector<SpanAutomaton::Occurrence> SpanAutomaton::Occurrences(const State& state, bool must_end) const {
  std::vector<Occurrence> out;
  if (state.node <= 0) return out;
  const Node& at = nodes_[state.node];
  for (int32_t i = 0; i < at.num_ends; ++i) {
    const int32_t end = ends_[at.first_end + i];
    if (!word_start_[end - state.length] || (must_end && !word_end_[end])) continue;
    const auto passage = std::upper_bound(passage_begin_.begin(), passage_begin_.end(), end - 1) - passage_begin_.begin() - 1;
    const int64_t base = passage_begin_[passage];
    out.push_back({passage, end - state.length - base, end - base});
  }
  std::sort(out.begin(), out.end(), [](const Occurrence& a, const Occurrence& b) {
    return std::pair(a.passage, a.begin) < std::pair(b.passage, b.begin);
  });
  return out;
}

std::string SpanAutomaton::Text(const State& state) const {
  if (state.node <= 0) return "";
  const int32_t end = ends_[nodes_[state.node].first_end];
  return text_.substr(end - state.length, state.length);
}

VocabularyTrie::VocabularyTrie(const tokenizer::Tokenizer& tokenizer) {
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    if (tokenizer.IsControl(token)) continue;
    if (const std::string_view piece = tokenizer.Piece(token); !piece.empty()) pieces_.emplace_back(piece, token);
  }
  std::sort(pieces_.begin(), pieces_.end());
  first_byte_.assign(257, 0);
  for (const auto& [piece, id] : pieces_) ++first_byte_[static_cast<uint8_t>(piece[0]) + 1];
  std::partial_sum(first_byte_.begin(), first_byte_.end(), first_byte_.begin());
}

void VocabularyTrie::Walk(const SpanAutomaton& automaton, SpanAutomaton::State state, int32_t begin, int32_t end,
                          int32_t depth, std::vector<LegalToken>& out) const {
  // [begin, end): pieces that share `depth` bytes, all of which the automaton has taken.
  while (begin < end && static_cast<int32_t>(pieces_[begin].first.size()) == depth) {
    out.push_back({pieces_[begin].second, state});
    ++begin;
  }
  if (begin == end) return;
  const auto byte_at = [&](const auto& piece) { return static_cast<uint8_t>(piece.first[depth]); };
  for (const auto& [byte, node] : automaton.Edges(state.node)) {
    const auto from = std::lower_bound(pieces_.begin() + begin, pieces_.begin() + end, byte,
                                       [&](const auto& piece, uint8_t b) { return byte_at(piece) < b; });
    if (from == pieces_.begin() + end || byte_at(*from) != byte) continue;
    const auto to = std::upper_bound(from, pieces_.begin() + end, byte, [&](uint8_t b, const auto& piece) { return b < byte_at(piece); });
    const SpanAutomaton::State next = automaton.Step(state, byte);
    if (next.node < 0) continue;
    begin = static_cast<int32_t>(to - pieces_.begin());
    Walk(automaton, next, static_cast<int32_t>(from - pieces_.begin()), begin, depth + 1, out);
    if (begin == end) break;
  }
}

std::vector<LegalToken> VocabularyTrie::Legal(const SpanAutomaton& automaton, const SpanAutomaton::State& state) const {
  std::vector<LegalToken> out;
  if (state.node < 0) return out;
  const auto n = static_cast<int32_t>(pieces_.size());
  if (state.length > 0 || state.blank_taken) {
    Walk(automaton, state, 0, n, 0, out);
  } else {
    Walk(automaton, state, 0, n, 0, out);
    SpanAutomaton::State blank = state;
    blank.blank_taken = true;
    const int32_t begin = first_byte_[' '], end = first_byte_[' ' + 1];
    std::vector<LegalToken> after;
    Walk(automaton, blank, begin, end, 1, after);
    // With Bounds::kBytes a span may itself begin with a blank: the longer match wins, so an id stands here once.
    for (const LegalToken& token : after) {
      if (std::none_of(out.begin(), out.end(), [&](const LegalToken& have) { return have.id == token.id; })) out.push_back(token);
    }
  }
  return out;
}

SpanConstraint::SpanConstraint(const SpanAutomaton& automaton, const VocabularyTrie& vocabulary, std::span<const int32_t> end_ids)
    : automaton_(automaton), vocabulary_(vocabulary), end_ids_(end_ids.begin(), end_ids.end()), state_(automaton.Start()) {}

void SpanConstraint::Mask(std::span<float> logits) {
  constexpr float kMasked = -std::numeric_limits<float>::infinity();
  legal_ = ended_ ? std::vector<LegalToken>() : vocabulary_.Legal(automaton_, state_);
  std::vector<std::pair<int32_t, float>> keep;
  for (const LegalToken& token : legal_) keep.emplace_back(token.id, logits[token.id]);
  // Where nothing continues, the end is legal whatever the boundary: at least one token must stay.
  if (automaton_.CanEnd(state_) || legal_.empty()) {
    for (int32_t id : end_ids_) keep.emplace_back(id, logits[id]);
  }
  std::fill(logits.begin(), logits.end(), kMasked);
  for (const auto& [id, value] : keep) logits[id] = value;
}

void SpanConstraint::Accept(int32_t token) {
  if (std::find(end_ids_.begin(), end_ids_.end(), token) != end_ids_.end()) {
    ended_ = true;
    return;
  }
  for (const LegalToken& legal : legal_) {
    if (legal.id == token) {
      state_ = legal.next;
      return;
    }
  }
  state_ = {-1, 0, false};
}

}  // namespace lectern::service::answer
