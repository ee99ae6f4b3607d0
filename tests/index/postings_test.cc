#include "index/postings.h"

#include <gtest/gtest.h>

#include <algorithm>

#include <numeric>

#include "base/rng.h"
#include "index/bm25.h"

namespace lectern::index {
namespace {

struct List {
  std::vector<uint32_t> chunks, frequencies, lengths;
};

List RandomList(uint64_t seed, size_t count) {
  Rng rng(seed, 2);
  List list;
  const bool single = count <= kBlockSize;  // needs no lengths, so its gaps may be wide
  const int gap_bits = static_cast<int>(rng.Below(single ? 25 : 8));
  uint32_t chunk = static_cast<uint32_t>(rng.Below(3));
  for (size_t i = 0; i < count; ++i) {
    list.chunks.push_back(chunk);
    chunk += 1 + static_cast<uint32_t>(rng.Below(int64_t{1} << gap_bits));
    list.frequencies.push_back(1 + static_cast<uint32_t>(rng.Below(rng.Below(20) == 0 ? 1 << 20 : 8)));
  }
  if (!single) list.lengths.resize(list.chunks.back() + 1);
  for (uint32_t& length : list.lengths) length = static_cast<uint32_t>(rng.Below(1000));
  return list;
}

PostingsView ViewOf(const PostingsEncoder& encoder, size_t count) {
  PostingsView view;
  view.document_frequency = static_cast<uint32_t>(count);
  view.blocks = encoder.blocks;
  view.data = reinterpret_cast<const uint8_t*>(encoder.data.data());
  if (encoder.blocks.size() > 1) {
    view.impact_frequency = encoder.impact_frequency.data();
    view.impact_length = encoder.impact_length.data();
  }
  return view;
}

const size_t kSizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 127, 128, 129, 255, 256, 257, 1000};

TEST(Postings, ReadBackAsWrittenOnEveryTargetAroundBlockBoundaries) {
  for (const PostingsKernels* kernels : AllPostingsKernels()) {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      for (const size_t size : kSizes) {
        const List list = RandomList(seed, size);
        PostingsEncoder encoder;
        ASSERT_TRUE(encoder.Add(list.chunks, list.frequencies, list.lengths).ok());
        const int64_t bytes = static_cast<int64_t>(encoder.data.size());
        encoder.data.append(kReadSlack, '\x5A');
        const PostingsView view = ViewOf(encoder, size);
        ASSERT_TRUE(ValidatePostings(view, bytes, list.chunks.back() + 1).ok());
        size_t at = 0;
        PostingsBlock block;
        for (size_t b = 0; b < view.blocks.size(); ++b) {
          DecodeChunks(*kernels, view, b, block);
          DecodeFrequencies(*kernels, view, b, block);
          for (int i = 0; i < block.count; ++i, ++at) {
            ASSERT_EQ(block.chunks[i], list.chunks[at]) << kernels->name << " size " << size << " at " << at;
            ASSERT_EQ(block.frequencies[i], list.frequencies[at]) << kernels->name;
          }
        }
        ASSERT_EQ(at, size);
      }
    }
  }
}

TEST(Postings, UnpackEveryWidthAlikeOnEveryTarget) {
  Rng rng(3);
  std::string packed(128 * 4 + kReadSlack, '\0');
  for (char& c : packed) c = static_cast<char>(rng.Next());
  const auto* bytes = reinterpret_cast<const uint8_t*>(packed.data());
  for (int bits = 0; bits <= 32; ++bits) {
    for (const int count : {1, 5, 16, 100, 128}) {
      std::vector<uint32_t> want(kBlockSize + 16), got(kBlockSize + 16);
      for (const PostingsKernels* kernels : AllPostingsKernels()) {
        PostingsKernelsScalar()->unpack(bytes, bits, count, 1, want.data());
        kernels->unpack(bytes, bits, count, 1, got.data());
        EXPECT_TRUE(std::equal(want.begin(), want.begin() + count, got.begin())) << kernels->name << " " << bits;
        PostingsKernelsScalar()->unpack_ascending(bytes, bits, count, 41, want.data());
        kernels->unpack_ascending(bytes, bits, count, 41, got.data());
        EXPECT_TRUE(std::equal(want.begin(), want.begin() + count, got.begin())) << kernels->name << " " << bits;
      }
    }
  }
}

