#include "tests/support/faulty_file_system.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/rng.h"

namespace lectern::testing {
namespace {
namespace stdfs = std::filesystem;

struct Node {
  bool is_directory = false;
  std::string data;     // of a file
  size_t synced = 0;    // so many of them survive
  std::map<std::string, std::shared_ptr<Node>> entries;   // of a directory, as processes see it
  std::map<std::string, std::shared_ptr<Node>> durable;   // as a reboot sees it
};
using NodePtr = std::shared_ptr<Node>;

NodePtr NewDirectoryNode() {
  auto node = std::make_shared<Node>();
  node->is_directory = true;
  return node;
}

// A name that was made, replaced or removed (node is null), and is not durable yet.
struct NameChange {
  NodePtr directory;
  std::string name;
  NodePtr node;
  int64_t operation = 0;   // the two halves of a rename share one
};

}  // namespace

struct FaultyDisk::Model {
  enum class Kind { kRead, kWrite, kRemove, kSync };

  // 0, or the errno the operation must fail with. REQUIRES: mu held.
  int Step(Kind kind) {
    ++operations;
    const bool once = fault == Fault::kNoSpaceOnce || fault == Fault::kIoErrorOnce;
    if (fault == Fault::kNone || operations < at || (once && operations > at)) return 0;
    const bool no_space = fault == Fault::kNoSpaceOnce || fault == Fault::kNoSpace;
    if (no_space && (kind == Kind::kRead || kind == Kind::kRemove)) return 0;
    happened = true;
    return no_space ? ENOSPC : EIO;
  }
  bool torn() const { return fault != Fault::kPowerCut; }   // a failing append writes its first half

  // The path below root, split; nothing where it is elsewhere.
  bool Split(const std::string& path, std::vector<std::string>* parts) const {
    const std::string normal = stdfs::path(path).lexically_normal().string();
    if (!normal.starts_with(root) || (normal.size() > root.size() && normal[root.size()] != '/')) return false;
    for (const auto& part : stdfs::path(normal.substr(root.size()))) {
      if (part != "/" && !part.empty()) parts->push_back(part.string());
    }
    return true;
  }
  NodePtr Find(const std::vector<std::string>& parts, size_t count) const {
    NodePtr node = top;
    for (size_t i = 0; i < count && node != nullptr; ++i) {
      const auto it = node->entries.find(parts[i]);
      node = it == node->entries.end() ? nullptr : it->second;
    }
    return node;
  }
  NodePtr Find(const std::string& path) const {
    std::vector<std::string> parts;
    return Split(path, &parts) ? Find(parts, parts.size()) : nullptr;
  }
  void SetName(const std::string& path, NodePtr node) {
    std::vector<std::string> parts;
    if (!Split(path, &parts) || parts.empty()) return;
    const NodePtr directory = Find(parts, parts.size() - 1);
    if (directory == nullptr) return;
    if (node == nullptr) directory->entries.erase(parts.back());
    else directory->entries[parts.back()] = node;
    pending.push_back({directory, parts.back(), std::move(node), operations});
  }
  NodePtr CreateFile(const std::string& path) {
    NodePtr node = Find(path);
    if (node != nullptr) {   // truncated in place; that may reach the disk at once
      node->data.clear();
      node->synced = 0;
      return node;
    }
    node = std::make_shared<Node>();
    SetName(path, node);
    return node;
  }
  void MakeDirectories(const std::string& path) {
    std::vector<std::string> parts;
    if (!Split(path, &parts)) return;
    std::string at_path = root;
    for (size_t i = 0; i < parts.size(); ++i) {
      at_path += "/" + parts[i];
      if (Find(parts, i + 1) == nullptr) SetName(at_path, NewDirectoryNode());
    }
  }
  void Rename(const std::string& from, const std::string& to) {
    const NodePtr node = Find(from);
    SetName(from, nullptr);
    SetName(to, node);
  }

