#include "index/manifest_json.h"

#include <charconv>
#include <cstdint>
#include <utility>

#include "base/file.h"
#include "base/json.h"

namespace lectern::index {
namespace {

constexpr std::string_view kFirst = "{\"lectern_manifest\":";
constexpr std::string_view kSum = ",\"xxh3\":\"";
constexpr std::string_view kBody = "\",\"state\":\n";

absl::StatusOr<uint64_t> Unsigned(const Json& object, std::string_view key) {
  ASSIGN_OR_RETURN(const int64_t value, JsonInt(object, key));
  if (value < 0) return InvalidArgument(key, " must not be negative, got ", value);
  return static_cast<uint64_t>(value);
}

absl::StatusOr<int64_t> Count(const Json& object, std::string_view key) {
  ASSIGN_OR_RETURN(const uint64_t value, Unsigned(object, key));
  return static_cast<int64_t>(value);
}

absl::StatusOr<uint64_t> ParseHex64(std::string_view hex) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
  if (hex.size() != 16 || error != std::errc() || end != hex.data() + hex.size()) {
    return InvalidArgument("a checksum has 16 hexadecimal digits, got '", hex, "'");
  }
  return value;
}

// A name that stays inside its folder.
absl::StatusOr<std::string> PlainName(const Json& object, std::string_view key) {
  ASSIGN_OR_RETURN(std::string name, JsonString(object, key));
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    return InvalidArgument(key, " must be a plain file name, got '", name, "'");
  }
  return name;
}

absl::StatusOr<const Json*> Child(const Json& object, const char* key, bool array) {
  const auto it = object.find(key);
  if (it == object.end() || (array ? !it->is_array() : !it->is_object())) {
    return InvalidArgument(key, " must be ", array ? "a list" : "an object");
  }
  return &*it;
}

Json ToJson(const SegmentEntry& segment) {
  Json files = Json::array();
  for (const FileEntry& file : segment.files) {
    files.push_back(Json{{"name", file.name}, {"length", file.length}, {"xxh3", HexU64(file.xxh3)}});
  }
  Json json{{"folder", segment.folder},
            {"num_documents", segment.num_documents},
            {"num_chunks", segment.num_chunks},
            {"num_deleted", segment.num_deleted}};
  if (!segment.deletes_file.empty()) json["deletes_file"] = segment.deletes_file;
  json["files"] = std::move(files);
  return json;
}

absl::StatusOr<SegmentEntry> SegmentFrom(const Json& json) {
  if (!json.is_object()) return InvalidArgument("a segment must be an object");
  SegmentEntry segment;
  ASSIGN_OR_RETURN(segment.folder, PlainName(json, "folder"));
  ASSIGN_OR_RETURN(segment.num_documents, Count(json, "num_documents"));
  ASSIGN_OR_RETURN(segment.num_chunks, Count(json, "num_chunks"));
  ASSIGN_OR_RETURN(segment.num_deleted, Count(json, "num_deleted"));
  if (json.contains("deletes_file")) {
    ASSIGN_OR_RETURN(segment.deletes_file, PlainName(json, "deletes_file"));
  }
  ASSIGN_OR_RETURN(const Json* files, Child(json, "files", /*array=*/true));
  for (const Json& item : *files) {
    if (!item.is_object()) return InvalidArgument("a file must be an object");
    FileEntry file;
    ASSIGN_OR_RETURN(file.name, PlainName(item, "name"));
    ASSIGN_OR_RETURN(file.length, Count(item, "length"));
    ASSIGN_OR_RETURN(const std::string hex, JsonString(item, "xxh3"));
    ASSIGN_OR_RETURN(file.xxh3, ParseHex64(hex));
    segment.files.push_back(std::move(file));
  }
  return segment;
}

