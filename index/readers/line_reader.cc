#include "index/readers/line_reader.h"

#include "index/readers/extract.h"

namespace lectern::index {

std::string CheckId(std::string_view id) {
  if (id.empty() || id.size() > 512) return internal::Concat("an id has 1..512 bytes, got ", id.size());
  for (const char c : id) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      return internal::Concat("an id must hold no control characters, got byte ", static_cast<int>(static_cast<unsigned char>(c)));
    }
  }
  return "";
}

std::string InvalidUtf8Reason(int64_t byte_in_input, unsigned char byte) {
  static constexpr char kDigits[] = "0123456789abcdef";
  return internal::Concat("invalid UTF-8 at byte ", byte_in_input, ": 0x", kDigits[byte >> 4], kDigits[byte & 15]);
}

absl::StatusOr<std::optional<Item>> EndOfSource(ByteSource& source, const std::string& file) {
  const absl::Status status = source.TakeStatus();
  if (status.ok()) return std::nullopt;
  if (status.code() == absl::StatusCode::kUnavailable) return Annotate(status, file);
  Item item;
  item.file = file;
  item.line = item.next_line = source.line();
  item.byte = item.next_byte = source.position();
  item.reject.reason = internal::Concat(status.message(), "; what follows cannot be read");
  return item;
}

absl::Status ReadNextLine(ByteSource& source, const std::string& file, const ReaderOptions& options, NextLine* next) {
  next->reject.reset();
  next->done = false;
  while (true) {
    if (source.position() == 0 && source.Peek(3) == "\xef\xbb\xbf") RETURN_IF_ERROR(source.Skip(3));   // a byte order mark
    if (!source.ReadLine(options.max_record_bytes, &next->line)) {
      next->done = true;
      ASSIGN_OR_RETURN(next->reject, EndOfSource(source, file));
      return absl::OkStatus();
    }
    if (std::string& text = next->line.text; !text.empty() && text.back() == '\r') text.pop_back();
    const ByteSource::Line& line = next->line;
    if (!line.too_long && line.text.find_first_not_of(" \t\r") == std::string::npos) continue;
    Item& item = next->item;
    item = Item();
    item.file = file;
    item.line = line.number;
    item.byte = line.byte;
    item.next_line = source.line();
    item.next_byte = source.position();
    if (line.too_long) {
      item.reject.reason = internal::Concat("a record of ", line.length, " bytes, the limit is ", options.max_record_bytes, " (it follows --memory)");
      next->reject = item;
    } else if (const int64_t bad = FindInvalidUtf8(line.text); bad >= 0) {
      item.byte = line.byte + bad;
      item.reject.reason = InvalidUtf8Reason(item.byte, static_cast<unsigned char>(line.text[static_cast<size_t>(bad)]));
      next->reject = item;
    }
    return absl::OkStatus();
  }
}

}  // namespace lectern::index
