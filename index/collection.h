// index/collection.h: what a collection was made with; kept in the store, copied into each generation's settings.
//
//   ASSIGN_OR_RETURN(CollectionSettings settings, LoadCollection(*store, "books"));    // kNotFound where there is none
//   RETURN_IF_ERROR(SaveCollection(*store, "books", settings));                        // makes it, durable on return
//
// Shapes:  names as DataDirectory::CheckName wants them: they are names of folders too.
// Threads: values.
// Errors:  kInvalidArgument (name, chunk sizes), kNotFound names the collection and what makes one.
// Cost:    one small value of the store.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/status.h"
#include "index/chunker.h"
#include "index/document_store.h"
#include "index/schema.h"

namespace lectern::index {

struct CollectionSettings {
  std::string analyzer = "en";
  ChunkOptions chunking;
  std::string ann = "flat";          // or "hnsw"
  std::string embed_model;           // the name given at creation; empty: the default of the configuration
  Schema schema;

  Json ToJson() const;
  static absl::StatusOr<CollectionSettings> FromJson(const Json& value);   // unknown keys are kept out by name
};

absl::StatusOr<CollectionSettings> LoadCollection(const DocumentStore& store, std::string_view name);
absl::Status SaveCollection(DocumentStore& store, std::string_view name, const CollectionSettings& settings);
absl::StatusOr<std::vector<std::string>> ListCollections(const DocumentStore& store);   // sorted
absl::Status RemoveCollection(DocumentStore& store, std::string_view name);   // documents, settings and cursors

}  // namespace lectern::index
