// service/indexing.h: what ingest, index and document commands share: settings of new collections, options of an index build.
//
//   ASSIGN_OR_RETURN(auto settings, NewCollectionSettings(config, schema_file));
//   ASSIGN_OR_RETURN(IndexReport report, UpdateIndexNow(engine, writer, "books", hooks));
//
// Shapes:  see index/collection.h and index/indexer.h.
// Threads: one command's.
// Errors:  those of the parts.
// Cost:    an index update loads the encoder, unless models.embed is 'none' or nothing has changed.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "index/collection.h"
#include "index/indexer.h"
#include "service/engine.h"

namespace lectern::service {

struct IndexHooks {
  const CancelToken* cancel = nullptr;
  std::function<void(std::string_view phase, int64_t done, int64_t total)> progress;
  std::function<void(std::string_view note)> note;   // what the user must be told: no encoder, chunks cut
};

absl::StatusOr<index::CollectionSettings> NewCollectionSettings(const Config& config, const std::string& schema_file);
// A delta of what changed since the last generation.
absl::StatusOr<index::IndexReport> UpdateIndexNow(Engine& engine, Writer& writer, std::string_view collection,
                                                  const IndexHooks& hooks);
// Everything folded into one segment; `ann` flat or hnsw, empty: what the collection was made with; `denoise` off, auto or
// on, empty: as the last one.
absl::StatusOr<index::IndexReport> BuildIndexNow(Engine& engine, Writer& writer, std::string_view collection,
                                                 const std::string& ann, const std::string& denoise, const IndexHooks& hooks);
absl::StatusOr<index::IndexReport> RepairIndexNow(Engine& engine, Writer& writer, std::string_view collection,
                                                  const IndexHooks& hooks);

}  // namespace lectern::service