  FaultyDisk::Sync KindOf(const std::string& path) const {
    using Sync = FaultyDisk::Sync;
    std::vector<std::string> parts;   // data directory, then what is in it
    if (!Split(path, &parts) || parts.empty()) return Sync::kParent;
    const NodePtr node = Find(path);
    const bool is_directory = node != nullptr && node->is_directory;
    if (parts.size() == 1) return Sync::kDirectory;
    const std::string& name = parts.back();
    if (parts[1] == "store") {
      if (is_directory) return Sync::kStoreDirectory;
      if (name.ends_with(".log")) return Sync::kLog;
      if (name.ends_with(".sst")) return Sync::kTable;
      if (name.starts_with("MANIFEST-")) return Sync::kStoreManifest;
      if (name.ends_with(".dbtmp")) return Sync::kStoreCurrent;
      return Sync::kOther;
    }
    if (parts[1] == "collections") {
      if (!is_directory) return Sync::kDerivedFile;
      return parts.size() == 2 ? Sync::kCollections : parts.size() == 3 ? Sync::kCollectionDirectory : Sync::kSegmentDirectory;
    }
    if (name.starts_with("manifest-")) return Sync::kManifest;
    if (name.starts_with("CURRENT")) return Sync::kCurrent;
    if (name.starts_with("VERSION")) return Sync::kVersion;
    return Sync::kOther;
  }
  void SyncDirectory(const std::string& path) {
    const NodePtr directory = Find(path);
    if (directory == nullptr || disabled.contains(KindOf(path))) return;
    for (const NameChange& change : pending) {
      if (change.directory == directory) Apply(change, &directory->durable);
    }
    std::erase_if(pending, [&](const NameChange& change) { return change.directory == directory; });
  }
  static void Apply(const NameChange& change, std::map<std::string, NodePtr>* names) {
    if (change.node == nullptr) names->erase(change.name);
    else (*names)[change.name] = change.node;
  }

  std::string root;
  mutable std::mutex mu;
  // Guarded by mu.
  Fault fault = Fault::kNone;
  int64_t at = 0, operations = 0;
  bool happened = false;
  std::set<FaultyDisk::Sync> disabled;
  NodePtr top = NewDirectoryNode();
  std::vector<NameChange> pending;   // oldest first
};

namespace {
using Model = FaultyDisk::Model;
using Kind = Model::Kind;

absl::Status Failure(int error, const std::string& path) { return ErrnoStatus(error, "injected fault at", path); }

class FaultyWritableFile : public WritableFile {
 public:
  FaultyWritableFile(std::shared_ptr<Model> model, std::unique_ptr<WritableFile> real, NodePtr node, std::string path)
      : model_(std::move(model)), real_(std::move(real)), node_(std::move(node)), path_(std::move(path)) {}
  absl::Status Append(std::string_view bytes) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    const int error = model_->Step(Kind::kWrite);
    if (error != 0 && !model_->torn()) return Failure(error, path_);
    const std::string_view part = bytes.substr(0, error == 0 ? bytes.size() : bytes.size() / 2);
    RETURN_IF_ERROR(real_->Append(part));
    node_->data.append(part);
    return error == 0 ? absl::OkStatus() : Failure(error, path_);
  }
  absl::Status Sync() override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kSync); error != 0) return Failure(error, path_);
    if (!model_->disabled.contains(model_->KindOf(path_))) node_->synced = node_->data.size();
    return absl::OkStatus();
  }
  absl::Status Close() override { return real_->Close(); }

 private:
  std::shared_ptr<Model> model_;
  std::unique_ptr<WritableFile> real_;
  NodePtr node_;
  std::string path_;
};

