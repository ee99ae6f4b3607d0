#include "decoder/tokenizer/chat_template.h"

#include <array>

namespace lectern::tokenizer {
namespace {

enum Kind { kChatMl, kQwen2, kSmollm2, kLlama3, kGemma, kPlain };

constexpr std::array<std::string_view, 6> kNames = {"chatml", "qwen2", "smollm2", "llama3", "gemma", "plain"};

constexpr std::string_view kQwen2System = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
constexpr std::string_view kSmollm2System = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

std::string Shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 80)) out.push_back(c >= 0x20 && c < 0x7f ? c : ' ');
  return out;
}

bool Holds(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\n\r\f\v";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// Builds the list of pieces; neighbours of one sort become one piece.
class Prompt {
 public:
  void Markup(std::string_view text) { Add(text, true); }
  void Text(std::string_view text) { Add(text, false); }
  std::vector<PromptPiece> Take() { return std::move(pieces_); }

 private:
  void Add(std::string_view text, bool is_markup) {
    if (text.empty()) return;
    if (!pieces_.empty() && pieces_.back().is_markup == is_markup) {
      pieces_.back().text += text;
    } else {
      pieces_.push_back({std::string(text), is_markup});
    }
  }
  std::vector<PromptPiece> pieces_;
};

void ChatMlTurn(std::string_view role, std::string_view content, Prompt& prompt) {
  prompt.Markup("<|im_start|>");
  prompt.Text(role);
  prompt.Text("\n");
  prompt.Text(content);
  prompt.Markup("<|im_end|>");
  prompt.Text("\n");
}

std::vector<PromptPiece> RenderChatMl(std::span<const ChatMessage> messages, std::string_view default_system) {
  Prompt prompt;
  if (!default_system.empty() && messages[0].role != "system") ChatMlTurn("system", default_system, prompt);
  for (const ChatMessage& message : messages) ChatMlTurn(message.role, message.content, prompt);
  prompt.Markup("<|im_start|>");
  prompt.Text("assistant\n");
  return prompt.Take();
}

void Llama3Header(std::string_view role, Prompt& prompt) {
  prompt.Markup("<|start_header_id|>");
  prompt.Text(role);
  prompt.Markup("<|end_header_id|>");
  prompt.Text("\n\n");
}

std::vector<PromptPiece> RenderLlama3(std::span<const ChatMessage> messages) {
  Prompt prompt;
  for (const ChatMessage& message : messages) {
    Llama3Header(message.role, prompt);
    prompt.Text(Trimmed(message.content));
    prompt.Markup("<|eot_id|>");
  }
  Llama3Header("assistant", prompt);
  return prompt.Take();
}

// Gemma has no system turn: what it says stands before the first user's words.
absl::StatusOr<std::vector<PromptPiece>> RenderGemma(std::span<const ChatMessage> messages) {
  Prompt prompt;
  std::string_view system;
  if (messages[0].role == "system") {
    system = messages[0].content;
    messages = messages.subspan(1);
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != (i % 2 == 0 ? "user" : "assistant")) {
      return InvalidArgument("the gemma template wants user and assistant in turn, message ", i, " is of '",
                             Shown(messages[i].role), "'");
    }
    prompt.Markup("<start_of_turn>");
    prompt.Text(i % 2 == 0 ? "user\n" : "model\n");
    if (i == 0 && !system.empty()) {
      prompt.Text(system);
      prompt.Text("\n\n");
    }
    prompt.Text(Trimmed(messages[i].content));
    prompt.Markup("<end_of_turn>");
    prompt.Text("\n");
  }
  prompt.Markup("<start_of_turn>");
  prompt.Text("model\n");
  return prompt.Take();
}

// For models without turns: the words alone, a blank line behind each message.
std::vector<PromptPiece> RenderPlain(std::span<const ChatMessage> messages) {
  Prompt prompt;
  for (const ChatMessage& message : messages) {
    prompt.Text(message.content);
    prompt.Text("\n\n");
  }
  return prompt.Take();
}

void ReplaceAll(std::string_view what, std::string_view with, std::string* text) {
  std::string out;
  size_t done = 0;
  for (size_t at; (at = text->find(what, done)) != std::string::npos; done = at + what.size()) {
    out.append(*text, done, at - done);
    out += with;
  }
  out.append(*text, done, std::string::npos);
  *text = std::move(out);
}