absl::StatusOr<Manifest> StateFrom(const Json& json) {
  Manifest manifest;
  ASSIGN_OR_RETURN(manifest.number, Unsigned(json, "number"));
  ASSIGN_OR_RETURN(manifest.next_segment, Unsigned(json, "next_segment"));
  ASSIGN_OR_RETURN(const Json* collections, Child(json, "collections", /*array=*/false));
  for (const auto& [name, item] : collections->items()) {
    RETURN_IF_ERROR(DataDirectory::CheckName(name));
    if (!item.is_object()) return InvalidArgument("a collection must be an object");
    CollectionState state;
    ASSIGN_OR_RETURN(state.generation, Unsigned(item, "generation"));
    ASSIGN_OR_RETURN(state.indexed_seq, Unsigned(item, "indexed_seq"));
    const auto settings = item.find("settings");
    if (settings == item.end()) return InvalidArgument("settings are missing");
    state.settings = *settings;
    ASSIGN_OR_RETURN(const Json* segments, Child(item, "segments", /*array=*/true));
    for (const Json& entry : *segments) {
      ASSIGN_OR_RETURN(SegmentEntry segment, SegmentFrom(entry));
      state.segments.push_back(std::move(segment));
    }
    manifest.collections.emplace(name, std::move(state));
  }
  ASSIGN_OR_RETURN(const Json* aliases, Child(json, "aliases", /*array=*/false));
  for (const auto& [alias, target] : aliases->items()) {
    if (!target.is_string()) return InvalidArgument("alias ", alias, " must name a collection");
    manifest.aliases.emplace(alias, target.get<std::string>());
  }
  return manifest;
}

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  Json collections = Json::object();
  for (const auto& [name, state] : manifest.collections) {
    Json segments = Json::array();
    for (const SegmentEntry& segment : state.segments) segments.push_back(ToJson(segment));
    collections[name] = Json{{"generation", state.generation},
                             {"indexed_seq", state.indexed_seq},
                             {"settings", *state.settings},
                             {"segments", std::move(segments)}};
  }
  Json aliases = Json::object();
  for (const auto& [alias, target] : manifest.aliases) aliases[alias] = target;
  const Json state{{"number", manifest.number},
                   {"next_segment", manifest.next_segment},
                   {"collections", std::move(collections)},
                   {"aliases", std::move(aliases)}};
  const std::string body = DumpJson(state, 1) + "}\n";
  return internal::Concat(kFirst, kManifestFormat, kSum, HexU64(Hash64(body)), kBody, body);
}

absl::StatusOr<Manifest> DecodeManifest(std::string_view bytes, std::string_view name) {
  if (!bytes.starts_with(kFirst)) {
    return DataLoss(name, " is damaged: it does not begin with ", kFirst, " (", bytes.size(), " bytes)");
  }
  std::string_view rest = bytes.substr(kFirst.size());
  int format = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), format);
  if (error != std::errc() || format < 1) return DataLoss(name, " is damaged: no format number");
  if (format > kManifestFormat) {
    return NotSupported(name, " has manifest format ", format, "; this build reads up to ", kManifestFormat,
                              ": use a newer lectern");
  }
  rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  if (!rest.starts_with(kSum) || rest.size() < kSum.size() + 16 + kBody.size() ||
      rest.substr(kSum.size() + 16, kBody.size()) != kBody) {
    return DataLoss(name, " is damaged: its first line holds no checksum");
  }
  const absl::StatusOr<uint64_t> expected = ParseHex64(rest.substr(kSum.size(), 16));
  if (!expected.ok()) return DataLoss(name, " is damaged: its first line holds no checksum");
  rest.remove_prefix(kSum.size() + 16 + kBody.size());
  if (const uint64_t found = Hash64(rest); found != *expected) {
    return DataLoss(name, " is damaged: checksum ", HexU64(*expected), " expected, ", HexU64(found), " found");
  }
  // Past the checksum every byte is ours, so what fails below was written wrong, and is still no reason to crash.
  const absl::StatusOr<Json> json = ParseJson(bytes);
  if (!json.ok()) return DataLoss(name, ": ", json.status().message());
  const auto state = json->find("state");
  if (state == json->end() || !state->is_object()) return DataLoss(name, ": state must be an object");
  absl::StatusOr<Manifest> manifest = StateFrom(*state);
  if (!manifest.ok()) return DataLoss(name, ": ", manifest.status().message());
  return manifest;
}

}  // namespace lectern::index
