#include "decoder/load_tokenizer.h"

#include <limits>

#include "base/json.h"

namespace lectern::decoder {
namespace {

using model_file::Container;
using model_file::ModelFile;
using tokenizer::ChatTemplate;
using tokenizer::Tokenizer;

constexpr std::string_view kPrefix = "tokenizer.ggml.";

std::string Key(std::string_view name) { return std::string(kPrefix) + std::string(name); }

absl::Status ReadId(const ModelFile& file, std::string_view name, int64_t* id) {
  if (!file.Has(Key(name))) return absl::OkStatus();
  ASSIGN_OR_RETURN(*id, file.Int(Key(name)));
  return absl::OkStatus();
}

absl::Status ReadFlag(const ModelFile& file, std::string_view name, bool* flag) {
  if (!file.Has(Key(name))) return absl::OkStatus();
  ASSIGN_OR_RETURN(*flag, file.Bool(Key(name)));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> FromGguf(const ModelFile& file) {
  tokenizer::GgufTokenizerSpec spec;
  ASSIGN_OR_RETURN(spec.model, file.String(Key("model")));
  if (file.Has(Key("pre"))) {
    ASSIGN_OR_RETURN(spec.pre, file.String(Key("pre")));
  } else {
    spec.pre = "default";
  }
  ASSIGN_OR_RETURN(spec.tokens, file.Strings(Key("tokens")));
  if (file.Has(Key("token_type"))) {
    ASSIGN_OR_RETURN(const std::vector<int64_t> types, file.Ints(Key("token_type")));
    for (const int64_t type : types) {
      if (type < 0 || type > 6) return DataLoss(Key("token_type"), " holds ", type, ", known are 0..6");
      spec.token_types.push_back(static_cast<int32_t>(type));
    }
  }
  if (file.Has(Key("scores"))) {
    ASSIGN_OR_RETURN(spec.scores, file.Numbers(Key("scores")));
  }
  if (file.Has(Key("merges"))) {
    ASSIGN_OR_RETURN(spec.merges, file.Strings(Key("merges")));
  }
  RETURN_IF_ERROR(ReadId(file, "bos_token_id", &spec.bos_id));
  RETURN_IF_ERROR(ReadId(file, "eos_token_id", &spec.eos_id));
  RETURN_IF_ERROR(ReadId(file, "eot_token_id", &spec.eot_id));
  RETURN_IF_ERROR(ReadId(file, "unknown_token_id", &spec.unknown_id));
  RETURN_IF_ERROR(ReadId(file, "padding_token_id", &spec.padding_id));
  // What a file leaves out follows its family, as where these files come from: SentencePiece and Llama 3 begin with BOS.
  const bool llama3 = spec.pre == "llama-bpe" || spec.pre == "llama3" || spec.pre == "llama-v3";
  spec.add_bos = (spec.model == "llama" || llama3) && spec.bos_id >= 0;
  RETURN_IF_ERROR(ReadFlag(file, "add_bos_token", &spec.add_bos));
  RETURN_IF_ERROR(ReadFlag(file, "add_eos_token", &spec.add_eos));
  RETURN_IF_ERROR(ReadFlag(file, "add_space_prefix", &spec.add_space_prefix));
  return Tokenizer::FromSpec(spec);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> FromFolder(const ModelFile& file) {
  ASSIGN_OR_RETURN(const std::string json, file.ReadCompanion("tokenizer.json"));
  const absl::StatusOr<std::string> config = file.ReadCompanion("tokenizer_config.json");
  if (!config.ok() && config.status().code() != absl::StatusCode::kNotFound) return config.status();
  return Tokenizer::FromJson(json, config.ok() ? std::string_view(*config) : std::string_view());
}

// The template's Jinja text; kNotFound where the model brings none.
absl::StatusOr<std::string> TemplateText(const ModelFile& file) {
  if (file.container() == Container::kGguf) {
    if (file.Has("tokenizer.chat_template")) return file.String("tokenizer.chat_template");
  } else {
    absl::StatusOr<std::string> text = file.ReadCompanion("chat_template.jinja");
    if (text.ok()) return text;
    absl::StatusOr<std::string> config = file.ReadCompanion("tokenizer_config.json");
    if (config.ok()) {
      ASSIGN_OR_RETURN(const Json json, ParseJson(*config, {.max_depth = 16, .max_bytes = 4 << 20}));
      if (json.is_object() && json.contains("chat_template")) return JsonString(json, "chat_template");
    }
  }
  return NotFound(file.path(), " brings no chat template; --chat-template names one of chatml, qwen2, smollm2, llama3, gemma, plain");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const ModelFile& file) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      file.container() == Container::kGguf ? FromGguf(file) : FromFolder(file);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), file.path());
  return tokenizer;
}

absl::StatusOr<ChatTemplate> LoadChatTemplate(const ModelFile& file, std::string_view override_name) {
  if (!override_name.empty()) return ChatTemplate::Named(override_name);
  ASSIGN_OR_RETURN(const std::string text, TemplateText(file));
  return ChatTemplate::Recognise(text);
}

}  // namespace lectern::decoder
