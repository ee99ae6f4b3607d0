#include "index/document_store.h"

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <filesystem>
#include <map>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/file.h"
#include "base/json.h"
#include "index/key_codec.h"

namespace lectern::index {
namespace {
namespace stdfs = std::filesystem;

constexpr int64_t kGroupBytes = int64_t{8} << 20;      // one log write; a lone larger batch goes by itself
constexpr int64_t kMaxDocumentBytes = int64_t{1} << 30;
constexpr int kFollowAttempts = 60;                    // up to 20 ms apart: a second in all, see OpenView

rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view View(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

bool Mentions(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

absl::Status FromRocks(const rocksdb::Status& status, std::string_view path) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = internal::Concat("document store ", path, ": ", status.ToString());
  if (status.IsCorruption()) return DataLoss(text);
  if (status.IsNoSpace() || Mentions(text, "No space left on device") || Mentions(text, "quota exceeded") || Mentions(text, "Too many open files") ||
      status.IsMemoryLimit()) {
    return ResourceExhausted(text);
  }
  if (Mentions(text, "Read-only file system") || Mentions(text, "ermission denied") ||
      Mentions(text, "not permitted")) {
    return PermissionDenied(text);
  }
  if (Mentions(text, "lock hold by current process") || Mentions(text, "While lock file")) {
    return Locked(text, " (another writer has it open)");
  }
  if (status.IsNotFound() || status.IsPathNotFound()) return NotFound(text);
  if (status.IsNotSupported()) return NotSupported(text);
  return Unavailable(text);
}

// RocksDB says all we need in its statuses; a LOG file beside the data would only grow.
class NoLog : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* /*format*/, va_list /*args*/) override {}
};

rocksdb::Options MakeOptions(const StoreOptions& options) {
  rocksdb::Options rocks;
  if (options.rocksdb_env != nullptr) rocks.env = static_cast<rocksdb::Env*>(options.rocksdb_env);
  rocks.write_buffer_size = static_cast<size_t>(options.write_buffer_bytes);
  rocks.max_write_buffer_number = 2;
  rocks.max_background_jobs = 2;
  rocks.compression = rocksdb::kZSTD;
  rocks.max_open_files = -1;   // a follower keeps what it reads open: the writer may remove it any time
  rocks.max_file_opening_threads = 2;   // the default starts 16 threads at every opening
  rocks.allow_fallocate = false;        // or each log takes a whole write buffer of disk before its first record
  rocks.info_log = std::make_shared<NoLog>();
  rocks.stats_dump_period_sec = 0;
  rocks.stats_persist_period_sec = 0;
  rocks.max_bgerror_resume_count = 0;   // no retries behind our back: a failed write stays failed (see the header)
  // A log record that does not check out is damage, unless it is the torn end of the last write.
  // The default would drop it and every acknowledged write after it without a word.
  rocks.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(static_cast<size_t>(options.cache_bytes));
  table.cache_index_and_filter_blocks = true;   // so that cache_bytes bounds them too
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.block_size = 16 << 10;
  table.checksum = rocksdb::kXXH3;
  table.format_version = 5;
  rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return rocks;
}

rocksdb::WriteOptions Durable() {
  rocksdb::WriteOptions options;
  options.sync = true;
  return options;
}

absl::Status CheckCollection(std::string_view collection) {
  if (collection.empty() || collection.size() > 255 || collection.find('\0') != std::string_view::npos) {
    return InvalidArgument("a collection's name has 1..255 bytes without NUL, got ", collection.size(), " bytes");
  }
  return absl::OkStatus();
}

absl::Status CheckId(std::string_view id) {
  if (id.empty() || id.size() > 512) return InvalidArgument("a document id has 1..512 bytes, got ", id.size());
  return absl::OkStatus();
}

// A missing CURRENT is a new store only where nothing but an interrupted creation lies beside it.
absl::Status CheckNothingLost(rocksdb::Env* env, const std::string& path) {
  std::vector<std::string> names;
  const rocksdb::Status listed = env->GetChildren(path, &names);
  if (listed.IsNotFound() || listed.IsPathNotFound()) return absl::OkStatus();
  RETURN_IF_ERROR(FromRocks(listed, path));
  for (const std::string& name : names) {
    if (name.ends_with(".sst") || name.ends_with(".log") ||
        (name.starts_with("MANIFEST-") && name != "MANIFEST-000001")) {
      return DataLoss("document store ", path, " holds ", name, " but no CURRENT; nothing was changed");
    }
  }
  return absl::OkStatus();
}

rocksdb::Status SyncDirectory(rocksdb::Env* env, const std::string& path) {
  std::unique_ptr<rocksdb::FSDirectory> directory;
  rocksdb::IOStatus status = env->GetFileSystem()->NewDirectory(path, rocksdb::IOOptions(), &directory, nullptr);
  if (status.ok()) status = directory->Fsync(rocksdb::IOOptions(), nullptr);
  return status;
}

// What one group adds to the store, on top of what is there.
struct GroupState {
  rocksdb::WriteBatch rocks;
  std::unordered_map<std::string, std::optional<Head>> heads;   // by head key, as this group leaves them
  std::map<std::string, int64_t> counts;                        // by collection: documents more or fewer
  uint64_t seq = 0;
};

}  // namespace

