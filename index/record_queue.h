// index/record_queue.h: the reading thread of an ingest, and the bounded queue it fills.
//
//   RecordQueue queue(files, options, /*max_bytes=*/32 << 20);
//   while (true) { ASSIGN_OR_RETURN(std::optional<QueuedItem> next, queue.Pop()); if (!next) break; ... }
//
// Shapes:  items come in the order of the files, each file's in its own order; both hashes are set.
// Threads: Pop() from one thread; reading happens on a thread of the queue's own, which the destructor stops.
// Errors:  what OpenReader and Reader::Next return for input that cannot be read; items read before it come first.
// Cost:    holds max_bytes of records, and the one being read.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/cancel.h"
#include "base/status.h"
#include "index/readers/reader.h"

namespace lectern::index {

struct QueuedItem {
  size_t file = 0;      // index in `files`
  bool file_end = false;   // no item: the file is done
  Item item;
  int64_t bytes = 0;
};

class RecordQueue {
 public:
  // Reading begins at files[first_file], there at options.start_byte; later files from their start.
  RecordQueue(std::vector<InputFile> files, size_t first_file, const ReaderOptions& options, int64_t max_bytes);
  ~RecordQueue();
  // nullopt: everything was read. kCancelled or kDeadlineExceeded where the wait for an item was cancelled.
  absl::StatusOr<std::optional<QueuedItem>> Pop(const CancelToken* cancel = nullptr);

 private:
  void Read();
  absl::Status ReadFile(size_t file);
  bool Push(QueuedItem item);   // false: the reader of the queue is gone

  const std::vector<InputFile> files_;
  const size_t first_file_;
  CancelToken stop_;          // ends a wait for standard input
  const ReaderOptions options_;
  const int64_t max_bytes_;
  absl::Mutex mutex_;
  std::deque<QueuedItem> items_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace lectern::index
