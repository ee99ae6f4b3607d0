#include "decoder/tokenizer/json_reader.h"

#include <simdjson.h>

#include <algorithm>

#include "decoder/tokenizer/vocabulary.h"

namespace lectern::tokenizer {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr size_t kMaxDepth = 32;              // real files nest six deep
constexpr size_t kMaxJsonBytes = 64u << 20;   // the largest known, of 262,144 tokens, has 33 MB

// The splitting rules that are known, by the regular expression of their pre-tokeniser.
constexpr std::string_view kQwen2Rule =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Rule =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string Shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 48)) out.push_back(c >= 0x20 && c < 0x7f ? c : '?');
  return out;
}

absl::Status Malformed(std::string_view what) { return DataLoss("tokenizer.json: ", what); }

bool IsNull(object parent, std::string_view key) {
  element value;
  return parent[key].get(value) != simdjson::SUCCESS || value.is_null();
}
bool FlagOr(object parent, std::string_view key, bool otherwise) {
  bool flag = otherwise;
  return parent[key].get(flag) == simdjson::SUCCESS ? flag : otherwise;
}
std::string_view TextOr(object parent, std::string_view key, std::string_view otherwise) {
  std::string_view text;
  return parent[key].get(text) == simdjson::SUCCESS ? text : otherwise;
}
absl::StatusOr<object> Child(object parent, std::string_view key) {
  object child;
  if (parent[key].get(child) != simdjson::SUCCESS) return Malformed(internal::Concat("'", key, "' must be an object"));
  return child;
}
// The parts of a component: those of a Sequence, or itself.
absl::StatusOr<std::vector<object>> Parts(object component, std::string_view list_key) {
  if (TextOr(component, "type", "") != "Sequence") return std::vector<object>{component};
  array list;
  if (component[list_key].get(list) != simdjson::SUCCESS) {
    return Malformed(internal::Concat("a Sequence has no list '", list_key, "'"));
  }
  std::vector<object> parts;
  for (const element item : list) {
    object part;
    if (item.get(part) != simdjson::SUCCESS) return Malformed("a Sequence holds something that is no object");
    parts.push_back(part);
  }
  return parts;
}

absl::StatusOr<object> ParseObject(std::string_view json, simdjson::dom::parser& parser) {
  if (json.size() > kMaxJsonBytes) {
    return ResourceExhausted("tokenizer.json has ", json.size(), " bytes, the limit is ", kMaxJsonBytes);
  }
  if (parser.allocate(std::max<size_t>(json.size(), 1), kMaxDepth) != simdjson::SUCCESS) {
    return ResourceExhausted("no memory to parse ", json.size(), " bytes of tokenizer.json");
  }
  element whole;
  if (const auto error = parser.parse(json.data(), json.size()).get(whole); error != simdjson::SUCCESS) {
    return Malformed(internal::Concat("not valid JSON: ", simdjson::error_message(error)));
  }
  object root;
  if (whole.get(root) != simdjson::SUCCESS) return Malformed("must hold a JSON object");
  return root;
}

absl::Status Place(std::string_view text, int64_t id, std::vector<std::string>* tokens) {
  if (id < 0 || id >= kMaxTokens) {
    return ResourceExhausted("tokenizer.json: id ", id, " of token '", Shown(text), "' must be in 0..", kMaxTokens - 1);
  }
  if (static_cast<size_t>(id) >= tokens->size()) tokens->resize(static_cast<size_t>(id) + 1);
  std::string& slot = (*tokens)[static_cast<size_t>(id)];
  if (!slot.empty() && slot != text) {
    return DataLoss("tokenizer.json: id ", id, " is both '", Shown(slot), "' and '", Shown(text), "'");
  }
  slot = std::string(text);
  return absl::OkStatus();
}

