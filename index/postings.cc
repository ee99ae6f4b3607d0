#include "index/postings.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/cpu_target.h"

namespace lectern::index {
namespace {

struct Pair {
  uint32_t frequency, length;
};

// The pairs no other pair beats in both, at most kImpactPairs of them: where there are more, the two neighbours whose
// union (higher frequency, shorter length) gives away least become one.
void KeepFrontier(std::vector<Pair>& pairs) {
  std::sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) {
    return a.frequency != b.frequency ? a.frequency > b.frequency : a.length < b.length;
  });
  size_t kept = 0;
  for (const Pair& pair : pairs) {
    if (kept == 0 || pair.length < pairs[kept - 1].length) pairs[kept++] = pair;
  }
  pairs.resize(kept);
  // Judged at ordinary parameters with the longest of the block for the average; any choice keeps the bound valid.
  const double average = std::max<double>(1, pairs.front().length);
  auto impact = [average](const Pair& p) { return p.frequency / (p.frequency + 0.3 + 0.9 * p.length / average); };
  while (pairs.size() > kImpactPairs) {
    size_t best = 0;
    double best_loss = 1e9;
    for (size_t i = 0; i + 1 < pairs.size(); ++i) {
      const Pair merged{pairs[i].frequency, pairs[i + 1].length};
      const double loss = impact(merged) - std::max(impact(pairs[i]), impact(pairs[i + 1]));
      if (loss < best_loss) best = i, best_loss = loss;
    }
    pairs[best].length = pairs[best + 1].length;
    pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  while (pairs.size() < kImpactPairs) pairs.push_back(pairs.back());
}

// Appends values[0..count) of `bits` bits each, padded to a byte.
void Pack(std::span<const uint32_t> values, int bits, std::string& out) {
  uint64_t pending = 0;
  int filled = 0;
  for (const uint32_t value : values) {
    pending |= uint64_t{value} << filled;
    filled += bits;
    while (filled >= 8) {
      out.push_back(static_cast<char>(pending));
      pending >>= 8;
      filled -= 8;
    }
  }
  if (filled > 0) out.push_back(static_cast<char>(pending));
}

}  // namespace

absl::Status PostingsEncoder::Add(std::span<const uint32_t> chunks, std::span<const uint32_t> frequencies,
                                  std::span<const uint32_t> lengths) {
  CHECK(!chunks.empty() && chunks.size() == frequencies.size());
  const size_t start = data.size();
  const bool with_impacts = chunks.size() > kBlockSize;
  uint32_t before = ~uint32_t{0};
  std::vector<uint32_t> values;
  std::vector<Pair> pairs;
  for (size_t begin = 0; begin < chunks.size(); begin += kBlockSize) {
    const size_t count = std::min<size_t>(kBlockSize, chunks.size() - begin);
    BlockMeta meta;
    if (data.size() - start > UINT32_MAX) {
      return ResourceExhausted("one term's postings must stay below 4 GiB a segment, got ", data.size() - start);
    }
    meta.offset = static_cast<uint32_t>(data.size() - start);
    meta.count_minus_1 = static_cast<uint8_t>(count - 1);
    uint32_t all = 0;
    values.clear();
    for (size_t i = begin; i < begin + count; ++i) {
      DCHECK(before == ~uint32_t{0} || chunks[i] > before);
      values.push_back(chunks[i] - before - 1);
      all |= values.back();
      before = chunks[i];
    }
    meta.last_chunk = before;
    meta.chunk_bits = static_cast<uint8_t>(std::bit_width(all));
    Pack(values, meta.chunk_bits, data);
    all = 0;
    values.clear();
    for (size_t i = begin; i < begin + count; ++i) {
      DCHECK(frequencies[i] >= 1);
      values.push_back(frequencies[i] - 1);
      all |= values.back();
    }
    meta.frequency_bits = static_cast<uint8_t>(std::bit_width(all));
    Pack(values, meta.frequency_bits, data);
    blocks.push_back(meta);
    if (with_impacts) {
      pairs.clear();
      for (size_t i = begin; i < begin + count; ++i) pairs.push_back({frequencies[i], lengths[chunks[i]]});
      KeepFrontier(pairs);
      for (const Pair& pair : pairs) {
        impact_frequency.push_back(pair.frequency);
        impact_length.push_back(pair.length);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ValidatePostings(const PostingsView& list, int64_t data_bytes, int64_t num_chunks) {
  if (list.blocks.size() != (uint64_t{list.document_frequency} + kBlockSize - 1) / kBlockSize) {
    return DataLoss("a list of ", list.document_frequency, " postings must have ",
                    (list.document_frequency + kBlockSize - 1) / kBlockSize, " blocks, got ", list.blocks.size());
  }
  const PostingsKernels& kernels = ActivePostingsKernels();
  PostingsBlock block;
  int64_t left = list.document_frequency, offset = 0, before = -1;
  for (size_t i = 0; i < list.blocks.size(); ++i) {
    const BlockMeta& meta = list.blocks[i];
    if (meta.count() != std::min<int64_t>(left, kBlockSize)) return DataLoss("a block's count differs from its list's");
    left -= meta.count();
    if (meta.chunk_bits > 32 || meta.frequency_bits > 31) return DataLoss("a block's width is past 32 bits");
    if (meta.offset != offset || offset + meta.bytes() > data_bytes) return DataLoss("a block lies outside its list");
    offset += meta.bytes();
    if (meta.last_chunk >= num_chunks || meta.last_chunk <= before) return DataLoss("a block's last chunk is wrong");
    DecodeChunks(kernels, list, i, block);
    // Ascending one by one: a sum that wrapped around 2^32 would come out smaller than the one before it.
    uint32_t wrong = 0;
    for (int j = 1; j < block.count; ++j) wrong |= block.chunks[j] <= block.chunks[j - 1];
    if (wrong != 0 || static_cast<int64_t>(block.chunks[0]) <= before ||
        block.chunks[block.count - 1] != meta.last_chunk) {
      return DataLoss("a block's chunks contradict its last chunk");
    }
    before = meta.last_chunk;
  }
  if (left != 0) return DataLoss("a list's blocks hold fewer postings than it says");
  return absl::OkStatus();
}

const PostingsKernels& ActivePostingsKernels() {
  const CpuTarget target = ActiveCpuTarget();
  if (target >= CpuTarget::kAvx512) return *PostingsKernelsAvx512();
  if (target >= CpuTarget::kAvx2) return *PostingsKernelsAvx2();
  return *PostingsKernelsScalar();
}

std::vector<const PostingsKernels*> AllPostingsKernels() {
  std::vector<const PostingsKernels*> all;
  for (const CpuTarget target : SupportedCpuTargets()) {
    if (target == CpuTarget::kScalar) all.push_back(PostingsKernelsScalar());
    if (target == CpuTarget::kAvx2) all.push_back(PostingsKernelsAvx2());
    if (target == CpuTarget::kAvx512) all.push_back(PostingsKernelsAvx512());
  }
  return all;
}

}  // namespace lectern::index
