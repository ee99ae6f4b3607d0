#include "index/ingest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "base/file.h"
#include "base/json.h"
#include "base/problem.h"
#include "index/data_directory.h"
#include "index/record_queue.h"

namespace lectern::index {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMaxRecordBytes = int64_t{64} << 20;
constexpr auto kCursorEvery = std::chrono::seconds(1);   // a lost cursor costs rereading, never a document
constexpr int64_t kBytesPerCountedId = 24;               // of the set that counts repeated ids, at its fullest

// The rejects file: written behind the commits, so that a resumed run can cut it back to where it goes on.
class RejectsFile {
 public:
  explicit RejectsFile(std::string path) : path_(std::move(path)) {}
  ~RejectsFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  // Keeps the first `bytes` of an earlier run's file.
  absl::Status Continue(int64_t bytes) {
    if (path_.empty() || bytes == 0) return absl::OkStatus();
    RETURN_IF_ERROR(Open(0));
    struct stat info {};
    if (::fstat(fd_, &info) != 0) return ErrnoStatus(errno, "cannot read the size of", path_);
    bytes_ = std::min<int64_t>(bytes, info.st_size);
    if (::ftruncate(fd_, bytes_) != 0 || ::lseek(fd_, bytes_, SEEK_SET) < 0) return ErrnoStatus(errno, "cannot cut back", path_);
    return absl::OkStatus();
  }
  void Add(const Item& item) {
    if (path_.empty()) return;
    const Json line = {{"file", item.file}, {"line", item.line}, {"byte", item.byte}, {"id", item.reject.id}, {"reason", item.reject.reason}};
    pending_ += DumpJson(line);
    pending_ += '\n';
  }
  absl::Status Flush() {
    if (pending_.empty()) return absl::OkStatus();
    if (fd_ < 0) RETURN_IF_ERROR(Open(O_TRUNC));
    std::string_view rest = pending_;
    while (!rest.empty()) {
      const ssize_t written = ::write(fd_, rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return ErrnoStatus(errno, "cannot write", path_);
      rest.remove_prefix(static_cast<size_t>(written));
    }
    bytes_ += static_cast<int64_t>(pending_.size());
    pending_.clear();
    return absl::OkStatus();
  }
  int64_t bytes() const { return bytes_; }
  int64_t pending_bytes() const { return static_cast<int64_t>(pending_.size()); }

 private:
  absl::Status Open(int flags) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    return fd_ >= 0 ? absl::OkStatus() : ErrnoStatus(errno, "cannot open", path_);
  }
  std::string path_, pending_;
  int fd_ = -1;
  int64_t bytes_ = 0;
};

// By its name: positions in such a file are not bytes on disk.
bool IsPacked(std::string_view path) { return path.ends_with(".gz") || path.ends_with(".zst") || path.ends_with(".xz"); }

// Where an ingest of the same inputs goes on: behind which record of which file.
struct Cursor {
  size_t file = 0;
  int64_t byte = 0, line = 1;
};

class IngestRun {
 public:
  // No store: a dry run into a collection that does not exist yet.
  IngestRun(DocumentStore* store, std::string_view collection, const IngestOptions& options)
      : store_(store), collection_(collection), options_(options), rejects_(options.dry_run ? "" : options.rejects_path) {}

  absl::StatusOr<IngestReport> Run(const std::vector<std::string>& inputs);

 private:
  absl::Status Prepare(const std::vector<std::string>& inputs);
  absl::Status Resume();
  absl::Status ReadAll();
  absl::Status Take(QueuedItem next);
  absl::Status TakeRecord(Item& item);
  absl::Status TakeDelete(Record& record);
  absl::Status Rejected(Item item);
  absl::Status Commit(bool save_cursor);
  absl::Status SaveCursor();
  absl::StatusOr<std::optional<std::string>> Existing(const std::string& id);
  bool CameBefore(std::string_view id);
  void Clash(const Item& item);

