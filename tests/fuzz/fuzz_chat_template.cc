// Any bytes as a Jinja template, and as a message: content never becomes markup.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "decoder/tokenizer/chat_template.h"

// Markup is control names and nothing else.
static bool IsMarkup(std::string_view text) {
  constexpr std::string_view kNames[] = {"<|im_start|>",     "<|im_end|>",        "<|start_header_id|>", "<|end_header_id|>",
                                         "<|eot_id|>",       "<start_of_turn>",   "<end_of_turn>"};
  while (!text.empty()) {
    size_t taken = 0;
    for (const std::string_view name : kNames) {
      if (text.starts_with(name)) taken = name.size();
    }
    if (taken == 0) return false;
    text.remove_prefix(taken);
  }
  return true;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::tokenizer;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)ChatTemplate::Recognise(text).status();
  for (const char* name : {"chatml", "qwen2", "smollm2", "llama3", "gemma", "plain"}) {
    const auto pieces = ChatTemplate::Named(name)->Render(std::vector<ChatMessage>{{"user", std::string(text)}});
    CHECK(pieces.ok());
    for (const PromptPiece& piece : *pieces) {
      if (piece.is_markup) CHECK(IsMarkup(piece.text));
    }
  }
  return 0;
}
