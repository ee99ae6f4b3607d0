// MS MARCO's collection.tsv: id, tab, text; no header, no quoting. Further tabs belong to the text.
#include "index/readers/line_reader.h"

namespace lectern::index {
namespace {

class MsmarcoReader : public Reader {
 public:
  MsmarcoReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options)
      : source_(std::move(source)), file_(std::move(file)), options_(options) {}

  absl::StatusOr<std::optional<Item>> Next() override {
    RETURN_IF_ERROR(ReadNextLine(*source_, file_, options_, &next_));
    if (next_.reject || next_.done) return next_.reject;
    Item item = next_.item;
    const std::string& line = next_.line.text;
    const size_t tab = line.find('\t');
    if (tab == std::string::npos) {
      item.reject.reason = "no tab: a line is an id, a tab and a text";
      return item;
    }
    Record record;
    record.document.id = line.substr(0, tab);
    if (std::string reason = CheckId(record.document.id); !reason.empty()) {
      item.reject.reason = std::move(reason);
      return item;
    }
    record.document.text = line.substr(tab + 1);
    record.document.source = line;
    record.document.extractor = "msmarco/1";
    item.record = std::move(record);
    return item;
  }

 private:
  std::unique_ptr<ByteSource> source_;
  std::string file_;
  ReaderOptions options_;
  NextLine next_;
};

}  // namespace

std::unique_ptr<Reader> MakeMsmarcoReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options) {
  return std::make_unique<MsmarcoReader>(std::move(source), std::move(file), options);
}

}  // namespace lectern::index