void WriteBatch::Put(std::string_view collection, Document document) {
  bytes_ += DocumentBytes(document);
  ops_.push_back({.is_delete = false, .collection = std::string(collection), .document = std::move(document)});
}

void WriteBatch::Delete(std::string_view collection, std::string_view id) {
  bytes_ += static_cast<int64_t>(id.size()) + 64;
  ops_.push_back({.is_delete = true, .collection = std::string(collection), .document = {.id = std::string(id)}});
}

void WriteBatch::Clear() {
  ops_.clear();
  bytes_ = 0;
}

struct DocumentStore::Impl {
  // One waiting Commit or DropCollection. The first in the queue leads: it writes for those behind it, too.
  struct Writer {
    const WriteBatch* batch = nullptr;
    std::string_view drop;
    absl::Status status;
    uint64_t seq = 0;
    bool done = false;
  };

  ~Impl();
  absl::Status OpenForWriting();
  // What the writer has done to its files, from outside.
  struct Trace {
    std::string current;          // names the manifest
    uint64_t manifest_bytes = 0;  // grows with every flush and compaction, before any file is removed
    std::string first_log;        // logs are removed from the oldest on
    uint64_t log_bytes = 0;
    bool log_vanished = false;    // one was listed that was not there
    bool SameFiles(const Trace& other) const {
      return current == other.current && manifest_bytes == other.manifest_bytes && first_log == other.first_log && !log_vanished &&
             !other.log_vanished;
    }
  };
  absl::StatusOr<Trace> ReadTrace(rocksdb::Env* env) const;
  absl::Status OpenView() ABSL_EXCLUSIVE_LOCKS_REQUIRED(catch_up_mu);
  absl::Status CheckFormat(rocksdb::DB& opened) const;
  absl::Status Behind(std::string_view fact) const {
    return DataLoss("document store ", path, " ", fact, ", and write ", options.expected_seq, " was indexed: it was lost or replaced by an older "
                    "copy. Put the right one back, or `lectern index repair COLLECTION` makes each index anew from what the store holds");
  }
  absl::StatusOr<uint64_t> ReadLastSeq(rocksdb::DB& opened) const;
  absl::Status Enqueue(Writer& writer);
  absl::StatusOr<uint64_t> WriteGroup(const std::vector<Writer*>& group);
  absl::Status AddToBatch(const WriteBatch& batch, GroupState& state);
  absl::Status WriteDurably(rocksdb::WriteBatch& batch);
  absl::Status CheckWritable();
  absl::Status FailedEarlier() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(queue_mu) {
    return Annotate(failed, "an earlier write failed, and what it left is known only after opening the store again");
  }
  absl::StatusOr<std::optional<std::string>> Read(const std::string& key) const;
  absl::StatusOr<std::optional<Head>> ReadHead(const std::string& key) const;
  absl::Status ScanRange(const KeyRange& range, bool skip_first,
                         const std::function<absl::StatusOr<bool>(std::string_view, std::string_view)>& fn) const;
  std::shared_ptr<rocksdb::DB> db() const {
    absl::MutexLock hold(&db_mu);
    return db_ptr;
  }

