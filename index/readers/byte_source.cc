#include "index/readers/byte_source.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file.h"

namespace lectern::index {
namespace {

constexpr size_t kBufferBytes = 256 << 10;
constexpr int kPollMs = 50;   // how soon a wait for standard input notices that it was cancelled

class FileStream : public RawStream {
 public:
  FileStream(int fd, bool owned, std::string path, const CancelToken* cancel)
      : fd_(fd), owned_(owned), path_(std::move(path)), cancel_(cancel) {}
  ~FileStream() override {
    if (owned_) ::close(fd_);
  }
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    while (true) {
      if (!owned_ && cancel_ != nullptr) {   // a pipe may stay silent for hours
        pollfd wait{fd_, POLLIN, 0};
        const int ready = ::poll(&wait, 1, kPollMs);
        if (ready == 0 || (ready < 0 && errno == EINTR)) {   // a signal wakes it, too
          RETURN_IF_ERROR(CheckCancel(cancel_));
          continue;
        }
      }
      const ssize_t got = ::read(fd_, buffer, size);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) return ErrnoStatus(errno, "cannot read", path_);
    }
  }
  bool Seek(int64_t to) override { return owned_ && ::lseek(fd_, to, SEEK_SET) == to; }

 private:
  int fd_;
  bool owned_;
  std::string path_;
  const CancelToken* cancel_;
};

}  // namespace

ByteSource::ByteSource(std::unique_ptr<RawStream> stream) : stream_(std::move(stream)) {}

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::Open(const std::string& path, const CancelToken* cancel) {
  std::unique_ptr<RawStream> raw;
  if (path == "-") {
    raw = std::make_unique<FileStream>(STDIN_FILENO, false, "standard input", cancel);
  } else {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus(errno, "cannot open", path);
    raw = std::make_unique<FileStream>(fd, true, path, cancel);
    struct stat info {};
    if (::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) return InvalidArgument(path, " is a folder");
  }
  auto unpacked = Unpack(std::move(raw));
  if (!unpacked.ok()) return Annotate(unpacked.status(), path);
  return std::make_unique<ByteSource>(*std::move(unpacked));
}

bool ByteSource::Fill() {
  if (at_end_ || !status_.ok()) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() < kBufferBytes) buffer_.resize(kBufferBytes);
  if (end_ == buffer_.size()) return false;
  auto got = stream_->Read(buffer_.data() + end_, buffer_.size() - end_);
  if (!got.ok()) {
    status_ = got.status();
    return false;
  }
  if (*got == 0) at_end_ = true;
  end_ += *got;
  return *got > 0;
}

bool ByteSource::ReadLine(int64_t max_bytes, Line* line) {
  line->text.clear();
  line->byte = position_;
  line->number = line_;
  line->length = 0;
  line->too_long = line->ended = false;
  while (true) {
    if (begin_ == end_ && !Fill()) break;
    const char* const start = buffer_.data() + begin_;
    const auto* newline = static_cast<const char*>(std::memchr(start, '\n', end_ - begin_));
    const size_t take = newline != nullptr ? static_cast<size_t>(newline - start) : end_ - begin_;
    if (!line->too_long) {
      if (static_cast<int64_t>(line->text.size() + take) > max_bytes) {
        line->too_long = true;
        std::string().swap(line->text);
      } else {
        line->text.append(start, take);
      }
    }
    const size_t passed = take + (newline != nullptr ? 1 : 0);
    begin_ += passed;
    line->length += static_cast<int64_t>(passed);
    if (newline != nullptr) {
      line->ended = true;
      break;
    }
  }
  position_ += line->length;
  if (line->ended) ++line_;
  // A line cut off by a read error is not a line: what follows it is unknown.
  return line->length > 0 && (line->ended || status_.ok());
}

bool ByteSource::ReadSome(size_t size, std::string* out) {
  out->clear();
  while (out->size() < size) {
    if (begin_ == end_ && !Fill()) break;
    const size_t take = std::min(size - out->size(), end_ - begin_);
    out->append(buffer_, begin_, take);
    begin_ += take;
  }
  position_ += static_cast<int64_t>(out->size());
  line_ += std::count(out->begin(), out->end(), '\n');
  return !out->empty() && status_.ok();
}

std::string_view ByteSource::Peek(size_t size) {
  while (end_ - begin_ < size && Fill()) {
  }
  return std::string_view(buffer_).substr(begin_, std::min(size, end_ - begin_));
}

absl::Status ByteSource::Skip(int64_t bytes) {
  if (position_ == 0 && begin_ == end_ && stream_->Seek(bytes)) {
    position_ = bytes;
    return absl::OkStatus();
  }
  while (bytes > 0) {
    if (begin_ == end_ && !Fill()) {
      RETURN_IF_ERROR(status_);
      return DataLoss("the input ends at byte ", position_, ", ", bytes, " bytes before the place to go on from");
    }
    const auto take = static_cast<size_t>(std::min<int64_t>(bytes, static_cast<int64_t>(end_ - begin_)));
    begin_ += take;
    position_ += static_cast<int64_t>(take);
    bytes -= static_cast<int64_t>(take);
  }
  return absl::OkStatus();
}

}  // namespace lectern::index
