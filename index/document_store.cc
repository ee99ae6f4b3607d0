#include "index/document_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/slice.h>
#include <rocksdb/table.h>
#include <stdlib.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <map>

#include "absl/synchronization/mutex.h"
#include "base/file.h"
#include "index/key_codec.h"

namespace lectern::index {
namespace {

rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view View(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

absl::Status FromRocks(const rocksdb::Status& status, std::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = internal::Concat("document store: ", what, ": ", status.ToString());
  if (status.IsNotFound()) return NotFound(text);
  if (status.IsCorruption()) return DataLoss(text);
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kNoSpace) return ResourceExhausted(text);
  if (status.IsBusy() || status.IsTryAgain() || text.find("lock") != std::string::npos) return Locked(text);
  if (text.find("ermission denied") != std::string::npos || text.find("ead-only file system") != std::string::npos) return PermissionDenied(text);
  return Unavailable(text);
}

std::string EncodeHead(uint64_t seq, std::string_view sha256) { return EncodeU64(seq) + std::string(sha256); }

}  // namespace

void WriteBatch::Put(std::string_view collection, Document document) {
  bytes_ += static_cast<int64_t>(document.text.size() + document.source.size() + document.title.size() + 256);
  ops_.push_back({false, std::string(collection), std::move(document)});
}
void WriteBatch::Delete(std::string_view collection, std::string_view id) {
  Document document;
  document.id = std::string(id);
  bytes_ += 64;
  ops_.push_back({true, std::string(collection), std::move(document)});
}
void WriteBatch::Clear() {
  ops_.clear();
  bytes_ = 0;
}

struct DocumentStore::Impl {
  std::unique_ptr<rocksdb::DB> db;
  StoreOptions options;
  std::string follower_dir;   // RocksDB wants a place for a follower's log; removed at the end

  // Commits queue up; the first in the queue writes for all that wait: one log write and one fsync for the group.
  struct Waiting {
    const WriteBatch* batch;
    absl::Status status;
    uint64_t seq = 0;
    bool done = false;
  };
  mutable absl::Mutex mutex;
  std::deque<Waiting*> queue ABSL_GUARDED_BY(mutex);
  std::atomic<uint64_t> last_seq{0};

  ~Impl() {
    db.reset();
    std::error_code ignored;
    if (!follower_dir.empty()) std::filesystem::remove_all(follower_dir, ignored);
  }

