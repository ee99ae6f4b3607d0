#include "index/key_codec.h"

#include <bit>
#include <utility>

namespace lectern::index {
namespace {

constexpr char kRecordFormat = 1;   // of documents and heads
enum Tag : char { kString = 's', kInt = 'i', kDouble = 'f', kFalse = '0', kTrue = '1' };

std::string Key(KeyKind kind, std::string_view collection, std::string_view rest) {
  std::string key;
  key.reserve(2 + collection.size() + rest.size());
  key.push_back(static_cast<char>(kind));
  key.append(collection);
  key.push_back('\0');
  key.append(rest);
  return key;
}

void PutVarint(uint64_t value, std::string* out) {
  for (; value >= 128; value >>= 7) out->push_back(static_cast<char>(value | 128));
  out->push_back(static_cast<char>(value));
}

void PutBytes(std::string_view bytes, std::string* out) {
  PutVarint(bytes.size(), out);
  out->append(bytes);
}

// Reads what was put, and remembers the first thing that did not fit.
class Parser {
 public:
  explicit Parser(std::string_view bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }
  bool done() const { return ok_ && rest_.empty(); }
  std::string_view rest() const { return rest_; }
  void Fail() { ok_ = false; }

  char Byte() {
    if (!ok_ || rest_.empty()) return ok_ = false, '\0';
    const char byte = rest_.front();
    rest_.remove_prefix(1);
    return byte;
  }
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(Byte());
      if (shift == 63 && byte > 1) break;   // past 64 bits
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return ok_ ? value : 0;
    }
    return ok_ = false, 0;
  }
  std::string_view Raw(uint64_t size) {
    if (!ok_ || size > rest_.size()) return ok_ = false, std::string_view();
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  std::string_view Bytes() { return Raw(Varint()); }
  uint64_t U64() {
    uint64_t value = 0;
    for (const char byte : Raw(8)) value = value << 8 | static_cast<unsigned char>(byte);
    return value;
  }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace

std::string EncodeU64(uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 7; i >= 0; --i, value >>= 8) bytes[i] = static_cast<char>(value);
  return bytes;
}

absl::StatusOr<uint64_t> DecodeU64(std::string_view value) {
  Parser parser(value);
  const uint64_t number = parser.U64();
  if (!parser.done()) return DataLoss("a number in the store has 8 bytes, found ", value.size());
  return number;
}

std::string DocumentKey(std::string_view collection, std::string_view id) {
  return Key(KeyKind::kDocument, collection, id);
}
std::string HeadKey(std::string_view collection, std::string_view id) { return Key(KeyKind::kHead, collection, id); }
std::string ChangeKey(std::string_view collection, uint64_t seq) {
  return Key(KeyKind::kChange, collection, EncodeU64(seq));
}
std::string CountKey(std::string_view collection) { return Key(KeyKind::kCount, collection, ""); }
std::string MetaKey(std::string_view key) { return std::string(1, static_cast<char>(KeyKind::kMeta)) + std::string(key); }

KeyRange RangeOf(KeyKind kind) {
  const char first = static_cast<char>(kind);
  return {std::string(1, first), std::string(1, static_cast<char>(first + 1))};
}

KeyRange RangeOf(KeyKind kind, std::string_view collection) {
  KeyRange range{Key(kind, collection, ""), Key(kind, collection, "")};
  range.end.back() = '\1';  // the first key past NUL and all that follows it
  return range;
}

absl::StatusOr<KeyParts> SplitKey(std::string_view key) {
  const size_t end = key.find('\0');
  if (key.empty() || end == std::string_view::npos) return DataLoss("a key in the store has no collection");
  return KeyParts{key.substr(1, end - 1), key.substr(end + 1)};
}

std::string EncodeHead(const Head& head) {
  std::string value{kRecordFormat, head.deleted ? kTrue : kFalse};
  PutVarint(head.seq, &value);
  PutBytes(head.content_sha256, &value);
  return value;
}

absl::StatusOr<Head> DecodeHead(std::string_view value) {
  Parser parser(value);
  Head head;
  const char format = parser.Byte(), deleted = parser.Byte();
  head.deleted = deleted == kTrue;
  head.seq = parser.Varint();
  head.content_sha256 = parser.Bytes();
  if (!parser.done() || format != kRecordFormat || (deleted != kTrue && deleted != kFalse)) {
    return DataLoss("a document's head in the store is damaged (", value.size(), " bytes)");
  }
  return head;
}

std::string EncodeDocument(const Document& document, uint64_t seq) {
  std::string value;
  value.reserve(64 + document.title.size() + document.text.size() + document.uri.size() + document.source.size() +
                document.source_sha256.size() + document.extractor.size());
  value.push_back(kRecordFormat);
  PutVarint(seq, &value);
  PutBytes(document.title, &value);
  PutBytes(document.uri, &value);
  PutBytes(document.source_sha256, &value);
  PutBytes(document.extractor, &value);
  PutVarint(document.fields.size(), &value);
  for (const auto& [name, values] : document.fields) {
    PutBytes(name, &value);
    PutVarint(values.size(), &value);
    for (const FieldValue& field : values) {
      if (const auto* text = std::get_if<std::string>(&field)) {
        value.push_back(kString);
        PutBytes(*text, &value);
      } else if (const auto* number = std::get_if<int64_t>(&field)) {
        value.push_back(kInt);
        value.append(EncodeU64(static_cast<uint64_t>(*number)));
      } else if (const auto* real = std::get_if<double>(&field)) {
        value.push_back(kDouble);
        value.append(EncodeU64(std::bit_cast<uint64_t>(*real)));
      } else {
        value.push_back(std::get<bool>(field) ? kTrue : kFalse);
      }
    }
  }
  PutBytes(document.text, &value);
  PutBytes(document.source, &value);
  return value;
}

absl::StatusOr<StoredDocument> DecodeDocument(std::string_view id, std::string_view value) {
  Parser parser(value);
  StoredDocument stored;
  Document& document = stored.document;
  document.id = id;
  if (parser.Byte() != kRecordFormat) parser.Fail();
  stored.seq = parser.Varint();
  document.title = parser.Bytes();
  document.uri = parser.Bytes();
  document.source_sha256 = parser.Bytes();
  document.extractor = parser.Bytes();
  const uint64_t num_fields = parser.Varint();
  for (uint64_t i = 0; i < num_fields && parser.ok(); ++i) {
    std::vector<FieldValue>& values = document.fields[std::string(parser.Bytes())];
    const uint64_t num_values = parser.Varint();
    for (uint64_t j = 0; j < num_values && parser.ok(); ++j) {
      switch (parser.Byte()) {
        case kString: values.emplace_back(std::string(parser.Bytes())); break;
        case kInt: values.emplace_back(static_cast<int64_t>(parser.U64())); break;
        case kDouble: values.emplace_back(std::bit_cast<double>(parser.U64())); break;
        case kFalse: values.emplace_back(false); break;
        case kTrue: values.emplace_back(true); break;
        default: parser.Fail();
      }
    }
  }
  document.text = parser.Bytes();
  document.source = parser.Bytes();
  if (!parser.done()) return DataLoss("document '", id, "' in the store is damaged (", value.size(), " bytes)");
  return stored;
}

std::string EncodeChange(std::string_view id, bool deleted) {
  std::string value(1, deleted ? kTrue : kFalse);
  value.append(id);
  return value;
}

absl::StatusOr<ChangeValue> DecodeChange(std::string_view value) {
  if (value.size() < 2 || (value[0] != kTrue && value[0] != kFalse)) {
    return DataLoss("a change in the store is damaged (", value.size(), " bytes)");
  }
  return ChangeValue{value.substr(1), value[0] == kTrue};
}

}  // namespace lectern::index
