// HTML: what a reader sees. Title from <title>, else the first <h1>. Scripts, styles, navigation, forms, hidden and
// embedded things go; blocks are parted by empty lines, table cells by tabs; <pre> keeps its blanks; entities are decoded.
#include <gumbo.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "base/check.h"
#include "index/readers/extract.h"

namespace lectern::index {
namespace {

constexpr int kMaxHtmlDepth = 2000;   // for each tag the parser may look through all the elements that are open

bool In(GumboTag tag, std::initializer_list<GumboTag> tags) { return std::find(tags.begin(), tags.end(), tag) != tags.end(); }

bool IsDropped(const GumboElement& element) {
  if (In(element.tag, {GUMBO_TAG_SCRIPT, GUMBO_TAG_STYLE, GUMBO_TAG_NOSCRIPT, GUMBO_TAG_TEMPLATE, GUMBO_TAG_NAV, GUMBO_TAG_SVG, GUMBO_TAG_MATH,
                       GUMBO_TAG_IFRAME, GUMBO_TAG_OBJECT, GUMBO_TAG_EMBED, GUMBO_TAG_CANVAS, GUMBO_TAG_AUDIO, GUMBO_TAG_VIDEO, GUMBO_TAG_BUTTON,
                       GUMBO_TAG_SELECT, GUMBO_TAG_TEXTAREA, GUMBO_TAG_HEAD})) {
    return true;
  }
  if (gumbo_get_attribute(&element.attributes, "hidden") != nullptr) return true;
  const GumboAttribute* role = gumbo_get_attribute(&element.attributes, "role");
  return role != nullptr && (std::string_view(role->value) == "navigation" || std::string_view(role->value) == "search");
}

bool IsBlock(GumboTag tag) {
  return In(tag, {GUMBO_TAG_P, GUMBO_TAG_DIV, GUMBO_TAG_SECTION, GUMBO_TAG_ARTICLE, GUMBO_TAG_ASIDE, GUMBO_TAG_HEADER, GUMBO_TAG_FOOTER,
                  GUMBO_TAG_MAIN, GUMBO_TAG_H1, GUMBO_TAG_H2, GUMBO_TAG_H3, GUMBO_TAG_H4, GUMBO_TAG_H5, GUMBO_TAG_H6, GUMBO_TAG_UL, GUMBO_TAG_OL,
                  GUMBO_TAG_DL, GUMBO_TAG_TABLE, GUMBO_TAG_CAPTION, GUMBO_TAG_PRE, GUMBO_TAG_BLOCKQUOTE, GUMBO_TAG_FIGURE, GUMBO_TAG_FIGCAPTION,
                  GUMBO_TAG_FORM, GUMBO_TAG_FIELDSET, GUMBO_TAG_ADDRESS, GUMBO_TAG_HR, GUMBO_TAG_DETAILS, GUMBO_TAG_SUMMARY});
}
bool IsLine(GumboTag tag) { return In(tag, {GUMBO_TAG_BR, GUMBO_TAG_LI, GUMBO_TAG_TR, GUMBO_TAG_DT, GUMBO_TAG_DD, GUMBO_TAG_OPTION}); }
bool IsCell(GumboTag tag) { return tag == GUMBO_TAG_TD || tag == GUMBO_TAG_TH; }

// Text with blanks folded, and the line ends that stand between blocks.
class TextBuilder {
 public:
  void Add(std::string_view text, bool keep_blanks) {
    for (size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      const bool nbsp = c == '\xc2' && i + 1 < text.size() && text[i + 1] == '\xa0';
      const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || nbsp;
      if (nbsp) ++i;
      if (keep_blanks && blank) {
        if (c == '\n') newlines_ = std::min(newlines_ + 1, 2), spaces_ = 0;
        else if (c != '\r') ++spaces_;
      } else if (blank) {
        spaces_ = std::max<size_t>(spaces_, 1);
      } else {
        Flush(keep_blanks);
        text_.push_back(c);
      }
    }
  }
  void Break(int newlines) {
    newlines_ = std::max(newlines_, newlines);
    spaces_ = 0;
  }
  void Cell() { cell_ = true; }
  std::string Take() { return std::move(text_); }

