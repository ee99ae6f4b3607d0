// service/answer/support.h: does a passage say what a sentence claims? Judged without the model's word.
//
//   std::vector<Source> sources = {{title, text, segments}, ...};
//   Support support = JudgeSupport("Hale built the dam in 1931.", sources, nullptr);
//   if (support.supported) quote = text.substr(support.quote.begin, ...);
//
// Shapes:  ranges are bytes of Source::text.
// Threads: pure; the similarity callback is called from the caller's thread.
// Errors:  none; an empty sentence is not supported, and says why.
// Cost:    words of the sentence times sentences of the sources.
//
// Each sentence is laid against every one or two neighbouring passage sentences. It is supported where (a) every number
// and (b) every name of it stands there, (c) what it denies is denied there and nothing else is, (d) most of its content words
// stand there, (e) in much the same order, so that two swapped names are noticed, (f) no
// other number stands where the sentence puts its own, and (g) of two neighbouring sentences none lends the other a lone number or name.
// The title may lend a number or a name (the passage says "he", "the dam"), but not where the passage says another one in its place.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "index/encoder.h"
#include "service/answer/text_units.h"

namespace lectern::service::answer {

struct Source {
  std::string_view title, text;
  std::vector<ByteRange> segments;   // what may be quoted; empty: all of text
};

struct Support {
  bool supported = false;
  int64_t source = -1;
  ByteRange quote;              // one or two sentences of the source
  double coverage = 0;          // share of content words found
  double order = 0;             // share of neighbouring word pairs found in order
  double similarity = 0;        // of the encoder, where there is one
  std::string why;              // where not supported: "number 1931 is not in the passage", ...
};

using Similarity = std::function<double(std::string_view, std::string_view)>;   // cosine; null: none at hand

// Cosine of an encoder's vectors; null without one. A text the encoder cannot take counts as unlike everything.
Similarity EncoderSimilarity(index::Encoder* encoder);

Support JudgeSupport(std::string_view sentence, std::span<const Source> sources, const Similarity& similarity);

}  // namespace lectern::service::answer
