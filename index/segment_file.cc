// The files of a segment: written once, hashed as they pass, checked before they are parsed.
#include <xxhash.h>

#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "index/data_directory.h"

namespace lectern::index {
namespace {
constexpr size_t kBufferBytes = size_t{256} << 10;  // one system call for many small appends
}  // namespace

struct SegmentFile::Hash {
  Hash() : state(XXH3_createState()) { XXH3_64bits_reset(state); }
  ~Hash() { XXH3_freeState(state); }
  XXH3_state_t* state;
};

SegmentFile::SegmentFile(std::unique_ptr<WritableFile> file, std::string name)
    : file_(std::move(file)), name_(std::move(name)), hash_(std::make_unique<Hash>()) {}

SegmentFile::~SegmentFile() = default;

absl::Status SegmentFile::Append(std::string_view bytes) {
  RETURN_IF_ERROR(status_);
  if (file_ == nullptr) return FailedPrecondition(name_, " is finished already");
  XXH3_64bits_update(hash_->state, bytes.data(), bytes.size());
  length_ += static_cast<int64_t>(bytes.size());
  if (buffer_.size() + bytes.size() < kBufferBytes) {
    buffer_.append(bytes);
    return absl::OkStatus();
  }
  if (!buffer_.empty()) {
    status_ = file_->Append(buffer_);
    buffer_.clear();
  }
  if (status_.ok()) status_ = file_->Append(bytes);
  return status_;
}

absl::StatusOr<FileEntry> SegmentFile::Finish() {
  RETURN_IF_ERROR(status_);
  if (file_ == nullptr) return FailedPrecondition(name_, " is finished already");
  if (!buffer_.empty()) status_ = file_->Append(buffer_);
  if (status_.ok()) status_ = file_->Sync();
  if (status_.ok()) status_ = file_->Close();
  RETURN_IF_ERROR(status_);
  file_.reset();
  buffer_ = std::string();
  return FileEntry{.name = name_, .length = length_, .xxh3 = XXH3_64bits_digest(hash_->state)};
}

SegmentFolder::SegmentFolder(FileSystem& fs, std::string path, std::string folder)
    : fs_(fs), path_(std::move(path)), folder_(std::move(folder)) {}

absl::StatusOr<std::unique_ptr<SegmentFile>> SegmentFolder::Create(std::string_view name) {
  if (name.empty() || name.front() == '.' || name.find('/') != std::string_view::npos) {
    return InvalidArgument("a segment's file needs a plain name, got '", name, "'");
  }
  const std::string path = path_ + "/" + std::string(name);
  // A reader may have mapped a published file: it is never truncated.
  if (fs_.Exists(path)) return AlreadyExists(path, " exists; files of a segment are written once");
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs_.Create(path));
  return std::make_unique<SegmentFile>(std::move(file), std::string(name));
}

const FileEntry* SegmentEntry::Find(std::string_view name) const {
  for (const FileEntry& file : files) {
    if (file.name == name) return &file;
  }
  return nullptr;
}

absl::StatusOr<SegmentFiles> SegmentFiles::Map(std::string segment_path, const SegmentEntry& entry) {
  SegmentFiles files;
  files.path_ = std::move(segment_path);
  files.entry_ = entry;
  for (const FileEntry& file : entry.files) {
    const std::string path = files.PathOf(file.name);
    ASSIGN_OR_RETURN(MappedFile map, MappedFile::Open(path));
    if (const auto length = static_cast<int64_t>(map.bytes().size()); length != file.length) {
      return DataLoss(path, " is damaged: ", file.length, " bytes expected, ", length, " found");
    }
    files.maps_.emplace_back(std::move(map));
  }
  return files;
}

std::string SegmentFiles::PathOf(std::string_view name) const { return internal::Concat(path_, "/", name); }

static absl::Status CheckSum(const MappedFile& map, const FileEntry& file, const std::string& path) {
  if (const uint64_t found = Hash64(map.text()); found != file.xxh3) {
    return DataLoss(path, " is damaged: checksum ", HexU64(file.xxh3), " expected, ", HexU64(found), " found");
  }
  return absl::OkStatus();
}

absl::StatusOr<MappedFile> SegmentFiles::Take(std::string_view name) {
  const FileEntry* file = entry_.Find(name);
  if (file == nullptr) return DataLoss(PathOf(name), " is missing: the manifest does not name it");
  std::optional<MappedFile>& map = maps_[static_cast<size_t>(file - entry_.files.data())];
  CHECK(map.has_value());   // a file is taken once
  RETURN_IF_ERROR(CheckSum(*map, *file, PathOf(name)));
  return *std::exchange(map, std::nullopt);
}

absl::Status SegmentFiles::CheckRest() const {
  for (size_t i = 0; i < maps_.size(); ++i) {
    if (maps_[i].has_value()) RETURN_IF_ERROR(CheckSum(*maps_[i], entry_.files[i], PathOf(entry_.files[i].name)));
  }
  return absl::OkStatus();
}

}  // namespace lectern::index
