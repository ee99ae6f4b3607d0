#include <cmark.h>

#include <algorithm>
#include <memory>

#include "index/readers/extract.h"

namespace lectern::index {
namespace {

struct FreeNode {
  void operator()(cmark_node* node) const { cmark_node_free(node); }
};

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n\"'");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n\"'") - begin + 1);
}

// "key: value" lines between two lines of three dashes at the top; lists are "[a, b]" or "- a" lines.
size_t ReadFrontMatter(std::string_view text, Extracted& out) {
  if (!text.starts_with("---\n") && !text.starts_with("---\r\n")) return 0;
  size_t at = text.find('\n') + 1;
  std::string key;
  std::map<std::string, std::vector<std::string>> fields;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    const std::string_view trimmed = Trim(line);
    at = end + 1;
    if (line == "---" || line == "---\r") {
      for (auto& [name, values] : fields) {
        if (name == "title" && !values.empty()) out.title = values[0];
        else if (!values.empty()) out.fields[name] = std::move(values);
      }
      return std::min(at, text.size());
    }
    const size_t colon = line.find(':');
    if (!key.empty() && trimmed.starts_with("- ")) {
      fields[key].push_back(std::string(Trim(trimmed.substr(2))));
    } else if (colon != std::string_view::npos && line[0] != ' ' && line[0] != '#') {
      key = std::string(Trim(line.substr(0, colon)));
      std::string_view value = Trim(line.substr(colon + 1));
      if (value.size() >= 2 && value.front() == '[' && value.back() == ']') {
        value = value.substr(1, value.size() - 2);
        while (!value.empty()) {
          const size_t comma = std::min(value.find(','), value.size());
          if (const auto item = Trim(value.substr(0, comma)); !item.empty()) fields[key].push_back(std::string(item));
          value.remove_prefix(std::min(comma + 1, value.size()));
        }
      } else if (!value.empty()) {
        fields[key].push_back(std::string(value));
      }
    }
  }
  return 0;   // never closed: it was no front matter
}

std::string HeadingText(cmark_node* heading) {
  std::string text;
  std::unique_ptr<cmark_iter, void (*)(cmark_iter*)> iter(cmark_iter_new(heading), cmark_iter_free);
  while (cmark_iter_next(iter.get()) != CMARK_EVENT_DONE) {
    cmark_node* node = cmark_iter_get_node(iter.get());
    const cmark_node_type type = cmark_node_get_type(node);
    if (type == CMARK_NODE_TEXT || type == CMARK_NODE_CODE) text += cmark_node_get_literal(node);
    if (type == CMARK_NODE_SOFTBREAK) text += ' ';
  }
  return text;
}

}  // namespace

absl::StatusOr<Extracted> ExtractMarkdown(std::string_view bytes) {
  if (const int64_t at = FindInvalidUtf8(bytes); at >= 0) return InvalidArgument("invalid UTF-8 at byte ", at);
  Extracted out;
  out.extractor = "markdown/1";
  out.text = std::string(bytes);
  const size_t body = ReadFrontMatter(bytes, out);
  if (!out.title.empty()) return out;
  const std::string_view rest = bytes.substr(body);
  std::unique_ptr<cmark_node, FreeNode> document(cmark_parse_document(rest.data(), rest.size(), CMARK_OPT_DEFAULT));
  for (cmark_node* node = document ? cmark_node_first_child(document.get()) : nullptr; node != nullptr; node = cmark_node_next(node)) {
    if (cmark_node_get_type(node) == CMARK_NODE_HEADING) {
      out.title = HeadingText(node);
      break;
    }
  }
  return out;
}

}  // namespace lectern::index