 private:
  void Flush(bool keep_blanks) {
    if (!text_.empty()) {
      if (newlines_ > 0) text_.append(static_cast<size_t>(newlines_), '\n');
      else if (cell_) text_.push_back('\t');
    }
    if (spaces_ > 0 && (keep_blanks || (newlines_ == 0 && !cell_ && !text_.empty()))) text_.append(keep_blanks ? spaces_ : 1, ' ');
    newlines_ = 0;
    spaces_ = 0;
    cell_ = false;
  }
  std::string text_;
  int newlines_ = 0;
  size_t spaces_ = 0;
  bool cell_ = false;
};

const GumboVector* ChildrenOf(const GumboNode* node) {
  if (node->type == GUMBO_NODE_DOCUMENT) return &node->v.document.children;
  if (node->type == GUMBO_NODE_ELEMENT) return &node->v.element.children;
  return nullptr;
}

// Walks without recursion: `enter` says whether to go inside, `leave` comes after.
template <class Enter, class Leave>
void Walk(const GumboNode* root, Enter enter, Leave leave) {
  struct Step {
    const GumboNode* node;
    unsigned next;
  };
  std::vector<Step> path;
  if (enter(root)) path.push_back({root, 0});
  while (!path.empty()) {
    Step& step = path.back();
    const GumboVector* children = ChildrenOf(step.node);
    if (children == nullptr || step.next >= children->length) {
      leave(step.node);
      path.pop_back();
      continue;
    }
    const auto* child = static_cast<const GumboNode*>(children->data[step.next++]);
    if (enter(child)) path.push_back({child, 0});
  }
}

std::string TextOf(const GumboNode* root, bool keep_dropped) {
  TextBuilder out;
  int pre = 0;
  Walk(
      root,
      [&](const GumboNode* node) {
        if (node->type == GUMBO_NODE_TEXT || node->type == GUMBO_NODE_WHITESPACE || node->type == GUMBO_NODE_CDATA) {
          out.Add(node->v.text.text, pre > 0);
          return false;
        }
        if (node->type == GUMBO_NODE_DOCUMENT) return true;
        if (node->type != GUMBO_NODE_ELEMENT) return false;
        const GumboElement& element = node->v.element;
        if (!keep_dropped && IsDropped(element)) return false;
        if (IsBlock(element.tag)) out.Break(2);
        else if (IsLine(element.tag)) out.Break(1);
        else if (IsCell(element.tag)) out.Cell();
        if (element.tag == GUMBO_TAG_PRE) ++pre;
        return true;
      },
      [&](const GumboNode* node) {
        if (node->type != GUMBO_NODE_ELEMENT) return;
        const GumboTag tag = node->v.element.tag;
        if (tag == GUMBO_TAG_PRE) --pre;
        if (IsBlock(tag)) out.Break(2);
        else if (IsLine(tag)) out.Break(1);
      });
  return out.Take();
}

const GumboNode* FirstOf(const GumboNode* root, GumboTag tag) {
  const GumboNode* found = nullptr;
  Walk(
      root,
      [&](const GumboNode* node) {
        if (found != nullptr) return false;
        if (node->type == GUMBO_NODE_ELEMENT && node->v.element.tag == tag) found = node;
        return found == nullptr && ChildrenOf(node) != nullptr;
      },
      [](const GumboNode*) {});
  return found;
}

// About how deep the tree will be, before it is built: tags left open, by name. Elements that HTML closes by itself are not
// counted, but inside <svg> and <math> they nest like any other, less those whose tags end the picture.
int DepthBound(std::string_view html) {
  static constexpr std::array<std::string_view, 11> kNeverNest = {"body", "br", "dd", "dt", "embed", "head", "hr", "img", "li", "meta", "p"};
  static constexpr std::array<std::string_view, 17> kNestInForeign = {"area",  "base", "col", "html",  "input", "link",  "option", "param", "source",
                                                                      "tbody", "td",   "tfoot", "th", "thead", "tr",   "track",  "wbr"};
  std::map<std::string, int, std::less<>> open;
  int depth = 0, deepest = 0;
  for (size_t at = 0; (at = html.find('<', at)) != std::string_view::npos;) {
    ++at;
    const bool closing = at < html.size() && html[at] == '/';
    if (closing) ++at;
    std::string name;
    while (at < html.size() && name.size() < 32) {
      const char c = html[at] >= 'A' && html[at] <= 'Z' ? static_cast<char>(html[at] + 32) : html[at];
      if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) break;
      name.push_back(c);
      ++at;
    }
    if (name.empty() || std::find(kNeverNest.begin(), kNeverNest.end(), name) != kNeverNest.end()) continue;
    const bool foreign = open["svg"] + open["math"] > 0;
    if (!foreign && std::find(kNestInForeign.begin(), kNestInForeign.end(), name) != kNestInForeign.end()) continue;
    const size_t end = html.find_first_of("<>", at);
    if ((foreign || name == "svg" || name == "math") && end != std::string_view::npos && html[end] == '>' && html[end - 1] == '/') continue;   // closes itself
    int& count = open[name];
    if (!closing) ++count, deepest = std::max(deepest, ++depth);
    else if (count > 0) --count, --depth;
  }
  return deepest;
}

// What the parser allocates, all of it freed at once: its own way of freeing a tree recurses as deep as the page nests.
class ParserMemory {
 public:
  ~ParserMemory() {
    while (first_.next != &first_) Free(this, first_.next + 1);
  }
  static void* Allocate(void* memory, size_t size) {
    auto* block = static_cast<Block*>(std::malloc(sizeof(Block) + size));
    CHECK(block != nullptr);   // the parser does not ask
    Block& first = static_cast<ParserMemory*>(memory)->first_;
    *block = {&first, first.next};
    first.next->previous = block;
    first.next = block;
    return block + 1;
  }
  static void Free(void*, void* pointer) {
    if (pointer == nullptr) return;
    Block* block = static_cast<Block*>(pointer) - 1;
    block->previous->next = block->next;
    block->next->previous = block->previous;
    std::free(block);
  }