class FaultyFiles : public FileSystem {
 public:
  explicit FaultyFiles(std::shared_ptr<Model> model) : model_(std::move(model)) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kWrite); error != 0) return Failure(error, path);
    ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> real, real_.Create(path));
    NodePtr node = model_->CreateFile(path);
    return std::make_unique<FaultyWritableFile>(model_, std::move(real), std::move(node), path);
  }
  absl::StatusOr<std::string> Read(const std::string& path) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kRead); error != 0) return Failure(error, path);
    return real_.Read(path);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kWrite); error != 0) return Failure(error, to);
    RETURN_IF_ERROR(real_.Rename(from, to));
    model_->Rename(from, to);
    return absl::OkStatus();
  }
  absl::Status SyncDirectory(const std::string& path) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kSync); error != 0) return Failure(error, path);
    model_->SyncDirectory(path);
    return absl::OkStatus();
  }
  absl::Status CreateDirectories(const std::string& path) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kWrite); error != 0) return Failure(error, path);
    RETURN_IF_ERROR(real_.CreateDirectories(path));
    model_->MakeDirectories(path);
    return absl::OkStatus();
  }
  absl::Status Remove(const std::string& path) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kRemove); error != 0) return Failure(error, path);
    RETURN_IF_ERROR(real_.Remove(path));
    if (model_->Find(path) != nullptr) model_->SetName(path, nullptr);
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kRead); error != 0) return Failure(error, path);
    return real_.List(path);
  }
  bool Exists(const std::string& path) override { return real_.Exists(path); }

 private:
  std::shared_ptr<Model> model_;
  FileSystem& real_ = FileSystem::Posix();
};

rocksdb::IOStatus RocksFailure(int error, const std::string& path) {
  return error == ENOSPC ? rocksdb::IOStatus::NoSpace("injected fault at " + path)
                         : rocksdb::IOStatus::IOError("injected fault at " + path);
}

class FaultyRocksFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultyRocksFile(std::shared_ptr<Model> model, std::unique_ptr<rocksdb::FSWritableFile> real, NodePtr node,
                  std::string path)
      : rocksdb::FSWritableFileOwnerWrapper(std::move(real)),
        model_(std::move(model)),
        node_(std::move(node)),
        path_(std::move(path)) {}

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    const int error = model_->Step(Kind::kWrite);
    if (error != 0 && !model_->torn()) return RocksFailure(error, path_);
    const rocksdb::Slice part(data.data(), error == 0 ? data.size() : data.size() / 2);
    const rocksdb::IOStatus status = target()->Append(part, options, debug);
    if (!status.ok()) return status;
    node_->data.append(part.data(), part.size());
    return error == 0 ? status : RocksFailure(error, path_);
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo&, rocksdb::IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  rocksdb::IOStatus PositionedAppend(const rocksdb::Slice&, uint64_t, const rocksdb::IOOptions&,
                                     rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::NotSupported("only direct I/O writes in place");
  }
  rocksdb::IOStatus PositionedAppend(const rocksdb::Slice&, uint64_t, const rocksdb::IOOptions&,
                                     const rocksdb::DataVerificationInfo&, rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::NotSupported("only direct I/O writes in place");
  }
  rocksdb::IOStatus Truncate(uint64_t size, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kWrite); error != 0) return RocksFailure(error, path_);
    node_->data.resize(size);
    node_->synced = std::min<size_t>(node_->synced, size);
    return target()->Truncate(size, options, debug);
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions&, rocksdb::IODebugContext*) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kSync); error != 0) return RocksFailure(error, path_);
    if (!model_->disabled.contains(model_->KindOf(path_))) node_->synced = node_->data.size();
    return rocksdb::IOStatus::OK();
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
    return Sync(options, debug);
  }
  rocksdb::IOStatus RangeSync(uint64_t, uint64_t, const rocksdb::IOOptions&, rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::OK();   // a hint to the kernel, and no promise
  }

 private:
  std::shared_ptr<Model> model_;
  NodePtr node_;
  std::string path_;
};

