#include "index/key_codec.h"

#include <bit>

namespace lectern::index {
namespace {

constexpr unsigned char kDocumentVersion = 1;

std::string Prefix(char kind, std::string_view collection) {
  std::string key(1, kind);
  key += collection;
  key += '\0';
  return key;
}

void PutVarint(std::string& out, uint64_t value) {
  while (value >= 128) {
    out += static_cast<char>(value | 128);
    value >>= 7;
  }
  out += static_cast<char>(value);
}
void PutString(std::string& out, std::string_view text) {
  PutVarint(out, text.size());
  out += text;
}

struct Cursor {
  std::string_view rest;
  bool bad = false;

  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest.empty()) break;
      const unsigned char byte = static_cast<unsigned char>(rest[0]);
      rest.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    bad = true;
    return 0;
  }
  std::string String() {
    const uint64_t size = Varint();
    if (bad || size > rest.size()) {
      bad = true;
      return "";
    }
    std::string text(rest.substr(0, size));
    rest.remove_prefix(size);
    return text;
  }
};

enum Tag : uint64_t { kString = 0, kInt = 1, kFloat = 2, kBool = 3 };

}  // namespace

std::string DocumentKey(std::string_view collection, std::string_view id) { return Prefix('d', collection) + std::string(id); }
std::string HeadKey(std::string_view collection, std::string_view id) { return Prefix('h', collection) + std::string(id); }
std::string ChangeKey(std::string_view collection, uint64_t seq) { return Prefix('c', collection) + EncodeU64(seq); }
std::string CountKey(std::string_view collection) { return Prefix('n', collection); }
std::string MetaKey(std::string_view key) { return "m" + std::string(key); }

KeyRange CollectionRange(char kind, std::string_view collection) {
  KeyRange range{Prefix(kind, collection), Prefix(kind, collection)};
  range.end.back() = '\1';   // just past every key that continues the NUL
  return range;
}

std::string_view IdOf(std::string_view key, std::string_view collection) { return key.substr(collection.size() + 2); }

uint64_t SeqOf(std::string_view key) {
  auto seq = DecodeU64(key.size() < 8 ? key : key.substr(key.size() - 8));
  return seq.ok() ? *seq : 0;
}

std::string EncodeU64(uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 7; i >= 0; --i, value >>= 8) bytes[static_cast<size_t>(i)] = static_cast<char>(value & 255);
  return bytes;
}

absl::StatusOr<uint64_t> DecodeU64(std::string_view bytes) {
  if (bytes.size() != 8) return DataLoss("a number of the store has ", bytes.size(), " bytes, not 8");
  uint64_t value = 0;
  for (char c : bytes) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

std::string EncodeDocument(const Document& document, uint64_t seq) {
  std::string out(1, static_cast<char>(kDocumentVersion));
  PutVarint(out, seq);
  for (const std::string* text : {&document.id, &document.title, &document.text, &document.uri, &document.source, &document.source_sha256, &document.extractor}) {
    PutString(out, *text);
  }
  PutVarint(out, document.fields.size());
  for (const auto& [name, values] : document.fields) {
    PutString(out, name);
    PutVarint(out, values.size());
    for (const FieldValue& value : values) {
      PutVarint(out, value.index());
      if (const auto* text = std::get_if<std::string>(&value)) PutString(out, *text);
      else if (const auto* integer = std::get_if<int64_t>(&value)) out += EncodeU64(static_cast<uint64_t>(*integer));
      else if (const auto* number = std::get_if<double>(&value)) out += EncodeU64(std::bit_cast<uint64_t>(*number));
      else out += std::get<bool>(value) ? '\1' : '\0';
    }
  }
  return out;
}

absl::StatusOr<StoredDocument> DecodeDocument(std::string_view bytes) {
  if (bytes.empty()) return DataLoss("a stored document is empty");
  if (static_cast<unsigned char>(bytes[0]) > kDocumentVersion) {
    return FailedPrecondition("a stored document has version ", static_cast<int>(static_cast<unsigned char>(bytes[0])), ", this build reads up to ",
                              static_cast<int>(kDocumentVersion));
  }
  Cursor in{bytes.substr(1)};
  StoredDocument stored;
  stored.seq = in.Varint();
  Document& document = stored.document;
  for (std::string* text : {&document.id, &document.title, &document.text, &document.uri, &document.source, &document.source_sha256, &document.extractor}) {
    *text = in.String();
  }
  const uint64_t fields = in.Varint();
  for (uint64_t f = 0; f < fields && !in.bad; ++f) {
    std::vector<FieldValue>& values = document.fields[in.String()];
    const uint64_t count = in.Varint();
    for (uint64_t i = 0; i < count && !in.bad; ++i) {
      const uint64_t tag = in.Varint();
      const size_t size = tag == kInt || tag == kFloat ? 8 : tag == kBool ? 1 : 0;
      if (tag > kBool || in.rest.size() < size) {
        in.bad = true;
        break;
      }
      if (tag == kString) {
        values.emplace_back(in.String());
      } else if (tag == kBool) {
        values.emplace_back(in.rest[0] != 0);
      } else {
        const uint64_t bits = *DecodeU64(in.rest.substr(0, 8));
        if (tag == kInt) values.emplace_back(static_cast<int64_t>(bits));
        else values.emplace_back(std::bit_cast<double>(bits));
      }
      in.rest.remove_prefix(size);
    }
  }
  if (in.bad || !in.rest.empty()) return DataLoss("a stored document ends early or holds more than it should");
  return stored;
}

}  // namespace lectern::index