  DocumentStore* const store_;
  const std::string collection_;
  const IngestOptions& options_;
  IngestReport report_;
  CollectionSettings settings_;
  bool schema_grew_ = false;
  ExpandedInputs inputs_;
  std::vector<int64_t> file_sizes_;
  std::vector<uint64_t> identities_;     // of each file and all before it: path, size, time of change
  std::string cursor_key_;
  Cursor start_, at_, committed_;
  RejectsFile rejects_;
  WriteBatch batch_;
  absl::flat_hash_set<std::string> batch_ids_;
  absl::flat_hash_set<uint64_t> seen_ids_;
  Clock::time_point cursor_saved_ = Clock::now();
  IngestProgress progress_;
  int64_t bytes_before_ = 0;             // of the files read whole
};

absl::Status IngestRun::Prepare(const std::vector<std::string>& inputs) {
  RETURN_IF_ERROR(CheckMemory(options_.memory_bytes));
  if (options_.num_shards < 1 || options_.shard < 0 || options_.shard >= options_.num_shards) {
    return InvalidArgument("--shard must be i/n with i in 0..n-1, got ", options_.shard, "/", options_.num_shards);
  }
  if (options_.batch_documents < 1 || options_.batch_bytes < 1) return InvalidArgument("a batch must hold at least one document and one byte");
  absl::StatusOr<CollectionSettings> settings = NotFound("no store");
  if (store_ != nullptr) settings = LoadCollection(*store_, collection_);
  if (settings.ok()) {
    settings_ = *std::move(settings);
  } else if (settings.status().code() != absl::StatusCode::kNotFound) {
    return settings.status();
  } else {
    report_.created_collection = true;
    settings_ = options_.new_collection;
    // The inputs are looked at first: a mistyped name must not leave an empty collection behind.
  }
  ASSIGN_OR_RETURN(inputs_, ExpandInputs(inputs, options_.format));
  report_.hidden = inputs_.hidden;
  std::string own;
  for (const std::string& path : inputs_.own) own += (own.empty() ? "" : ", ") + path;
  if (!own.empty()) report_.notes.push_back("left out, as lectern wrote it: " + own);
  if (report_.created_collection && !options_.dry_run) RETURN_IF_ERROR(SaveCollection(*store_, collection_, settings_));

  uint64_t identity = 0;
  for (const InputFile& file : inputs_.files) {
    struct stat info {};
    const bool known = file.path != "-" && ::stat(file.path.c_str(), &info) == 0;
    file_sizes_.push_back(known ? info.st_size : 0);
    progress_.total_bytes += file_sizes_.back();
    identity = Hash64(internal::Concat(HexU64(identity), '\n', file.path, '\n', file_sizes_.back(), '\n', known ? info.st_mtim.tv_sec : 0, '.',
                                       known ? info.st_mtim.tv_nsec : 0));
    identities_.push_back(identity);
  }
  std::string what = internal::Concat(FormatName(options_.format), '\n', options_.id_field, '\n', options_.text_field, '\n', options_.shard, '/', options_.num_shards);
  for (const std::string& input : inputs) what += "\n" + input;
  cursor_key_ = internal::Concat("ingest/", collection_, "/", HexU64(Hash64(what)));
  return absl::OkStatus();
}

absl::Status IngestRun::Resume() {
  if (store_ == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::optional<Json> saved, store_->GetMeta(cursor_key_));
  if (!saved) {
    report_.notes.push_back("no interrupted run of these inputs was found; reading from the start");
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const int64_t file, JsonInt(*saved, "file"));
  ASSIGN_OR_RETURN(const std::string identity, JsonString(*saved, "identity"));
  if (file < 0 || file >= static_cast<int64_t>(identities_.size()) || HexU64(identities_[static_cast<size_t>(file)]) != identity) {
    report_.notes.push_back("the inputs changed since the interrupted run; reading from the start, what is unchanged is skipped");
    return absl::OkStatus();
  }
  start_.file = static_cast<size_t>(file);
  ASSIGN_OR_RETURN(start_.byte, JsonInt(*saved, "byte"));
  ASSIGN_OR_RETURN(start_.line, JsonInt(*saved, "line"));
  ASSIGN_OR_RETURN(report_.resumed_records, JsonInt(*saved, "records"));
  ASSIGN_OR_RETURN(const int64_t rejects_bytes, JsonInt(*saved, "rejects_bytes"));
  if (!options_.dry_run) RETURN_IF_ERROR(rejects_.Continue(rejects_bytes));
  report_.notes.push_back(internal::Concat("going on in ", inputs_.files[start_.file].path, " at byte ", start_.byte, ", line ", start_.line));
  return absl::OkStatus();
}

absl::Status IngestRun::SaveCursor() {
  RETURN_IF_ERROR(rejects_.Flush());
  const Json value = {{"file", committed_.file},
                      {"path", inputs_.files[committed_.file].path},
                      {"identity", HexU64(identities_[committed_.file])},
                      {"byte", committed_.byte},
                      {"line", committed_.line},
                      {"records", report_.resumed_records + report_.records},
                      {"rejects_bytes", rejects_.bytes()}};
  cursor_saved_ = Clock::now();
  return store_->PutMeta(cursor_key_, value);
}

absl::Status IngestRun::Commit(bool save_cursor) {
  if (options_.dry_run) {
    batch_.Clear();
    batch_ids_.clear();
    return absl::OkStatus();
  }
  if (batch_.size() > 0) {
    if (schema_grew_) {
      RETURN_IF_ERROR(SaveCollection(*store_, collection_, settings_));   // before the documents that need it
      schema_grew_ = false;
    }
    ASSIGN_OR_RETURN(report_.durable_seq, store_->Commit(batch_));
    batch_.Clear();
    batch_ids_.clear();
    committed_ = at_;
    if (options_.on_commit) options_.on_commit(report_.durable_seq);
  } else {
    committed_ = at_;
  }
  if (save_cursor || Clock::now() - cursor_saved_ > kCursorEvery) return SaveCursor();
  return absl::OkStatus();
}

absl::Status IngestRun::Rejected(Item item) {
  ++report_.rejected;
  rejects_.Add(item);
  if (options_.on_reject) options_.on_reject(item);
  if (options_.max_rejects >= 0 && report_.rejected > options_.max_rejects) {
    return WithLimit(ResourceExhausted("more than --max-rejects ", options_.max_rejects, " records were rejected; the last: ", item.file, ":", item.line, ": ", item.reject.reason),
                     "--max-rejects", options_.max_rejects, report_.rejected);
  }
  return rejects_.pending_bytes() > (1 << 20) ? rejects_.Flush() : absl::OkStatus();
}

// Whether this run has read the id already; counts that.
bool IngestRun::CameBefore(std::string_view id) {
  const uint64_t hash = Hash64(id);
  if (seen_ids_.contains(hash)) {
    ++report_.repeated_ids;
    return true;
  }
  if (static_cast<int64_t>(seen_ids_.size()) < options_.memory_bytes / 16 / kBytesPerCountedId) {
    seen_ids_.insert(hash);
  } else {
    report_.repeated_ids_exact = false;
  }
  return false;
}

void IngestRun::Clash(const Item& item) {
  if (report_.clashes++ > 0) return;
  report_.first_clash = internal::Concat("'", item.record->document.id, "', again in ", item.file, ":", item.line);
}

absl::StatusOr<std::optional<std::string>> IngestRun::Existing(const std::string& id) {
  if (report_.created_collection && options_.dry_run) return std::optional<std::string>();
  return store_->ContentSha256(collection_, id);
}

absl::Status IngestRun::TakeDelete(Record& record) {
  ASSIGN_OR_RETURN(const auto existing, Existing(record.document.id));
  if (!existing) {
    ++report_.absent_deletes;
    return absl::OkStatus();
  }
  ++report_.deleted;
  batch_ids_.insert(record.document.id);
  batch_.Delete(collection_, record.document.id);
  return absl::OkStatus();
}

absl::Status IngestRun::TakeRecord(Item& item) {
  Record& record = *item.record;
  Document& document = record.document;
  ++report_.records;
  if (options_.num_shards > 1 && ShardOf(document.id, options_.num_shards) != options_.shard) {
    ++report_.other_shards;
    return absl::OkStatus();
  }
  const bool came_before = CameBefore(document.id);
  // What an id has in the batch under way must be in the store before the id comes again.
  if (batch_ids_.contains(document.id)) RETURN_IF_ERROR(Commit(false));
  if (record.is_delete) return TakeDelete(record);
  ASSIGN_OR_RETURN(const auto existing, Existing(document.id));
  if (existing && *existing == document.content_sha256) {
    ++report_.unchanged;
    return absl::OkStatus();
  }
  if (existing && came_before) Clash(item);
  if (existing && options_.on_conflict == OnConflict::kSkip) {
    ++report_.skipped;
    return absl::OkStatus();
  }
  if (existing && options_.on_conflict == OnConflict::kFail) {
    return AlreadyExists("document '", document.id, "' is there with another text (", item.file, ":", item.line, "); --on-conflict replace or skip says what to do");
  }
  if (const absl::Status status = settings_.schema.Apply(document.fields, record.untyped_fields, &schema_grew_); !status.ok()) {
    Item rejected = std::move(item);
    rejected.reject = {rejected.record->document.id, std::string(status.message())};
    rejected.record.reset();
    return Rejected(std::move(rejected));
  }
  ++(existing ? report_.replaced : report_.added);
  batch_ids_.insert(document.id);
  batch_.Put(collection_, std::move(document));
  return absl::OkStatus();
}

absl::Status IngestRun::Take(QueuedItem next) {
  if (next.file_end) {
    bytes_before_ += file_sizes_[next.file];
    progress_.bytes = bytes_before_;
    if (next.file + 1 < inputs_.files.size()) at_ = {next.file + 1, 0, 1};
    return absl::OkStatus();
  }
  const Cursor behind{next.file, next.item.next_byte, next.item.next_line};
  // The cursor moves only once the record is taken: a commit inside must not claim it.
  if (next.item.record) RETURN_IF_ERROR(TakeRecord(next.item));
  else RETURN_IF_ERROR(Rejected(std::move(next.item)));
  at_ = behind;
  if (!IsPacked(inputs_.files[next.file].path)) progress_.bytes = bytes_before_ + std::min(at_.byte, file_sizes_[next.file]);
  if (batch_.size() >= options_.batch_documents || batch_.bytes() >= std::min(options_.batch_bytes, options_.memory_bytes / 16)) RETURN_IF_ERROR(Commit(false));
  ++progress_.records;
  if (options_.on_progress && progress_.records % 256 == 0) options_.on_progress(progress_);
  return absl::OkStatus();
}

absl::Status IngestRun::ReadAll() {
  ReaderOptions reading;
  reading.id_field = options_.id_field;
  reading.text_field = options_.text_field;
  reading.max_record_bytes = std::min(kMaxRecordBytes, options_.memory_bytes / 16);
  reading.start_byte = start_.byte;
  reading.start_line = start_.line;
  RecordQueue queue(inputs_.files, start_.file, reading, options_.memory_bytes / 16);
  while (true) {
    RETURN_IF_ERROR(CheckCancel(options_.cancel));
    ASSIGN_OR_RETURN(std::optional<QueuedItem> next, queue.Pop(options_.cancel));
    if (!next) return absl::OkStatus();
    RETURN_IF_ERROR(Take(*std::move(next)));
  }
}

absl::StatusOr<IngestReport> IngestRun::Run(const std::vector<std::string>& inputs) {
  RETURN_IF_ERROR(Prepare(inputs));
  if (options_.resume) RETURN_IF_ERROR(Resume());
  at_ = committed_ = start_;
  for (size_t i = 0; i < start_.file; ++i) bytes_before_ += file_sizes_[i];
  if (start_.file == 0 && start_.byte == 0) {
    for (Item& item : inputs_.rejects) RETURN_IF_ERROR(Rejected(std::move(item)));
  }
  const absl::Status read = ReadAll();
  // What was read before the trouble is kept, unless writing is the trouble.
  const bool store_failed = !read.ok() && (read.code() == absl::StatusCode::kDataLoss || read.code() == absl::StatusCode::kUnavailable ||
                                           (read.code() == absl::StatusCode::kResourceExhausted && options_.max_rejects < 0));
  if (!store_failed) RETURN_IF_ERROR(Commit(!read.ok()));
  RETURN_IF_ERROR(read);
  if (!options_.dry_run) {
    if (schema_grew_) RETURN_IF_ERROR(SaveCollection(*store_, collection_, settings_));
    RETURN_IF_ERROR(rejects_.Flush());
    RETURN_IF_ERROR(store_->DeleteMeta(cursor_key_));
  }
  if (options_.on_progress) options_.on_progress(progress_);
  if (!report_.repeated_ids_exact) report_.notes.push_back("more ids than --memory lets be counted: repeated ids beyond them are not in repeated_ids");
  report_.schema = settings_.schema;
  return std::move(report_);
}

}  // namespace

