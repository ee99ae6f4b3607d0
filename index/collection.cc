#include "index/collection.h"

#include "base/json.h"
#include "index/data_directory.h"

namespace lectern::index {
namespace {
std::string SettingsKey(std::string_view name) { return "collection/" + std::string(name); }
}  // namespace

Json CollectionSettings::ToJson() const {
  return {{"analyzer", analyzer},
          {"chunk_tokens", chunking.tokens},
          {"chunk_overlap", chunking.overlap},
          {"ann", ann},
          {"embed_model", embed_model},
          {"schema", schema.ToJson()}};
}

absl::StatusOr<CollectionSettings> CollectionSettings::FromJson(const Json& value) {
  if (!value.is_object()) return DataLoss("the settings of a collection must be an object");
  for (const auto& [key, item] : value.items()) {
    if (key != "analyzer" && key != "chunk_tokens" && key != "chunk_overlap" && key != "ann" && key != "embed_model" && key != "schema") {
      return NotSupported("the settings of a collection hold '", key, "', which this build does not know: use a newer lectern");
    }
  }
  CollectionSettings settings;
  ASSIGN_OR_RETURN(settings.analyzer, JsonString(value, "analyzer"));
  ASSIGN_OR_RETURN(settings.chunking.tokens, JsonInt(value, "chunk_tokens"));
  ASSIGN_OR_RETURN(settings.chunking.overlap, JsonInt(value, "chunk_overlap"));
  ASSIGN_OR_RETURN(settings.ann, JsonString(value, "ann"));
  ASSIGN_OR_RETURN(settings.embed_model, JsonString(value, "embed_model"));
  if (const auto it = value.find("schema"); it != value.end()) {
    ASSIGN_OR_RETURN(settings.schema, Schema::FromJson(*it));
  }
  return settings;
}

absl::StatusOr<CollectionSettings> LoadCollection(const DocumentStore& store, std::string_view name) {
  RETURN_IF_ERROR(DataDirectory::CheckName(name));
  ASSIGN_OR_RETURN(const auto value, store.GetMeta(SettingsKey(name)));
  if (!value) return NotFound("no collection '", name, "'; `lectern ingest ", name, " FILE` or `lectern collection create ", name, "` makes it");
  return CollectionSettings::FromJson(*value);
}

absl::Status SaveCollection(DocumentStore& store, std::string_view name, const CollectionSettings& settings) {
  RETURN_IF_ERROR(DataDirectory::CheckName(name));
  if (settings.ann != "flat" && settings.ann != "hnsw") return InvalidArgument("index.ann must be flat or hnsw, got '", settings.ann, "'");
  RETURN_IF_ERROR(Chunker::Create(settings.chunking, nullptr).status());
  return store.PutMeta(SettingsKey(name), settings.ToJson());
}

absl::StatusOr<std::vector<std::string>> ListCollections(const DocumentStore& store) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, store.ListMeta("collection/"));
  for (std::string& name : names) name = name.substr(std::string_view("collection/").size());
  return names;
}

absl::Status RemoveCollection(DocumentStore& store, std::string_view name) {
  // The settings go last: an interrupted removal can be repeated.
  RETURN_IF_ERROR(store.DropCollection(name));
  ASSIGN_OR_RETURN(const std::vector<std::string> cursors, store.ListMeta(internal::Concat("ingest/", name, "/")));
  for (const std::string& key : cursors) RETURN_IF_ERROR(store.DeleteMeta(key));
  return store.DeleteMeta(SettingsKey(name));
}

}  // namespace lectern::index
