#include "index/document.h"

#include <bit>

#include "base/file.h"
#include "base/status.h"

namespace lectern::index {

int64_t DocumentBytes(const Document& document) {
  size_t bytes = 512 + document.id.size() + document.title.size() + document.text.size() + document.uri.size() + document.source.size();
  for (const auto& [name, values] : document.fields) {
    bytes += 96 + name.size();
    for (const FieldValue& value : values) {
      bytes += sizeof(FieldValue);
      if (const auto* text = std::get_if<std::string>(&value)) bytes += text->size();
    }
  }
  return static_cast<int64_t>(bytes);
}

// The source is hashed so that nobody can make two of them alike; what was extracted follows from it, the extractor and
// the user's options, so a quick hash of each part tells those apart.
std::string ContentSha256(const Document& document) {
  std::string parts = internal::Concat(document.source_sha256, '\n', document.extractor, '\n', HexU64(Hash64(document.title)),
                                       HexU64(Hash64(document.text)), HexU64(Hash64(document.uri)));
  for (const auto& [name, values] : document.fields) {
    parts += internal::Concat('\n', HexU64(Hash64(name)));
    for (const FieldValue& value : values) {
      parts.push_back(static_cast<char>('0' + value.index()));
      if (const auto* text = std::get_if<std::string>(&value)) parts += HexU64(Hash64(*text));
      else if (const auto* number = std::get_if<int64_t>(&value)) parts += HexU64(static_cast<uint64_t>(*number));
      else if (const auto* real = std::get_if<double>(&value)) parts += HexU64(std::bit_cast<uint64_t>(*real));
      else parts.push_back(std::get<bool>(value) ? '1' : '0');
    }
  }
  return Sha256Hex(parts);
}

}  // namespace lectern::index
