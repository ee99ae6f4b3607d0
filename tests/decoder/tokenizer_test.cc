#include "decoder/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "tests/support/temp_dir.h"

namespace lectern::tokenizer {
namespace {

using ::lectern::testing::ModelPath;
using ::lectern::testing::ReadBytes;
using ::lectern::testing::SharedPath;
using ::testing::ElementsAre;

struct Vector {
  std::string id, text;
  std::vector<int32_t> special, plain;
};

std::vector<Vector> VectorsOf(const std::string& path, const std::string& model) {
  std::vector<Vector> out;
  std::istringstream lines(ReadBytes(path));
  for (std::string line; std::getline(lines, line);) {
    auto row = ParseJson(line);
    EXPECT_TRUE(row.ok()) << row.status();
    const Json& ids = (*row)["ids"][model];
    Vector vector{(*row)["id"], (*row)["text"], ids["special"].get<std::vector<int32_t>>(), {}};
    vector.plain = ids.contains("plain") ? ids["plain"].get<std::vector<int32_t>>() : vector.special;
    out.push_back(std::move(vector));
  }
  return out;
}

TEST(WordPiece, EqualsTheTokenizersLibraryOnEveryVector) {
  const std::string vectors = SharedPath("fixtures/real-models/tokenizer_vectors.jsonl");
  const std::string json = ModelPath("all-minilm-l6-v2/tokenizer.json");
  LECTERN_NEED(vectors);
  LECTERN_NEED(json);
  auto tokenizer = Tokenizer::FromJson(ReadBytes(json));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<Vector> all = VectorsOf(vectors, "minilm");
  EXPECT_EQ(all.size(), 454u);
  for (const Vector& v : all) {
    EXPECT_EQ((*tokenizer)->Encode(v.text, {.parse_special = true, .add_special = true}), v.special) << v.id;
    EXPECT_EQ((*tokenizer)->Encode(v.text, {.parse_special = true}), v.plain) << v.id;
  }
}

TEST(WordPiece, LeavesControlNamesInADocumentAsText) {
  const std::string json = ModelPath("all-minilm-l6-v2/tokenizer.json");
  LECTERN_NEED(json);
  auto tokenizer = Tokenizer::FromJson(ReadBytes(json));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const int32_t id : (*tokenizer)->Encode("see [CLS] and [SEP] here")) EXPECT_FALSE((*tokenizer)->IsControl(id));
}

}  // namespace
}  // namespace lectern::tokenizer
