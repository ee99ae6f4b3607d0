#include "index/data_directory.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "index/manifest_json.h"

namespace lectern::index {
namespace {
namespace stdfs = std::filesystem;

constexpr int kDirectoryFormat = 1;
constexpr std::string_view kVersionPrefix = "lectern-data ";
constexpr int kReadAttempts = 200;  // each waits 1 ms; only a writer publishing as fast as it can needs more than two

std::string Join(std::string_view a, std::string_view b) { return internal::Concat(a, "/", b); }

std::string Numbered(std::string_view prefix, uint64_t number, std::string_view suffix) {
  std::string digits = std::to_string(number);
  if (digits.size() < 6) digits.insert(0, 6 - digits.size(), '0');
  return internal::Concat(prefix, digits, suffix);
}
std::string ManifestName(uint64_t number) { return Numbered("manifest-", number, ".json"); }
std::string SegmentName(uint64_t number) { return Numbered("segment-", number, ""); }

// The number in "manifest-000017.json"; nothing where the name is not exactly what we would write.
std::optional<uint64_t> NumberIn(std::string_view name, std::string_view prefix, std::string_view suffix) {
  if (!name.starts_with(prefix) || !name.ends_with(suffix) || name.size() <= prefix.size() + suffix.size()) {
    return std::nullopt;
  }
  const std::string_view digits = name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || Numbered(prefix, number, suffix) != name) {
    return std::nullopt;
  }
  return number;
}
std::optional<uint64_t> ManifestNumber(std::string_view name) { return NumberIn(name, "manifest-", ".json"); }
std::optional<uint64_t> SegmentNumber(std::string_view name) { return NumberIn(name, "segment-", ""); }

// kNotFound where `path` is no data directory.
absl::Status CheckVersion(const std::string& path, FileSystem& fs) {
  const std::string file = Join(path, "VERSION");
  absl::StatusOr<std::string> text = fs.Read(file);
  if (absl::IsNotFound(text.status())) return NotFound(path, " is not a lectern data directory (it has no VERSION)");
  RETURN_IF_ERROR(text.status());
  int format = 0;
  const std::string_view whole = *text;
  if (!whole.starts_with(kVersionPrefix) || !whole.ends_with("\n")) {
    return DataLoss(file, " is damaged: '", kVersionPrefix, "N' expected, ", whole.size(), " other bytes found");
  }
  const std::string_view digits = whole.substr(kVersionPrefix.size(), whole.size() - kVersionPrefix.size() - 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), format);
  if (error != std::errc() || end != digits.data() + digits.size() || format < 1) {
    return DataLoss(file, " is damaged: '", kVersionPrefix, "N' expected, '", digits.substr(0, 40), "' found for N");
  }
  if (format > kDirectoryFormat) {
    return NotSupported(path, " has data format ", format, "; this build reads up to ", kDirectoryFormat,
                              ": use a newer lectern");
  }
  return absl::OkStatus();
}

// The name, and its checksum on a second line: a flipped digit must not lead to another manifest.
std::string CurrentText(const std::string& manifest_name) {
  return internal::Concat(manifest_name, "\nxxh3 ", HexU64(Hash64(manifest_name)), "\n");
}

std::string VersionText() { return internal::Concat(kVersionPrefix, kDirectoryFormat, "\n"); }

// The manifest file CURRENT names.
absl::StatusOr<std::string> ReadCurrent(const std::string& path, FileSystem& fs) {
  const std::string file = Join(path, "CURRENT");
  absl::StatusOr<std::string> text = fs.Read(file);
  // VERSION is made last, so a directory that has one had a CURRENT.
  if (absl::IsNotFound(text.status())) return DataLoss(file, " is missing from a data directory that has a VERSION");
  RETURN_IF_ERROR(text.status());
  const std::string name = text->substr(0, text->find('\n'));
  if (!ManifestNumber(name) || *text != CurrentText(name)) {
    return DataLoss(file, " is damaged: it names no manifest (", text->size(), " bytes)");
  }
  return name;
}

