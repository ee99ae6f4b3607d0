// index/readers/reader.h: records out of files, one at a time, whatever the format.
//
//   ASSIGN_OR_RETURN(auto files, ExpandInputs({"corpus/", "more.jsonl.gz"}, Format::kAuto));
//   ASSIGN_OR_RETURN(auto reader, OpenReader(files.files[0], options));
//   while (true) {
//     ASSIGN_OR_RETURN(std::optional<Item> item, reader->Next());      // a record, or why there is none
//     if (!item) break;
//   }
//
// Shapes:  positions are bytes of the unpacked input and lines from 1; a whole-file format gives one record a file.
// Threads: a reader belongs to one thread.
// Errors:  Next() fails only where the input itself cannot be read (kUnavailable); a bad record is an Item with a reject
//          (line, byte, reason) and the next call goes on behind it.
// Cost:    holds one record and one read buffer; a record past max_record_bytes is skipped, not held, and rejected.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "index/document.h"

namespace lectern::index {

enum class Format { kAuto, kJsonl, kBeir, kMsmarco, kTrectext, kMarkdown, kHtml, kText, kCsv, kTsv, kPdf };
const char* FormatName(Format format);                          // "jsonl", "beir", ...
absl::StatusOr<Format> ParseFormat(std::string_view name);      // kInvalidArgument lists the names

struct ReaderOptions {
  std::string id_field, text_field;                 // empty: id|_id|docid and text|contents|segment|body
  int64_t max_record_bytes = int64_t{64} << 20;
  int max_json_depth = 32;
  int64_t start_byte = 0;   // of the unpacked input, where an earlier run stopped; a record must begin there
  int64_t start_line = 1;
  const CancelToken* cancel = nullptr;   // ends a wait for standard input
};

struct InputFile {
  std::string path;         // "-": standard input
  std::string relative;     // within the folder that was named; the id of whole-file records
  Format format = Format::kJsonl;
};

struct Record {
  bool is_delete = false;       // {"op":"delete","id":...}: only document.id counts
  bool untyped_fields = false;  // field values are strings whose types the schema may infer (CSV, front matter)
  Document document;            // fields as read; hashes not set yet
};

struct Reject {
  std::string id;               // where it was known
  std::string reason;
};

struct Item {
  std::string file;
  int64_t line = 1, byte = 0;   // of the record's start; of the fault, for a reject where that is known
  int64_t next_byte = 0, next_line = 1;   // behind the record: start_byte of a reader that goes on
  std::optional<Record> record;
  Reject reject;                // used where there is no record
};

class Reader {
 public:
  virtual ~Reader() = default;
  virtual absl::StatusOr<std::optional<Item>> Next() = 0;   // nullopt: the end
};

struct ExpandedInputs {
  std::vector<InputFile> files;     // sorted within each folder, so that every run sees the same order
  std::vector<Item> rejects;        // what a folder holds and no reader can read, each with its reason
  int64_t hidden = 0;               // files and folders whose names begin with a dot: left out
  std::vector<std::string> own;     // data directories and lists of rejects (*.rejects.jsonl) within the folders: left out
};
// A pipe's format is told by its name, else it is JSON lines, as standard input is.
// kNotFound names a missing input; kInvalidArgument an empty folder or a format that does not fit.
absl::StatusOr<ExpandedInputs> ExpandInputs(const std::vector<std::string>& inputs, Format format);
absl::StatusOr<std::unique_ptr<Reader>> OpenReader(const InputFile& file, const ReaderOptions& options);

}  // namespace lectern::index
