#include <simdjson.h>

#include "index/readers/extract.h"

namespace lectern::index {

int64_t FindInvalidUtf8(std::string_view text) {
  if (simdjson::validate_utf8(text.data(), text.size())) return -1;
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const int64_t n = static_cast<int64_t>(text.size());
  for (int64_t i = 0; i < n;) {
    const unsigned char c = p[i];
    const int length = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (length == 0 || i + length > n) return i;
    for (int k = 1; k < length; ++k) {
      if ((p[i + k] & 0xc0) != 0x80) return i;
    }
    if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xed && p[i + 1] > 0x9f) || (c == 0xf0 && p[i + 1] < 0x90) || (c == 0xf4 && p[i + 1] > 0x8f)) {
      return i;
    }
    i += length;
  }
  return -1;
}

namespace {
std::string_view TrimmedLine(std::string_view line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
  while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
  return line;
}
}  // namespace

absl::StatusOr<Extracted> ExtractText(std::string_view bytes) {
  if (const int64_t at = FindInvalidUtf8(bytes); at >= 0) return InvalidArgument("invalid UTF-8 at byte ", at);
  Extracted out;
  out.extractor = "text/1";
  out.text = std::string(bytes);
  std::string_view rest = bytes;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);
  const size_t end = rest.find('\n');
  if (end == std::string_view::npos) return out;
  const std::string_view first = TrimmedLine(rest.substr(0, end));
  const size_t second_end = rest.find('\n', end + 1);
  const std::string_view second = TrimmedLine(rest.substr(end + 1, second_end == std::string_view::npos ? std::string_view::npos : second_end - end - 1));
  // A short first line with a blank one behind it is a title; a sentence is not.
  if (!first.empty() && first.size() <= 200 && second.empty() && first.back() != '.') out.title = std::string(first);
  return out;
}

}  // namespace lectern::index