absl::StatusOr<Manifest> ReadManifestFile(const std::string& path, const std::string& name, FileSystem& fs) {
  ASSIGN_OR_RETURN(const std::string bytes, fs.Read(Join(path, name)));
  ASSIGN_OR_RETURN(Manifest manifest, DecodeManifest(bytes, Join(path, name)));
  if (manifest.number != ManifestNumber(name)) {
    return DataLoss(Join(path, name), " is damaged: it says it is manifest ", manifest.number);
  }
  return manifest;
}

absl::StatusOr<Manifest> ReadNewest(const std::string& path, FileSystem& fs) {
  RETURN_IF_ERROR(CheckVersion(path, fs));
  ASSIGN_OR_RETURN(std::string name, ReadCurrent(path, fs));
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    absl::StatusOr<Manifest> manifest = ReadManifestFile(path, name, fs);
    if (!absl::IsNotFound(manifest.status())) return manifest;
    // Two publishes may have removed it since CURRENT was read. Then CURRENT has moved on.
    ASSIGN_OR_RETURN(std::string now, ReadCurrent(path, fs));
    if (now == name) return DataLoss(Join(path, name), " is missing, and CURRENT names it");
    name = std::move(now);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return Unavailable(path, " was published anew ", kReadAttempts, " times while its manifest was being read");
}

// Every file a manifest names, as "COLLECTION/FOLDER/FILE", and every folder as "COLLECTION/FOLDER/".
std::set<std::string> NamesIn(const Manifest& manifest) {
  std::set<std::string> names;
  for (const auto& [collection, state] : manifest.collections) {
    for (const SegmentEntry& segment : state.segments) {
      const std::string folder = internal::Concat(collection, "/", segment.folder, "/");
      names.insert(folder);
      for (const FileEntry& file : segment.files) names.insert(folder + file.name);
    }
  }
  return names;
}

// Makes `path` and fsyncs the parent of every folder that was missing, so that the whole chain survives a power cut.
absl::Status CreateDurably(const std::string& path, FileSystem& fs) {
  std::vector<std::string> parents;
  stdfs::path missing = stdfs::absolute(path).lexically_normal();
  if (missing.filename().empty()) missing = missing.parent_path();
  while (!fs.Exists(missing.string()) && missing.has_parent_path() && missing != missing.parent_path()) {
    missing = missing.parent_path();
    parents.push_back(missing.string());
  }
  RETURN_IF_ERROR(fs.CreateDirectories(path));
  for (auto parent = parents.rbegin(); parent != parents.rend(); ++parent) {
    RETURN_IF_ERROR(fs.SyncDirectory(*parent));
  }
  return absl::OkStatus();
}

// What an interrupted creation leaves, and what may be there before a directory becomes ours.
bool MayPrecedeVersion(std::string_view name) {
  static constexpr std::string_view kKnown[] = {"LOCK",   "CURRENT",   "CURRENT.tmp", "VERSION.tmp", "models",
                                                "logs",   "snapshots", "quarantine",  "lost+found"};
  if (std::find(std::begin(kKnown), std::end(kKnown), name) != std::end(kKnown)) return true;
  return name == ManifestName(0) || name == ManifestName(0) + ".tmp";
}

// Whether a folder without a VERSION was a data directory: it has a manifest, or a store.
bool WasOne(const std::string& path, const std::vector<std::string>& names, FileSystem& fs) {
  return std::any_of(names.begin(), names.end(), [](const std::string& name) { return ManifestNumber(name).has_value(); }) ||
         fs.Exists(DataDirectory::StorePath(path) + "/CURRENT");
}

}  // namespace

struct DataDirectory::Impl {
  Impl(std::string path, FileSystem& fs, FileLock lock) : path(std::move(path)), fs(fs), lock(std::move(lock)) {}

