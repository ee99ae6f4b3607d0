// index/document.h: what a document is, before and after it is stored.
//
//   Document doc{.id = "d1", .title = "Whales", .text = "..."};
//   doc.fields["year"] = {int64_t{1851}};
//
// Shapes:  text is valid UTF-8; spans are byte offsets [begin, end) into it.
// Threads: plain values.
// Errors:  none here; readers and the schema reject bad records before a Document exists.
// Cost:    owns its strings.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace lectern::index {

using FieldValue = std::variant<std::string, int64_t, double, bool>;  // dates are int64 microseconds since 1970 UTC

struct Span {
  int64_t begin = 0, end = 0;
  bool operator==(const Span&) const = default;
};

struct Document {
  std::string id;          // 1..512 bytes, unique in a collection
  std::string title;
  std::string text;        // as extracted
  std::string uri;
  std::map<std::string, std::vector<FieldValue>> fields;  // one or more values each
  std::string source;          // the source bytes; empty where they equal text
  std::string source_sha256;   // of the source bytes
  std::string content_sha256;  // ContentSha256 as it was read: decides whether a document is unchanged
  std::string extractor;       // name and version, e.g. "markdown/1"
};

struct StoredDocument {
  Document document;       // content_sha256 is not read back
  uint64_t seq = 0;        // of the write that made it
};

int64_t DocumentBytes(const Document& document);       // about what it takes in memory
// Of everything a document is: its source, and what was extracted from it by which extractor. REQUIRES: source_sha256 is set.
std::string ContentSha256(const Document& document);

}  // namespace lectern::index
