// Noise for texts: the same bytes every time, whole characters, more at higher levels, never nothing.
#include "service/eval/text_noise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace lectern::eval {
namespace {

constexpr TextNoise kFamilies[] = {TextNoise::kOcr, TextNoise::kTypo, TextNoise::kDrop, TextNoise::kAsr, TextNoise::kShift};
constexpr std::string_view kText =
    "The clinical trial of 2019 included three hundred patients, and their blood was drawn weekly. It was known that the rate of change "
    "depends on age. Some of them were treated at home; others in the new wing. No effect on the heel was seen in the first week. "
    "Caf\xc3\xa9 na\xc3\xafve \xe2\x82\xac 5, \xe4\xb8\xad\xe6\x96\x87 and the end.";

std::vector<std::string> Words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

int64_t Changed(TextNoise family, double level) {
  int64_t changed = 0;
  const std::vector<std::string> before = Words(std::string(kText));
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const std::vector<std::string> after = Words(AddTextNoise(family, level, seed, kText));
    for (const std::string& word : before) changed += std::find(after.begin(), after.end(), word) == after.end();
  }
  return changed;
}

bool IsUtf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    const size_t length = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t j = 1; j < length; ++j) {
      if ((static_cast<unsigned char>(text[i + j]) & 0xc0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

TEST(TextNoise, TheSameSeedGivesTheSameBytesAndAnotherSeedOthers) {
  for (const TextNoise family : kFamilies) {
    const std::string once = AddTextNoise(family, .3, 7, kText);
    EXPECT_EQ(once, AddTextNoise(family, .3, 7, kText)) << TextNoiseName(family);
    int different = 0;
    for (uint64_t seed = 8; seed < 28; ++seed) different += AddTextNoise(family, .3, seed, kText) != once;
    EXPECT_GT(different, 14) << TextNoiseName(family);
  }
}

TEST(PickSentence, IsOneOfTheTextAndNotMostOfIt) {
  std::vector<std::string> seen;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const std::string sentence = PickSentence(seed, kText);
    EXPECT_EQ(sentence, PickSentence(seed, kText));
    EXPECT_NE(kText.find(sentence), std::string_view::npos) << sentence;
    if (std::find(seen.begin(), seen.end(), sentence) == seen.end()) seen.push_back(sentence);
  }
  EXPECT_EQ(seen.size(), 5u);   // every sentence of five words or more
  EXPECT_EQ(PickSentence(1, "The only sentence of a short text."), "");
  EXPECT_EQ(PickSentence(1, ""), "");
  std::string spoken;   // no full stop anywhere
  for (int i = 0; i < 40; ++i) spoken += "word" + std::to_string(i) + " ";
  EXPECT_EQ(Words(PickSentence(3, spoken)).size(), 16u);
}

TEST(TextNoise, LevelZeroIsTheTextAndHigherLevelsChangeMore) {
  for (const TextNoise family : kFamilies) {
    EXPECT_EQ(AddTextNoise(family, 0, 7, kText), kText);
    EXPECT_LT(Changed(family, .05), Changed(family, .4)) << TextNoiseName(family);
    EXPECT_GT(Changed(family, .4), 100) << TextNoiseName(family);
  }
}

TEST(TextNoise, CharactersStayWholeAndNoTextBecomesEmpty) {
  for (const TextNoise family : kFamilies) {
    for (uint64_t seed = 1; seed <= 30; ++seed) {
      const std::string noisy = AddTextNoise(family, .9, seed, kText);
      EXPECT_TRUE(IsUtf8(noisy)) << TextNoiseName(family) << ": " << noisy;
      for (const std::string_view small : {"a", "the", "One sentence.", "\xc3\xa9", "..."}) {
        EXPECT_FALSE(AddTextNoise(family, 1, seed, small).empty()) << TextNoiseName(family) << " of " << small;
      }
    }
    EXPECT_EQ(AddTextNoise(family, .5, 1, ""), "");
  }
}

TEST(TextNoise, FamiliesDoWhatTheirNamesSay) {
  // Sentences that are left are whole.
  const std::string dropped = AddTextNoise(TextNoise::kDrop, .5, 3, kText);
  EXPECT_LT(dropped.size(), kText.size());
  for (size_t begin = 0, end; begin < dropped.size(); begin = end + 1) {
    end = std::min(dropped.find('.', begin), dropped.size());
    EXPECT_NE(kText.find(dropped.substr(begin, end - begin)), std::string_view::npos);
  }
  // A shift leaves consecutive words.
  const std::vector<std::string> all = Words(std::string(kText)), shifted = Words(AddTextNoise(TextNoise::kShift, .2, 5, kText));
  EXPECT_EQ(shifted.size(), all.size() - static_cast<size_t>(.2 * static_cast<double>(all.size())));
  EXPECT_NE(std::search(all.begin(), all.end(), shifted.begin(), shifted.end()), all.end());
  // Speech has no capitals, digits or punctuation.
  for (const char c : AddTextNoise(TextNoise::kAsr, .1, 1, kText)) EXPECT_TRUE((c >= 'a' && c <= 'z') || c == ' ' || c == '\'' || (c & 0x80)) << c;
}

TEST(TextNoise, AnUnknownFamilyIsNamed) {
  EXPECT_EQ(ParseTextNoise("fax").status().message(), "a family of text noise must be ocr, typo, drop, asr or shift, got 'fax'");
  for (const TextNoise family : kFamilies) EXPECT_EQ(*ParseTextNoise(TextNoiseName(family)), family);
}

}  // namespace
}  // namespace lectern::eval
