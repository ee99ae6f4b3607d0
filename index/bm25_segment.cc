#include "index/bm25_segment.h"

#include <bit>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/file.h"
#include "index/bm25.h"
#include "index/bm25_format.h"
#include "index/term_hash-inl.h"

namespace lectern::index {

using bm25_format::Header;
using bm25_format::Layout;
using bm25_format::TermRecord;

struct Bm25Segment::Impl {
  MappedFile map;
  std::string owned;
  std::string_view bytes;
  Header header{};
  const uint32_t* lengths = nullptr;
  const uint64_t* slots = nullptr;
  const TermRecord* terms = nullptr;
  const BlockMeta* blocks = nullptr;
  const uint32_t* impact_frequency = nullptr;
  const uint32_t* impact_length = nullptr;
  const char* strings = nullptr;
  const uint8_t* data = nullptr;

  absl::Status Parse();
  absl::Status CheckTerms() const;
};

absl::Status Bm25Segment::Impl::Parse() {
  if (bytes.size() < sizeof(Header)) {
    return DataLoss("bm25.bin: needs a header of ", sizeof(Header), " bytes, has ", bytes.size());
  }
  std::memcpy(&header, bytes.data(), sizeof(Header));
  if (std::memcmp(header.magic, bm25_format::kMagic, sizeof(header.magic)) != 0) {
    return DataLoss("bm25.bin: does not begin with its magic bytes");
  }
  if (header.version != bm25_format::kVersion) {
    return NotSupported("bm25.bin: version ", header.version, "; this build reads ", bm25_format::kVersion);
  }
  ASSIGN_OR_RETURN(const Layout layout, Layout::Of(header, bytes.size()));
  if (layout.end != bytes.size()) {
    return DataLoss("bm25.bin: its sections end at ", layout.end, ", the file at ", bytes.size());
  }
  if (header.num_chunks > INT32_MAX || header.num_terms >= UINT32_MAX || header.num_blocks > UINT32_MAX) {
    return DataLoss("bm25.bin: a count is past 32 bits");
  }
  if (header.analyzer[sizeof(header.analyzer) - 1] != '\0') return DataLoss("bm25.bin: the analyzer's name has no end");
  auto at = [this](uint64_t offset) { return bytes.data() + offset; };
  lengths = reinterpret_cast<const uint32_t*>(at(layout.lengths));
  slots = reinterpret_cast<const uint64_t*>(at(layout.slots));
  terms = reinterpret_cast<const TermRecord*>(at(layout.terms));
  blocks = reinterpret_cast<const BlockMeta*>(at(layout.blocks));
  impact_frequency = reinterpret_cast<const uint32_t*>(at(layout.impact_frequency));
  impact_length = reinterpret_cast<const uint32_t*>(at(layout.impact_length));
  strings = at(layout.strings);
  data = reinterpret_cast<const uint8_t*>(at(layout.data));

  uint64_t total = 0;
  for (uint64_t i = 0; i < header.num_chunks; ++i) {
    if (lengths[i] > INT32_MAX) return DataLoss("bm25.bin: chunk ", i, " has a length past 31 bits");
    total += lengths[i];
  }
  if (total != header.total_length) return DataLoss("bm25.bin: the chunks' lengths do not add up to the total");
  return CheckTerms();
}

absl::Status Bm25Segment::Impl::CheckTerms() const {
  if (!std::has_single_bit(header.num_slots) || header.num_slots <= header.num_terms) {
    return DataLoss("bm25.bin: ", header.num_slots, " hash slots cannot hold ", header.num_terms, " terms");
  }
  uint64_t used = 0;
  for (uint64_t i = 0; i < header.num_slots; ++i) {
    const uint32_t term = static_cast<uint32_t>(slots[i]);
    if (term > header.num_terms) return DataLoss("bm25.bin: a hash slot names term ", term, " of ", header.num_terms);
    used += term != 0;
  }
  if (used != header.num_terms) return DataLoss("bm25.bin: the hash table holds ", used, " terms of ", header.num_terms);
  uint64_t block = 0, impact_block = 0, offset = 0, string = 0;
  for (uint64_t t = 0; t < header.num_terms; ++t) {
    const TermRecord& record = terms[t];
    const uint64_t count = (uint64_t{record.document_frequency} + kBlockSize - 1) / kBlockSize;
    const uint64_t next = t + 1 < header.num_terms ? terms[t + 1].data_offset : header.data_bytes;
    if (record.document_frequency == 0 || record.first_block != block || count > header.num_blocks - block ||
        record.data_offset != offset || next < offset || next > header.data_bytes || record.string_offset != string ||
        string >= header.string_bytes) {
      return DataLoss("bm25.bin: term ", t, " does not follow the one before it");
    }
    const uint64_t size = static_cast<unsigned char>(strings[string]);
    if (size == 0 || size + 1 > header.string_bytes - string) return DataLoss("bm25.bin: term ", t, " has no text");
    string += size + 1;
    block += count;
    if (count > 1) {
      if (record.first_impact_block != impact_block || count > header.num_impact_blocks - impact_block) {
        return DataLoss("bm25.bin: term ", t, " has no block maxima");
      }
      for (uint64_t i = impact_block * kImpactPairs; i < (impact_block + count) * kImpactPairs; ++i) {
        if (impact_frequency[i] == 0 || impact_frequency[i] > INT32_MAX || impact_length[i] > INT32_MAX) {
          return DataLoss("bm25.bin: term ", t, " has a block maximum past its limits");
        }
      }
      impact_block += count;
    }
    PostingsView list;
    list.document_frequency = record.document_frequency;
    list.blocks = {blocks + record.first_block, static_cast<size_t>(count)};
    list.data = data + record.data_offset;
    const absl::Status valid =
        ValidatePostings(list, static_cast<int64_t>(next - offset), static_cast<int64_t>(header.num_chunks));
    if (!valid.ok()) return Annotate(valid, internal::Concat("bm25.bin: term ", t));
    offset = next;
  }
  if (block != header.num_blocks || impact_block != header.num_impact_blocks || string != header.string_bytes ||
      offset != header.data_bytes) {
    return DataLoss("bm25.bin: holds more than its terms name");
  }
  return absl::OkStatus();
}

Bm25Segment::Bm25Segment() : impl_(std::make_unique<Impl>()) {}
Bm25Segment::~Bm25Segment() = default;

absl::StatusOr<std::shared_ptr<const Bm25Segment>> Bm25Segment::FromMapping(MappedFile map) {
  std::shared_ptr<Bm25Segment> segment(new Bm25Segment());
  segment->impl_->map = std::move(map);
  segment->impl_->bytes = segment->impl_->map.text();
  RETURN_IF_ERROR(segment->impl_->Parse());
  return std::shared_ptr<const Bm25Segment>(std::move(segment));
}

absl::StatusOr<std::shared_ptr<const Bm25Segment>> Bm25Segment::FromBytes(std::string bytes) {
  std::shared_ptr<Bm25Segment> segment(new Bm25Segment());
  segment->impl_->owned = std::move(bytes);
  segment->impl_->bytes = segment->impl_->owned;
  RETURN_IF_ERROR(segment->impl_->Parse());
  return std::shared_ptr<const Bm25Segment>(std::move(segment));
}

int64_t Bm25Segment::num_chunks() const { return static_cast<int64_t>(impl_->header.num_chunks); }
int64_t Bm25Segment::num_terms() const { return static_cast<int64_t>(impl_->header.num_terms); }
uint64_t Bm25Segment::total_length() const { return impl_->header.total_length; }
std::string_view Bm25Segment::analyzer_name() const { return impl_->header.analyzer; }
std::span<const uint32_t> Bm25Segment::lengths() const {
  return {impl_->lengths, static_cast<size_t>(impl_->header.num_chunks)};
}

std::string_view Bm25Segment::TermText(uint32_t term) const {
  const char* string = impl_->strings + impl_->terms[term].string_offset;
  return {string + 1, static_cast<unsigned char>(*string)};
}

std::optional<uint32_t> Bm25Segment::FindTerm(std::string_view term) const {
  const uint64_t hash = TermHash(term);
  const uint64_t mask = impl_->header.num_slots - 1;
  // The table has free slots (checked on Open), so the probe ends.
  for (uint64_t at = hash & mask;; at = (at + 1) & mask) {
    const uint64_t slot = impl_->slots[at];
    if (static_cast<uint32_t>(slot) == 0) return std::nullopt;
    if ((slot >> 32) == (hash >> 32) && TermText(static_cast<uint32_t>(slot) - 1) == term) {
      return static_cast<uint32_t>(slot) - 1;
    }
  }
}

PostingsView Bm25Segment::Postings(uint32_t term) const {
  const TermRecord& record = impl_->terms[term];
  const size_t count = (size_t{record.document_frequency} + kBlockSize - 1) / kBlockSize;
  PostingsView list;
  list.document_frequency = record.document_frequency;
  list.blocks = {impl_->blocks + record.first_block, count};
  list.data = impl_->data + record.data_offset;
  if (count > 1) {
    list.impact_frequency = impl_->impact_frequency + uint64_t{record.first_impact_block} * kImpactPairs;
    list.impact_length = impl_->impact_length + uint64_t{record.first_impact_block} * kImpactPairs;
  }
  return list;
}

std::optional<PostingsView> Bm25Segment::Find(std::string_view term) const {
  const std::optional<uint32_t> found = FindTerm(term);
  if (!found.has_value()) return std::nullopt;
  return Postings(*found);
}

}  // namespace lectern::index
