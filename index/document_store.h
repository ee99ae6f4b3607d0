// index/document_store.h: documents, durable, in RocksDB. The truth everything else is derived from.
//
//   ASSIGN_OR_RETURN(auto store, DocumentStore::Open(dir + "/store", {}));
//   WriteBatch batch;  batch.Put("books", doc);  batch.Delete("books", "d7");
//   ASSIGN_OR_RETURN(uint64_t durable_seq, store->Commit(batch));    // fsynced when it returns
//   RETURN_IF_ERROR(store->ScanChanges("books", indexed_seq, [&](const Change& c) { ... }));
//
// Shapes:  a sequence number a write, store-wide, growing, never reused. Once Commit has returned n, every write up
//          to n is durable, other threads' included: groups are logged in the order of their numbers.
//          Only a document's latest change is kept; a deleted document leaves its last change, a tombstone.
//          Collections: 1..255 bytes without NUL. Ids: 1..512 bytes. A document: up to 1 GiB as stored.
// Threads: all methods from any thread; concurrent Commits share one fsync (group commit).
// Errors:  kAborted (another writer), kDataLoss (RocksDB corruption, or an older store than expected; never repaired,
//          nothing is overwritten),
//          kResourceExhausted (disk full), kPermissionDenied (read-only directory opened for writing),
//          kUnimplemented (newer format), kFailedPrecondition (a write to a follower), kNotFound, kInvalidArgument (a name, id or size past the limits above).
//          After a Commit that failed to write, what is on disk is unknown, so this object takes no more writes;
//          reading goes on, and opening the store again tells what was kept.
// Cost:    Commit is one log write and one fsync; Get one or two block reads; text is zstd-compressed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/status.h"
#include "index/document.h"

namespace lectern::index {

struct StoreOptions {
  enum class Mode {
    kReadWrite,
    kFollow,    // RocksDB secondary: reads beside a live writer; works on a read-only mount
  };
  Mode mode = Mode::kReadWrite;
  int64_t cache_bytes = int64_t{32} << 20;
  int64_t write_buffer_bytes = int64_t{32} << 20;
  // kReadWrite: a write that is known to have been durable. A store that ends before it, or is missing, is kDataLoss:
  // the numbers of its lost writes must not be given again.
  uint64_t expected_seq = 0;
  void* rocksdb_env = nullptr;  // rocksdb::Env*, for tests that inject faults
};

class WriteBatch {
 public:
  void Put(std::string_view collection, Document document);
  void Delete(std::string_view collection, std::string_view id);
  int64_t size() const { return static_cast<int64_t>(ops_.size()); }
  int64_t bytes() const { return bytes_; }
  void Clear();

 private:
  friend class DocumentStore;
  struct Op { bool is_delete; std::string collection; Document document; };
  std::vector<Op> ops_;
  int64_t bytes_ = 0;
};

struct Change {           // the latest state of one document touched after a sequence number
  uint64_t seq = 0;
  std::string id;
  bool deleted = false;
  bool operator==(const Change&) const = default;
};

class DocumentStore {
 public:
  static absl::StatusOr<std::unique_ptr<DocumentStore>> Open(const std::string& path, const StoreOptions& options);
  ~DocumentStore();

  absl::StatusOr<uint64_t> Commit(const WriteBatch& batch);  // returns the last durable sequence number
  uint64_t last_seq() const;                                 // durable; of a follower, as of its last CatchUp

  absl::StatusOr<StoredDocument> Get(std::string_view collection, std::string_view id) const;
  // Only what decides whether a document must be written again. nullopt where absent.
  absl::StatusOr<std::optional<std::string>> ContentSha256(std::string_view collection, std::string_view id) const;
  // The latest change of one document, a deletion too. nullopt where it was never there.
  absl::StatusOr<std::optional<Change>> LatestChange(std::string_view collection, std::string_view id) const;
  // Documents in id order after `after_id`; stops when fn returns false.
  absl::Status Scan(std::string_view collection, std::string_view after_id,
                    const std::function<bool(StoredDocument&&)>& fn) const;
  // Changes with seq > after, each document once, in seq order of its latest change.
  absl::Status ScanChanges(std::string_view collection, uint64_t after,
                           const std::function<absl::Status(const Change&)>& fn) const;
  absl::StatusOr<int64_t> CountDocuments(std::string_view collection) const;

  // Collection settings and other small values (ingest cursors, ...), durable on return.
  absl::Status PutMeta(std::string_view key, const Json& value);
  absl::StatusOr<std::optional<Json>> GetMeta(std::string_view key) const;
  absl::Status DeleteMeta(std::string_view key);
  absl::StatusOr<std::vector<std::string>> ListMeta(std::string_view prefix) const;  // keys, sorted
  absl::Status DropCollection(std::string_view collection);   // its documents and changes; meta values stay

  // kFollow: see the writer's latest commits; until then a follower's view stands still, and scans that run keep it.
  // Opens the store anew where the writer has written, which replays at most its log. kReadWrite: nothing to do.
  absl::Status CatchUp();
  // Reads everything: block checksums, every record, and that documents, heads, changes and counts agree.
  absl::Status VerifyChecksums() const;

 private:
  DocumentStore();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::index
