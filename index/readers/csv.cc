// CSV and TSV with a header, as RFC 4180 writes them: quoted cells may hold the delimiter, doubled quotes and line ends.
// A quote inside a cell that does not begin with one is a quote. Cells of other columns become fields; empty cells none.
#include <algorithm>

#include "index/readers/line_reader.h"
#include "index/readers/extract.h"

namespace lectern::index {
namespace {

class CsvReader : public Reader {
 public:
  CsvReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options, char delimiter)
      : source_(std::move(source)), file_(std::move(file)), options_(options), delimiter_(delimiter) {}

  absl::StatusOr<std::optional<Item>> Next() override {
    if (ended_) return std::nullopt;
    if (header_.empty()) {
      ASSIGN_OR_RETURN(std::optional<Item> problem, ReadHeader());
      if (problem || ended_) {
        ended_ = true;
        return problem;
      }
    }
    Item item;
    std::string reason;
    ASSIGN_OR_RETURN(const bool any, ReadRow(&item, &reason));
    if (!any) {
      ended_ = true;
      return EndOfSource(*source_, file_);
    }
    if (reason.empty()) reason = ToRecord(&item);
    if (!reason.empty()) item.reject.reason = std::move(reason);
    return item;
  }

 private:
  // The header; an Item where the file cannot be read without one.
  absl::StatusOr<std::optional<Item>> ReadHeader() {
    if (source_->Peek(3) == "\xef\xbb\xbf") RETURN_IF_ERROR(source_->Skip(3));
    Item item;
    std::string reason;
    ASSIGN_OR_RETURN(const bool any, ReadRow(&item, &reason));
    if (!any) {
      ended_ = true;
      return EndOfSource(*source_, file_);
    }
    if (reason.empty()) {
      header_ = cells_;
      id_ = Column(options_.id_field, {"id", "_id", "docid"});
      text_ = Column(options_.text_field, {"text", "contents", "segment", "body"});
      title_ = Column("title", {});
      uri_ = Column("", {"uri", "url"});
      if (id_ < 0) reason = "the header has no column " + (options_.id_field.empty() ? "id, _id or docid" : "'" + options_.id_field + "'") + " (--id-field names it)";
      else if (text_ < 0) reason = "the header has no column " + (options_.text_field.empty() ? "text, contents, segment or body" : "'" + options_.text_field + "'") + " (--text-field names it)";
      for (size_t i = 0; reason.empty() && i < header_.size(); ++i) {
        if (std::count(header_.begin(), header_.end(), header_[i]) > 1) reason = "the header names the column '" + header_[i] + "' twice";
      }
    }
    if (!reason.empty()) {
      item.reject.reason = reason + "; the file cannot be read";
      return item;
    }
    if (options_.start_byte > source_->position()) {
      RETURN_IF_ERROR(source_->Skip(options_.start_byte - source_->position()));
      source_->SetLine(options_.start_line);
    }
    return std::nullopt;
  }

  int Column(const std::string& wanted, std::initializer_list<std::string_view> names) const {
    if (!wanted.empty()) {
      const auto it = std::find(header_.begin(), header_.end(), wanted);
      return it == header_.end() ? -1 : static_cast<int>(it - header_.begin());
    }
    for (const std::string_view name : names) {
      const auto it = std::find(header_.begin(), header_.end(), name);
      if (it != header_.end()) return static_cast<int>(it - header_.begin());
    }
    return -1;
  }

  // One row into cells_ and raw_, or its reason; false at the end.
  absl::StatusOr<bool> ReadRow(Item* item, std::string* reason) {
    enum class At { kStart, kPlain, kQuoted, kQuoteSeen } at = At::kStart;
    cells_.clear();
    raw_.clear();
    std::string cell;
    int64_t length = 0, lines = 0;
    bool too_long = false, bad_quote = false;
    item->file = file_;
    while (true) {
      if (!source_->ReadLine(options_.max_record_bytes, &line_)) {
        if (lines == 0 || !source_->status().ok()) return false;   // a cut-off row is reported with the break itself
        *reason = internal::Concat("a quoted cell that begins in line ", item->line, " has no end; ", lines, " lines were passed over");
        break;
      }
      std::string_view text = line_.text;
      if (lines == 0) {
        const bool blank = !line_.too_long && (text.empty() || text == "\r");
        if (blank) continue;
        item->line = line_.number;
        item->byte = line_.byte;
      }
      ++lines;
      length += line_.length;
      too_long = too_long || line_.too_long || length > options_.max_record_bytes;
      if (line_.too_long) break;   // where its quotes end is unknown; the next line is taken for a row
      if (too_long) {
        *reason = "long";
        break;
      }
      raw_.append(text).push_back('\n');
      if (text.ends_with('\r')) text.remove_suffix(1);   // line ends inside a cell become plain ones
      for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (at == At::kQuoted) {
          if (c == '"') at = At::kQuoteSeen;
          else cell.push_back(c);
        } else if (at == At::kQuoteSeen && c == '"') {
          cell.push_back('"');
          at = At::kQuoted;
        } else if (c == delimiter_) {
          cells_.push_back(std::move(cell));
          cell.clear();
          at = At::kStart;
        } else if (at == At::kStart && c == '"') {
          at = At::kQuoted;
        } else if (at == At::kQuoteSeen) {
          if (c != '\r' || i + 1 != text.size()) bad_quote = true;
        } else {
          cell.push_back(c);
          at = At::kPlain;
        }
      }
      if (at == At::kQuoted) {
        cell.push_back('\n');
        continue;
      }
      cells_.push_back(std::move(cell));
      break;
    }
    item->next_byte = source_->position();
    item->next_line = source_->line();
    if (too_long) *reason = internal::Concat("a record of at least ", length, " bytes, the limit is ", options_.max_record_bytes, " (it follows --memory)");
    else if (const int64_t bad = FindInvalidUtf8(raw_); bad >= 0 && reason->empty()) {
      item->byte += bad;
      *reason = InvalidUtf8Reason(item->byte, static_cast<unsigned char>(raw_[static_cast<size_t>(bad)]));
    } else if (bad_quote && reason->empty()) {
      *reason = "text behind a closing quote";
    }
    if (!raw_.empty()) raw_.pop_back();
    return true;
  }

  std::string ToRecord(Item* item) {
    if (cells_.size() != header_.size()) return internal::Concat("the header has ", header_.size(), " columns, this row ", cells_.size());
    Record record;
    record.untyped_fields = true;
    Document& document = record.document;
    for (size_t i = 0; i < cells_.size(); ++i) {
      const int column = static_cast<int>(i);
      if (column == id_) document.id = std::move(cells_[i]);
      else if (column == text_) document.text = std::move(cells_[i]);
      else if (column == title_) document.title = std::move(cells_[i]);
      else if (column == uri_) document.uri = std::move(cells_[i]);
      else if (!cells_[i].empty()) document.fields[header_[i]].emplace_back(std::move(cells_[i]));
    }
    if (std::string reason = CheckId(document.id); !reason.empty()) return reason;
    document.source = raw_;
    document.extractor = "csv/1";
    item->record = std::move(record);
    return "";
  }

  std::unique_ptr<ByteSource> source_;
  std::string file_;
  ReaderOptions options_;
  char delimiter_;
  std::vector<std::string> header_, cells_;
  std::string raw_;
  int id_ = -1, text_ = -1, title_ = -1, uri_ = -1;
  ByteSource::Line line_;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<Reader> MakeCsvReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options, char delimiter) {
  return std::make_unique<CsvReader>(std::move(source), std::move(file), options, delimiter);
}

}  // namespace lectern::index
