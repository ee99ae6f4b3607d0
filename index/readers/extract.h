// index/readers/extract.h: the text of one file that is one document.
//
//   ASSIGN_OR_RETURN(Extracted page, ExtractHtml(bytes));      // page.title, page.text
//
// Shapes:  valid UTF-8 in and out. Markdown and plain text come out as they went in, so that spans of the text are spans of
//          the file; HTML and PDF come out as readable text, a blank line between paragraphs.
// Threads: pure functions.
// Errors:  kInvalidArgument: not UTF-8 (with the byte), nested too deep, no PDF, encrypted PDF. The caller makes a reject of it.
// Cost:    linear in the input; HTML and PDF build a tree of it.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern::index {

struct Extracted {
  std::string title;
  std::string text;
  std::map<std::string, std::vector<std::string>> fields;   // Markdown front matter, HTML meta tags we keep
  const char* extractor = "";                               // name and version; a change of output is a new version
};

absl::StatusOr<Extracted> ExtractText(std::string_view bytes);       // title: the first line, where a blank line follows it
absl::StatusOr<Extracted> ExtractMarkdown(std::string_view bytes);   // title: front matter, or the first heading
absl::StatusOr<Extracted> ExtractHtml(std::string_view bytes);       // title: <title>, or the first <h1>
absl::StatusOr<Extracted> ExtractPdf(std::string_view bytes);        // title: the document's own, or none

// The byte of the first fault, or -1 where the text is valid UTF-8 (no overlong forms, surrogates or bytes past U+10FFFF).
int64_t FindInvalidUtf8(std::string_view text);

}  // namespace lectern::index
