#include "decoder/text_stream.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace lectern::decoder {
namespace {

TEST(TextStream, HoldsBackWhatMayBecomeAStopString) {
  TextStream stream({"\nQ:"});
  EXPECT_FALSE(stream.Append("yes\n"));
  EXPECT_EQ(stream.TakeReady(), "yes");
  EXPECT_FALSE(stream.Append("Q"));
  EXPECT_EQ(stream.TakeReady(), "");
  EXPECT_FALSE(stream.Append("uite"));
  EXPECT_EQ(stream.TakeReady(), "\nQuite");
}

TEST(TextStream, EndsBeforeTheFirstStopStringEvenAcrossPieces) {
  TextStream stream({"STOP", "ST."});
  EXPECT_FALSE(stream.Append("abcS"));
  EXPECT_FALSE(stream.Append("T"));
  EXPECT_TRUE(stream.Append("OP and more"));
  EXPECT_EQ(stream.text(), "abc");
  EXPECT_EQ(stream.TakeReady(), "abc");
  EXPECT_TRUE(stream.Append("late"));
  EXPECT_EQ(stream.text(), "abc");
}

TEST(TextStream, NeverCutsACharacter) {
  TextStream stream({});
  stream.Append("a\xe2\x82");
  EXPECT_EQ(stream.TakeReady(), "a");
  stream.Append("\xac");
  EXPECT_EQ(stream.TakeReady(), "\u20ac");
  stream.Append("\xf0\x9f");
  stream.Finish();
  EXPECT_EQ(stream.TakeReady(), "");
  EXPECT_EQ(stream.text(), "a\u20ac");
}

TEST(TextStream, PassesBytesThatAreNotUtf8) {
  EXPECT_EQ(WholeCharacters("a\xff"), 2u);
  EXPECT_EQ(WholeCharacters("\x80\x80\x80"), 3u);
  EXPECT_EQ(WholeCharacters(""), 0u);
  EXPECT_EQ(WholeCharacters("\xf0\x9f\x98\x80"), 4u);
}

TEST(TextStream, WhatIsHandedOutIsTheTextBeforeTheFirstStopWhateverThePieces) {
  const std::string text = "aabab\u20acabcab abba\u00e9ab";
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Rng rng(seed);
    const std::vector<std::string> stop = {text.substr(rng.Below(6), 1 + rng.Below(4)), "zz"};
    TextStream stream(stop);
    std::string got;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng.Below(4);
      const bool stopped = stream.Append(text.substr(at, n));
      got += stream.TakeReady();
      if (stopped) break;
      at += n;
    }
    stream.Finish();
    got += stream.TakeReady();
    ASSERT_EQ(got, text.substr(0, text.find(stop[0]))) << seed << " stop '" << stop[0] << "'";
    ASSERT_EQ(got, stream.text());
  }
}

}  // namespace
}  // namespace lectern::decoder
