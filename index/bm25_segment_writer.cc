#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "index/analyzer-inl.h"
#include "index/bm25.h"
#include "index/bm25_format.h"
#include "index/bm25_segment.h"
#include "index/term_table.h"

namespace lectern::index {
namespace {

using bm25_format::Header;
using bm25_format::Layout;
using bm25_format::TermRecord;

struct Posting {
  uint32_t term, frequency;
};
constexpr size_t kPostingsPerSlab = 1 << 16;
constexpr size_t kPostingsPerPass = 8 << 20;  // 64 MiB of scattered postings at a time

template <class T>
std::string_view BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

struct Bm25SegmentWriter::Impl {
  const Analyzer& analyzer;
  TermTable words;                        // as written, folded: most need no stemmer and no second lookup
  std::vector<uint32_t> term_of_word;
  TermTable terms;
  std::vector<uint32_t> document_frequency;
  std::vector<uint32_t> in_chunk;         // [term]: frequency in the chunk being added
  std::vector<uint32_t> touched;
  std::vector<std::unique_ptr<Posting[]>> slabs;
  uint64_t num_postings = 0;
  std::vector<uint64_t> chunk_end;        // in postings
  std::vector<uint32_t> lengths;
  uint64_t total_length = 0, string_bytes = 0;
  std::string scratch;

  explicit Impl(const Analyzer& a) : analyzer(a) {}

  uint64_t Count(std::string_view text, uint32_t weight) {
    uint64_t count = 0;
    ForEachWord(analyzer.impl(), text, [&](std::string_view folded, int64_t, int64_t) {
      ++count;
      const auto [word, is_new] = words.Intern(folded);
      if (is_new) {
        const std::string_view term = analyzer.impl().TermOf(folded, scratch);
        const auto [id, new_term] = terms.Intern(term);
        if (new_term) {
          document_frequency.push_back(0);
          in_chunk.push_back(0);
          string_bytes += term.size() + 1;
        }
        term_of_word.push_back(id);
      }
      const uint32_t term = term_of_word[word];
      if (in_chunk[term] == 0) touched.push_back(term);
      in_chunk[term] += weight;
    });
    return count;
  }

  void Push(Posting posting) {
    if (num_postings % kPostingsPerSlab == 0) slabs.push_back(std::make_unique<Posting[]>(kPostingsPerSlab));
    slabs.back()[num_postings % kPostingsPerSlab] = posting;
    ++num_postings;
  }
  const Posting& At(uint64_t i) const { return slabs[i / kPostingsPerSlab][i % kPostingsPerSlab]; }