absl::StatusOr<OnConflict> ParseOnConflict(std::string_view name) {
  if (name == "replace") return OnConflict::kReplace;
  if (name == "skip") return OnConflict::kSkip;
  if (name == "fail") return OnConflict::kFail;
  return InvalidArgument("--on-conflict must be replace, skip or fail, got '", name, "'");
}

int64_t ShardOf(std::string_view id, int64_t num_shards) { return static_cast<int64_t>(Hash64(id) % static_cast<uint64_t>(num_shards)); }

absl::Status CheckMemory(int64_t bytes) {
  constexpr int64_t kLeast = int64_t{64} << 20;
  if (bytes >= kLeast) return absl::OkStatus();
  return WithLimit(InvalidArgument("--memory must be at least ", kLeast, " bytes, got ", bytes), "index.memory_bytes", kLeast, bytes);
}

absl::StatusOr<IngestReport> Ingest(DocumentStore& store, std::string_view collection, const std::vector<std::string>& inputs,
                                    const IngestOptions& options) {
  RETURN_IF_ERROR(DataDirectory::CheckName(collection));
  return IngestRun(&store, collection, options).Run(inputs);
}

absl::StatusOr<IngestReport> TryIngest(std::string_view collection, const std::vector<std::string>& inputs, const IngestOptions& options) {
  RETURN_IF_ERROR(DataDirectory::CheckName(collection));
  if (!options.dry_run) return InvalidArgument("without a store an ingest can only be tried");
  return IngestRun(nullptr, collection, options).Run(inputs);
}

}  // namespace lectern::index
