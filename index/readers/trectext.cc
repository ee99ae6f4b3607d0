// TRECTEXT: <DOC> <DOCNO>id</DOCNO> <TITLE>...</TITLE> <TEXT>...</TEXT> </DOC>, one after another. The text is that of all
// TEXT sections, or of everything but DOCNO and the title where there is none; tags inside go, &amp; and its like are decoded.
#include <algorithm>

#include "index/readers/line_reader.h"
#include "index/readers/extract.h"

namespace lectern::index {
namespace {

char Upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

// Where `tag` (in capitals) begins in `text` at or after `from`, whatever its case.
size_t FindTag(std::string_view text, std::string_view tag, size_t from = 0) {
  while ((from = text.find('<', from)) != std::string_view::npos) {
    if (text.size() - from < tag.size()) return std::string_view::npos;
    if (std::equal(tag.begin(), tag.end(), text.begin() + static_cast<int64_t>(from), [](char a, char b) { return a == Upper(b); })) return from;
    ++from;
  }
  return from;
}

// What stands between <NAME> and </NAME>; *next is behind it. A start without an end runs to the end of the record.
bool Section(std::string_view text, const std::string& name, size_t from, std::string_view* inside, size_t* next) {
  size_t at = from;
  while ((at = FindTag(text, "<" + name, at)) != std::string_view::npos) {
    const size_t after = at + 1 + name.size();
    if (after < text.size() && text[after] != '>' && text[after] != ' ' && text[after] != '\t') {   // <TEXTURE> is another tag
      at = after;
      continue;
    }
    const size_t open_end = text.find('>', at);
    if (open_end == std::string_view::npos) return false;
    const size_t close = FindTag(text, "</" + name + ">", open_end);
    *inside = text.substr(open_end + 1, close == std::string_view::npos ? close : close - open_end - 1);
    *next = close == std::string_view::npos ? text.size() : close + name.size() + 3;
    return true;
  }
  return false;
}

std::string Plain(std::string_view text) {
  static constexpr std::pair<std::string_view, char> kEntities[] = {
      {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '<' && i + 1 < text.size() && (text[i + 1] == '/' || text[i + 1] == '!' || (Upper(text[i + 1]) >= 'A' && Upper(text[i + 1]) <= 'Z'))) {
      const size_t end = text.find('>', i);
      if (end != std::string_view::npos) {
        i = end + 1;
        continue;
      }
    }
    if (c == '&') {
      bool decoded = false;
      for (const auto& [name, symbol] : kEntities) {
        if (!text.substr(i).starts_with(name)) continue;
        out.push_back(symbol);
        i += name.size();
        decoded = true;
        break;
      }
      if (decoded) continue;
    }
    if (c != '\r') out.push_back(c);
    ++i;
  }
  const size_t first = out.find_first_not_of(" \t\n");
  if (first == std::string::npos) return "";
  return out.substr(first, out.find_last_not_of(" \t\n") - first + 1);
}

class TrectextReader : public Reader {
 public:
  TrectextReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options)
      : source_(std::move(source)), file_(std::move(file)), options_(options) {}

