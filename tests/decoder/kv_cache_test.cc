#include "decoder/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"

namespace lectern::decoder {
namespace {

KvCache Make(int64_t max_tokens) {
  return *KvCache::Create({.num_layers = 2, .kv_heads = 3, .head_dim = 16, .max_tokens = max_tokens, .type = DType::kF32});
}

std::vector<int32_t> Tokens(std::initializer_list<int32_t> ids) { return ids; }

TEST(KvCache, KeepsTheLongestCommonPrefixButNeverTheWholePrompt) {
  KvCache cache = Make(200);
  ASSERT_TRUE(cache.Reserve(4).ok());
  cache.Commit(Tokens({1, 2, 3, 4}));
  EXPECT_EQ(cache.KeepPrefixOf(Tokens({1, 2, 3, 4})), 3);
  EXPECT_EQ(cache.KeepPrefixOf(Tokens({1, 2, 9, 4})), 2);
  EXPECT_EQ(cache.KeepPrefixOf(Tokens({1, 2, 3, 4, 5})), 2);
  EXPECT_EQ(cache.KeepPrefixOf(Tokens({7})), 0);
}

TEST(KvCache, GivesPagesBackAndFindsThemAgain) {
  KvCache cache = Make(128);
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(cache.Reserve(128).ok());
    cache.Commit(std::vector<int32_t>(128, round));
    EXPECT_EQ(cache.used_pages(), 2);
    cache.Truncate(64);
    EXPECT_EQ(cache.used_pages(), 1);
    cache.Truncate(0);
    EXPECT_EQ(cache.used_pages(), 0);
  }
  EXPECT_THAT(std::string(cache.Reserve(129).message()), ::testing::HasSubstr("needs 129 tokens, the KV cache holds 128"));
}

TEST(KvCache, LayersKeepTheirKeysAndValuesApartWhateverWasThereBefore) {
  KvCache cache = Make(300);
  ASSERT_TRUE(cache.Reserve(150).ok());
  Rng rng(3);
  std::vector<std::vector<float>> rows;  // [layer * 2 + is_value][token, head, column]
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int part = 0; part < 2; ++part) {
      rows.emplace_back(150 * 3 * 16);
      for (float& x : rows.back()) x = static_cast<float>(rng.Uniform());
    }
    const attention::PagedKv kv = cache.Layer(layer, 150);
    attention::StoreKeys(kv.k, kv.pages, 0, rows[layer * 2].data(), 150);
    attention::StoreValues(kv.v, kv.pages, 0, rows[layer * 2 + 1].data(), 150);
  }
  for (int64_t layer = 0; layer < 2; ++layer) {
    const attention::PagedKv kv = cache.Layer(layer, 150);
    for (int64_t token : {0, 63, 64, 149}) {
      for (int64_t head = 0; head < 3; ++head) {
        for (int64_t c = 0; c < 16; ++c) {
          const int64_t at = (token * 3 + head) * 16 + c;
          ASSERT_EQ(attention::KeyAt(kv.k, kv.pages, token, head, c), rows[layer * 2][at]);
          ASSERT_EQ(attention::ValueAt(kv.v, kv.pages, token, head, c), rows[layer * 2 + 1][at]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace lectern::decoder
