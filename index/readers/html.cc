#include <gumbo.h>

#include <algorithm>

#include "index/readers/extract.h"

namespace lectern::index {
namespace {

constexpr int kMaxDepth = 400;   // deeper trees are attacks, and recursion must end

bool IsSkipped(GumboTag tag) {
  switch (tag) {
    case GUMBO_TAG_SCRIPT: case GUMBO_TAG_STYLE: case GUMBO_TAG_NOSCRIPT: case GUMBO_TAG_TEMPLATE: case GUMBO_TAG_NAV:
    case GUMBO_TAG_HEAD: case GUMBO_TAG_IFRAME: case GUMBO_TAG_OBJECT: case GUMBO_TAG_SVG: case GUMBO_TAG_SELECT:
    case GUMBO_TAG_BUTTON: case GUMBO_TAG_TEXTAREA:
      return true;
    default:
      return false;
  }
}

bool IsBlock(GumboTag tag) {
  switch (tag) {
    case GUMBO_TAG_P: case GUMBO_TAG_DIV: case GUMBO_TAG_SECTION: case GUMBO_TAG_ARTICLE: case GUMBO_TAG_H1: case GUMBO_TAG_H2:
    case GUMBO_TAG_H3: case GUMBO_TAG_H4: case GUMBO_TAG_H5: case GUMBO_TAG_H6: case GUMBO_TAG_UL: case GUMBO_TAG_OL:
    case GUMBO_TAG_TABLE: case GUMBO_TAG_BLOCKQUOTE: case GUMBO_TAG_PRE: case GUMBO_TAG_HEADER: case GUMBO_TAG_FOOTER:
    case GUMBO_TAG_MAIN: case GUMBO_TAG_ASIDE: case GUMBO_TAG_FIGURE: case GUMBO_TAG_FIGCAPTION: case GUMBO_TAG_DL: case GUMBO_TAG_HR:
    case GUMBO_TAG_FORM: case GUMBO_TAG_ADDRESS: case GUMBO_TAG_BODY:
      return true;
    default:
      return false;
  }
}

bool IsLine(GumboTag tag) {
  return tag == GUMBO_TAG_LI || tag == GUMBO_TAG_TR || tag == GUMBO_TAG_BR || tag == GUMBO_TAG_DT || tag == GUMBO_TAG_DD;
}

// Text with white space folded, a newline or a blank line where the page breaks.
class Writer {
 public:
  void Break(int newlines) { pending_newlines_ = std::max(pending_newlines_, newlines); }
  void Space() { pending_space_ = true; }
  void Text(std::string_view text, bool keep_spaces) {
    for (char c : text) {
      if (!keep_spaces && (c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f')) {
        pending_space_ = true;
        continue;
      }
      Flush();
      out_ += c;
    }
  }
  std::string Take() { return std::move(out_); }

 private:
  void Flush() {
    if (!out_.empty() && pending_newlines_ > 0) out_.append(static_cast<size_t>(pending_newlines_), '\n');
    else if (!out_.empty() && pending_space_ && out_.back() != '\n') out_ += ' ';
    pending_newlines_ = 0;
    pending_space_ = false;
  }
  std::string out_;
  int pending_newlines_ = 0;
  bool pending_space_ = false;
};

absl::Status Walk(const GumboNode* node, int depth, bool preformatted, Writer& out) {
  if (depth > kMaxDepth) return InvalidArgument("HTML nested deeper than ", kMaxDepth, " elements");
  if (node->type == GUMBO_NODE_TEXT || node->type == GUMBO_NODE_WHITESPACE || node->type == GUMBO_NODE_CDATA) {
    out.Text(node->v.text.text, preformatted);
    return absl::OkStatus();
  }
  if (node->type != GUMBO_NODE_ELEMENT) return absl::OkStatus();
  const GumboElement& element = node->v.element;
  if (IsSkipped(element.tag)) return absl::OkStatus();
  const GumboAttribute* hidden = gumbo_get_attribute(&element.attributes, "hidden");
  if (hidden != nullptr) return absl::OkStatus();
  const bool block = IsBlock(element.tag);
  if (block) out.Break(2);
  if (IsLine(element.tag)) out.Break(1);
  if (element.tag == GUMBO_TAG_TD || element.tag == GUMBO_TAG_TH) out.Space();
  for (unsigned i = 0; i < element.children.length; ++i) {
    RETURN_IF_ERROR(Walk(static_cast<const GumboNode*>(element.children.data[i]), depth + 1, preformatted || element.tag == GUMBO_TAG_PRE, out));
  }
  if (block) out.Break(2);
  if (IsLine(element.tag)) out.Break(1);
  return absl::OkStatus();
}

const GumboNode* FindTag(const GumboNode* node, GumboTag tag, int depth) {
  if (node->type != GUMBO_NODE_ELEMENT || depth > kMaxDepth) return nullptr;
  if (node->v.element.tag == tag) return node;
  for (unsigned i = 0; i < node->v.element.children.length; ++i) {
    const auto* found = FindTag(static_cast<const GumboNode*>(node->v.element.children.data[i]), tag, depth + 1);
    if (found != nullptr) return found;
  }
  return nullptr;
}

std::string TextUnder(const GumboNode* node) {
  Writer writer;
  for (unsigned i = 0; node != nullptr && i < node->v.element.children.length; ++i) {
    if (!Walk(static_cast<const GumboNode*>(node->v.element.children.data[i]), 0, false, writer).ok()) return "";
  }
  std::string text = writer.Take();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

absl::StatusOr<Extracted> ExtractHtml(std::string_view bytes) {
  if (const int64_t at = FindInvalidUtf8(bytes); at >= 0) return InvalidArgument("invalid UTF-8 at byte ", at);
  GumboOptions options = kGumboDefaultOptions;
  options.max_errors = 0;
  GumboOutput* page = gumbo_parse_with_options(&options, bytes.data(), bytes.size());
  if (page == nullptr || page->root == nullptr) return InvalidArgument("no HTML was found");
  Extracted out;
  out.extractor = "html/1";
  Writer writer;
  const absl::Status status = Walk(page->root, 0, false, writer);
  if (status.ok()) {
    out.text = writer.Take();
    out.title = TextUnder(FindTag(page->root, GUMBO_TAG_TITLE, 0));
    if (out.title.empty()) out.title = TextUnder(FindTag(page->root, GUMBO_TAG_H1, 0));
  }
  gumbo_destroy_output(&kGumboDefaultOptions, page);
  RETURN_IF_ERROR(status);
  // gumbo turns a character reference to a surrogate or to NUL into U+FFFD, so what comes out stays valid.
  if (const int64_t at = FindInvalidUtf8(out.text); at >= 0) return InvalidArgument("a character reference makes invalid UTF-8");
  return out;
}

}  // namespace lectern::index
