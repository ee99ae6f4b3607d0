// index/readers/byte_source.h: the unpacked bytes of a file or of standard input, a line at a time.
//
//   ASSIGN_OR_RETURN(auto source, ByteSource::Open(path));            // plain, gzip, zstd or xz, told by the first bytes
//   ByteSource::Line line;
//   while (source->ReadLine(max_bytes, &line)) { ... }                // false: the end, or see status()
//
// Shapes:  positions count unpacked bytes from 0, lines from 1. A line goes without its '\n'; a '\r' stays.
// Threads: one.
// Errors:  status() after false: kUnavailable (reading), kCancelled, kDataLoss (packed data damaged or cut off, with the byte).
// Cost:    one buffer of 256 KiB and the unpacker's state; a longer line is passed over, its length counted.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/cancel.h"
#include "base/status.h"

namespace lectern::index {

// A byte stream under a ByteSource: fills buffer, 0 at the end.
class RawStream {
 public:
  virtual ~RawStream() = default;
  virtual absl::StatusOr<size_t> Read(char* buffer, size_t size) = 0;
  virtual bool Seek(int64_t) { return false; }   // true where the stream could jump there at once
};

class ByteSource {
 public:
  // "-": standard input, whose silence `cancel` ends.
  static absl::StatusOr<std::unique_ptr<ByteSource>> Open(const std::string& path, const CancelToken* cancel = nullptr);
  explicit ByteSource(std::unique_ptr<RawStream> stream);   // of unpacked bytes

  struct Line {
    std::string text;        // empty where too_long
    int64_t byte = 0, number = 1;
    int64_t length = 0;      // bytes, the line's end included
    bool too_long = false;
    bool ended = false;      // by '\n'; false for a last line without one
  };
  bool ReadLine(int64_t max_bytes, Line* line);
  // Up to `size` bytes into *out (replacing it); false at the end or on an error.
  bool ReadSome(size_t size, std::string* out);
  // The bytes at the cursor, at most a buffer of them, without moving.
  std::string_view Peek(size_t size);
  absl::Status Skip(int64_t bytes);          // kDataLoss where the input ends before
  void SetLine(int64_t number) { line_ = number; }
  int64_t position() const { return position_; }
  int64_t line() const { return line_; }
  const absl::Status& status() const { return status_; }
  // The status, told once: from here on the source has simply ended.
  absl::Status TakeStatus() {
    at_end_ = true;
    begin_ = end_;
    return std::exchange(status_, absl::OkStatus());
  }

 private:
  bool Fill();   // more bytes behind those in the buffer
  std::unique_ptr<RawStream> stream_;
  std::string buffer_;
  size_t begin_ = 0, end_ = 0;
  int64_t position_ = 0, line_ = 1;
  bool at_end_ = false;
  absl::Status status_;
};

// A stream of the unpacked bytes of `packed`, by its first bytes; `packed` itself where they are plain.
absl::StatusOr<std::unique_ptr<RawStream>> Unpack(std::unique_ptr<RawStream> packed);

}  // namespace lectern::index
