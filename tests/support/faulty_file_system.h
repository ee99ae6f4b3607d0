// tests/support/faulty_file_system.h: a disk that fails, or loses what was not synced, when told to.
//
//   FaultyDisk disk(dir.path());                       // really writes below `dir`, without real fsyncs
//   disk.Arm(FaultyDisk::Fault::kPowerCut, 17);        // the 17th operation does not happen, nor any after it
//   ... DataDirectory::OpenForWriting(path, disk.files()), DocumentStore with disk.rocksdb_env() ...
//   disk.WriteImage(other_dir, FaultyDisk::Loss::kAllUnsynced);   // what a reboot finds
//
// Shapes:  operations are counted from 1: creations, appends, syncs, renames, removals, new folders, and our own
//          FileSystem's reads and listings. A file keeps the bytes it had at its last Sync; a name (a creation, rename
//          or removal) is kept once the directory it is in was synced: no more than POSIX promises.
// Threads: any; operations are serialised.
// Errors:  those it was told to make; after a power cut every operation fails.
// Cost:    keeps a copy of every file in memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"

namespace rocksdb {
class Env;
}

namespace lectern::testing {

class FaultyDisk {
 public:
  enum class Fault {
    kNone,
    kPowerCut,     // this operation and all after it
    kNoSpaceOnce,  // ENOSPC; half of an append is written
    kNoSpace,      // ENOSPC from here on for what needs space; removals work
    kIoErrorOnce,  // EIO; half of an append is written
    kIoError,      // EIO from here on
  };
  enum class Loss {
    kAllUnsynced,  // every unsynced byte and name
    kRandom,       // some suffix of each file's unsynced bytes, and of the unsynced names in the order they were made
  };
  // What a Sync makes durable, by path. Disabled ones report success and do nothing.
  enum class Sync {
    kLog,                  // store/*.log: RocksDB's write-ahead log
    kTable,                // store/*.sst
    kStoreManifest,        // store/MANIFEST-*
    kStoreCurrent,         // store/CURRENT, under its temporary name
    kStoreDirectory,       // store/
    kDerivedFile,          // collections/*/segment-*/*
    kSegmentDirectory,     // collections/*/segment-*/
    kCollectionDirectory,  // collections/*/
    kCollections,          // collections/
    kManifest,             // manifest-*.json
    kCurrent,              // CURRENT
    kVersion,              // VERSION
    kDirectory,            // the data directory itself
    kParent,               // the folder it lies in
    kOther,
  };
  static std::vector<Sync> AllSyncs();   // less kOther
  static std::string Name(Sync sync);

  explicit FaultyDisk(std::string root);   // an existing folder, taken for durable; data directories are its children
  ~FaultyDisk();
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;

  FileSystem& files();
  rocksdb::Env* rocksdb_env();
  void Arm(Fault fault, int64_t operation);
  void Disable(Sync sync);
  int64_t operations() const;
  bool fault_happened() const;
  void WriteImage(const std::string& to, Loss loss, uint64_t seed = 0) const;

  struct Model;

 private:
  std::shared_ptr<Model> model_;
  std::unique_ptr<FileSystem> files_;
  std::unique_ptr<rocksdb::Env> env_;
};

}  // namespace lectern::testing