  using Append = std::function<absl::Status(std::string_view)>;
  absl::Status WriteTo(const Append& append);
  absl::Status EncodeLists(std::span<const uint32_t> order, PostingsEncoder& encoder,
                           std::vector<TermRecord>& records) const;
};

// Lists in the order of `order`, a range of terms at a time: each range is scattered from the chunk-ordered postings.
absl::Status Bm25SegmentWriter::Impl::EncodeLists(std::span<const uint32_t> order, PostingsEncoder& encoder,
                                                  std::vector<TermRecord>& records) const {
  constexpr uint64_t kElsewhere = ~uint64_t{0};
  std::vector<uint64_t> cursor(terms.size(), kElsewhere);  // where a term's next posting goes
  std::vector<uint32_t> chunks, frequencies;
  uint32_t string_offset = 0;
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    uint64_t room = 0;
    while (end < order.size() && (end == begin || room + document_frequency[order[end]] <= kPostingsPerPass)) {
      cursor[order[end]] = room;
      room += document_frequency[order[end++]];
    }
    chunks.resize(room);
    frequencies.resize(room);
    uint64_t i = 0;
    for (size_t chunk = 0; chunk < chunk_end.size(); ++chunk) {
      for (; i < chunk_end[chunk]; ++i) {
        const Posting& posting = At(i);
        uint64_t& to = cursor[posting.term];
        if (to == kElsewhere) continue;
        chunks[to] = static_cast<uint32_t>(chunk);
        frequencies[to] = posting.frequency;
        ++to;
      }
    }
    uint64_t from = 0;
    for (; begin < end; ++begin) {
      const uint32_t term = order[begin];
      const size_t count = document_frequency[term];
      if (encoder.blocks.size() + count / kBlockSize + 1 > UINT32_MAX) {
        return ResourceExhausted("a segment must stay below 2^32 posting blocks");
      }
      records.push_back({encoder.data.size(), static_cast<uint32_t>(count), static_cast<uint32_t>(encoder.blocks.size()),
                         static_cast<uint32_t>(encoder.impact_frequency.size() / kImpactPairs), string_offset});
      string_offset += static_cast<uint32_t>(terms.Text(term).size()) + 1;
      RETURN_IF_ERROR(encoder.Add(std::span(chunks).subspan(from, count), std::span(frequencies).subspan(from, count),
                                  lengths));
      from += count;
      cursor[term] = kElsewhere;
    }
  }
  return absl::OkStatus();
}

absl::Status Bm25SegmentWriter::Impl::WriteTo(const Append& append) {
  std::vector<uint32_t> order(terms.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [this](uint32_t a, uint32_t b) { return terms.Text(a) < terms.Text(b); });
  PostingsEncoder encoder;
  std::vector<TermRecord> records;
  records.reserve(order.size());
  RETURN_IF_ERROR(EncodeLists(order, encoder, records));

  std::vector<uint64_t> slots(std::bit_ceil(uint64_t{terms.size()} * 2 + 1));
  std::string strings;
  strings.reserve(string_bytes);
  for (size_t i = 0; i < order.size(); ++i) {
    const std::string_view text = terms.Text(order[i]);
    strings.push_back(static_cast<char>(text.size()));
    strings.append(text);
    const uint64_t hash = TermHash(text);
    uint64_t at = hash & (slots.size() - 1);
    while (slots[at] != 0) at = (at + 1) & (slots.size() - 1);
    slots[at] = (hash >> 32 << 32) | (i + 1);
  }

  Header header{};
  std::memcpy(header.magic, bm25_format::kMagic, sizeof(header.magic));
  header.version = bm25_format::kVersion;
  header.title_weight = kTitleWeight;
  header.num_chunks = lengths.size();
  header.total_length = total_length;
  header.num_terms = order.size();
  header.num_blocks = encoder.blocks.size();
  header.num_impact_blocks = encoder.impact_frequency.size() / kImpactPairs;
  header.num_slots = slots.size();
  header.string_bytes = strings.size();
  header.data_bytes = encoder.data.size();
  const std::string name = analyzer.name();
  CHECK(name.size() < sizeof(header.analyzer));
  std::memcpy(header.analyzer, name.data(), name.size());

  uint64_t at = 0;
  auto section = [&](std::string_view bytes) -> absl::Status {
    static constexpr char kZeros[64] = {};
    RETURN_IF_ERROR(append({kZeros, static_cast<size_t>((64 - at % 64) % 64)}));
    at = (at + 63) / 64 * 64 + bytes.size();
    return append(bytes);
  };
  RETURN_IF_ERROR(section({reinterpret_cast<const char*>(&header), sizeof(header)}));
  RETURN_IF_ERROR(section(BytesOf(lengths)));
  RETURN_IF_ERROR(section(BytesOf(slots)));
  RETURN_IF_ERROR(section(BytesOf(records)));
  RETURN_IF_ERROR(section(BytesOf(encoder.blocks)));
  RETURN_IF_ERROR(section(BytesOf(encoder.impact_frequency)));
  RETURN_IF_ERROR(section(BytesOf(encoder.impact_length)));
  RETURN_IF_ERROR(section(strings));
  RETURN_IF_ERROR(section(encoder.data));
  return append(std::string(kReadSlack, '\0'));
}

Bm25SegmentWriter::Bm25SegmentWriter(const Analyzer& analyzer) : impl_(std::make_unique<Impl>(analyzer)) {}
Bm25SegmentWriter::~Bm25SegmentWriter() = default;

absl::Status Bm25SegmentWriter::Add(std::string_view title, std::string_view chunk_text) {
  Impl& impl = *impl_;
  if (impl.lengths.size() >= INT32_MAX) return ResourceExhausted("a segment holds at most ", INT32_MAX, " chunks");
  if (impl.string_bytes > UINT32_MAX - chunk_text.size() * 2 - title.size() * 2) {
    return ResourceExhausted("a segment's distinct terms must stay below 4 GiB");
  }
  if (title.size() + chunk_text.size() > INT32_MAX / (kTitleWeight + 1)) {
    return ResourceExhausted("a chunk must stay below ", INT32_MAX / (kTitleWeight + 1), " bytes, got ",
                             title.size() + chunk_text.size(), " (--chunk-tokens cuts documents into chunks)");
  }
  const uint64_t length = impl.Count(title, kTitleWeight) * kTitleWeight + impl.Count(chunk_text, 1);
  for (const uint32_t term : impl.touched) {
    impl.Push({term, impl.in_chunk[term]});
    ++impl.document_frequency[term];
    impl.in_chunk[term] = 0;
  }
  impl.touched.clear();
  impl.chunk_end.push_back(impl.num_postings);
  impl.lengths.push_back(static_cast<uint32_t>(length));
  impl.total_length += length;
  return absl::OkStatus();
}

int64_t Bm25SegmentWriter::num_chunks() const { return static_cast<int64_t>(impl_->lengths.size()); }

int64_t Bm25SegmentWriter::buffered_bytes() const {
  const Impl& impl = *impl_;
  const uint64_t postings = impl.slabs.size() * kPostingsPerSlab;
  const uint64_t pass = std::min<uint64_t>(impl.num_postings, kPostingsPerPass) * 8;
  return impl.words.bytes() + impl.terms.bytes() +
         static_cast<int64_t>(postings * sizeof(Posting) + pass + impl.num_postings * 3 + impl.lengths.size() * 12 +
                              impl.terms.size() * uint64_t{100} + impl.string_bytes);
}

absl::Status Bm25SegmentWriter::WriteTo(const std::function<absl::Status(std::string_view)>& append) {
  RETURN_IF_ERROR(impl_->WriteTo(append));
  impl_ = std::make_unique<Impl>(impl_->analyzer);
  return absl::OkStatus();
}

absl::StatusOr<std::string> Bm25SegmentWriter::Serialize() {
  std::string all;
  RETURN_IF_ERROR(WriteTo([&all](std::string_view bytes) {
    all.append(bytes);
    return absl::OkStatus();
  }));
  return all;
}

}  // namespace lectern::index
