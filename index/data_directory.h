// index/data_directory.h: the published state of a data directory, and how it changes.
//
//   ASSIGN_OR_RETURN(auto dir, DataDirectory::OpenForWriting(path));         // takes LOCK; makes it where missing
//   ASSIGN_OR_RETURN(auto segment, dir->NewSegment("books"));                // a fresh folder, not yet visible
//   ASSIGN_OR_RETURN(auto file, segment->Create("bm25.bin"));  file->Append(...); file->Finish();
//   RETURN_IF_ERROR(dir->Publish("books", next_generation));                 // visible, or not at all
//   ASSIGN_OR_RETURN(Manifest now, DataDirectory::ReadManifest(path));       // any reading process
//
// Shapes:  VERSION, LOCK, CURRENT (a name), manifest-NNNNNN.json, store/, collections/NAME/segment-NNNNNN/.
//          The bytes of each are described in docs/formats/data-directory.md.
// Threads: one writing process; inside it every method from any thread. ReadManifest from anywhere.
//          Readers take no lock. The writer removes what neither the current nor the previous manifest names, so
//          a reader that is two publishes late sees kNotFound from SegmentFiles::Map: it calls ReadManifest again
//          and maps what the new manifest names. A mapping it already holds stays valid.
// Errors:  kAborted (another writer, with its pid), kDataLoss (checksum, manifest), kNotFound (no data directory),
//          kUnimplemented (newer VERSION, by name), kInvalidArgument (a folder that holds something else), kPermissionDenied.
// Cost:    Publish: fsync each new file and directory, write and fsync the manifest, rename CURRENT, fsync.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json_fwd.h"
#include "base/status.h"

namespace lectern::index {

struct FileEntry {
  std::string name;      // within the segment's folder
  int64_t length = 0;
  uint64_t xxh3 = 0;     // of the whole file; checked before it is parsed
};

struct SegmentEntry {
  std::string folder;    // "segment-000012", relative to the collection's folder
  std::vector<FileEntry> files;
  int64_t num_documents = 0, num_chunks = 0;
  std::string deletes_file;  // a name in `files`: a bitmap of dead documents; empty where none is dead
  int64_t num_deleted = 0;
  const FileEntry* Find(std::string_view name) const;   // null where `files` has no such name
};

struct CollectionState {
  uint64_t generation = 0;
  uint64_t indexed_seq = 0;      // changes up to here are in the segments
  std::vector<SegmentEntry> segments;   // oldest first
  JsonBox settings;              // analyzer, chunking, encoder fingerprint, schema: what searching needs
};

struct Manifest {
  uint64_t number = 0;
  std::map<std::string, CollectionState> collections;
  std::map<std::string, std::string> aliases;   // alias -> collection
  uint64_t next_segment = 1;     // segment numbers are never given twice, not even to another collection
  std::string Resolve(std::string_view name) const;   // what an alias means; another name is itself
  uint64_t IndexedSeq() const;   // the last write that any collection has indexed: the store reaches it
};

// A file being written into a segment: counts and hashes what passes.
class SegmentFile {
 public:
  SegmentFile(std::unique_ptr<WritableFile> file, std::string name);
  absl::Status Append(std::string_view bytes);
  absl::StatusOr<FileEntry> Finish();   // syncs and closes
  int64_t length() const { return length_; }
  ~SegmentFile();

 private:
  std::unique_ptr<WritableFile> file_;
  std::string name_;
  std::string buffer_;   // small appends are gathered, so that each costs no system call
  int64_t length_ = 0;
  struct Hash;
  std::unique_ptr<Hash> hash_;
  absl::Status status_;  // the first failure; a file that failed once stays failed
};

class SegmentFolder {
 public:
  SegmentFolder(FileSystem& fs, std::string path, std::string folder);
  absl::StatusOr<std::unique_ptr<SegmentFile>> Create(std::string_view name);
  const std::string& path() const { return path_; }
  const std::string& folder() const { return folder_; }

 private:
  FileSystem& fs_;
  std::string path_, folder_;
};

class DataDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<DataDirectory>> OpenForWriting(const std::string& path,
                                                                       FileSystem& fs = FileSystem::Posix());
  // OpenForWriting for a directory whose VERSION, CURRENT or manifest is damaged or missing: moves what is damaged
  // into quarantine/ and goes on from the newest intact manifest, less the segments that do not open (their
  // collection's indexed_seq is 0 then, so that the next update rebuilds from the store). Where no manifest is intact,
  // collections/ goes to quarantine/ as it is. Nothing is deleted. kNotFound where the folder holds no manifest and
  // no store: that is no data directory. `repaired` says what was done, a line each; it stays empty where nothing was damaged.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> OpenForRepair(const std::string& path,
                                                                      std::vector<std::string>* repaired,
                                                                      FileSystem& fs = FileSystem::Posix());
  static absl::StatusOr<Manifest> ReadManifest(const std::string& path, FileSystem& fs = FileSystem::Posix());
  static bool LooksLikeOne(const std::string& path);
  ~DataDirectory();

  const std::string& path() const;
  Manifest manifest() const;                              // as last published
  static std::string StorePath(std::string_view dir);     // where the DocumentStore lives
  static std::string CollectionPath(std::string_view dir, std::string_view collection);
  static std::string SegmentPath(std::string_view dir, std::string_view collection, std::string_view folder);
  // 1..64 of a-z 0-9 _ -, the first a letter or digit: names of collections, which are folder names, and of aliases.
  static absl::Status CheckName(std::string_view name);

  absl::StatusOr<std::unique_ptr<SegmentFolder>> NewSegment(std::string_view collection);
  // A published segment, to add a file to it (a deletes file); published files are never written again.
  absl::StatusOr<std::unique_ptr<SegmentFolder>> ExistingSegment(std::string_view collection, std::string_view folder);
  // Replaces one collection's state and publishes; then removes folders no kept generation names
  // (the previous generation stays for readers that just opened it).
  // state.generation must exceed the published one; 0 stands for the next.
  absl::Status Publish(std::string_view collection, CollectionState state);
  absl::Status PublishDrop(std::string_view collection);   // and the aliases that point at it
  absl::Status PublishAlias(std::string_view alias, std::string_view collection);  // empty collection removes it

  // Moves a damaged file's segment aside into quarantine/ and publishes the collection without it;
  // indexed_seq falls back to 0, so that the next update rebuilds from the store.
  absl::Status Quarantine(std::string_view collection, std::string_view segment_folder, std::string_view reason);

 private:
  DataDirectory();
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path, std::vector<std::string>* repaired,
                                                             FileSystem& fs);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The files of one published segment. Mapped all at once, which takes no time, so that the writer may remove them while
// their checksums are compared, which takes some.
class SegmentFiles {
 public:
  // kNotFound where a file is gone (see Threads above), kDataLoss where its length differs.
  static absl::StatusOr<SegmentFiles> Map(std::string segment_path, const SegmentEntry& entry);
  const SegmentEntry& entry() const { return entry_; }
  std::string PathOf(std::string_view name) const;
  // One file, checked before anyone parses it: kDataLoss naming file, expected and found where its checksum differs, or
  // where the segment has no such file. A file is taken once.
  absl::StatusOr<MappedFile> Take(std::string_view name);
  absl::Status CheckRest() const;   // the checksums of those that were not taken

 private:
  std::string path_;
  SegmentEntry entry_;
  std::vector<std::optional<MappedFile>> maps_;   // one of each of the entry's files; nullopt: taken
};

}  // namespace lectern::index
