#include "index/record_queue.h"

#include "absl/time/time.h"
#include "base/file.h"

namespace lectern::index {

static ReaderOptions Stoppable(ReaderOptions options, const CancelToken* stop) {
  options.cancel = stop;
  return options;
}

RecordQueue::RecordQueue(std::vector<InputFile> files, size_t first_file, const ReaderOptions& options, int64_t max_bytes)
    : files_(std::move(files)), first_file_(first_file), options_(Stoppable(options, &stop_)), max_bytes_(max_bytes) {
  thread_ = std::thread([this] { Read(); });
}

RecordQueue::~RecordQueue() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  stop_.Cancel();
  thread_.join();
}

absl::StatusOr<std::optional<QueuedItem>> RecordQueue::Pop(const CancelToken* cancel) {
  absl::MutexLock lock(&mutex_);
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !items_.empty() || done_; };
  while (!mutex_.AwaitWithTimeout(absl::Condition(&ready), absl::Milliseconds(50))) RETURN_IF_ERROR(CheckCancel(cancel));
  if (items_.empty()) {
    RETURN_IF_ERROR(status_);
    return std::nullopt;
  }
  std::optional<QueuedItem> next(std::move(items_.front()));
  items_.pop_front();
  bytes_ -= next->bytes;
  return next;
}

bool RecordQueue::Push(QueuedItem item) {
  absl::MutexLock lock(&mutex_);
  // One item may always wait, however large: else a large record would never pass.
  const auto room = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopped_ || items_.empty() || bytes_ + item.bytes <= max_bytes_; };
  mutex_.Await(absl::Condition(&room));
  if (stopped_) return false;
  bytes_ += item.bytes;
  items_.push_back(std::move(item));
  return true;
}

void RecordQueue::Read() {
  absl::Status status;
  for (size_t file = first_file_; file < files_.size() && status.ok(); ++file) status = ReadFile(file);
  absl::MutexLock lock(&mutex_);
  status_ = status;
  done_ = true;
}

absl::Status RecordQueue::ReadFile(size_t file) {
  ReaderOptions options = options_;
  if (file != first_file_) {
    options.start_byte = 0;
    options.start_line = 1;
  }
  auto reader = OpenReader(files_[file], options);
  if (!reader.ok()) {
    if (files_.size() == 1 || reader.status().code() == absl::StatusCode::kResourceExhausted) return reader.status();
    // One unreadable file among many is a reject like a bad record.
    QueuedItem broken{.file = file};
    broken.item.file = files_[file].path;
    broken.item.reject = {files_[file].relative, std::string(reader.status().message())};
    broken.bytes = 1024;
    if (!Push(std::move(broken))) return absl::OkStatus();
  } else {
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Item> item, (*reader)->Next());
      if (!item) break;
      QueuedItem queued{.file = file, .item = std::move(*item), .bytes = 1024};
      if (queued.item.record) {
        Document& document = queued.item.record->document;
        document.source_sha256 = Sha256Hex(document.source.empty() ? document.text : document.source);
        document.content_sha256 = ContentSha256(document);
        queued.bytes += DocumentBytes(document);
      }
      if (!Push(std::move(queued))) return Cancelled("reading was stopped");
    }
  }
  QueuedItem end{.file = file, .file_end = true};
  return Push(std::move(end)) ? absl::OkStatus() : Cancelled("reading was stopped");
}

}  // namespace lectern::index
