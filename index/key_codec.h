// index/key_codec.h: RocksDB keys that sort as they are scanned, and the bytes of a stored document.
//
//   std::string key = DocumentKey("books", "d1");               // all of a collection lie together, in id order
//   std::string change = ChangeKey("books", seq);               // big-endian, so in seq order
//   ASSIGN_OR_RETURN(StoredDocument stored, DecodeDocument(bytes));
//
// Shapes:  kind byte, collection, NUL, then id or sequence number. Collections hold no NUL (their names are checked).
// Threads: pure functions.
// Errors:  kDataLoss where bytes end early or a tag is unknown; kFailedPrecondition for a newer version, by number.
// Cost:    linear in the bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "index/document.h"

namespace lectern::index {

inline constexpr std::string_view kLastSeqKey = "s";
inline constexpr std::string_view kFormatKey = "v";
inline constexpr int kStoreFormat = 1;

std::string DocumentKey(std::string_view collection, std::string_view id);   // the document
std::string HeadKey(std::string_view collection, std::string_view id);       // its seq and source SHA-256
std::string ChangeKey(std::string_view collection, uint64_t seq);            // its latest change
std::string CountKey(std::string_view collection);
std::string MetaKey(std::string_view key);
// Every key of one kind ('d', 'h', 'c') of a collection lies in [begin, end).
struct KeyRange {
  std::string begin, end;
};
KeyRange CollectionRange(char kind, std::string_view collection);
// What stands behind the collection in a document's key.
std::string_view IdOf(std::string_view document_key, std::string_view collection);
uint64_t SeqOf(std::string_view change_key);

std::string EncodeU64(uint64_t value);   // 8 bytes, big-endian
absl::StatusOr<uint64_t> DecodeU64(std::string_view bytes);

std::string EncodeDocument(const Document& document, uint64_t seq);
absl::StatusOr<StoredDocument> DecodeDocument(std::string_view bytes);

}  // namespace lectern::index
