// base/file.h: files read, mapped and written whole, behind an interface that tests can make fail.
//
//   ASSIGN_OR_RETURN(MappedFile map, MappedFile::Open(path));
//   RETURN_IF_ERROR(WriteFileAtomically(FileSystem::Posix(), path, bytes));
//
// Shapes:  byte strings.
// Threads: FileSystem is shared by all; a WritableFile belongs to one thread.
// Errors:  kNotFound, kUnavailable (errno and path in the message), kResourceExhausted (ENOSPC, EDQUOT),
//          kPermissionDenied (read-only file system, permissions).
// Cost:    WriteFileAtomically: one write, two fsyncs (file, directory), one rename.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace lectern {

class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual absl::Status Append(std::string_view bytes) = 0;
  virtual absl::Status Sync() = 0;   // fsync: the bytes survive a power cut
  virtual absl::Status Close() = 0;  // does not sync
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;  // truncates
  virtual absl::StatusOr<std::string> Read(const std::string& path) = 0;
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;  // replaces `to`
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  virtual absl::Status CreateDirectories(const std::string& path) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;  // a file, or a directory with all it holds
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;  // names, sorted
  virtual bool Exists(const std::string& path) = 0;

  static FileSystem& Posix();
};

// Writes a temporary sibling, fsyncs it, renames it over `path`, fsyncs the directory.
absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view bytes);
absl::StatusOr<std::string> ReadFile(const std::string& path);

// A read-only mapping of a whole file; an empty file maps to an empty span.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  std::string_view text() const { return {static_cast<const char*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Gives the whole pages of a read-only file mapping that lie within `bytes` back to the system; a later read fetches them again from
// the page cache or the file. Any thread may read meanwhile. Cost: one system call.
void ReleasePages(std::span<const std::byte> bytes);

// An exclusive advisory lock on `path` for the life of the object. kAborted where another process holds it,
// with its process id in the message.
class FileLock {
 public:
  static absl::StatusOr<FileLock> Acquire(const std::string& path);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

uint64_t Hash64(std::string_view bytes);     // XXH3, the checksum of derived files
std::string Sha256Hex(std::string_view bytes);
absl::StatusOr<std::string> Sha256HexOfFile(const std::string& path);
std::string HexU64(uint64_t value);          // 16 lower-case digits

absl::Status ErrnoStatus(int error, std::string_view what, std::string_view path);

}  // namespace lectern
