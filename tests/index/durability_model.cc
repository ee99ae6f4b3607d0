#include "tests/index/durability_model.h"

#include <memory>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"

namespace lectern::index::testing {
namespace {

struct Write {
  std::string id, text;
  bool is_delete = false;
};

Write WriteNumber(uint64_t seq) {
  Rng rng(/*seed=*/42, /*stream=*/seq);
  Write write{.id = "d" + std::to_string(rng.Below(40))};
  write.is_delete = rng.Below(4) == 0;
  write.text = internal::Concat("text of write ", seq, " ", std::string(static_cast<size_t>(rng.Below(600)), 'x'));
  return write;
}

std::string SegmentText(uint64_t indexed_seq) {
  std::string text = internal::Concat("state as of ", indexed_seq, "\n");
  for (const auto& [id, value] : ModelState(indexed_seq)) text += id + "\t" + value + "\n";
  return text;
}

}  // namespace

WriteBatch ModelWrites(uint64_t first_seq, int64_t count) {
  WriteBatch batch;
  for (uint64_t seq = first_seq; seq < first_seq + static_cast<uint64_t>(count); ++seq) {
    Write write = WriteNumber(seq);
    if (write.is_delete) {
      batch.Delete(kModelCollection, write.id);
    } else {
      Document document{.id = write.id, .title = internal::Concat("write ", seq), .text = std::move(write.text)};
      document.source_sha256 = Sha256Hex(document.text);
      batch.Put(kModelCollection, std::move(document));
    }
  }
  return batch;
}

std::map<std::string, std::string> ModelState(uint64_t seq) {
  std::map<std::string, std::string> state;
  for (uint64_t i = 1; i <= seq; ++i) {
    Write write = WriteNumber(i);
    if (write.is_delete) state.erase(write.id);
    else state[write.id] = std::move(write.text);
  }
  return state;
}

absl::Status PublishModel(DataDirectory& dir, uint64_t indexed_seq) {
  ASSIGN_OR_RETURN(const auto folder, dir.NewSegment(kModelCollection));
  ASSIGN_OR_RETURN(const auto file, folder->Create("state.txt"));
  RETURN_IF_ERROR(file->Append(SegmentText(indexed_seq)));
  ASSIGN_OR_RETURN(FileEntry entry, file->Finish());
  CollectionState state{.indexed_seq = indexed_seq};
  (*state.settings)["analyzer"] = "en/1";
  state.segments.push_back({.folder = folder->folder(), .files = {std::move(entry)}});
  return dir.Publish(kModelCollection, std::move(state));
}

absl::Status PublishNothing(DataDirectory& dir) {
  CollectionState state;
  (*state.settings)["analyzer"] = "en/1";
  return dir.Publish(kModelCollection, std::move(state));
}

std::string CheckReader(const DocumentStore& store) {
  const uint64_t seq = store.last_seq();
  std::map<std::string, std::string> found;
  std::map<uint64_t, std::string> changed, stored;
  absl::Status status = store.Scan(kModelCollection, "", [&](StoredDocument&& d) {
    stored[d.seq] = d.document.id;
    found[d.document.id] = std::move(d.document.text);
    return true;
  });
  if (!status.ok()) return "scan: " + status.ToString();
  status = store.ScanChanges(kModelCollection, 0, [&](const Change& change) {
    if (!change.deleted) changed[change.seq] = change.id;
    return absl::OkStatus();
  });
  if (!status.ok()) return "changes: " + status.ToString();
  if (found != ModelState(seq)) {
    return internal::Concat("the documents are not those of write ", seq, ": ", found.size(), " found, ",
                            ModelState(seq).size(), " expected");
  }
  if (changed != stored) return "changes and documents do not agree";
  const auto count = store.CountDocuments(kModelCollection);
  if (!count.ok() || *count != static_cast<int64_t>(found.size())) return "the count of documents is wrong";
  return "";
}

std::string CheckPublished(const std::string& data_dir, uint64_t* indexed_seq, uint64_t* generation) {
  *indexed_seq = *generation = 0;
  for (int attempt = 0;; ++attempt) {
    const auto manifest = DataDirectory::ReadManifest(data_dir);
    if (!manifest.ok()) return "manifest: " + manifest.status().ToString();
    const auto state = manifest->collections.find(kModelCollection);
    if (state == manifest->collections.end()) return "";
    *generation = state->second.generation;
    *indexed_seq = state->second.indexed_seq;
    bool gone = false;
    for (const SegmentEntry& segment : state->second.segments) {
      auto files = SegmentFiles::Map(DataDirectory::SegmentPath(data_dir, kModelCollection, segment.folder), segment);
      gone |= absl::IsNotFound(files.status()) && attempt < 20;   // two publishes later: read the manifest again
      if (gone) break;
      if (!files.ok()) return "segment: " + files.status().ToString();
      const auto map = files->Take("state.txt");
      if (!map.ok()) return "segment: " + map.status().ToString();
      if (map->text() != SegmentText(*indexed_seq)) return "a published segment holds another state";
    }
    if (!gone) return "";
  }
}

std::string CheckState(const std::string& data_dir, const Acknowledged& acknowledged, FileSystem& fs,
                       void* rocksdb_env) {
  auto dir = DataDirectory::OpenForWriting(data_dir, fs);
  if (!dir.ok()) return "directory: " + dir.status().ToString();
  auto store = DocumentStore::Open(DataDirectory::StorePath(data_dir), {.rocksdb_env = rocksdb_env});
  if (!store.ok()) return "store: " + store.status().ToString();
  const uint64_t last = (*store)->last_seq();
  if (last < acknowledged.seq) {
    return internal::Concat("write ", acknowledged.seq, " was acknowledged, ", last, " is the last one there");
  }
  if (std::string problem = CheckReader(**store); !problem.empty()) return problem;
  if (const absl::Status verified = (*store)->VerifyChecksums(); !verified.ok()) return verified.ToString();
  uint64_t indexed_seq = 0, generation = 0;
  if (std::string problem = CheckPublished(data_dir, &indexed_seq, &generation); !problem.empty()) return problem;
  if (generation < acknowledged.generation) {
    return internal::Concat("generation ", acknowledged.generation, " was published, ", generation, " is there");
  }
  if (indexed_seq > last) return internal::Concat("write ", indexed_seq, " is indexed, and lost from the store");
  const auto more = (*store)->Commit(ModelWrites(last + 1, 2));
  if (!more.ok()) return "commit afterwards: " + more.status().ToString();
  if (const absl::Status published = PublishModel(**dir, *more); !published.ok()) return published.ToString();
  if (std::string problem = CheckReader(**store); !problem.empty()) return "afterwards: " + problem;
  return CheckPublished(data_dir, &indexed_seq, &generation);
}

}  // namespace lectern::index::testing