  absl::StatusOr<std::optional<std::string>> Read(std::string_view key) const {
    std::string value;
    const rocksdb::Status status = db->Get(rocksdb::ReadOptions(), ToSlice(key), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    RETURN_IF_ERROR(FromRocks(status, "cannot read"));
    return std::optional<std::string>(std::move(value));
  }
  absl::StatusOr<uint64_t> ReadNumber(std::string_view key) const {
    ASSIGN_OR_RETURN(const auto bytes, Read(key));
    if (!bytes) return 0;
    return DecodeU64(*bytes);
  }
  absl::Status WriteSynced(rocksdb::WriteBatch& batch) {
    rocksdb::WriteOptions write;
    write.sync = true;
    return FromRocks(db->Write(write, &batch), "cannot write");
  }
  absl::Status WriteGroup(const std::vector<Waiting*>& group);
  absl::Status CheckWritable() const {
    if (options.mode != StoreOptions::Mode::kReadWrite) return FailedPrecondition("the document store was opened for reading");
    return absl::OkStatus();
  }
};

absl::Status DocumentStore::Impl::WriteGroup(const std::vector<Waiting*>& group) {
  rocksdb::WriteBatch out;
  uint64_t seq = last_seq.load();
  // What this group has already written: the store does not show it yet.
  std::map<std::string, std::string> heads;        // head key -> head, empty for deleted
  std::map<std::string, int64_t> counts;           // by collection
  for (Waiting* waiting : group) {
    for (const WriteBatch::Op& op : waiting->batch->ops_) {
      const std::string& id = op.document.id;
      const std::string head_key = HeadKey(op.collection, id);
      std::string head;
      if (const auto it = heads.find(head_key); it != heads.end()) {
        head = it->second;
      } else {
        ASSIGN_OR_RETURN(auto stored, Read(head_key));
        if (stored) head = *std::move(stored);
      }
      const bool was_there = head.size() > 8;      // a tombstone's head is its seq alone
      if (head.size() >= 8) {
        ASSIGN_OR_RETURN(const uint64_t old_seq, DecodeU64(std::string_view(head).substr(0, 8)));
        out.Delete(ToSlice(ChangeKey(op.collection, old_seq)));
      } else if (op.is_delete) {
        continue;                                  // never was there: nothing to remember
      }
      if (!counts.contains(op.collection)) {
        ASSIGN_OR_RETURN(const uint64_t count, ReadNumber(CountKey(op.collection)));
        counts[op.collection] = static_cast<int64_t>(count);
      }
      ++seq;
      if (op.is_delete) {
        out.Delete(ToSlice(DocumentKey(op.collection, id)));
        heads[head_key] = EncodeU64(seq);
        counts[op.collection] -= was_there;
      } else {
        out.Put(ToSlice(DocumentKey(op.collection, id)), ToSlice(EncodeDocument(op.document, seq)));
        // A head never looks like a tombstone's, even without a hash.
        heads[head_key] = EncodeHead(seq, op.document.source_sha256.empty() ? "-" : op.document.source_sha256);
        counts[op.collection] += !was_there;
      }
      out.Put(ToSlice(head_key), ToSlice(heads[head_key]));
      out.Put(ToSlice(ChangeKey(op.collection, seq)), ToSlice((op.is_delete ? "-" : "+") + id));
    }
    waiting->seq = seq;
  }
  for (const auto& [collection, count] : counts) out.Put(ToSlice(CountKey(collection)), ToSlice(EncodeU64(static_cast<uint64_t>(count))));
  out.Put(ToSlice(kLastSeqKey), ToSlice(EncodeU64(seq)));
  RETURN_IF_ERROR(WriteSynced(out));
  last_seq.store(seq);
  return absl::OkStatus();
}

DocumentStore::DocumentStore() : impl_(std::make_unique<Impl>()) {}
DocumentStore::~DocumentStore() = default;

absl::StatusOr<std::unique_ptr<DocumentStore>> DocumentStore::Open(const std::string& path, const StoreOptions& options) {
  std::unique_ptr<DocumentStore> store(new DocumentStore);
  Impl& impl = *store->impl_;
  impl.options = options;
  rocksdb::Options rocks;
  if (options.rocksdb_env != nullptr) rocks.env = static_cast<rocksdb::Env*>(options.rocksdb_env);
  rocks.compression = rocksdb::kZSTD;
  rocks.write_buffer_size = static_cast<size_t>(options.write_buffer_bytes);
  rocks.max_write_buffer_number = 2;
  rocks.max_background_jobs = 2;
  rocks.keep_log_file_num = 2;
  rocks.info_log_level = rocksdb::WARN_LEVEL;
  rocks.paranoid_checks = true;
  rocks.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;   // a torn tail was never acknowledged
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(static_cast<size_t>(options.cache_bytes));
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.block_size = 16 << 10;
  rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));

