#include <poppler/cpp/poppler-document.h>
#include <poppler/cpp/poppler-global.h>
#include <poppler/cpp/poppler-page.h>

#include <memory>

#include "index/readers/extract.h"

namespace lectern::index {
namespace {

std::string ToUtf8(const poppler::ustring& text) {
  const poppler::byte_array bytes = text.to_utf8();
  std::string out(bytes.begin(), bytes.end());
  while (!out.empty() && out.back() == '\0') out.pop_back();
  return out;
}

// Keeps what is valid; poppler can hand out lone surrogates of broken fonts.
std::string OnlyValid(std::string text) {
  for (size_t from = 0;;) {
    const int64_t at = FindInvalidUtf8(std::string_view(text).substr(from));
    if (at < 0) return text;
    from += static_cast<size_t>(at);
    text[from] = ' ';
  }
}

void Quiet(const std::string&, void*) {}

}  // namespace

absl::StatusOr<Extracted> ExtractPdf(std::string_view bytes) {
  if (bytes.substr(0, 1024).find("%PDF-") == std::string_view::npos) return InvalidArgument("no %PDF- in the first 1024 bytes");
  if (bytes.size() > (size_t{1} << 30)) return InvalidArgument("a PDF of ", bytes.size(), " bytes; the limit is 1 GiB");
  poppler::set_debug_error_function(Quiet, nullptr);
  Extracted out;
  out.extractor = "pdf/1";
  try {
    std::unique_ptr<poppler::document> document(poppler::document::load_from_raw_data(bytes.data(), static_cast<int>(bytes.size())));
    if (document == nullptr) return InvalidArgument("no readable PDF");
    if (document->is_locked()) return InvalidArgument("the PDF is encrypted and needs a password");
    out.title = OnlyValid(ToUtf8(document->get_title()));
    for (int i = 0; i < document->pages(); ++i) {
      std::unique_ptr<poppler::page> page(document->create_page(i));
      if (page == nullptr) return InvalidArgument("page ", i + 1, " of the PDF is damaged");
      std::string text = OnlyValid(ToUtf8(page->text(poppler::rectf(), poppler::page::non_raw_non_physical_layout)));
      while (!text.empty() && (text.back() == '\f' || text.back() == '\n' || text.back() == ' ')) text.pop_back();
      if (text.empty()) continue;
      if (!out.text.empty()) out.text += "\n\n";
      out.text += text;
    }
  } catch (const std::exception& error) {
    return InvalidArgument("no readable PDF: ", error.what());
  }
  if (out.text.empty()) return InvalidArgument("the PDF holds no text (pages of pictures need OCR first)");
  return out;
}

}  // namespace lectern::index