  absl::Status Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void RemoveLeftovers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::Status PublishLocked(Manifest next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::Status SyncSegments(const std::string& collection, const CollectionState& state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void RemoveUnnamed(const Manifest& dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::Status Repair(std::vector<std::string>* repaired) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::Status MoveToQuarantine(const std::string& from, const std::string& name, std::string_view reason);

  const std::string path;
  FileSystem& fs;
  const FileLock lock;
  mutable absl::Mutex mu;
  Manifest current ABSL_GUARDED_BY(mu);
  // Kept for readers that opened it; number equals current's where there is none.
  Manifest previous ABSL_GUARDED_BY(mu);
  // Used by any attempt to publish: a number is never given to two contents.
  uint64_t last_number ABSL_GUARDED_BY(mu) = 0;
  uint64_t next_segment ABSL_GUARDED_BY(mu) = 1;
};

DataDirectory::DataDirectory() = default;
DataDirectory::~DataDirectory() = default;

absl::Status DataDirectory::CheckName(std::string_view name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789_-";
  if (name.empty() || name.size() > 64 || name.find_first_not_of(kAllowed) != std::string_view::npos ||
      name.find_first_of("_-") == 0) {
    return InvalidArgument("the name of a collection or alias has 1 to 64 of a-z, 0-9, '_' and '-' and begins with a letter or digit, got '",
                           name.substr(0, 120), "'");
  }
  return absl::OkStatus();
}

std::string Manifest::Resolve(std::string_view name) const {
  const auto alias = aliases.find(std::string(name));
  return alias == aliases.end() ? std::string(name) : alias->second;
}

uint64_t Manifest::IndexedSeq() const {
  uint64_t last = 0;
  for (const auto& [name, state] : collections) last = std::max(last, state.indexed_seq);
  return last;
}

std::string DataDirectory::StorePath(std::string_view dir) { return Join(dir, "store"); }
std::string DataDirectory::CollectionPath(std::string_view dir, std::string_view collection) {
  return internal::Concat(dir, "/collections/", collection);
}
std::string DataDirectory::SegmentPath(std::string_view dir, std::string_view collection, std::string_view folder) {
  return internal::Concat(dir, "/collections/", collection, "/", folder);
}

bool DataDirectory::LooksLikeOne(const std::string& path) { return FileSystem::Posix().Exists(Join(path, "VERSION")); }

absl::StatusOr<Manifest> DataDirectory::ReadManifest(const std::string& path, FileSystem& fs) {
  absl::StatusOr<Manifest> manifest = ReadNewest(path, fs);
  if (!absl::IsDataLoss(manifest.status())) return manifest;
  return DataLoss(std::string(manifest.status().message()), "; `lectern index repair COLLECTION` goes on from the newest manifest that is intact");
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::OpenForWriting(const std::string& path, FileSystem& fs) {
  return Open(path, nullptr, fs);
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::OpenForRepair(const std::string& path,
                                                                            std::vector<std::string>* repaired,
                                                                            FileSystem& fs) {
  return Open(path, repaired, fs);
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(const std::string& path,
                                                                   std::vector<std::string>* repaired, FileSystem& fs) {
  // Before anything is written, LOCK included: the format may be one we do not know, the folder someone else's.
  const absl::Status version = CheckVersion(path, fs);
  if (absl::IsNotFound(version)) {
    std::vector<std::string> names;
    if (fs.Exists(path)) {
      ASSIGN_OR_RETURN(names, fs.List(path));
    }
    if (repaired != nullptr) {
      if (!WasOne(path, names, fs)) return NotFound(path, " is not a lectern data directory: it holds no VERSION, no manifest and no store");
    } else {
      for (const std::string& name : names) {
        if (MayPrecedeVersion(name)) continue;
        return InvalidArgument(path, " is not a lectern data directory (it has no VERSION) and is not empty: it holds ",
                                  name);
      }
      RETURN_IF_ERROR(CreateDurably(path, fs));
    }
  } else if (!(absl::IsDataLoss(version) && repaired != nullptr)) {
    RETURN_IF_ERROR(version);
  }
  ASSIGN_OR_RETURN(FileLock lock, FileLock::Acquire(Join(path, "LOCK")));
  std::unique_ptr<DataDirectory> dir(new DataDirectory);
  dir->impl_ = std::make_unique<Impl>(path, fs, std::move(lock));
  absl::MutexLock hold(&dir->impl_->mu);
  // Where VERSION is missing, Load would begin anew: right for a creation that was interrupted, wrong for a repair.
  absl::Status loaded = repaired != nullptr && absl::IsNotFound(version) ? DataLoss(version.message()) : dir->impl_->Load();
  if (absl::IsDataLoss(loaded) && repaired != nullptr) loaded = dir->impl_->Repair(repaired);
  RETURN_IF_ERROR(loaded);
  dir->impl_->RemoveLeftovers();
  return dir;
}

absl::Status DataDirectory::Impl::Load() {
  absl::Status version = CheckVersion(path, fs);
  if (absl::IsNotFound(version)) {
    // VERSION comes last, so that a directory that has one is whole.
    if (fs.Exists(Join(path, "CURRENT"))) {
      ASSIGN_OR_RETURN(const std::string name, ReadCurrent(path, fs));
      if (name != ManifestName(0)) return DataLoss(path, " has a CURRENT (", name, ") but no VERSION");
    }
    RETURN_IF_ERROR(WriteFileAtomically(fs, Join(path, ManifestName(0)), EncodeManifest(Manifest{})));
    RETURN_IF_ERROR(WriteFileAtomically(fs, Join(path, "CURRENT"), CurrentText(ManifestName(0))));
    RETURN_IF_ERROR(WriteFileAtomically(fs, Join(path, "VERSION"), VersionText()));
    version = absl::OkStatus();
  }
  RETURN_IF_ERROR(version);
  ASSIGN_OR_RETURN(current, ReadManifest(path, fs));
  next_segment = current.next_segment;
  last_number = current.number;
  previous = current;
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(path));
  std::set<uint64_t, std::greater<>> numbers;
  for (const std::string& name : names) {
    if (const auto number = ManifestNumber(name)) numbers.insert(*number);
  }
  for (const uint64_t number : numbers) {
    if (number >= current.number) continue;
    absl::StatusOr<Manifest> older = ReadManifestFile(path, ManifestName(number), fs);
    if (!older.ok()) continue;  // a damaged manifest that nothing needs goes with the leftovers
    previous = *std::move(older);
    break;
  }
  return absl::OkStatus();
}

// What crashed builds and publishes left. The lock is held, and no segment has been handed out yet.
// A failed removal costs disk space and nothing else; the next opening tries again.
void DataDirectory::Impl::RemoveLeftovers() {
  if (const auto names = fs.List(path); names.ok()) {
    for (const std::string& name : *names) {
      const auto number = ManifestNumber(name);
      const bool unnamed_manifest = number && *number != current.number && *number != previous.number;
      const bool temporary = name == "CURRENT.tmp" || name == "VERSION.tmp" ||
                             (name.ends_with(".tmp") && ManifestNumber(std::string_view(name).substr(0, name.size() - 4)));
      if (unnamed_manifest || temporary) (void)fs.Remove(Join(path, name));
    }
  }
  std::set<std::string> kept = NamesIn(current);
  kept.merge(NamesIn(previous));
  const std::string collections = Join(path, "collections");
  const auto folders = fs.List(collections);
  if (!folders.ok()) return;
  for (const std::string& collection : *folders) {
    if (!current.collections.contains(collection) && !previous.collections.contains(collection)) {
      (void)fs.Remove(Join(collections, collection));
      continue;
    }
    const auto segments = fs.List(Join(collections, collection));
    if (!segments.ok()) continue;
    for (const std::string& segment : *segments) {
      if (!SegmentNumber(segment)) continue;
      const std::string relative = internal::Concat(collection, "/", segment, "/");
      if (!kept.contains(relative)) {
        (void)fs.Remove(Join(collections, relative.substr(0, relative.size() - 1)));
        continue;
      }
      const auto files = fs.List(Join(collections, relative));
      if (!files.ok()) continue;
      for (const std::string& file : *files) {
        if (!kept.contains(relative + file)) (void)fs.Remove(Join(collections, relative + file));
      }
    }
  }
}

const std::string& DataDirectory::path() const { return impl_->path; }

Manifest DataDirectory::manifest() const {
  absl::MutexLock hold(&impl_->mu);
  return impl_->current;
}

absl::StatusOr<std::unique_ptr<SegmentFolder>> DataDirectory::NewSegment(std::string_view collection) {
  RETURN_IF_ERROR(CheckName(collection));
  absl::MutexLock hold(&impl_->mu);
  std::string folder = SegmentName(impl_->next_segment++);
  std::string path = SegmentPath(impl_->path, collection, folder);
  // Only a leftover whose removal failed can be in the way; its bytes must not mix with new ones.
  while (impl_->fs.Exists(path)) {
    folder = SegmentName(impl_->next_segment++);
    path = SegmentPath(impl_->path, collection, folder);
  }
  RETURN_IF_ERROR(impl_->fs.CreateDirectories(path));
  return std::make_unique<SegmentFolder>(impl_->fs, std::move(path), std::move(folder));
}

absl::StatusOr<std::unique_ptr<SegmentFolder>> DataDirectory::ExistingSegment(std::string_view collection,
                                                                              std::string_view folder) {
  absl::MutexLock hold(&impl_->mu);
  const auto state = impl_->current.collections.find(std::string(collection));
  if (state == impl_->current.collections.end()) return NotFound("collection ", collection, " is not published");
  for (const SegmentEntry& segment : state->second.segments) {
    if (segment.folder == folder) {
      return std::make_unique<SegmentFolder>(impl_->fs, SegmentPath(impl_->path, collection, folder), segment.folder);
    }
  }
  return NotFound("collection ", collection, " has no segment ", folder);
}

// Everything a state names beyond what is published already: there, and durable in its directories.
absl::Status DataDirectory::Impl::SyncSegments(const std::string& collection, const CollectionState& state) {
  std::set<std::string> published;
  const auto old = current.collections.find(collection);
  if (old != current.collections.end()) published = NamesIn(current);
  // A collection that published nothing but emptiness has no folder yet, or one whose name was never synced.
  const bool new_collection = old == current.collections.end() || old->second.segments.empty();
  bool any_new_folder = new_collection;
  for (const SegmentEntry& segment : state.segments) {
    if (!SegmentNumber(segment.folder)) {
      return InvalidArgument("a segment's folder is named segment-NNNNNN, got '", segment.folder, "'");
    }
    const std::string folder = internal::Concat(collection, "/", segment.folder, "/");
    bool changed = !published.contains(folder);
    any_new_folder |= changed;
    bool deletes_named = segment.deletes_file.empty();
    for (const FileEntry& file : segment.files) {
      deletes_named |= file.name == segment.deletes_file;
      if (published.contains(folder + file.name)) continue;
      changed = true;
      if (const std::string full = internal::Concat(path, "/collections/", folder, file.name); !fs.Exists(full)) {
        return InvalidArgument("cannot publish ", collection, ": ", full, " does not exist");
      }
    }
    if (!deletes_named) {
      return InvalidArgument("segment ", segment.folder, " has deletes in ", segment.deletes_file,
                             ", which is not among its files");
    }
    if (changed) RETURN_IF_ERROR(fs.SyncDirectory(SegmentPath(path, collection, segment.folder)));
  }
  if (any_new_folder && !state.segments.empty()) {
    RETURN_IF_ERROR(fs.SyncDirectory(CollectionPath(path, collection)));
    if (new_collection) RETURN_IF_ERROR(fs.SyncDirectory(Join(path, "collections")));
    // The root needs no fsync of its own: writing the manifest does it before CURRENT can name anything.
  }
  return absl::OkStatus();
}

absl::Status DataDirectory::Impl::PublishLocked(Manifest next) {
  next.number = ++last_number;
  next.next_segment = next_segment;
  const std::string name = ManifestName(next.number);
  RETURN_IF_ERROR(WriteFileAtomically(fs, Join(path, name), EncodeManifest(next)));
  RETURN_IF_ERROR(WriteFileAtomically(fs, Join(path, "CURRENT"), CurrentText(name)));
  Manifest dropped = std::exchange(previous, std::exchange(current, std::move(next)));
  if (dropped.number != previous.number) RemoveUnnamed(dropped);
  return absl::OkStatus();
}

// Only what the dropped manifest named: a folder that is being built is in no manifest and stays.
void DataDirectory::Impl::RemoveUnnamed(const Manifest& dropped) {
  std::set<std::string> kept = NamesIn(current);
  kept.merge(NamesIn(previous));
  const std::string collections = Join(path, "collections");
  std::string removed_folder = "/";
  for (const std::string& name : NamesIn(dropped)) {  // sorted: a folder comes right before its files
    if (kept.contains(name) || name.starts_with(removed_folder)) continue;
    if (name.back() == '/') removed_folder = name;
    (void)fs.Remove(Join(collections, name.back() == '/' ? name.substr(0, name.size() - 1) : name));
  }
  (void)fs.Remove(Join(path, ManifestName(dropped.number)));
}

absl::Status DataDirectory::Publish(std::string_view collection, CollectionState state) {
  RETURN_IF_ERROR(CheckName(collection));
  absl::MutexLock hold(&impl_->mu);
  const std::string name(collection);
  Manifest next = impl_->current;
  if (next.aliases.contains(name)) return AlreadyExists(collection, " is an alias; a collection needs another name");
  const auto old = next.collections.find(name);
  const uint64_t published = old == next.collections.end() ? 0 : old->second.generation;
  if (state.generation == 0) state.generation = published + 1;
  if (state.generation <= published) {
    return InvalidArgument("the generation of ", collection, " must exceed ", published, ", got ", state.generation);
  }
  RETURN_IF_ERROR(impl_->SyncSegments(name, state));
  next.collections[name] = std::move(state);
  return impl_->PublishLocked(std::move(next));
}

absl::Status DataDirectory::PublishDrop(std::string_view collection) {
  absl::MutexLock hold(&impl_->mu);
  Manifest next = impl_->current;
  if (next.collections.erase(std::string(collection)) == 0) {
    return NotFound("collection ", collection, " is not published");
  }
  std::erase_if(next.aliases, [&](const auto& alias) { return alias.second == collection; });
  return impl_->PublishLocked(std::move(next));
}

absl::Status DataDirectory::PublishAlias(std::string_view alias, std::string_view collection) {
  RETURN_IF_ERROR(CheckName(alias));
  absl::MutexLock hold(&impl_->mu);
  Manifest next = impl_->current;
  const std::string name(alias);
  if (collection.empty()) {
    if (next.aliases.erase(name) == 0) return NotFound("there is no alias ", alias);
    return impl_->PublishLocked(std::move(next));
  }
  if (next.collections.contains(name)) return AlreadyExists(alias, " is a collection; an alias needs another name");
  if (!next.collections.contains(std::string(collection))) {
    return NotFound("collection ", collection, " is not published");
  }
  next.aliases[name] = std::string(collection);
  return impl_->PublishLocked(std::move(next));
}

absl::Status DataDirectory::Impl::MoveToQuarantine(const std::string& from, const std::string& name,
                                                   std::string_view reason) {
  const std::string quarantine = Join(path, "quarantine");
  RETURN_IF_ERROR(fs.CreateDirectories(quarantine));
  std::string target = Join(quarantine, name);
  for (int n = 2; fs.Exists(target) || fs.Exists(target + ".reason"); ++n) {
    target = internal::Concat(quarantine, "/", name, ".", n);
  }
  RETURN_IF_ERROR(WriteFileAtomically(fs, target + ".reason", internal::Concat(from, "\n", reason, "\n")));
  if (!fs.Exists(from)) return absl::OkStatus();  // a missing thing leaves its reason alone
  RETURN_IF_ERROR(fs.Rename(from, target));
  RETURN_IF_ERROR(fs.SyncDirectory(quarantine));   // the new name before the old one's removal
  RETURN_IF_ERROR(fs.SyncDirectory(path));
  return fs.SyncDirectory(stdfs::path(from).parent_path().string());
}

absl::Status DataDirectory::Quarantine(std::string_view collection, std::string_view segment_folder,
                                       std::string_view reason) {
  absl::MutexLock hold(&impl_->mu);
  Manifest next = impl_->current;
  const auto state = next.collections.find(std::string(collection));
  if (state == next.collections.end()) return NotFound("collection ", collection, " is not published");
  std::vector<SegmentEntry>& segments = state->second.segments;
  const auto segment = std::find_if(segments.begin(), segments.end(),
                                    [&](const SegmentEntry& s) { return s.folder == segment_folder; });
  if (segment == segments.end()) return NotFound("collection ", collection, " has no segment ", segment_folder);
  segments.erase(segment);
  state->second.indexed_seq = 0;
  state->second.generation += 1;
  // Published first: at no moment does the current manifest name a folder that is not there.
  RETURN_IF_ERROR(impl_->PublishLocked(std::move(next)));
  return impl_->MoveToQuarantine(SegmentPath(impl_->path, collection, segment_folder),
                                 internal::Concat(collection, "-", segment_folder), reason);
}

absl::Status DataDirectory::Impl::Repair(std::vector<std::string>* repaired) {
  if (const absl::Status version = CheckVersion(path, fs); absl::IsDataLoss(version)) {
    RETURN_IF_ERROR(MoveToQuarantine(Join(path, "VERSION"), "VERSION", version.ToString()));
    repaired->push_back(internal::Concat("VERSION: ", version.message()));
  } else if (absl::IsNotFound(version)) {
    repaired->push_back("VERSION was missing, and is made anew");
  }
  // The newest intact manifest is a whole state: its files were durable before it was written.
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(path));
  std::set<uint64_t, std::greater<>> numbers;
  for (const std::string& name : names) {
    if (const auto number = ManifestNumber(name)) numbers.insert(*number);
  }
  last_number = numbers.empty() ? 0 : *numbers.begin();
  Manifest base;
  bool found = false;
  for (const uint64_t number : numbers) {
    absl::StatusOr<Manifest> manifest = ReadManifestFile(path, ManifestName(number), fs);
    if (absl::IsDataLoss(manifest.status())) {
      RETURN_IF_ERROR(MoveToQuarantine(Join(path, ManifestName(number)), ManifestName(number),
                                       manifest.status().ToString()));
      repaired->push_back(std::string(manifest.status().message()));
      continue;
    }
    RETURN_IF_ERROR(manifest.status());
    base = *std::move(manifest);
    found = true;
    break;
  }
  repaired->push_back(found ? internal::Concat("went on from ", ManifestName(base.number))
                            : internal::Concat("no intact manifest is left: collections must be indexed anew"));
  struct Damaged {
    std::string collection, folder, reason;
  };
  std::vector<Damaged> damaged;
  for (auto& [collection, state] : base.collections) {
    std::erase_if(state.segments, [&, &collection = collection, &state = state](const SegmentEntry& segment) {
      const auto files = SegmentFiles::Map(SegmentPath(path, collection, segment.folder), segment);
      const absl::Status status = files.ok() ? files->CheckRest() : files.status();
      if (status.ok()) return false;
      damaged.push_back({collection, segment.folder, std::string(status.message())});
      state.indexed_seq = 0;
      return true;
    });
    state.generation += 1;  // readers must not take it for the state they may have seen
  }
  next_segment = std::max(next_segment, base.next_segment);
  if (const auto collections = fs.List(Join(path, "collections")); collections.ok()) {
    for (const std::string& collection : *collections) {
      const auto segments = fs.List(internal::Concat(path, "/collections/", collection));
      if (!segments.ok()) continue;
      for (const std::string& segment : *segments) {
        if (const auto number = SegmentNumber(segment)) next_segment = std::max(next_segment, *number + 1);
      }
    }
  }
  // No manifest says which of the segments belong together. They are kept out of reach rather than deleted, and before
  // anything is published: the next opening removes what no manifest names.
  if (const std::string segments = Join(path, "collections"); !found && fs.Exists(segments)) {
    RETURN_IF_ERROR(MoveToQuarantine(segments, "collections", "no intact manifest was left"));
  }
  current = previous = base;
  RETURN_IF_ERROR(PublishLocked(std::move(base)));
  for (const Damaged& segment : damaged) {
    RETURN_IF_ERROR(MoveToQuarantine(SegmentPath(path, segment.collection, segment.folder),
                                     internal::Concat(segment.collection, "-", segment.folder), segment.reason));
    repaired->push_back(internal::Concat("left out ", segment.collection, "/", segment.folder, ": ", segment.reason));
  }
  if (!fs.Exists(Join(path, "VERSION"))) {
    RETURN_IF_ERROR(WriteFileAtomically(fs, Join(path, "VERSION"), VersionText()));
  }
  return absl::OkStatus();
}

}  // namespace lectern::index
