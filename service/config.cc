#include "service/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <toml++/toml.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/problem.h"
#include "index/corpus.h"

namespace lectern::service {
namespace {

// Settings of the public surface that this build has no use for: refused by name. A whole section ends with a dot.
constexpr std::string_view kOtherBuilds[] = {"server.", "auth.", "limits.", "admission.", "rate.", "trace.", "snapshot.", "cluster.",
                                             "storage.wal_bytes", "storage.disk_watermark", "storage.memory_watermark", "storage.checksum",
                                             "index.compaction_budget", "models.allow", "reader.kv_bytes", "reader.prefix_cache",
                                             "log.slow_ms", "log.content"};

constexpr int64_t kMaxThreads = 1024;
constexpr int64_t kMaxTimeoutMs = 24 * 3600 * 1000;   // a day
constexpr int64_t kMaxTokens = int64_t{1} << 24;

std::string EnvironmentName(std::string_view key) {
  std::string name = "LECTERN__";
  for (char c : key) {
    if (c == '.') name += "__";
    else name += static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  }
  return name;
}

// The other way round; a name that no setting has comes out as an unknown key.
std::string KeyOfEnvironment(std::string_view name) {
  std::string key;
  for (size_t i = std::string_view("LECTERN__").size(); i < name.size(); ++i) {
    if (name.substr(i).starts_with("__")) {
      key += '.';
      ++i;
    } else {
      key += static_cast<char>(name[i] >= 'A' && name[i] <= 'Z' ? name[i] - 'A' + 'a' : name[i]);
    }
  }
  return key;
}

const Setting* FindSetting(std::string_view key) {
  for (const Setting& setting : AllSettings()) {
    if (key == setting.key) return &setting;
  }
  return nullptr;
}

absl::StatusOr<double> ParseNumber(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return InvalidArgument("must be a finite number, got '", text, "'");
  }
  return value;
}

// "a", "a or b", "a, b or c".
std::string Listed(std::string_view values) {
  std::string out(values);
  for (size_t at = out.rfind('|'), last = at; at != std::string::npos; at = out.rfind('|')) out.replace(at, 1, at == last ? " or " : ", ");
  return out;
}

absl::Status CheckValue(const Setting& setting, std::string_view text) {
  switch (setting.type) {
    case SettingType::kString: {
      if (setting.values == nullptr) return absl::OkStatus();
      const std::string all = internal::Concat("|", setting.values, "|");
      if (text.find('|') == std::string_view::npos && all.find(internal::Concat("|", text, "|")) != std::string::npos) return absl::OkStatus();
      if (setting.other != nullptr) return NotSupported(text, ": ", setting.other);
      return InvalidArgument("must be ", Listed(setting.values), ", got '", text, "'");
    }
    case SettingType::kBool:
      if (text == "true" || text == "false") return absl::OkStatus();
      return InvalidArgument("must be true or false, got '", text, "'");
    case SettingType::kInt: {
      int64_t value = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      const std::string range = setting.most == INT64_MAX ? internal::Concat("from ", setting.least, " up")
                                                          : internal::Concat("in ", setting.least, "..", setting.most);
      const absl::Status wrong = InvalidArgument("must be an integer ", range, ", got '", text, "'");
      if (end != text.data() + text.size() || error == std::errc::invalid_argument) return wrong;
      const bool below = text.starts_with('-') || (error == std::errc() && value < setting.least);
      if (!below && error == std::errc() && value <= setting.most) return absl::OkStatus();
      return WithLimit(wrong, setting.key, below ? setting.least : setting.most, text);
    }
    case SettingType::kBytes:
      return ParseBytes(text).status();
    case SettingType::kNumber:
      return ParseNumber(text).status();
  }
  return absl::OkStatus();
}

// Flattens a TOML table into dotted keys.
absl::Status Flatten(const toml::table& table, const std::string& prefix, std::map<std::string, std::string>& out) {
  for (const auto& [key, node] : table) {
    const std::string full = prefix + std::string(key.str());
    if (const toml::table* inner = node.as_table()) {
      RETURN_IF_ERROR(Flatten(*inner, full + ".", out));
    } else if (auto text = node.value_exact<std::string>()) {
      out[full] = *text;
    } else if (auto integer = node.value_exact<int64_t>()) {
      out[full] = std::to_string(*integer);
    } else if (auto boolean = node.value_exact<bool>()) {
      out[full] = *boolean ? "true" : "false";
    } else if (auto number = node.value_exact<double>()) {
      out[full] = internal::Concat(*number);
    } else {
      return InvalidArgument("setting '", full, "' must be a string, a number or true/false");
    }
  }
  return absl::OkStatus();
}

bool IsText(SettingType type) { return type == SettingType::kString || type == SettingType::kBytes; }

}  // namespace

