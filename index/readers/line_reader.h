// index/readers/line_reader.h: what the formats of one record a line share, and the makers of each format.
//
//   std::optional<Item> item = NextLineItem(source, max_bytes, file, &line);
//
// Shapes:  see reader.h.
// Threads: one a reader.
// Errors:  see reader.h.
// Cost:    see reader.h.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "index/readers/byte_source.h"
#include "index/readers/reader.h"

namespace lectern::index {

// The checks every id passes: 1..512 bytes, no control characters. Empty: fine, else the reason.
std::string CheckId(std::string_view id);
std::string InvalidUtf8Reason(int64_t byte_in_input, unsigned char byte);

// Reads lines up to the first that holds something, skipping a byte order mark at the very start. A line that is too
// long or is not UTF-8 comes as an Item with its reject. done: the end of the input, with an Item where the packed data
// broke off. kUnavailable where reading failed.
struct NextLine {
  bool done = false;
  std::optional<Item> reject;
  Item item;            // positions filled in
  ByteSource::Line line;
};
absl::Status ReadNextLine(ByteSource& source, const std::string& file, const ReaderOptions& options, NextLine* next);
// The Item for a source whose data broke off, once; absent where it simply ended. Other errors are returned.
absl::StatusOr<std::optional<Item>> EndOfSource(ByteSource& source, const std::string& file);

std::unique_ptr<Reader> MakeJsonlReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options);
std::unique_ptr<Reader> MakeMsmarcoReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options);
std::unique_ptr<Reader> MakeTrectextReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options);
std::unique_ptr<Reader> MakeCsvReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options, char delimiter);
// One record a file, through extract.h; its error is a reject.
std::unique_ptr<Reader> MakeWholeFileReader(std::unique_ptr<ByteSource> source, InputFile file, const ReaderOptions& options);

}  // namespace lectern::index