 private:
  struct alignas(std::max_align_t) Block {   // before each allocation
    Block *previous, *next;
  };
  Block first_{&first_, &first_};
};

}  // namespace

absl::StatusOr<Extracted> ExtractHtml(std::string_view bytes) {
  if (const int64_t at = FindInvalidUtf8(bytes); at >= 0) return InvalidArgument("invalid UTF-8 at byte ", at);
  if (const int depth = DepthBound(bytes); depth > kMaxHtmlDepth) {
    return InvalidArgument("HTML elements may nest ", kMaxHtmlDepth, " deep, got up to ", depth);
  }
  ParserMemory memory;
  GumboOptions options = kGumboDefaultOptions;
  options.allocator = &ParserMemory::Allocate;
  options.deallocator = &ParserMemory::Free;
  options.userdata = &memory;
  options.max_errors = 0;
  if (bytes.starts_with("\xef\xbb\xbf")) bytes.remove_prefix(3);
  GumboOutput* page = gumbo_parse_with_options(&options, bytes.data(), bytes.size());
  if (page == nullptr || page->root == nullptr) return InvalidArgument("no HTML was found");
  Extracted out;
  out.extractor = "html/1";
  const auto one_line = [](std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
  };
  if (const GumboNode* title = FirstOf(page->root, GUMBO_TAG_TITLE)) out.title = one_line(TextOf(title, true));
  if (out.title.empty()) {
    if (const GumboNode* heading = FirstOf(page->root, GUMBO_TAG_H1)) out.title = one_line(TextOf(heading, false));
  }
  out.text = TextOf(page->root, false);
  // gumbo turns a character reference to a surrogate or to NUL into U+FFFD, so what comes out stays valid.
  if (const int64_t at = FindInvalidUtf8(out.text); at >= 0) return InvalidArgument("a character reference makes invalid UTF-8");
  return out;
}

}  // namespace lectern::index
