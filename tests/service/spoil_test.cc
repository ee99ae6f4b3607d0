#include "service/eval/spoil.h"

#include <gtest/gtest.h>

#include "service/answer/support.h"

namespace lectern::eval {
namespace {

using service::answer::JudgeSupport;
using service::answer::Source;

// Passages with a true sentence about each, in words of its own.
struct Known {
  std::string title, text, sentence;
};

const std::vector<Known>& AllKnown() {
  static const std::vector<Known> known = {
      {"Corrie Water", "The dam at Corrie Water was built by the engineer Ruth Calder in 1931. It holds 42 million litres. It feeds two mills in Dunmore.",
       "Ruth Calder built the dam at Corrie Water in 1931."},
      {"Corrie Water", "The dam at Corrie Water was built by the engineer Ruth Calder in 1931. It holds 42 million litres. It feeds two mills in Dunmore.",
       "The dam holds 42 million litres."},
      {"The Suez Canal", "The Suez Canal joins the Mediterranean Sea to the Red Sea. It opened in November 1869 after ten years of work led by Ferdinand de Lesseps. "
       "In March 2021 the container ship Ever Given ran aground and blocked it for six days.",
       "The Suez Canal opened in November 1869."},
      {"The Suez Canal", "The Suez Canal joins the Mediterranean Sea to the Red Sea. It opened in November 1869 after ten years of work led by Ferdinand de Lesseps. "
       "In March 2021 the container ship Ever Given ran aground and blocked it for six days.",
       "The ship Ever Given ran aground in March 2021 and blocked it for six days."},
      {"Penicillin", "Alexander Fleming noticed penicillin in London in 1928. Howard Florey and Ernst Chain turned it into a medicine at Oxford in 1940. "
       "The first patient was a policeman, Albert Alexander.",
       "Howard Florey and Ernst Chain turned it into a medicine at Oxford in 1940."},
      {"Penicillin", "Alexander Fleming noticed penicillin in London in 1928. Howard Florey and Ernst Chain turned it into a medicine at Oxford in 1940. "
       "The first patient was a policeman, Albert Alexander.",
       "The first patient was the policeman Albert Alexander."},
      {"Honey bees", "A honey bee tells where flowers are by a waggle dance. Karl von Frisch read the dance and shared a Nobel Prize in 1973. The bee can not see red.",
       "Karl von Frisch shared a Nobel Prize in 1973."},
      {"Honey bees", "A honey bee tells where flowers are by a waggle dance. Karl von Frisch read the dance and shared a Nobel Prize in 1973. The bee can not see red.",
       "The bee can not see red."},
  };
  return known;
}

TEST(Spoil, ChangesWhatItNamesAndNothingElse) {
  const std::vector<std::string> elsewhere = {"Whales sing."};
  const auto spoiled = SpoilSentence("Calder built the dam at Corrie Water in 1931.", AllKnown()[0].text, {.seed = 3, .elsewhere = elsewhere});
  ASSERT_EQ(spoiled.size(), 5u);
  EXPECT_EQ(spoiled[0].kind, Spoiling::kNumber);
  EXPECT_EQ(spoiled[0].text.find("1931"), std::string::npos);
  EXPECT_EQ(spoiled[1].kind, Spoiling::kName);
  EXPECT_NE(spoiled[1].text, "Calder built the dam at Corrie Water in 1931.");
  EXPECT_EQ(spoiled[2].text, "It is not true that Calder built the dam at Corrie Water in 1931.");
  EXPECT_EQ(spoiled[3].text, "Whales sing.");
  EXPECT_EQ(spoiled[4].kind, Spoiling::kTitle);
  EXPECT_NE(spoiled[4].text.find(spoiled[4].in_title), std::string::npos);
  EXPECT_EQ(AllKnown()[0].text.find(spoiled[4].in_title), std::string::npos) << "only the title has it";
  EXPECT_EQ(SpoilSentence("It is not red.", "It is not red.", {})[0].text, "It is red.");
  EXPECT_EQ(SpoilSentence("It is red.", "It is red.", {})[0].text, "It is not red.");
  EXPECT_TRUE(SpoilSentence("", "x", {}).empty());
}

TEST(Support, ATitleLendsNoNumberOrNameInWhosePlaceThePassageHasAnother) {
  const auto supported = [](std::string_view sentence, std::string_view title, std::string_view text) {
    const std::vector<Source> sources = {{title, text, {}}};
    return JudgeSupport(sentence, sources, nullptr).supported;
  };
  EXPECT_FALSE(supported("The dam was built in 1931 by Hale.", "Dams of 1931", "The dam was built in 1935 by Hale."));
  EXPECT_FALSE(supported("Hale built the dam in 1931.", "Dams of 1931", "Hale built the dam at Corrie Water in 1935."));
  EXPECT_FALSE(supported("The dam was built in 1935 by Hale.", "The dams of Hale", "The dam was built in 1935 by Calder."));
  EXPECT_FALSE(supported("Hale built the dam in 1935.", "The dams of Hale", "The dam was built in 1935 by Calder."));
  EXPECT_FALSE(supported("The dam was built in 1935 by Hale.", "The dams of Hale", "Calder built the dam in 1935."));
  EXPECT_FALSE(supported("Hale built the dam in 1935.", "The dams of Hale", "Calder built the dam in 1935."));
  EXPECT_FALSE(supported("The dam stands in Lyon beside the river.", "Lyon", "The dam stands in Paris beside the river."));
  EXPECT_FALSE(supported("In 1931.", "Dams of 1931", "It holds 42 million litres."));
  // What the passage leaves to its title is lent all the same.
  EXPECT_TRUE(supported("The dam was built in 1935 by Hale.", "The dam of 1935", "The dam was built by Hale."));
  EXPECT_TRUE(supported("Marie Curie won the Nobel Prize in 1903.", "Marie Curie", "She won the Nobel Prize in 1903."));
  EXPECT_TRUE(supported("Curie was born in Warsaw.", "Marie Curie", "Marie was born in Warsaw."));
  EXPECT_TRUE(supported("The dam at Corrie Water was built by Ruth Calder in 1931.", "Corrie Water", "The dam was built by the engineer Ruth Calder in 1931."));
  EXPECT_TRUE(supported("Apollo 11 landed on the Moon on July 20.", "Apollo 11", "The spacecraft landed on the Moon on July 20, 1969."));
}

// The small form of `lectern eval citations`: many seeds over few sentences.
TEST(Spoil, SpoiledSentencesLoseTheirCitationAndTrueOnesKeepIt) {
  int kept = 0, total = 0, lost = 0, spoiled = 0;
  const auto& known = AllKnown();
  for (size_t k = 0; k < known.size(); ++k) {
    const std::vector<Source> sources = {{known[k].title, known[k].text, {}}};
    ++total;
    const auto support = JudgeSupport(known[k].sentence, sources, nullptr);
    kept += support.supported;
    EXPECT_TRUE(support.supported) << known[k].sentence << ": " << support.why;
    const std::vector<std::string> elsewhere = {known[(k + known.size() / 2) % known.size()].sentence};
    for (uint64_t seed = 0; seed < 20; ++seed) {
      for (const Spoiled& s : SpoilSentence(known[k].sentence, known[k].text, {.seed = seed, .elsewhere = elsewhere})) {
        ++spoiled;
        const std::string title = known[k].title + (s.in_title.empty() ? "" : ", " + s.in_title);
        const std::vector<Source> retitled = {{title, known[k].text, {}}};
        const bool cited = JudgeSupport(s.text, retitled, nullptr).supported;
        EXPECT_FALSE(cited && s.kind == Spoiling::kTitle) << s.text << " | " << title;
        lost += !cited;
        if (cited) RecordProperty("passed_" + std::to_string(spoiled), s.text);
      }
    }
  }
  EXPECT_GE(spoiled, 200);
  EXPECT_GE(lost, spoiled * 9 / 10);
  EXPECT_GE(kept, total * 9 / 10);
}

}  // namespace
}  // namespace lectern::eval