  rocksdb::DB* db = nullptr;
  if (options.mode == StoreOptions::Mode::kReadWrite) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return ErrnoStatus(error.value(), "cannot create", path);
    rocks.create_if_missing = true;
    RETURN_IF_ERROR(FromRocks(rocksdb::DB::Open(rocks, path, &db), "cannot open " + path));
  } else {
    std::string pattern = (std::filesystem::temp_directory_path() / "lectern-follow-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) return ErrnoStatus(errno, "cannot make a temporary folder", pattern);
    impl.follower_dir = pattern;
    rocks.max_open_files = -1;   // files the writer removes stay readable
    RETURN_IF_ERROR(FromRocks(rocksdb::DB::OpenAsSecondary(rocks, path, impl.follower_dir, &db), "cannot follow " + path));
  }
  impl.db.reset(db);
  ASSIGN_OR_RETURN(const uint64_t format, impl.ReadNumber(kFormatKey));
  if (format > kStoreFormat) {
    return FailedPrecondition("the document store at ", path, " has format ", format, ", this build reads up to ", kStoreFormat, "; use a newer lectern");
  }
  if (format == 0 && options.mode == StoreOptions::Mode::kReadWrite) {
    rocksdb::WriteBatch batch;
    batch.Put(ToSlice(kFormatKey), ToSlice(EncodeU64(kStoreFormat)));
    RETURN_IF_ERROR(impl.WriteSynced(batch));
  }
  ASSIGN_OR_RETURN(const uint64_t seq, impl.ReadNumber(kLastSeqKey));
  impl.last_seq.store(seq);
  return store;
}

absl::StatusOr<uint64_t> DocumentStore::Commit(const WriteBatch& batch) {
  RETURN_IF_ERROR(impl_->CheckWritable());
  for (const auto& op : batch.ops_) {
    if (op.document.id.empty() || op.document.id.size() > 512) return InvalidArgument("a document id has 1 to 512 bytes, got ", op.document.id.size());
  }
  if (batch.ops_.empty()) return impl_->last_seq.load();
  Impl::Waiting mine{&batch, absl::OkStatus()};
  absl::MutexLock lock(&impl_->mutex);
  impl_->queue.push_back(&mine);
  auto ready = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return mine.done || impl_->queue.front() == &mine; };
  impl_->mutex.Await(absl::Condition(&ready));
  if (!mine.done) {
    const std::vector<Impl::Waiting*> group(impl_->queue.begin(), impl_->queue.end());
    impl_->mutex.Unlock();   // those who come meanwhile queue behind; `mine` stays in front until the group is done
    const absl::Status status = impl_->WriteGroup(group);
    impl_->mutex.Lock();
    for (Impl::Waiting* waiting : group) {
      waiting->status = status;
      waiting->done = true;
      impl_->queue.pop_front();
    }
  }
  RETURN_IF_ERROR(mine.status);
  return mine.seq;
}

uint64_t DocumentStore::last_seq() const { return impl_->last_seq.load(); }

absl::StatusOr<StoredDocument> DocumentStore::Get(std::string_view collection, std::string_view id) const {
  ASSIGN_OR_RETURN(const auto bytes, impl_->Read(DocumentKey(collection, id)));
  if (!bytes) return NotFound("no document '", id, "' in collection '", collection, "'");
  return DecodeDocument(*bytes);
}

absl::StatusOr<std::optional<std::string>> DocumentStore::SourceSha256(std::string_view collection, std::string_view id) const {
  ASSIGN_OR_RETURN(const auto head, impl_->Read(HeadKey(collection, id)));
  if (!head || head->size() <= 8) return std::optional<std::string>();
  return std::optional<std::string>(head->substr(8));
}

absl::Status DocumentStore::Scan(std::string_view collection, std::string_view after_id, const std::function<bool(StoredDocument&&)>& fn) const {
  const KeyRange range = CollectionRange('d', collection);
  rocksdb::ReadOptions read;
  const rocksdb::Slice upper = ToSlice(range.end);
  read.iterate_upper_bound = &upper;
  read.fill_cache = false;
  std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator(read));
  const std::string from = after_id.empty() ? range.begin : DocumentKey(collection, after_id) + '\0';
  for (it->Seek(from); it->Valid(); it->Next()) {
    ASSIGN_OR_RETURN(StoredDocument stored, DecodeDocument(View(it->value())));
    if (!fn(std::move(stored))) return absl::OkStatus();
  }
  return FromRocks(it->status(), "cannot scan");
}

