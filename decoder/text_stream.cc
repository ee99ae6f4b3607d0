#include "decoder/text_stream.h"

#include <algorithm>

namespace lectern::decoder {

size_t WholeCharacters(std::string_view text) {
  // A lead byte within the last three bytes may ask for more than there is.
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;
    const size_t length = byte >= 0xf0 && byte <= 0xf4 ? 4 : byte >= 0xe0 && byte < 0xf0 ? 3 : byte >= 0xc2 && byte < 0xe0 ? 2 : 1;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

TextStream::TextStream(std::vector<std::string> stop) : stop_(std::move(stop)) {
  std::erase_if(stop_, [](const std::string& s) { return s.empty(); });
  for (const std::string& s : stop_) longest_stop_ = std::max(longest_stop_, s.size());
}

bool TextStream::Append(std::string_view piece) {
  if (stopped_) return true;
  const size_t from = text_.size() < longest_stop_ ? 0 : text_.size() - longest_stop_;
  text_.append(piece);
  size_t first = std::string::npos;
  for (const std::string& s : stop_) first = std::min(first, text_.find(s, from));
  if (first == std::string::npos) return false;
  text_.resize(std::max(taken_, WholeCharacters(std::string_view(text_).substr(0, first))));
  stopped_ = true;
  return true;
}

void TextStream::Finish() {
  text_.resize(std::max(taken_, WholeCharacters(text_)));
  finished_ = true;
}

// Everything but the longest tail that begins a stop string, and but an unfinished character.
size_t TextStream::ReadyEnd() const {
  if (finished_ || stopped_) return text_.size();
  size_t end = WholeCharacters(text_);
  for (const std::string& s : stop_) {
    for (size_t length = std::min(s.size() - 1, text_.size()); length > 0; --length) {
      if (text_.compare(text_.size() - length, length, s, 0, length) == 0) {
        end = std::min(end, text_.size() - length);
        break;
      }
    }
  }
  return std::max(end, taken_);
}

std::string_view TextStream::TakeReady() {
  const size_t end = ReadyEnd();
  const std::string_view ready(text_.data() + taken_, end - taken_);
  taken_ = end;
  return ready;
}

}  // namespace lectern::decoder
