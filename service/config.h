// service/config.h: every setting once: its key, default, environment variable, and where its value came from.
//
//   ASSIGN_OR_RETURN(Config config, Config::Load({.file = path, .overrides = {{"reader.model", "my.gguf"}}}));
//   int64_t budget = config.Int("reader.max_context_tokens");
//
// Shapes:  the environment variable of "reader.model" is LECTERN__READER__MODEL. Order: flags, environment, file,
//          defaults.
// Threads: immutable after Load.
// Errors:  kInvalidArgument names an unknown key, or the key, its origin, the value and what it must be (limits also as
//          base/problem.h has them); kUnimplemented for keys and values that only other builds have. Asking for a key that is not in the table is a bug (CHECK).
// Cost:    one small map.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/status.h"

namespace lectern::service {

enum class SettingType { kString, kInt, kBytes, kNumber, kBool };

struct Setting {
  const char* key;
  SettingType type;
  const char* default_value;
  const char* help;
  int64_t least = 0, most = INT64_MAX;   // of kInt
  const char* values = nullptr;          // of kString, separated by "|": nothing else is taken
  const char* other = nullptr;           // why this build takes no other value; nullptr: there is none
};

const std::vector<Setting>& AllSettings();   // in the order they are printed

struct ConfigSources {
  std::string file;                                 // empty: none
  std::map<std::string, std::string> overrides;     // from flags
  bool read_environment = true;
};

class Config {
 public:
  static absl::StatusOr<Config> Load(const ConfigSources& sources);
  const std::string& String(std::string_view key) const;
  int64_t Int(std::string_view key) const;      // also kBytes
  double Number(std::string_view key) const;
  bool Bool(std::string_view key) const;
  const std::string& Text(std::string_view key) const;     // of any type, as it was written
  const std::string& Origin(std::string_view key) const;   // "default", "file PATH", "environment NAME", "flag"
  std::string ToToml(bool with_origin) const;
  Json ToJson(bool with_origin) const;
  static Json JsonSchema();

 private:
  struct Value {
    std::string text, origin;
  };
  const Value& Get(std::string_view key) const;
  std::map<std::string, Value, std::less<>> values_;
};

// "512", "64KiB", "2GiB", "1.5MB"; kInvalidArgument otherwise.
absl::StatusOr<int64_t> ParseBytes(std::string_view text);
// "500ms", "30s", "5m", "2h", a bare number is seconds; in milliseconds.
absl::StatusOr<int64_t> ParseDurationMs(std::string_view text);
std::string FormatBytes(int64_t bytes);

}  // namespace lectern::service
