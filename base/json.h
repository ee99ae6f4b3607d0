// base/json.h: the one door to the JSON library.
//
//   ASSIGN_OR_RETURN(Json value, ParseJson(text, {.max_depth = 32}));
//   std::string line = DumpJson(value);          // one line, valid UTF-8 whatever went in
//   ASSIGN_OR_RETURN(int64_t n, JsonInt(value, "block_count"));
//
// Shapes:  objects keep the order of their keys.
// Threads: a value belongs to one thread.
// Errors:  kInvalidArgument with the byte offset; kResourceExhausted past max_depth or max_bytes.
//          The typed getters name the key, what was wanted and what stood there.
// Cost:    parsing allocates a tree; bulk input goes through index/readers, not here.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/json_fwd.h"
#include "base/status.h"

namespace lectern {

struct JsonLimits {
  int max_depth = 64;
  int64_t max_bytes = int64_t{1} << 30;
};

absl::StatusOr<Json> ParseJson(std::string_view text, JsonLimits limits = {});
std::string DumpJson(const Json& value, int indent = -1);  // invalid UTF-8 becomes U+FFFD

absl::StatusOr<int64_t> JsonInt(const Json& object, std::string_view key);
absl::StatusOr<double> JsonNumber(const Json& object, std::string_view key);
absl::StatusOr<std::string> JsonString(const Json& object, std::string_view key);
absl::StatusOr<bool> JsonBool(const Json& object, std::string_view key);

}  // namespace lectern