// A template with its line ends unescaped and its literal concatenations joined, so that what it writes can be found.
std::string Flattened(std::string_view jinja) {
  std::string text(jinja);
  ReplaceAll("\\n", "\n", &text);
  for (const std::string_view joint : {"' + '", "'+'", "\" + \"", "\"+\""}) ReplaceAll(joint, "", &text);
  return text;
}

// The system turn that a ChatML template writes where the messages have none; empty where it writes none.
std::string DefaultSystem(std::string_view flat) {
  constexpr std::string_view kOpen = "<|im_start|>system\n", kClose = "<|im_end|>";
  for (size_t at = flat.find(kOpen); at != std::string_view::npos; at = flat.find(kOpen, at + 1)) {
    const size_t begin = at + kOpen.size(), end = flat.find(kClose, begin);
    if (end == std::string_view::npos) break;
    const std::string_view text = flat.substr(begin, end - begin);
    // A quote or brace means that the template goes on with an expression, such as the messages' own system text.
    if (!text.empty() && text.find_first_of("'\"{}") == std::string_view::npos) return std::string(text);
  }
  return {};
}

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::Named(std::string_view name) {
  std::string known;
  for (size_t kind = 0; kind < kNames.size(); ++kind) {
    if (kNames[kind] == name) {
      return ChatTemplate(static_cast<int>(kind), std::string(kind == kQwen2     ? kQwen2System
                                                              : kind == kSmollm2 ? kSmollm2System
                                                                                 : std::string_view()));
    }
    known += (known.empty() ? "" : ", ") + std::string(kNames[kind]);
  }
  return NotSupported("chat template '", Shown(name), "'; known are ", known);
}

absl::StatusOr<ChatTemplate> ChatTemplate::Recognise(std::string_view jinja) {
  const std::string flat = Flattened(jinja);
  const auto unknown = [&](std::string_view why) {
    return NotSupported("the model's chat template (", why, ") is not a known one, it begins '", Shown(jinja),
                        "'; --chat-template names one of chatml, qwen2, smollm2, llama3, gemma, plain");
  };
  if (Holds(flat, "<|im_start|>")) {
    // Separators, trimmed contents and a BOS of its own make a template that only looks like ChatML. Qwen 3 trims
    // what assistants thought, which no prompt of ours holds.
    const bool qwen3 = Holds(flat, "enable_thinking") && Holds(flat, "reasoning_content");
    const bool trims = Holds(flat, "trim") || Holds(flat, "strip(");
    if (!Holds(flat, "<|im_end|>\n") || !Holds(flat, "<|im_start|>assistant\n")) return unknown("ChatML of another form");
    if (Holds(flat, "<|im_sep|>") || Holds(flat, "bos_token") || (trims && !qwen3)) return unknown("like ChatML, with additions");
    std::string system = DefaultSystem(flat);
    const Kind kind = system == kQwen2System ? kQwen2 : system == kSmollm2System ? kSmollm2 : kChatMl;
    return ChatTemplate(kind, std::move(system));
  }
  if (Holds(flat, "<|start_header_id|>") && Holds(flat, "<|end_header_id|>\n\n") && Holds(flat, "<|eot_id|>")) {
    if (Holds(flat, "Cutting Knowledge Date")) return unknown("Llama 3.1, which writes today's date");
    return Named("llama3");
  }
  if (Holds(flat, "<start_of_turn>") && Holds(flat, "<end_of_turn>\n") && Holds(flat, "<start_of_turn>model\n")) {
    return Named("gemma");
  }
  return unknown("unknown");
}

std::string_view ChatTemplate::name() const { return kNames[static_cast<size_t>(kind_)]; }

absl::StatusOr<std::vector<PromptPiece>> ChatTemplate::Render(std::span<const ChatMessage> messages) const {
  if (messages.empty()) return InvalidArgument("a chat needs at least one message");
  for (const ChatMessage& message : messages) {
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      return InvalidArgument("a message's role must be system, user or assistant, got '", Shown(message.role), "'");
    }
  }
  switch (kind_) {
    case kLlama3: return RenderLlama3(messages);
    case kGemma: return RenderGemma(messages);
    case kPlain: return RenderPlain(messages);
    default: return RenderChatMl(messages, default_system_);
  }
}

}  // namespace lectern::tokenizer