  std::string path;
  StoreOptions options;
  absl::Mutex catch_up_mu;                                         // one CatchUp at a time
  Trace seen ABSL_GUARDED_BY(catch_up_mu);                         // of the view in db_ptr
  mutable absl::Mutex db_mu;
  std::shared_ptr<rocksdb::DB> db_ptr ABSL_GUARDED_BY(db_mu);      // a follower replaces it when it catches up
  std::atomic<uint64_t> last_seq{0};
  absl::Mutex queue_mu;
  std::deque<Writer*> queue ABSL_GUARDED_BY(queue_mu);
  absl::Status failed ABSL_GUARDED_BY(queue_mu);                   // the first write that failed
};

DocumentStore::DocumentStore() : impl_(std::make_unique<Impl>()) {}
DocumentStore::~DocumentStore() = default;

DocumentStore::Impl::~Impl() {
  if (db_ptr != nullptr && options.mode == StoreOptions::Mode::kReadWrite && failed.ok()) {
    // Tables carry checksums for every block; an empty log has no end whose damage could pass for a torn write.
    // A failure loses nothing: the log is still there. Where the disk is full and compaction cannot go on, waiting for it
    // first would never end.
    rocksdb::FlushOptions at_once;
    at_once.allow_write_stall = true;
    (void)db_ptr->Flush(at_once);
  }
  db_ptr.reset();
}

absl::StatusOr<std::unique_ptr<DocumentStore>> DocumentStore::Open(const std::string& path,
                                                                   const StoreOptions& options) {
  std::unique_ptr<DocumentStore> store(new DocumentStore);
  store->impl_->path = path;
  store->impl_->options = options;
  if (options.mode == StoreOptions::Mode::kReadWrite) {
    RETURN_IF_ERROR(store->impl_->OpenForWriting());
  } else {
    RETURN_IF_ERROR(store->CatchUp());
  }
  return store;
}

absl::Status DocumentStore::Impl::OpenForWriting() {
  rocksdb::Options rocks = MakeOptions(options);
  const rocksdb::Status found = rocks.env->FileExists(path + "/CURRENT");
  if (!found.ok() && !found.IsNotFound() && !found.IsPathNotFound()) return FromRocks(found, path);
  if (!found.ok()) {
    RETURN_IF_ERROR(CheckNothingLost(rocks.env, path));
    if (options.expected_seq > 0) return Behind("is missing");
    RETURN_IF_ERROR(FromRocks(rocks.env->CreateDirIfMissing(path), path));
    // RocksDB syncs what is inside the folder, not the folder's own name.
    const stdfs::path parent = stdfs::path(path).parent_path();
    RETURN_IF_ERROR(FromRocks(SyncDirectory(rocks.env, parent.empty() ? "." : parent.string()), path));
    rocks.create_if_missing = true;
  }
  rocksdb::DB* opened = nullptr;
  RETURN_IF_ERROR(FromRocks(rocksdb::DB::Open(rocks, path, &opened), path));
  {
    absl::MutexLock hold(&db_mu);
    db_ptr.reset(opened);
  }
  RETURN_IF_ERROR(CheckFormat(*opened));
  ASSIGN_OR_RETURN(const uint64_t seq, ReadLastSeq(*opened));
  if (seq < options.expected_seq) return Behind(internal::Concat("ends at write ", seq));
  last_seq.store(seq);
  std::string ignored;
  if (opened->Get(rocksdb::ReadOptions(), ToSlice(kFormatKey), &ignored).IsNotFound()) {
    RETURN_IF_ERROR(FromRocks(opened->Put(Durable(), ToSlice(kFormatKey), EncodeU64(kStoreFormat)), path));
  }
  return absl::OkStatus();
}