const std::vector<Setting>& AllSettings() {
  constexpr int64_t kAny = INT64_MAX;
  static const std::vector<Setting> kSettings = {
      {"storage.durability", SettingType::kString, "wal", "wal: a write is acknowledged once it is on disk", 0, kAny, "wal",
       "this build acknowledges a write only once it is on disk (wal)"},
      {"storage.cache_bytes", SettingType::kBytes, "32MiB", "block cache of the document store"},
      {"index.device", SettingType::kString, "cpu", "where to index: cpu", 0, kAny, "cpu", "this build indexes on the cpu"},
      {"index.threads", SettingType::kInt, "0", "threads that index and encode; 0: every core this process may use", 0, kMaxThreads},
      {"index.memory_bytes", SettingType::kBytes, "2GiB", "memory that ingest and index building stay under"},
      {"index.chunk_tokens", SettingType::kInt, "256", "tokens of a chunk, specials included; 0: one chunk a document"},
      {"index.chunk_overlap", SettingType::kInt, "32", "tokens that neighbouring chunks share"},
      {"index.analyzer", SettingType::kString, "en", "analyzer of new collections: en, en-stop (en without stop words), icu, or a Snowball language"},
      {"index.ann", SettingType::kString, "flat", "vector index of new collections: flat or hnsw", 0, kAny, "flat|hnsw"},
      {"models.dir", SettingType::kString, "", "folder of models; empty: $LECTERN_MODELS_DIR, then ~/.cache/lectern/models"},
      {"models.embed", SettingType::kString, "all-minilm-l6-v2", "sentence encoder of new collections and of embed: id, file name or path; 'none': BM25 alone"},
      {"models.rerank", SettingType::kString, "", "cross-encoder of --rerank: id or path"},
      {"models.embed_precision", SettingType::kString, "bf16", "bf16 or float32", 0, kAny, "bf16|float32"},
      {"search.k", SettingType::kInt, "10", "hits of a search", 1, index::kMaxTopK},
      {"search.default_retrievers", SettingType::kString, "auto", "bm25, dense or both, separated by commas; auto: both, where the collection has vectors"},
      {"search.fusion", SettingType::kString, "linear", "rrf, linear or relative", 0, kAny, "rrf|linear|relative"},
      {"search.rrf_k", SettingType::kInt, "60", "the constant of reciprocal rank fusion", 1, index::kMaxRrfK},
      {"search.timeout_ms", SettingType::kInt, "0", "a search past this returns what it has, and says so; 0: none", 0, kMaxTimeoutMs},
      {"reader.model", SettingType::kString, "qwen2.5-coder-0.5b-instruct-q4_k_m", "language model of ask: id, file name or path"},
      {"reader.chat_template", SettingType::kString, "", "chatml, qwen2, smollm2, llama3, gemma or plain; empty: from the model file"},
      {"reader.threads", SettingType::kInt, "0", "threads of the reader; 0: every core this process may use", 0, kMaxThreads},
      {"reader.max_context_tokens", SettingType::kInt, "1024", "tokens of packed passages in an answer's prompt", 1, kMaxTokens},
      {"reader.max_tokens", SettingType::kInt, "128", "tokens of an answer at most", 1, kMaxTokens},
      {"reader.citations", SettingType::kString, "required", "required, preferred or off", 0, kAny, "required|preferred|off"},
      {"reader.answer_mode", SettingType::kString, "auto", "auto, span or prose", 0, kAny, "auto|span|prose"},
      {"reader.sparse", SettingType::kString, "auto", "auto or off: which of the context a reader attends to", 0, kAny, "auto|off",
       "this build reads densely"},
      {"reader.instruction", SettingType::kString, "", "system message in place of the built-in one"},
      {"log.level", SettingType::kString, "info", "error, warn, info or debug", 0, kAny, "error|warn|info|debug"},
      {"log.format", SettingType::kString, "text", "text or json", 0, kAny, "text|json"},
  };
  return kSettings;
}

absl::StatusOr<Config> Config::Load(const ConfigSources& sources) {
  Config config;
  for (const Setting& setting : AllSettings()) config.values_[setting.key] = {setting.default_value, "default"};

  auto set = [&](const std::string& key, std::string value, const std::string& origin) -> absl::Status {
    const Setting* setting = FindSetting(key);
    for (const std::string_view other : kOtherBuilds) {
      if (other.ends_with('.') ? key.starts_with(other) : key == other) {
        return NotSupported("the setting ", key, " (", origin, ") is not part of this build");
      }
    }
    if (setting == nullptr) return InvalidArgument("unknown setting '", key, "' (", origin, "); `lectern config schema` lists them");
    if (absl::Status status = CheckValue(*setting, value); !status.ok()) {
      if (status.code() == absl::StatusCode::kUnimplemented) return NotSupported(key, " (", origin, ") ", std::string(status.message()));
      const Problem problem = ProblemOf(status);
      return WithLimit(InvalidArgument(key, " (", origin, ") ", std::string(status.message())), problem.setting, problem.limit, problem.got);
    }
    config.values_[key] = {std::move(value), origin};
    return absl::OkStatus();
  };

  if (!sources.file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(sources.file));
    std::map<std::string, std::string> flat;
    try {
      RETURN_IF_ERROR(Flatten(toml::parse(text, sources.file), "", flat));
    } catch (const toml::parse_error& error) {
      return InvalidArgument(sources.file, ":", error.source().begin.line, ": ", error.description());
    }
    for (const auto& [key, value] : flat) RETURN_IF_ERROR(set(key, value, "file " + sources.file));
  }
  if (sources.read_environment) {
    for (char** one = environ; *one != nullptr; ++one) {
      const std::string_view entry = *one;
      const size_t equals = entry.find('=');
      if (!entry.starts_with("LECTERN__") || equals == std::string_view::npos) continue;
      const std::string name(entry.substr(0, equals));
      RETURN_IF_ERROR(set(KeyOfEnvironment(name), std::string(entry.substr(equals + 1)), "environment " + name));
    }
  }
  for (const auto& [key, value] : sources.overrides) RETURN_IF_ERROR(set(key, value, "flag"));
  return config;
}