  absl::StatusOr<std::optional<Item>> Next() override {
    std::string raw;
    Item item;
    item.file = file_;
    int64_t length = 0;
    bool open = false, too_long = false;
    while (true) {
      if (!have_rest_) {
        if (!source_->ReadLine(options_.max_record_bytes, &line_)) {
          if (open) {
            item.next_byte = source_->position();
            item.next_line = source_->line();
            item.reject.reason = "a <DOC> without its </DOC>";
            return item;   // where the data broke off, the next call says so
          }
          return EndOfSource(*source_, file_);
        }
        rest_at_ = 0;
      }
      have_rest_ = false;
      const std::string_view text = std::string_view(line_.text).substr(rest_at_);
      size_t start = 0;
      if (!open) {
        start = FindTag(text, "<DOC>");
        if (start == std::string_view::npos) {
          if (text.find_first_not_of(" \t\r\xef\xbb\xbf") == std::string_view::npos && !line_.too_long) continue;
          Item stray;
          stray.file = file_;
          stray.line = line_.number;
          stray.byte = line_.byte + static_cast<int64_t>(rest_at_);
          stray.next_byte = source_->position();
          stray.next_line = source_->line();
          stray.reject.reason = "text outside of <DOC> ... </DOC>";
          return stray;
        }
        open = true;
        item.line = line_.number;
        item.byte = line_.byte + static_cast<int64_t>(rest_at_ + start);
      }
      const size_t close = FindTag(text, "</DOC>", start);
      const size_t end = close == std::string_view::npos ? text.size() : close + 6;
      length += static_cast<int64_t>(end - start) + 1;
      too_long = too_long || line_.too_long || length > options_.max_record_bytes;
      if (too_long) std::string().swap(raw);
      else raw.append(text.substr(start, end - start)).append(close == std::string_view::npos ? "\n" : "");
      if (close == std::string_view::npos) continue;
      const bool more = text.find_first_not_of(" \t\r", end) != std::string_view::npos;
      item.next_byte = more ? line_.byte + static_cast<int64_t>(rest_at_ + end) : source_->position();
      item.next_line = more ? line_.number : source_->line();
      have_rest_ = more;
      rest_at_ += end;
      if (too_long) item.reject.reason = internal::Concat("a record of ", length, " bytes, the limit is ", options_.max_record_bytes, " (it follows --memory)");
      else Parse(std::move(raw), &item);
      return item;
    }
  }

 private:
  void Parse(std::string raw, Item* item) const {
    if (const int64_t bad = FindInvalidUtf8(raw); bad >= 0) {
      item->reject.reason = InvalidUtf8Reason(item->byte + bad, static_cast<unsigned char>(raw[static_cast<size_t>(bad)]));
      item->byte += bad;
      return;
    }
    Record record;
    std::string_view inside;
    size_t next = 0;
    if (!Section(raw, "DOCNO", 0, &inside, &next)) {
      item->reject.reason = "no <DOCNO>";
      return;
    }
    record.document.id = Plain(inside);
    if (std::string reason = CheckId(record.document.id); !reason.empty()) {
      item->reject = {record.document.id, std::move(reason)};
      return;
    }
    std::string without = raw.substr(5, raw.size() - 11);   // less <DOC> and </DOC>
    for (const char* name : {"TITLE", "HEADLINE", "HEAD"}) {
      if (!Section(raw, name, 0, &inside, &next)) continue;
      record.document.title = Plain(inside);
      std::replace(record.document.title.begin(), record.document.title.end(), '\n', ' ');
      break;
    }
    std::string& text = record.document.text;
    size_t at = 0;
    bool any = false;
    while (Section(raw, "TEXT", at, &inside, &at)) {
      const std::string part = Plain(inside);
      if (!part.empty()) text += (text.empty() ? "" : "\n\n") + part;
      any = true;
    }
    if (!any) {
      for (const char* name : {"DOCNO", "TITLE", "HEADLINE", "HEAD"}) {
        if (!Section(without, name, 0, &inside, &next)) continue;
        const auto begin = static_cast<size_t>(inside.data() - without.data());
        without.replace(begin, inside.size(), "");
      }
      text = Plain(without);
    }
    record.document.source = std::move(raw);
    record.document.extractor = "trectext/1";
    item->record = std::move(record);
  }

  std::unique_ptr<ByteSource> source_;
  std::string file_;
  ReaderOptions options_;
  ByteSource::Line line_;
  size_t rest_at_ = 0;      // what of line_ is still to be read
  bool have_rest_ = false;
};

}  // namespace

std::unique_ptr<Reader> MakeTrectextReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options) {
  return std::make_unique<TrectextReader>(std::move(source), std::move(file), options);
}

}  // namespace lectern::index