absl::Status ReadVocabulary(object model, TokenizerJson* out) {
  ASSIGN_OR_RETURN(const object vocab, Child(model, "vocab"));
  for (const simdjson::dom::key_value_pair field : vocab) {
    int64_t id = 0;
    if (field.value.get(id) != simdjson::SUCCESS) {
      return Malformed(internal::Concat("the id of token '", Shown(field.key), "' must be an integer"));
    }
    RETURN_IF_ERROR(Place(field.key, id, &out->tokens));
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(object model, TokenizerJson* out) {
  array merges;
  if (model["merges"].get(merges) != simdjson::SUCCESS) return Malformed("a BPE model has no list 'merges'");
  for (const element item : merges) {
    std::string_view line;
    array pair;
    if (item.get(line) == simdjson::SUCCESS) {
      const size_t blank = line.find(' ');
      if (blank == std::string_view::npos) return Malformed("a merge must be two tokens with a blank between");
      out->merges.emplace_back(line.substr(0, blank), line.substr(blank + 1));
    } else if (std::string_view left, right;
               item.get(pair) == simdjson::SUCCESS && pair.size() == 2 && pair.at(0).get(left) == simdjson::SUCCESS &&
               pair.at(1).get(right) == simdjson::SUCCESS) {
      out->merges.emplace_back(left, right);
    } else {
      return Malformed("a merge must be two tokens");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadModel(object root, TokenizerJson* out) {
  ASSIGN_OR_RETURN(const object model, Child(root, "model"));
  const std::string_view type = TextOr(model, "type", "");
  RETURN_IF_ERROR(ReadVocabulary(model, out));
  if (type == "WordPiece") {
    out->model = TokenizerJson::Model::kWordPiece;
    out->unknown_token = TextOr(model, "unk_token", "[UNK]");
    out->continuing_prefix = TextOr(model, "continuing_subword_prefix", "##");
    if (!IsNull(model, "max_input_chars_per_word") &&
        (model["max_input_chars_per_word"].get(out->max_word_chars) != simdjson::SUCCESS || out->max_word_chars < 1 ||
         out->max_word_chars > 1 << 20)) {
      return Malformed("'max_input_chars_per_word' must be in 1..1048576");
    }
    return absl::OkStatus();
  }
  if (type == "BPE") {
    out->model = TokenizerJson::Model::kBpe;
    double dropout = 0;
    if (model["dropout"].get(dropout) == simdjson::SUCCESS && dropout != 0) return NotSupported("tokenizer.json: BPE dropout");
    if (!TextOr(model, "continuing_subword_prefix", "").empty() || !TextOr(model, "end_of_word_suffix", "").empty()) {
      return NotSupported("tokenizer.json: BPE with a subword prefix or a word suffix");
    }
    if (FlagOr(model, "byte_fallback", false)) return NotSupported("tokenizer.json: BPE with byte_fallback");
    out->ignore_merges = FlagOr(model, "ignore_merges", false);
    return ReadMerges(model, out);
  }
  return NotSupported("tokenizer.json: model type '", Shown(type), "'; known are WordPiece and BPE");
}

absl::Status ReadAddedTokens(object root, TokenizerJson* out) {
  if (IsNull(root, "added_tokens")) return absl::OkStatus();
  array list;
  if (root["added_tokens"].get(list) != simdjson::SUCCESS) return Malformed("'added_tokens' must be a list");
  for (const element item : list) {
    object entry;
    int64_t id = 0;
    std::string_view text;
    if (item.get(entry) != simdjson::SUCCESS || entry["id"].get(id) != simdjson::SUCCESS ||
        entry["content"].get(text) != simdjson::SUCCESS || text.empty()) {
      return Malformed("an added token must have an 'id' and a 'content'");
    }
    RETURN_IF_ERROR(Place(text, id, &out->tokens));
    AddedToken added{std::string(text), static_cast<int32_t>(id), FlagOr(entry, "special", false),
                     FlagOr(entry, "lstrip", false), FlagOr(entry, "rstrip", false)};
    if (FlagOr(entry, "single_word", false) || (!added.special && (added.lstrip || added.rstrip))) {
      return NotSupported("tokenizer.json: the added token '", Shown(text), "' asks for single_word, lstrip or rstrip");
    }
    out->added.push_back(std::move(added));
  }
  return absl::OkStatus();
}

absl::Status ReadNormalizer(object root, TokenizerJson* out) {
  if (IsNull(root, "normalizer")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const object component, Child(root, "normalizer"));
  ASSIGN_OR_RETURN(const std::vector<object> parts, Parts(component, "normalizers"));
  for (const object part : parts) {
    const std::string_view type = TextOr(part, "type", "");
    if (type == "BertNormalizer" && out->model == TokenizerJson::Model::kWordPiece && parts.size() == 1) {
      out->bert_normalizer = true;
      out->clean_text = FlagOr(part, "clean_text", true);
      out->chinese_chars = FlagOr(part, "handle_chinese_chars", true);
      out->lowercase = FlagOr(part, "lowercase", true);
      out->strip_accents = FlagOr(part, "strip_accents", out->lowercase);  // null follows lowercase
    } else if (type == "NFC" && out->model == TokenizerJson::Model::kBpe) {
      out->nfc = true;
    } else {
      return NotSupported("tokenizer.json: normaliser '", Shown(type), "'");
    }
  }
  return absl::OkStatus();
}

// Which splitting rule a BPE pre-tokeniser amounts to.
absl::Status ReadBytePreTokenizer(const std::vector<object>& parts, TokenizerJson* out) {
  std::string rule;
  bool byte_level = false, digits = false;
  for (const object part : parts) {
    const std::string_view type = TextOr(part, "type", "");
    if (byte_level) return NotSupported("tokenizer.json: pre-tokeniser '", Shown(type), "' behind ByteLevel");
    if (type == "Split") {
      object pattern;
      std::string_view regex;
      if (part["pattern"].get(pattern) != simdjson::SUCCESS || pattern["Regex"].get(regex) != simdjson::SUCCESS ||
          TextOr(part, "behavior", "") != "Isolated" || FlagOr(part, "invert", false) || !rule.empty() || digits) {
        return NotSupported("tokenizer.json: a Split that is not one isolated regular expression");
      }
      if (regex == kQwen2Rule) rule = "qwen2";
      else if (regex == kLlama3Rule) rule = "llama-bpe";
      else return NotSupported("tokenizer.json: the splitting rule '", Shown(regex), "' is not a known one");
    } else if (type == "Digits" && FlagOr(part, "individual_digits", false) && rule.empty() && !digits) {
      digits = true;
    } else if (type == "ByteLevel") {
      byte_level = true;
      if (FlagOr(part, "add_prefix_space", true)) return NotSupported("tokenizer.json: ByteLevel with add_prefix_space");
      if (FlagOr(part, "use_regex", true)) {
        if (!rule.empty()) return NotSupported("tokenizer.json: ByteLevel with use_regex behind a Split");
        rule = digits ? "smollm" : "gpt-2";
      } else if (rule.empty()) {
        return NotSupported("tokenizer.json: ByteLevel without a splitting rule");
      }
    } else {
      return NotSupported("tokenizer.json: pre-tokeniser '", Shown(type), "'");
    }
  }
  if (!byte_level) return NotSupported("tokenizer.json: a BPE model without the ByteLevel pre-tokeniser");
  out->pre = rule;
  return absl::OkStatus();
}

absl::Status ReadPreTokenizer(object root, TokenizerJson* out) {
  if (IsNull(root, "pre_tokenizer")) return NotSupported("tokenizer.json without a pre-tokeniser");
  ASSIGN_OR_RETURN(const object component, Child(root, "pre_tokenizer"));
  ASSIGN_OR_RETURN(const std::vector<object> parts, Parts(component, "pretokenizers"));
  if (out->model == TokenizerJson::Model::kBpe) return ReadBytePreTokenizer(parts, out);
  const std::string_view type = parts.size() == 1 ? TextOr(parts[0], "type", "") : "Sequence";
  if (type != "BertPreTokenizer") return NotSupported("tokenizer.json: pre-tokeniser '", Shown(type), "' for WordPiece");
  out->pre = "bert";
  return absl::OkStatus();
}

absl::Status CheckId(int64_t id, const TokenizerJson& parts) {
  if (id >= 0 && id < static_cast<int64_t>(parts.tokens.size())) return absl::OkStatus();
  return DataLoss("tokenizer.json: the post-processor adds id ", id, ", the vocabulary has ", parts.tokens.size(), " tokens");
}

absl::Status ReadTemplate(object part, TokenizerJson* out) {
  array single;
  if (part["single"].get(single) != simdjson::SUCCESS) return Malformed("TemplateProcessing has no list 'single'");
  ASSIGN_OR_RETURN(const object table, Child(part, "special_tokens"));
  bool behind_text = false;
  for (const element item : single) {
    object piece, special, token;
    if (item.get(piece) != simdjson::SUCCESS) return Malformed("a piece of TemplateProcessing must be an object");
    if (piece["Sequence"].get(special) == simdjson::SUCCESS) {
      if (behind_text || TextOr(special, "id", "") != "A") return NotSupported("tokenizer.json: a template that is not one text");
      behind_text = true;
      continue;
    }
    array ids;
    if (piece["SpecialToken"].get(special) != simdjson::SUCCESS ||
        table[TextOr(special, "id", "")].get(token) != simdjson::SUCCESS || token["ids"].get(ids) != simdjson::SUCCESS) {
      return Malformed("TemplateProcessing names a token that its 'special_tokens' lack");
    }
    for (const element entry : ids) {
      int64_t id = -1;
      if (entry.get(id) != simdjson::SUCCESS) return Malformed("TemplateProcessing holds an id that is no integer");
      RETURN_IF_ERROR(CheckId(id, *out));
      (behind_text ? out->suffix_ids : out->prefix_ids).push_back(static_cast<int32_t>(id));
    }
  }
  if (!behind_text) return NotSupported("tokenizer.json: a template without its text");
  return absl::OkStatus();
}

absl::Status ReadBertProcessing(object part, TokenizerJson* out) {
  const auto add = [&](const char* key, std::vector<int32_t>* ids) -> absl::Status {
    array pair;
    int64_t id = -1;
    if (part[key].get(pair) != simdjson::SUCCESS || pair.size() != 2 || pair.at(1).get(id) != simdjson::SUCCESS) {
      return Malformed(internal::Concat("BertProcessing: '", key, "' must be a token and its id"));
    }
    RETURN_IF_ERROR(CheckId(id, *out));
    ids->push_back(static_cast<int32_t>(id));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(add("cls", &out->prefix_ids));
  return add("sep", &out->suffix_ids);
}

absl::Status ReadPostProcessor(object root, TokenizerJson* out) {
  if (IsNull(root, "post_processor")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const object component, Child(root, "post_processor"));
  ASSIGN_OR_RETURN(const std::vector<object> parts, Parts(component, "processors"));
  for (const object part : parts) {
    const std::string_view type = TextOr(part, "type", "");
    if (type == "ByteLevel") continue;  // moves offsets only
    if (!out->prefix_ids.empty() || !out->suffix_ids.empty()) return NotSupported("tokenizer.json: two post-processors that add tokens");
    if (type == "TemplateProcessing") RETURN_IF_ERROR(ReadTemplate(part, out));
    else if (type == "BertProcessing") RETURN_IF_ERROR(ReadBertProcessing(part, out));
    else return NotSupported("tokenizer.json: post-processor '", Shown(type), "'");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerJson> ReadTokenizerJson(std::string_view json) {
  simdjson::dom::parser parser;
  ASSIGN_OR_RETURN(const object root, ParseObject(json, parser));
  TokenizerJson out;
  RETURN_IF_ERROR(ReadModel(root, &out));
  RETURN_IF_ERROR(ReadAddedTokens(root, &out));
  RETURN_IF_ERROR(ReadNormalizer(root, &out));
  RETURN_IF_ERROR(ReadPreTokenizer(root, &out));
  RETURN_IF_ERROR(ReadPostProcessor(root, &out));
  return out;
}

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(std::string_view json) {
  TokenizerConfig out;
  if (json.empty()) return out;
  simdjson::dom::parser parser;
  ASSIGN_OR_RETURN(const object root, ParseObject(json, parser));
  // A name, or an object with the name as 'content'.
  const auto name = [&](std::string_view key) {
    object token;
    return std::string(root[key].get(token) == simdjson::SUCCESS ? TextOr(token, "content", "") : TextOr(root, key, ""));
  };
  out.bos_token = name("bos_token");
  out.eos_token = name("eos_token");
  return out;
}

}  // namespace lectern::tokenizer
