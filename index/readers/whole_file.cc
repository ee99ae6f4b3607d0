// Formats where a file is a document: its id and uri are its path in the folder that was named, its title, where the
// format knows none, its name.
#include <algorithm>
#include <filesystem>

#include "index/readers/line_reader.h"
#include "index/readers/extract.h"

namespace lectern::index {
namespace {

class WholeFileReader : public Reader {
 public:
  WholeFileReader(std::unique_ptr<ByteSource> source, InputFile file, const ReaderOptions& options)
      : source_(std::move(source)), file_(std::move(file)), options_(options) {}

  absl::StatusOr<std::optional<Item>> Next() override {
    if (done_) return std::nullopt;
    done_ = true;
    Item item;
    item.file = file_.path;
    item.reject.id = file_.relative;
    std::string bytes;
    source_->ReadSome(static_cast<size_t>(options_.max_record_bytes) + 1, &bytes);
    item.next_byte = source_->position();
    item.next_line = source_->line();
    if (!source_->status().ok()) {
      ASSIGN_OR_RETURN(std::optional<Item> broken, EndOfSource(*source_, file_.path));
      broken->reject.id = file_.relative;
      return broken;
    }
    if (options_.start_byte > 0) return std::nullopt;   // an earlier run has committed it
    std::string& reason = item.reject.reason;
    if (static_cast<int64_t>(bytes.size()) > options_.max_record_bytes) {
      reason = internal::Concat("a file of more than ", options_.max_record_bytes, " bytes, the limit of one document (it follows --memory)");
      return item;
    }
    reason = CheckId(file_.relative);
    if (const int64_t bad = FindInvalidUtf8(file_.relative); bad >= 0) reason = "the file's name is not UTF-8, so it cannot be an id";
    if (reason.empty() && file_.format != Format::kPdf) {
      if (const int64_t bad = FindInvalidUtf8(bytes); bad >= 0) {
        item.byte = bad;
        item.line = 1 + std::count(bytes.begin(), bytes.begin() + bad, '\n');
        reason = InvalidUtf8Reason(bad, static_cast<unsigned char>(bytes[static_cast<size_t>(bad)]));
      }
    }
    if (!reason.empty()) return item;
    auto extracted = Extract(bytes);
    if (!extracted.ok()) {
      reason = std::string(extracted.status().message());
      return item;
    }
    Record record;
    record.untyped_fields = true;
    Document& document = record.document;
    document.id = document.uri = file_.relative;
    document.title = extracted->title.empty() ? StemOf(file_.relative) : std::move(extracted->title);
    document.text = std::move(extracted->text);
    document.extractor = extracted->extractor;
    for (auto& [name, values] : extracted->fields) {
      for (std::string& value : values) document.fields[name].emplace_back(std::move(value));
    }
    if (document.text != bytes) document.source = std::move(bytes);
    item.record = std::move(record);
    item.reject = {};
    return item;
  }

 private:
  absl::StatusOr<Extracted> Extract(std::string_view bytes) const {
    switch (file_.format) {
      case Format::kMarkdown: return ExtractMarkdown(bytes);
      case Format::kHtml: return ExtractHtml(bytes);
      case Format::kPdf: return ExtractPdf(bytes);
      default: return ExtractText(bytes);
    }
  }
  static std::string StemOf(const std::string& relative) {
    std::filesystem::path path(relative);
    for (const char* packed : {".gz", ".zst", ".xz"}) {
      if (path.extension() == packed) path = path.stem();
    }
    const std::string ending = path.extension().string();   // LGPL-2.1 has none
    return (ending.size() > 1 && ending[1] >= '0' && ending[1] <= '9' ? path.filename() : path.stem()).string();
  }
  std::unique_ptr<ByteSource> source_;
  InputFile file_;
  ReaderOptions options_;
  bool done_ = false;
};

}  // namespace

std::unique_ptr<Reader> MakeWholeFileReader(std::unique_ptr<ByteSource> source, InputFile file, const ReaderOptions& options) {
  return std::make_unique<WholeFileReader>(std::move(source), std::move(file), options);
}

}  // namespace lectern::index