class FaultyRocksDirectory : public rocksdb::FSDirectory {
 public:
  FaultyRocksDirectory(std::shared_ptr<Model> model, std::string path)
      : model_(std::move(model)), path_(std::move(path)) {}
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions&, rocksdb::IODebugContext*) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kSync); error != 0) return RocksFailure(error, path_);
    model_->SyncDirectory(path_);
    return rocksdb::IOStatus::OK();
  }
  rocksdb::IOStatus Close(const rocksdb::IOOptions&, rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::OK();
  }

 private:
  std::shared_ptr<Model> model_;
  std::string path_;
};

class FaultyRocksFileSystem : public rocksdb::FileSystemWrapper {
 public:
  explicit FaultyRocksFileSystem(std::shared_ptr<Model> model)
      : rocksdb::FileSystemWrapper(rocksdb::FileSystem::Default()), model_(std::move(model)) {}
  const char* Name() const override { return "FaultyRocksFileSystem"; }

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(Kind::kWrite); error != 0) return RocksFailure(error, path);
    std::unique_ptr<rocksdb::FSWritableFile> real;
    const rocksdb::IOStatus status = target()->NewWritableFile(path, options, &real, debug);
    if (status.ok()) *file = std::make_unique<FaultyRocksFile>(model_, std::move(real), model_->CreateFile(path), path);
    return status;
  }
  rocksdb::IOStatus ReopenWritableFile(const std::string& path, const rocksdb::FileOptions&,
                                       std::unique_ptr<rocksdb::FSWritableFile>*, rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::NotSupported("not modelled: reopening " + path);
  }
  rocksdb::IOStatus ReuseWritableFile(const std::string& path, const std::string&, const rocksdb::FileOptions&,
                                      std::unique_ptr<rocksdb::FSWritableFile>*, rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::NotSupported("not modelled: reusing " + path);
  }
  rocksdb::IOStatus NewRandomRWFile(const std::string& path, const rocksdb::FileOptions&,
                                    std::unique_ptr<rocksdb::FSRandomRWFile>*, rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::NotSupported("not modelled: writing in place to " + path);
  }
  rocksdb::IOStatus LinkFile(const std::string& path, const std::string&, const rocksdb::IOOptions&,
                             rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::NotSupported("not modelled: linking " + path);
  }
  rocksdb::IOStatus NewDirectory(const std::string& path, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* directory,
                                 rocksdb::IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSDirectory> real;
    const rocksdb::IOStatus status = target()->NewDirectory(path, options, &real, debug);
    if (!status.ok()) return status;
    (void)real->Close(options, debug);
    *directory = std::make_unique<FaultyRocksDirectory>(model_, path);
    return status;
  }
  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    return Change(path, Kind::kRemove, [&] { return target()->DeleteFile(path, options, debug); },
                  [&] { model_->SetName(path, nullptr); });
  }
  rocksdb::IOStatus DeleteDir(const std::string& path, const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* debug) override {
    return Change(path, Kind::kRemove, [&] { return target()->DeleteDir(path, options, debug); },
                  [&] { model_->SetName(path, nullptr); });
  }
  rocksdb::IOStatus CreateDir(const std::string& path, const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* debug) override {
    return Change(path, Kind::kWrite, [&] { return target()->CreateDir(path, options, debug); },
                  [&] { model_->MakeDirectories(path); });
  }
  rocksdb::IOStatus CreateDirIfMissing(const std::string& path, const rocksdb::IOOptions& options,
                                       rocksdb::IODebugContext* debug) override {
    return Change(path, Kind::kWrite, [&] { return target()->CreateDirIfMissing(path, options, debug); },
                  [&] { model_->MakeDirectories(path); });
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    return Change(to, Kind::kWrite, [&] { return target()->RenameFile(from, to, options, debug); },
                  [&] { model_->Rename(from, to); });
  }
  rocksdb::IOStatus Truncate(const std::string& path, size_t size, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
    return Change(path, Kind::kWrite, [&] { return target()->Truncate(path, size, options, debug); }, [&] {
      if (const NodePtr node = model_->Find(path); node != nullptr) {
        node->data.resize(size);
        node->synced = std::min(node->synced, size);
      }
    });
  }

 private:
  template <class Real, class Record>
  rocksdb::IOStatus Change(const std::string& path, Kind kind, const Real& real, const Record& record) {
    const std::lock_guard<std::mutex> hold(model_->mu);
    if (const int error = model_->Step(kind); error != 0) return RocksFailure(error, path);
    const rocksdb::IOStatus status = real();
    if (status.ok()) record();
    return status;
  }
  std::shared_ptr<Model> model_;
};