absl::StatusOr<DocumentStore::Impl::Trace> DocumentStore::Impl::ReadTrace(rocksdb::Env* env) const {
  Trace trace;
  if (env->FileExists(path + "/CURRENT").IsNotFound()) {
    const absl::Status lost = CheckNothingLost(env, path);
    if (lost.ok()) return NotFound("document store ", path, " does not exist");
    // Made between the two looks, or really lost: then it is still missing at the third.
    if (env->FileExists(path + "/CURRENT").IsNotFound()) return lost;
  }
  RETURN_IF_ERROR(FromRocks(rocksdb::ReadFileToString(env, path + "/CURRENT", &trace.current), path));
  const std::string manifest = path + "/" + trace.current.substr(0, trace.current.find('\n'));
  // Replaced since: the caller's second trace will tell.
  if (!env->GetFileSize(manifest, &trace.manifest_bytes).ok()) trace.manifest_bytes = 0;
  std::vector<std::string> names;
  RETURN_IF_ERROR(FromRocks(env->GetChildren(path, &names), path));
  for (const std::string& name : names) {
    if (!name.ends_with(".log")) continue;
    uint64_t bytes = 0;
    if (!env->GetFileSize(path + "/" + name, &bytes).ok()) trace.log_vanished = true;
    trace.log_bytes += bytes;
    const auto age = [](const std::string& log) { return std::pair(log.size(), std::string_view(log)); };  // numbers, padded to six digits
    if (trace.first_log.empty() || age(name) < age(trace.first_log)) trace.first_log = name;
  }
  return trace;
}

// A secondary reads the manifest first and the logs after it. Where the writer flushes and removes a log in between,
// the log's writes are in neither, and RocksDB does not notice. Nor does it when a log whose flush the manifest holds is
// removed between its listing and its opening: it then reads none of the later logs. So a view is taken only if manifest and
// oldest log stood still meanwhile; and as catching up in place has the same gap, a view is never changed, but replaced.
absl::Status DocumentStore::Impl::OpenView() {
  const rocksdb::Options rocks = MakeOptions(options);
  rocksdb::Status status;
  for (int attempt = 1; attempt <= kFollowAttempts; ++attempt) {
    if (attempt > 1) std::this_thread::sleep_for(std::chrono::milliseconds(std::min(attempt, 20)));
    ASSIGN_OR_RETURN(const Trace before, ReadTrace(rocks.env));
    if (db() != nullptr && before.SameFiles(seen) && before.log_bytes == seen.log_bytes) return absl::OkStatus();
    rocksdb::DB* opened = nullptr;
    // The second path would hold a LOG, and there is none.
    status = rocksdb::DB::OpenAsSecondary(rocks, path, path + "/no-log", &opened);
    std::shared_ptr<rocksdb::DB> view(opened);
    ASSIGN_OR_RETURN(const Trace after, ReadTrace(rocks.env));
    // The writer replaces logs, tables and manifests while we open them; what is really damaged stays so.
    if (!status.ok() || !before.SameFiles(after)) continue;
    RETURN_IF_ERROR(CheckFormat(*view));
    ASSIGN_OR_RETURN(const uint64_t seq, ReadLastSeq(*view));
    seen = before;   // the logs may have grown since: then the next CatchUp looks again
    absl::MutexLock hold(&db_mu);
    db_ptr = std::move(view);
    last_seq.store(seq);
    return absl::OkStatus();
  }
  if (!status.ok()) return FromRocks(status, path);
  return Unavailable("document store ", path, ": its files changed ", kFollowAttempts, " times while they were opened");
}