const Config::Value& Config::Get(std::string_view key) const {
  const auto it = values_.find(key);
  CHECK(it != values_.end());
  return it->second;
}
const std::string& Config::String(std::string_view key) const { return Get(key).text; }
const std::string& Config::Text(std::string_view key) const { return Get(key).text; }
const std::string& Config::Origin(std::string_view key) const { return Get(key).origin; }
bool Config::Bool(std::string_view key) const { return Get(key).text == "true"; }
double Config::Number(std::string_view key) const { return *ParseNumber(Get(key).text); }
int64_t Config::Int(std::string_view key) const {
  const Setting* setting = FindSetting(key);
  CHECK(setting != nullptr);
  return setting->type == SettingType::kBytes ? *ParseBytes(Get(key).text) : std::atoll(Get(key).text.c_str());
}

std::string Config::ToToml(bool with_origin) const {
  std::string out, section;
  for (const Setting& setting : AllSettings()) {
    const std::string_view key = setting.key;
    const size_t dot = key.find('.');
    if (const std::string now(key.substr(0, dot)); now != section) {
      out += (section.empty() ? "[" : "\n[") + now + "]\n";
      section = now;
    }
    const Value& value = Get(key);
    std::string quoted = value.text;
    if (IsText(setting.type)) quoted = DumpJson(Json(value.text));
    out += std::string(key.substr(dot + 1)) + " = " + quoted;
    if (with_origin) out += "   # " + value.origin;
    out += "\n";
  }
  return out;
}

Json Config::ToJson(bool with_origin) const {
  Json out = Json::object();
  for (const Setting& setting : AllSettings()) {
    const Value& value = Get(setting.key);
    Json typed;
    switch (setting.type) {
      case SettingType::kString: typed = value.text; break;
      case SettingType::kInt:
      case SettingType::kBytes: typed = Int(setting.key); break;
      case SettingType::kNumber: typed = Number(setting.key); break;
      case SettingType::kBool: typed = Bool(setting.key); break;
    }
    if (with_origin) out[setting.key] = {{"value", typed}, {"origin", value.origin}};
    else out[setting.key] = typed;
  }
  return out;
}

Json Config::JsonSchema() {
  constexpr const char* kTypes[] = {"string", "integer", "string", "number", "boolean"};
  Json properties = Json::object();
  for (const Setting& setting : AllSettings()) {
    properties[setting.key] = {{"type", kTypes[static_cast<int>(setting.type)]},
                               {"default", setting.default_value},
                               {"description", setting.help},
                               {"environment", EnvironmentName(setting.key)}};
    if (setting.values != nullptr) {
      Json& values = properties[setting.key]["enum"] = Json::array();
      for (std::string_view rest = setting.values; !rest.empty();) {
        const size_t end = std::min(rest.find('|'), rest.size());
        values.push_back(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
      }
    }
    if (setting.type != SettingType::kInt) continue;
    properties[setting.key]["minimum"] = setting.least;
    if (setting.most != INT64_MAX) properties[setting.key]["maximum"] = setting.most;
  }
  return {{"type", "object"}, {"additionalProperties", false}, {"properties", properties}};
}

absl::StatusOr<int64_t> ParseBytes(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  struct Unit { const char* name; double bytes; };
  constexpr Unit kUnits[] = {{"", 1}, {"B", 1}, {"KiB", 1024}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1099511627776.0},
                             {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"K", 1024}, {"M", 1 << 20}, {"G", 1 << 30}};
  if (error == std::errc() && number >= 0) {
    for (const Unit& known : kUnits) {
      if (unit == known.name && number * known.bytes < 9e18) return static_cast<int64_t>(number * known.bytes);
    }
  }
  return InvalidArgument("must be a size such as 512MiB or 2GiB, got '", text, "'");
}

absl::StatusOr<int64_t> ParseDurationMs(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  const double scale = unit == "ms" ? 1 : unit == "s" || unit.empty() ? 1e3 : unit == "m" ? 6e4 : unit == "h" ? 3.6e6 : 0;
  if (error == std::errc() && scale > 0 && number >= 0 && number * scale < 9e15) return static_cast<int64_t>(number * scale);
  return InvalidArgument("must be a duration such as 500ms, 30s or 5m, got '", text, "'");
}

std::string FormatBytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

}  // namespace lectern::service