TEST(Postings, ScoreAlikeToTheLastBitOnEveryTarget) {
  Rng rng(4);
  std::vector<uint32_t> lengths(5000), docs(kBlockSize + 16), tf(kBlockSize + 16);
  for (uint32_t& length : lengths) length = static_cast<uint32_t>(rng.Below(3000));
  for (int round = 0; round < 200; ++round) {
    for (uint32_t& doc : docs) doc = static_cast<uint32_t>(rng.Below(5000));
    for (uint32_t& count : tf) count = 1 + static_cast<uint32_t>(rng.Below(round % 2 ? 5 : 100000));
    const ScoreTerms terms{static_cast<float>(rng.Uniform() * (1 << 28)), static_cast<float>(rng.Uniform()),
                           static_cast<float>(rng.Uniform() / 100)};
    const int count = 1 + static_cast<int>(rng.Below(kBlockSize));
    std::vector<uint32_t> want(kBlockSize + 16), got(kBlockSize + 16);
    PostingsKernelsScalar()->score(docs.data(), tf.data(), count, lengths.data(), terms, want.data());
    for (const PostingsKernels* kernels : AllPostingsKernels()) {
      kernels->score(docs.data(), tf.data(), count, lengths.data(), terms, got.data());
      ASSERT_TRUE(std::equal(want.begin(), want.begin() + count, got.begin())) << kernels->name;
      std::vector<uint32_t> own(kBlockSize + 16);
      for (int i = 0; i < count; ++i) own[i] = lengths[docs[i]];
      kernels->score_pairs(tf.data(), own.data(), count, terms, got.data());
      ASSERT_TRUE(std::equal(want.begin(), want.begin() + count, got.begin())) << kernels->name;
    }
  }
}

TEST(Postings, CollectTheSamePositionsOnEveryTarget) {
  Rng rng(5);
  std::vector<uint32_t> sums(4096), want(4096), got(4096);
  for (uint32_t& sum : sums) sum = static_cast<uint32_t>(rng.Below(1000)) << (rng.Below(3) * 10);
  for (const uint32_t least : {1u, 2u, 500u, 1u << 20, (1u << 31) - 1}) {
    const int n = PostingsKernelsScalar()->collect(sums.data(), 4096, least, want.data());
    for (const PostingsKernels* kernels : AllPostingsKernels()) {
      ASSERT_EQ(kernels->collect(sums.data(), 4096, least, got.data()), n) << kernels->name;
      EXPECT_TRUE(std::equal(want.begin(), want.begin() + n, got.begin()));
    }
  }
}

TEST(Postings, BoundEveryScoreOfABlockWhateverK1AndB) {
  const PostingsKernels& kernels = ActivePostingsKernels();
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const List list = RandomList(seed, 129 + seed * 3);
    PostingsEncoder encoder;
    ASSERT_TRUE(encoder.Add(list.chunks, list.frequencies, list.lengths).ok());
    Rng rng(seed, 9);
    const Bm25Params params{rng.Below(4) == 0 ? 0 : rng.Uniform() * 3, rng.Below(4) == 0 ? 1 : rng.Uniform()};
    const ScoreTerms terms = TermsOf(params, {1000, 300000}, 5.0, {24});
    std::vector<uint32_t> scores(list.chunks.size() + 16), bounds(kImpactPairs + 16);
    std::vector<uint32_t> own = list.frequencies;
    own.resize(own.size() + 16);
    kernels.score(list.chunks.data(), own.data(), static_cast<int>(list.chunks.size()), list.lengths.data(), terms,
                  scores.data());
    encoder.impact_frequency.resize(encoder.impact_frequency.size() + 16);
    encoder.impact_length.resize(encoder.impact_length.size() + 16);
    for (size_t b = 0; b < encoder.blocks.size(); ++b) {
      kernels.score_pairs(&encoder.impact_frequency[b * kImpactPairs], &encoder.impact_length[b * kImpactPairs],
                          kImpactPairs, terms, bounds.data());
      const uint32_t bound = BoundOf(*std::max_element(bounds.begin(), bounds.begin() + kImpactPairs));
      for (int i = 0; i < encoder.blocks[b].count(); ++i) ASSERT_LE(scores[b * kBlockSize + i], bound);
    }
  }
}

TEST(Postings, EveryFlippedBitIsRefusedOrDecodedWithinTheBlock) {
  const List list = RandomList(7, 700);
  PostingsEncoder encoder;
  ASSERT_TRUE(encoder.Add(list.chunks, list.frequencies, list.lengths).ok());
  const int64_t bytes = static_cast<int64_t>(encoder.data.size());
  int refused = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Rng rng(seed, 8);
    PostingsEncoder mutated;
    mutated.data = encoder.data + std::string(kReadSlack, '\0');
    mutated.blocks = encoder.blocks;
    const int64_t blocks_bytes = static_cast<int64_t>(mutated.blocks.size() * sizeof(BlockMeta));
    const int64_t at = rng.Below(bytes + blocks_bytes);
    char* target = at < bytes ? &mutated.data[at] : reinterpret_cast<char*>(mutated.blocks.data()) + (at - bytes);
    *target = static_cast<char>(*target ^ (1 << rng.Below(8)));
    refused += !ValidatePostings(ViewOf(mutated, 700), bytes, list.chunks.back() + 1).ok();
  }
  EXPECT_GT(refused, 200);  // a changed frequency is as good as any; the file's checksum finds those
}

}  // namespace
}  // namespace lectern::index