void WriteTree(const stdfs::path& to, const NodePtr& node, Rng* rng,
               const std::map<const Node*, std::map<std::string, NodePtr>>& names) {
  if (!node->is_directory) {
    size_t size = node->synced;
    if (rng != nullptr) size += static_cast<size_t>(rng->Below(static_cast<int64_t>(node->data.size() - size) + 1));
    std::ofstream(to, std::ios::binary).write(node->data.data(), static_cast<std::streamsize>(size));
    return;
  }
  stdfs::create_directories(to);
  const auto changed = names.find(node.get());
  for (const auto& [name, child] : changed == names.end() ? node->durable : changed->second) {
    WriteTree(to / name, child, rng, names);
  }
}

}  // namespace

std::vector<FaultyDisk::Sync> FaultyDisk::AllSyncs() {
  std::vector<Sync> all;
  for (int i = 0; i < static_cast<int>(Sync::kOther); ++i) all.push_back(static_cast<Sync>(i));
  return all;
}

std::string FaultyDisk::Name(Sync sync) {
  constexpr const char* kNames[] = {"log",          "table",             "store manifest",       "store current",
                                    "store folder", "derived file",      "segment folder",       "collection folder",
                                    "collections",  "manifest",          "CURRENT",              "VERSION",
                                    "data directory", "its parent",      "something else"};
  return kNames[static_cast<int>(sync)];
}

FaultyDisk::FaultyDisk(std::string root) : model_(std::make_shared<Model>()) {
  model_->root = stdfs::path(root).lexically_normal().string();
  CHECK(stdfs::is_directory(root));
  files_ = std::make_unique<FaultyFiles>(model_);
  env_ = rocksdb::NewCompositeEnv(std::make_shared<FaultyRocksFileSystem>(model_));
}
FaultyDisk::~FaultyDisk() = default;

FileSystem& FaultyDisk::files() { return *files_; }
rocksdb::Env* FaultyDisk::rocksdb_env() { return env_.get(); }

void FaultyDisk::Arm(Fault fault, int64_t operation) {
  const std::lock_guard<std::mutex> hold(model_->mu);
  model_->fault = fault;
  model_->at = operation;
}
void FaultyDisk::Disable(Sync sync) {
  const std::lock_guard<std::mutex> hold(model_->mu);
  model_->disabled.insert(sync);
}
int64_t FaultyDisk::operations() const {
  const std::lock_guard<std::mutex> hold(model_->mu);
  return model_->operations;
}
bool FaultyDisk::fault_happened() const {
  const std::lock_guard<std::mutex> hold(model_->mu);
  return model_->happened;
}

void FaultyDisk::WriteImage(const std::string& to, Loss loss, uint64_t seed) const {
  const std::lock_guard<std::mutex> hold(model_->mu);
  std::map<const Node*, std::map<std::string, NodePtr>> names;
  Rng rng(seed);
  if (loss == Loss::kRandom && !model_->pending.empty()) {
    // A journal writes names in the order they were made, so what survives is a beginning of them.
    const int64_t first = model_->pending.front().operation, last = model_->pending.back().operation;
    const int64_t kept = first + rng.Below(last - first + 2);   // operations before this one survive
    for (const NameChange& change : model_->pending) {
      if (change.operation >= kept) break;
      Model::Apply(change, &names.try_emplace(change.directory.get(), change.directory->durable).first->second);
    }
  }
  WriteTree(to, model_->top, loss == Loss::kRandom ? &rng : nullptr, names);
}

}  // namespace lectern::testing
