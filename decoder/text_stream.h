// decoder/text_stream.h: token pieces to text, cut before stop strings, handed out in whole characters.
//
//   TextStream stream({"\n\n", "Question:"});
//   if (stream.Append(piece)) ...           // true: a stop string is complete, nothing more is wanted
//   on_text(stream.TakeReady());            // bytes that can no longer become part of a stop string
//   stream.Finish(); on_text(stream.TakeReady());
//
// Shapes:  UTF-8 bytes; a piece may hold part of a character.
// Threads: one.
// Errors:  none. Bytes that are not UTF-8 pass as they are; a character cut off by the end is left out.
// Cost:    linear in the text times the number of stop strings.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lectern::decoder {

class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stop);
  bool Append(std::string_view piece);
  void Finish();                   // what was held back becomes ready
  std::string_view TakeReady();    // valid until the next call
  const std::string& text() const { return text_; }  // all so far, without the stop string
  bool stopped() const { return stopped_; }
  void Reserve(size_t bytes) { text_.reserve(bytes); }

 private:
  size_t ReadyEnd() const;
  std::vector<std::string> stop_;
  size_t longest_stop_ = 0;
  std::string text_;
  size_t taken_ = 0;
  bool stopped_ = false, finished_ = false;
};

// Where the last whole character of `text` ends.
size_t WholeCharacters(std::string_view text);

}  // namespace lectern::decoder
