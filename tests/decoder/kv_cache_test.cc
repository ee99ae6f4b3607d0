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

// Keys and values of all tokens, layers and heads.
std::vector<float> Contents(const KvCache& cache) {
  std::vector<float> all;
  for (int64_t layer = 0; layer < 2; ++layer) {
    const attention::PagedKv kv = cache.Layer(layer, cache.size());
    for (int64_t token = 0; token < cache.size(); ++token) {
      for (int64_t head = 0; head < 3; ++head) {
        for (int64_t c = 0; c < 16; ++c) {
          all.push_back(attention::KeyAt(kv.k, kv.pages, token, head, c));
          all.push_back(attention::ValueAt(kv.v, kv.pages, token, head, c));
        }
      }
    }
  }
  return all;
}

// Writes and commits `count` tokens of random keys and values.
void Append(KvCache& cache, int64_t count, Rng& rng) {
  ASSERT_TRUE(cache.Reserve(count).ok());
  for (int64_t layer = 0; layer < 2; ++layer) {
    const attention::PagedKv kv = cache.Layer(layer, cache.size() + count);
    std::vector<float> rows(count * 3 * 16);
    for (float& x : rows) x = static_cast<float>(rng.Uniform());
    attention::StoreKeys(kv.k, kv.pages, cache.size(), rows.data(), count);
    for (float& x : rows) x = static_cast<float>(rng.Uniform());
    attention::StoreValues(kv.v, kv.pages, cache.size(), rows.data(), count);
  }
  cache.Commit(std::vector<int32_t>(count, static_cast<int32_t>(rng.Below(1000))));
}

std::vector<int32_t> Pages(const KvCache& cache) {
  const attention::PagedKv kv = cache.Layer(0, cache.size());
  return {kv.pages.begin(), kv.pages.end()};
}

KvCache MakePool(int64_t pool_tokens) {
  return *KvCache::Create({.num_layers = 2, .kv_heads = 3, .head_dim = 16, .max_tokens = 256, .pool_tokens = pool_tokens, .type = DType::kF32});
}

TEST(KvCache, ForksShareFullPagesAndCopyThePartialOneBeforeTheyWrite) {
  for (const int64_t common : {1, 63, 64, 65, 100, 128}) {
    SCOPED_TRACE(common);
    KvCache first = MakePool(1024);
    Rng rng(5);
    Append(first, common, rng);
    const std::vector<float> before = Contents(first);
    KvCache second = first.Fork(), third = first.Fork();
    EXPECT_EQ(Pages(second), Pages(first));
    EXPECT_EQ(Contents(second), before);
    const std::vector<int32_t> shared = Pages(first);
    Append(second, 30, rng);
    EXPECT_EQ(Pages(first), shared);
    EXPECT_EQ(Contents(first), before);  // nothing of what the others see has moved
    EXPECT_EQ(Contents(third), before);
    const std::vector<float> of_second = Contents(second);
    Append(first, 40, rng);
    Append(third, 1, rng);
    EXPECT_EQ(Contents(second), of_second);
    // The common tokens are the same for all, layer by layer.
    const int64_t row = 3 * 16 * 2;
    for (const KvCache* cache : {&first, &second, &third}) {
      const std::vector<float> all = Contents(*cache);
      for (int64_t layer = 0; layer < 2; ++layer) {
        const auto at = all.begin() + layer * cache->size() * row, want = before.begin() + layer * common * row;
        EXPECT_TRUE(std::equal(at, at + common * row, want));
      }
      for (int64_t page = 0; page < common / 64; ++page) EXPECT_EQ(Pages(*cache)[page], shared[page]);
    }
    if (common % 64 != 0) {  // three sequences, three pages of their own; the last one to write keeps the old one
      EXPECT_NE(Pages(first)[common / 64], Pages(second)[common / 64]);
      EXPECT_NE(Pages(first)[common / 64], Pages(third)[common / 64]);
      EXPECT_EQ(Pages(third)[common / 64], shared[common / 64]);
    }
  }
}

TEST(KvCache, AForkThatIsCutBackIntoSharedPagesCopiesToo) {
  KvCache first = MakePool(1024);
  Rng rng(6);
  Append(first, 200, rng);
  const std::vector<float> before = Contents(first);
  KvCache second = first.Fork();
  second.Truncate(70);
  Append(second, 100, rng);
  EXPECT_EQ(Contents(first), before);
  EXPECT_EQ(Pages(second)[0], Pages(first)[0]);
  EXPECT_NE(Pages(second)[1], Pages(first)[1]);
  EXPECT_NE(Pages(second)[2], Pages(first)[2]);
}

TEST(KvCache, PagesComeBackWhenTheirLastHolderLetsGo) {
  KvCache first = MakePool(256);  // four pages
  Rng rng(7);
  Append(first, 100, rng);
  for (int round = 0; round < 10; ++round) {
    KvCache fork = first.Fork();
    Append(fork, 60, rng);  // one copy, one more: the pool is full
    KvCache more = first.Fork();
    EXPECT_THAT(std::string(more.Reserve(100).message()), ::testing::HasSubstr("pool of 4 pages that it shares with its forks has 0"));
    KvCache moved = std::move(fork);
    moved = first.Fork();
    EXPECT_EQ(moved.size(), 100);
  }
  const std::vector<int32_t> pages = Pages(first);
  Append(first, 10, rng);  // nobody else is left: written in place
  EXPECT_EQ(Pages(first), pages);
}

TEST(KvCacheDeathTest, ASharedPageCannotBeWritten) {
  KvCache first = MakePool(1024);
  Rng rng(8);
  Append(first, 30, rng);
  ASSERT_TRUE(first.Reserve(5).ok());
  KvCache second = first.Fork();
  EXPECT_DEATH(first.Layer(0, 31), "holders");
  ASSERT_TRUE(first.Reserve(5).ok());
  first.Layer(0, 31);
}

}  // namespace
}  // namespace lectern::decoder