absl::Status DocumentStore::ScanChanges(std::string_view collection, uint64_t after, const std::function<absl::Status(const Change&)>& fn) const {
  const KeyRange range = CollectionRange('c', collection);
  rocksdb::ReadOptions read;
  const rocksdb::Slice upper = ToSlice(range.end);
  read.iterate_upper_bound = &upper;
  std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator(read));
  for (it->Seek(ToSlice(ChangeKey(collection, after + 1))); it->Valid(); it->Next()) {
    const std::string_view value = View(it->value());
    if (value.size() < 2) return DataLoss("document store: a change has no document");
    Change change;
    change.seq = SeqOf(View(it->key()));
    change.deleted = value[0] == '-';
    change.id = std::string(value.substr(1));
    RETURN_IF_ERROR(fn(change));
  }
  return FromRocks(it->status(), "cannot scan changes");
}

absl::StatusOr<int64_t> DocumentStore::CountDocuments(std::string_view collection) const {
  ASSIGN_OR_RETURN(const uint64_t count, impl_->ReadNumber(CountKey(collection)));
  return static_cast<int64_t>(count);
}

absl::Status DocumentStore::PutMeta(std::string_view key, const Json& value) {
  RETURN_IF_ERROR(impl_->CheckWritable());
  rocksdb::WriteBatch batch;
  batch.Put(ToSlice(MetaKey(key)), ToSlice(DumpJson(value)));
  return impl_->WriteSynced(batch);
}

absl::StatusOr<std::optional<Json>> DocumentStore::GetMeta(std::string_view key) const {
  ASSIGN_OR_RETURN(const auto bytes, impl_->Read(MetaKey(key)));
  if (!bytes) return std::optional<Json>();
  auto value = ParseJson(*bytes);
  if (!value.ok()) return DataLoss("document store: the value of '", key, "' is damaged: ", std::string(value.status().message()));
  return std::optional<Json>(*std::move(value));
}

absl::Status DocumentStore::DeleteMeta(std::string_view key) {
  RETURN_IF_ERROR(impl_->CheckWritable());
  rocksdb::WriteBatch batch;
  batch.Delete(ToSlice(MetaKey(key)));
  return impl_->WriteSynced(batch);
}

absl::StatusOr<std::vector<std::string>> DocumentStore::ListMeta(std::string_view prefix) const {
  std::vector<std::string> keys;
  std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator(rocksdb::ReadOptions()));
  const std::string from = MetaKey(prefix);
  for (it->Seek(from); it->Valid() && View(it->key()).starts_with(from); it->Next()) keys.emplace_back(View(it->key()).substr(1));
  RETURN_IF_ERROR(FromRocks(it->status(), "cannot scan"));
  return keys;
}

absl::Status DocumentStore::DropCollection(std::string_view collection) {
  RETURN_IF_ERROR(impl_->CheckWritable());
  rocksdb::WriteBatch batch;
  for (char kind : {'d', 'h', 'c'}) {
    const KeyRange range = CollectionRange(kind, collection);
    batch.DeleteRange(ToSlice(range.begin), ToSlice(range.end));
  }
  batch.Delete(ToSlice(CountKey(collection)));
  return impl_->WriteSynced(batch);
}

absl::Status DocumentStore::CatchUp() {
  if (impl_->options.mode == StoreOptions::Mode::kReadWrite) return absl::OkStatus();
  RETURN_IF_ERROR(FromRocks(impl_->db->TryCatchUpWithPrimary(), "cannot catch up"));
  ASSIGN_OR_RETURN(const uint64_t seq, impl_->ReadNumber(kLastSeqKey));
  impl_->last_seq.store(seq);
  return absl::OkStatus();
}

absl::Status DocumentStore::VerifyChecksums() const {
  return FromRocks(impl_->db->VerifyChecksum(), "checksums differ");
}

}  // namespace lectern::index
