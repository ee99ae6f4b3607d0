#include "index/deletes.h"

#include <bit>
#include <cstring>

namespace lectern::index {
namespace {

// magic, num_documents, then the words; all little-endian 64-bit.
constexpr std::string_view kMagic = "LECTDEL1";

size_t WordsFor(int64_t num_documents) { return static_cast<size_t>((num_documents + 63) / 64); }

}  // namespace

DeletedDocuments::DeletedDocuments(int64_t num_documents)
    : num_documents_(num_documents), words_(WordsFor(num_documents)) {}

void DeletedDocuments::Add(int64_t document) {
  uint64_t& word = words_[static_cast<size_t>(document >> 6)];
  const uint64_t bit = uint64_t{1} << (document & 63);
  if ((word & bit) == 0) ++count_;
  word |= bit;
}

std::string DeletedDocuments::Serialize() const {
  std::string out(kMagic);
  const auto n = static_cast<uint64_t>(num_documents_);
  out.append(reinterpret_cast<const char*>(&n), sizeof(n));
  out.append(reinterpret_cast<const char*>(words_.data()), words_.size() * sizeof(uint64_t));
  return out;
}

absl::StatusOr<DeletedDocuments> DeletedDocuments::Parse(std::string_view bytes, int64_t num_documents) {
  DeletedDocuments dead(num_documents);
  const size_t wanted = kMagic.size() + 8 + dead.words_.size() * 8;
  if (bytes.size() != wanted || !bytes.starts_with(kMagic)) {
    return DataLoss("a deletes file of ", num_documents, " documents has ", wanted, " bytes and begins with ", kMagic,
                    ", got ", bytes.size(), " bytes");
  }
  uint64_t n = 0;
  std::memcpy(&n, bytes.data() + kMagic.size(), sizeof(n));
  if (n != static_cast<uint64_t>(num_documents)) {
    return DataLoss("a deletes file counts ", n, " documents, its segment has ", num_documents);
  }
  if (!dead.words_.empty()) std::memcpy(dead.words_.data(), bytes.data() + kMagic.size() + 8, dead.words_.size() * 8);
  for (const uint64_t word : dead.words_) dead.count_ += std::popcount(word);
  if (num_documents % 64 != 0 && (dead.words_.back() >> (num_documents % 64)) != 0) {
    return DataLoss("a deletes file marks documents past the last one, ", num_documents - 1);
  }
  return dead;
}

absl::StatusOr<DeletedDocuments> DeletedDocuments::Open(SegmentFiles& files) {
  const SegmentEntry& entry = files.entry();
  if (entry.deletes_file.empty()) return DeletedDocuments(entry.num_documents);
  ASSIGN_OR_RETURN(const MappedFile map, files.Take(entry.deletes_file));
  auto dead = Parse(map.text(), entry.num_documents);
  if (!dead.ok()) return Annotate(dead.status(), files.PathOf(entry.deletes_file));
  return dead;
}

}  // namespace lectern::index
