// index/key_codec.h: RocksDB keys that sort as they are scanned, and the bytes of the values beneath them.
//
//   std::string key = DocumentKey("books", "d1");        // a collection's documents lie together, in id order
//   std::string change = ChangeKey("books", seq);        // big-endian, so in the order of the writes
//   ASSIGN_OR_RETURN(StoredDocument stored, DecodeDocument(id, value));
//
// Shapes:  a key is a kind byte, the collection, NUL, then an id or a sequence number. Collections hold no NUL.
//          The bytes are described in docs/formats/data-directory.md.
// Threads: pure functions.
// Errors:  kDataLoss where a value ends early or holds what we never write.
// Cost:    linear in the bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "index/document.h"

namespace lectern::index {

inline constexpr int kStoreFormat = 1;
inline constexpr std::string_view kFormatKey = "sformat";
inline constexpr std::string_view kLastSeqKey = "sseq";

enum class KeyKind : char {
  kChange = 'c',    // (collection, seq) -> id: the latest change of one document
  kDocument = 'd',  // (collection, id) -> the document
  kHead = 'h',      // (collection, id) -> its latest seq, content hash, whether it is deleted
  kMeta = 'm',      // key -> JSON
  kCount = 'n',     // (collection) -> number of documents
  kStore = 's',     // format, last sequence number
};

struct KeyRange {   // [begin, end)
  std::string begin, end;
};

std::string DocumentKey(std::string_view collection, std::string_view id);
std::string HeadKey(std::string_view collection, std::string_view id);
std::string ChangeKey(std::string_view collection, uint64_t seq);
std::string CountKey(std::string_view collection);
std::string MetaKey(std::string_view key);
KeyRange RangeOf(KeyKind kind);                                // every key of a kind
KeyRange RangeOf(KeyKind kind, std::string_view collection);   // REQUIRES: a kind that has collections

// The two parts behind the kind byte of a document, head, change or count key.
struct KeyParts {
  std::string_view collection, rest;
};
absl::StatusOr<KeyParts> SplitKey(std::string_view key);

struct Head {
  uint64_t seq = 0;
  bool deleted = false;        // a tombstone: kept, so that indexes learn of it
  std::string content_sha256;  // of the document (index/document.h)
};

std::string EncodeHead(const Head& head);
absl::StatusOr<Head> DecodeHead(std::string_view value);
std::string EncodeDocument(const Document& document, uint64_t seq);
absl::StatusOr<StoredDocument> DecodeDocument(std::string_view id, std::string_view value);
std::string EncodeChange(std::string_view id, bool deleted);
struct ChangeValue {
  std::string_view id;
  bool deleted = false;
};
absl::StatusOr<ChangeValue> DecodeChange(std::string_view value);
std::string EncodeU64(uint64_t value);   // 8 bytes, big-endian
absl::StatusOr<uint64_t> DecodeU64(std::string_view value);

}  // namespace lectern::index