absl::Status DocumentStore::Impl::CheckFormat(rocksdb::DB& opened) const {
  std::string value;
  const rocksdb::Status status = opened.Get(rocksdb::ReadOptions(), ToSlice(kFormatKey), &value);
  if (status.IsNotFound()) {
    // The format is the first thing ever written: without it there is nothing else.
    const std::unique_ptr<rocksdb::Iterator> it(opened.NewIterator(rocksdb::ReadOptions()));
    it->SeekToFirst();
    if (it->Valid()) return DataLoss("document store ", path, " has records but no format number");
    return FromRocks(it->status(), path);
  }
  RETURN_IF_ERROR(FromRocks(status, path));
  ASSIGN_OR_RETURN(const uint64_t format, DecodeU64(value));
  if (format > kStoreFormat) {
    return NotSupported("document store ", path, " has format ", format, "; this build reads up to ",
                              kStoreFormat, ": use a newer lectern");
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> DocumentStore::Impl::ReadLastSeq(rocksdb::DB& opened) const {
  std::string value;
  const rocksdb::Status status = opened.Get(rocksdb::ReadOptions(), ToSlice(kLastSeqKey), &value);
  if (status.IsNotFound()) return 0;
  RETURN_IF_ERROR(FromRocks(status, path));
  return DecodeU64(value);
}

absl::Status DocumentStore::Impl::CheckWritable() {
  if (options.mode != StoreOptions::Mode::kReadWrite) {
    return FailedPrecondition("document store ", path, " is open for reading only");
  }
  absl::MutexLock hold(&queue_mu);
  return failed.ok() ? absl::OkStatus() : FailedEarlier();
}

absl::Status DocumentStore::Impl::WriteDurably(rocksdb::WriteBatch& batch) {
  const absl::Status status = FromRocks(db()->Write(Durable(), &batch), path);
  if (!status.ok()) {
    absl::MutexLock hold(&queue_mu);
    if (failed.ok()) failed = status;
  }
  return status;
}

absl::Status DocumentStore::Impl::Enqueue(Writer& writer) {
  absl::MutexLock lock(&queue_mu);
  queue.push_back(&writer);
  auto done_or_leader = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(queue_mu) { return writer.done || queue.front() == &writer; };
  queue_mu.Await(absl::Condition(&done_or_leader));
  if (writer.done) return writer.status;
  std::vector<Writer*> group;
  int64_t bytes = 0;
  for (Writer* waiting : queue) {
    if (waiting->batch == nullptr && !group.empty()) break;   // a drop goes alone
    if (waiting->batch != nullptr) bytes += waiting->batch->bytes();
    if (!group.empty() && bytes > kGroupBytes) break;
    group.push_back(waiting);
    if (waiting->batch == nullptr) break;
  }
  absl::StatusOr<uint64_t> seq = uint64_t{0};
  if (failed.ok()) {
    queue_mu.Unlock();   // the leader stays at the front meanwhile, so that the queue waits for it
    seq = WriteGroup(group);
    queue_mu.Lock();
  } else {
    seq = FailedEarlier();
  }
  for (Writer* member : group) {
    member->status = seq.status();
    member->seq = seq.ok() ? *seq : 0;
    member->done = true;
    queue.pop_front();
  }
  return writer.status;
}

absl::StatusOr<uint64_t> DocumentStore::Impl::WriteGroup(const std::vector<Writer*>& group) {
  GroupState state;
  state.seq = last_seq.load();
  for (const Writer* writer : group) {
    if (writer->batch != nullptr) {
      RETURN_IF_ERROR(AddToBatch(*writer->batch, state));
      continue;
    }
    for (const KeyKind kind : {KeyKind::kDocument, KeyKind::kHead, KeyKind::kChange}) {
      const KeyRange range = RangeOf(kind, writer->drop);
      state.rocks.DeleteRange(range.begin, range.end);
    }
    state.rocks.Delete(CountKey(writer->drop));
  }
  for (const auto& [collection, difference] : state.counts) {
    const std::string key = CountKey(collection);
    ASSIGN_OR_RETURN(const std::optional<std::string> old, Read(key));
    uint64_t count = 0;
    if (old.has_value()) {
      ASSIGN_OR_RETURN(count, DecodeU64(*old));
    }
    state.rocks.Put(key, EncodeU64(count + static_cast<uint64_t>(difference)));
  }
  state.rocks.Put(ToSlice(kLastSeqKey), EncodeU64(state.seq));
  RETURN_IF_ERROR(WriteDurably(state.rocks));
  last_seq.store(state.seq);
  return state.seq;
}

absl::Status DocumentStore::Impl::AddToBatch(const WriteBatch& batch, GroupState& state) {
  for (const auto& op : batch.ops_) {
    const uint64_t seq = ++state.seq;
    const std::string& id = op.document.id;
    const std::string head_key = HeadKey(op.collection, id);
    auto known = state.heads.find(head_key);
    if (known == state.heads.end()) {
      ASSIGN_OR_RETURN(std::optional<Head> stored, ReadHead(head_key));
      known = state.heads.emplace(head_key, std::move(stored)).first;
    }
    std::optional<Head>& head = known->second;
    const bool alive = head.has_value() && !head->deleted;
    if (op.is_delete && !alive) continue;   // what is not there leaves no second tombstone
    if (head.has_value()) state.rocks.Delete(ChangeKey(op.collection, head->seq));
    head = Head{.seq = seq, .deleted = op.is_delete, .content_sha256 = op.document.content_sha256};
    state.rocks.Put(head_key, EncodeHead(*head));
    state.rocks.Put(ChangeKey(op.collection, seq), EncodeChange(id, op.is_delete));
    if (op.is_delete) {
      state.rocks.Delete(DocumentKey(op.collection, id));
      state.counts[op.collection] -= 1;
    } else {
      state.rocks.Put(DocumentKey(op.collection, id), EncodeDocument(op.document, seq));
      state.counts[op.collection] += alive ? 0 : 1;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> DocumentStore::Commit(const WriteBatch& batch) {
  RETURN_IF_ERROR(impl_->CheckWritable());
  for (const auto& op : batch.ops_) {
    RETURN_IF_ERROR(CheckCollection(op.collection));
    RETURN_IF_ERROR(CheckId(op.document.id));
    if (const int64_t bytes = DocumentBytes(op.document); bytes > kMaxDocumentBytes) {
      return InvalidArgument("document '", op.document.id, "' has ", bytes, " bytes, the limit is ", kMaxDocumentBytes);
    }
  }
  if (batch.ops_.empty()) return impl_->last_seq.load();
  Impl::Writer writer{.batch = &batch};
  RETURN_IF_ERROR(impl_->Enqueue(writer));
  return writer.seq;
}

absl::Status DocumentStore::DropCollection(std::string_view collection) {
  RETURN_IF_ERROR(impl_->CheckWritable());
  RETURN_IF_ERROR(CheckCollection(collection));
  Impl::Writer writer{.drop = collection};
  return impl_->Enqueue(writer);
}

uint64_t DocumentStore::last_seq() const { return impl_->last_seq.load(); }

absl::StatusOr<std::optional<std::string>> DocumentStore::Impl::Read(const std::string& key) const {
  std::string value;
  const rocksdb::Status status = db()->Get(rocksdb::ReadOptions(), key, &value);
  if (status.IsNotFound() && !status.IsPathNotFound()) return std::nullopt;
  RETURN_IF_ERROR(FromRocks(status, path));
  return std::optional<std::string>(std::move(value));
}

absl::StatusOr<std::optional<Head>> DocumentStore::Impl::ReadHead(const std::string& key) const {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, Read(key));
  if (!value.has_value()) return std::nullopt;
  ASSIGN_OR_RETURN(Head head, DecodeHead(*value));
  return std::optional<Head>(std::move(head));
}

absl::Status DocumentStore::Impl::ScanRange(
    const KeyRange& range, bool skip_first,
    const std::function<absl::StatusOr<bool>(std::string_view, std::string_view)>& fn) const {
  const std::shared_ptr<rocksdb::DB> held = db();
  rocksdb::ReadOptions read;
  read.fill_cache = false;   // a scan would push out everything that is asked for again
  const rocksdb::Slice end(range.end);
  read.iterate_upper_bound = &end;
  const std::unique_ptr<rocksdb::Iterator> it(held->NewIterator(read));
  it->Seek(range.begin);
  if (skip_first && it->Valid() && it->key() == range.begin) it->Next();
  for (; it->Valid(); it->Next()) {
    ASSIGN_OR_RETURN(const bool more, fn(View(it->key()), View(it->value())));
    if (!more) return absl::OkStatus();
  }
  return FromRocks(it->status(), path);
}

absl::StatusOr<StoredDocument> DocumentStore::Get(std::string_view collection, std::string_view id) const {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, impl_->Read(DocumentKey(collection, id)));
  if (!value.has_value()) return NotFound("collection ", collection, " has no document '", id, "'");
  return DecodeDocument(id, *value);
}

absl::StatusOr<std::optional<std::string>> DocumentStore::ContentSha256(std::string_view collection,
                                                                        std::string_view id) const {
  ASSIGN_OR_RETURN(std::optional<Head> head, impl_->ReadHead(HeadKey(collection, id)));
  if (!head.has_value() || head->deleted) return std::nullopt;
  return std::optional<std::string>(std::move(head->content_sha256));
}

absl::StatusOr<std::optional<Change>> DocumentStore::LatestChange(std::string_view collection, std::string_view id) const {
  ASSIGN_OR_RETURN(const std::optional<Head> head, impl_->ReadHead(HeadKey(collection, id)));
  if (!head.has_value()) return std::nullopt;
  return std::optional<Change>(Change{.seq = head->seq, .id = std::string(id), .deleted = head->deleted});
}

absl::Status DocumentStore::Scan(std::string_view collection, std::string_view after_id,
                                 const std::function<bool(StoredDocument&&)>& fn) const {
  KeyRange range = RangeOf(KeyKind::kDocument, collection);
  const size_t prefix = range.begin.size();
  range.begin.append(after_id);
  return impl_->ScanRange(range, /*skip_first=*/!after_id.empty(),
                          [&](std::string_view key, std::string_view value) -> absl::StatusOr<bool> {
                            ASSIGN_OR_RETURN(StoredDocument stored, DecodeDocument(key.substr(prefix), value));
                            return fn(std::move(stored));
                          });
}

absl::Status DocumentStore::ScanChanges(std::string_view collection, uint64_t after,
                                        const std::function<absl::Status(const Change&)>& fn) const {
  KeyRange range = RangeOf(KeyKind::kChange, collection);
  const size_t prefix = range.begin.size();
  range.begin = ChangeKey(collection, after);
  return impl_->ScanRange(range, /*skip_first=*/true,
                          [&](std::string_view key, std::string_view value) -> absl::StatusOr<bool> {
                            ASSIGN_OR_RETURN(const uint64_t seq, DecodeU64(key.substr(prefix)));
                            ASSIGN_OR_RETURN(const ChangeValue change, DecodeChange(value));
                            RETURN_IF_ERROR(fn({.seq = seq, .id = std::string(change.id), .deleted = change.deleted}));
                            return true;
                          });
}

absl::StatusOr<int64_t> DocumentStore::CountDocuments(std::string_view collection) const {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, impl_->Read(CountKey(collection)));
  if (!value.has_value()) return 0;
  ASSIGN_OR_RETURN(const uint64_t count, DecodeU64(*value));
  return static_cast<int64_t>(count);
}

absl::Status DocumentStore::PutMeta(std::string_view key, const Json& value) {
  RETURN_IF_ERROR(impl_->CheckWritable());
  rocksdb::WriteBatch batch;
  batch.Put(MetaKey(key), DumpJson(value));
  return impl_->WriteDurably(batch);
}

absl::Status DocumentStore::DeleteMeta(std::string_view key) {
  RETURN_IF_ERROR(impl_->CheckWritable());
  rocksdb::WriteBatch batch;
  batch.Delete(MetaKey(key));
  return impl_->WriteDurably(batch);
}

absl::StatusOr<std::optional<Json>> DocumentStore::GetMeta(std::string_view key) const {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, impl_->Read(MetaKey(key)));
  if (!value.has_value()) return std::nullopt;
  absl::StatusOr<Json> json = ParseJson(*value);
  if (!json.ok()) return DataLoss("the store's value '", key, "' is damaged: ", json.status().message());
  return std::optional<Json>(*std::move(json));
}

absl::StatusOr<std::vector<std::string>> DocumentStore::ListMeta(std::string_view prefix) const {
  std::vector<std::string> keys;
  KeyRange range = RangeOf(KeyKind::kMeta);
  range.begin = MetaKey(prefix);
  RETURN_IF_ERROR(impl_->ScanRange(range, /*skip_first=*/false,
                                   [&](std::string_view key, std::string_view) -> absl::StatusOr<bool> {
                                     if (!key.substr(1).starts_with(prefix)) return false;
                                     keys.emplace_back(key.substr(1));
                                     return true;
                                   }));
  return keys;
}

absl::Status DocumentStore::CatchUp() {
  if (impl_->options.mode == StoreOptions::Mode::kReadWrite) return absl::OkStatus();
  absl::MutexLock hold(&impl_->catch_up_mu);
  return impl_->OpenView();
}

absl::Status DocumentStore::VerifyChecksums() const {
  // Whole files, by name. A follower must not: beside a live writer a compacted one may be gone. The pass below
  // reads, and checks, every block that holds a record.
  if (impl_->options.mode == StoreOptions::Mode::kReadWrite) {
    RETURN_IF_ERROR(FromRocks(impl_->db()->VerifyChecksum(), impl_->path));
  }
  // One pass in key order over one view: changes, documents, heads, then counts. Sums of hashes stand for joins,
  // so that memory does not grow with the store.
  struct Sums {
    uint64_t changes = 0, heads = 0, documents = 0, live_heads = 0;
    int64_t num_documents = 0, count = 0;
  };
  std::map<std::string, Sums, std::less<>> sums;
  const auto sum_of = [](std::string_view id, uint64_t seq, bool deleted) {
    return Hash64(internal::Concat(EncodeU64(seq), deleted ? '1' : '0', id));
  };
  const auto check = [&](std::string_view key, std::string_view value) -> absl::StatusOr<bool> {
    const auto kind = static_cast<KeyKind>(key[0]);
    if (kind == KeyKind::kMeta) {
      const absl::StatusOr<Json> json = ParseJson(value);
      if (!json.ok()) return DataLoss("the store's value '", key.substr(1), "' is damaged: ", json.status().message());
      return true;
    }
    if (kind == KeyKind::kStore) return true;
    ASSIGN_OR_RETURN(const KeyParts parts, SplitKey(key));
    Sums& sum = sums.try_emplace(std::string(parts.collection)).first->second;
    switch (kind) {
      case KeyKind::kChange: {
        ASSIGN_OR_RETURN(const uint64_t seq, DecodeU64(parts.rest));
        ASSIGN_OR_RETURN(const ChangeValue change, DecodeChange(value));
        sum.changes += sum_of(change.id, seq, change.deleted);
        return true;
      }
      case KeyKind::kDocument: {
        ASSIGN_OR_RETURN(const StoredDocument stored, DecodeDocument(parts.rest, value));
        sum.documents += sum_of(parts.rest, stored.seq, false);
        sum.num_documents += 1;
        return true;
      }
      case KeyKind::kHead: {
        ASSIGN_OR_RETURN(const Head head, DecodeHead(value));
        sum.heads += sum_of(parts.rest, head.seq, head.deleted);
        if (!head.deleted) sum.live_heads += sum_of(parts.rest, head.seq, false);
        return true;
      }
      case KeyKind::kCount: {
        ASSIGN_OR_RETURN(const uint64_t count, DecodeU64(value));
        sum.count = static_cast<int64_t>(count);
        return true;
      }
      default:
        return DataLoss("document store ", impl_->path, " holds a key of unknown kind ", static_cast<int>(key[0]));
    }
  };
  RETURN_IF_ERROR(impl_->ScanRange({.begin = "", .end = "\xff"}, /*skip_first=*/false, check));
  for (const auto& [collection, sum] : sums) {
    if (sum.changes != sum.heads || sum.documents != sum.live_heads || sum.num_documents != sum.count) {
      return DataLoss("document store ", impl_->path, ": documents, heads, changes and count of collection ", collection,
                      " do not agree (", sum.num_documents, " documents, ", sum.count, " counted)");
    }
  }
  return absl::OkStatus();
}

}  // namespace lectern::index
