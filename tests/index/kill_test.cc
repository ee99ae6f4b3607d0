// Another process writes: it is killed at random moments, read beside, and runs out of disk.
//   LECTERN_KILL_ROUNDS     rounds of kill -9 (default 5)
//   LECTERN_FOLLOW_SECONDS  seconds of reading beside a live writer (default 2)
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "index/data_directory.h"
#include "index/document_store.h"
#include "tests/index/durability_model.h"
#include "tests/support/temp_dir.h"

namespace lectern::index::testing {
namespace {
using lectern::testing::TempDir;
namespace stdfs = std::filesystem;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* given = std::getenv(name);
  return given != nullptr && *given != '\0' ? std::atoll(given) : otherwise;
}

// A running crash_writer, and the last thing it said it had done.
class Writer {
 public:
  Writer(const std::string& data_dir, uint64_t seed) {
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    CHECK(::posix_spawn_file_actions_init(&actions) == 0);
    CHECK(::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO) == 0);
    std::string program = LECTERN_CRASH_WRITER, dir = data_dir, number = std::to_string(seed);
    char* arguments[] = {program.data(), dir.data(), number.data(), nullptr};
    CHECK(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, environ) == 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    listener_ = std::thread([this, in = ends[0]] {
      std::string line;
      for (char c; ::read(in, &c, 1) == 1;) {   // a cut line was never acknowledged
        if (c != '\n') {
          line.push_back(c);
          continue;
        }
        if (line == "open") open_ = true;
        if (line.starts_with("seq ")) seq_ = std::stoull(line.substr(4));
        if (line.starts_with("generation ")) generation_ = std::stoull(line.substr(11));
        line.clear();
      }
      ::close(in);
      ended_ = true;
    });
  }
  ~Writer() {
    if (pid_ > 0) Kill();
  }
  // How it ended: 9 where it was alive.
  int Kill() {
    ::kill(pid_, SIGKILL);
    int status = 0;
    CHECK(::waitpid(pid_, &status, 0) == pid_);
    pid_ = -1;
    listener_.join();
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  bool WaitFor(uint64_t seq) const {
    for (int i = 0; i < 6000 && seq_ < seq && !ended_; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return seq_ >= seq;
  }
  bool open() const { return open_; }
  Acknowledged acknowledged() const { return {.seq = seq_, .generation = generation_}; }

 private:
  pid_t pid_ = -1;
  std::atomic<bool> open_{false}, ended_{false};
  std::atomic<uint64_t> seq_{0}, generation_{0};
  std::thread listener_;
};

TEST(Kill, LosesNothingAcknowledgedAndRepeatsNothingAtAnyMoment) {
  TempDir temp;
  const std::string data_dir = temp / "data";
  const int64_t rounds = FromEnvironment("LECTERN_KILL_ROUNDS", 5);
  Rng rng(FromEnvironment("LECTERN_KILL_SEED", 1));
  Acknowledged most;
  int opened = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    Writer writer(data_dir, rng.Next());
    // Some die while they open and recover, the others at work.
    ASSERT_TRUE(round % 4 == 0 || writer.WaitFor(1)) << "round " << round << ": the writer ended by itself";
    std::this_thread::sleep_for(std::chrono::microseconds(rng.Below(round % 4 == 0 ? 30000 : 200000)));
    ASSERT_EQ(writer.Kill(), SIGKILL) << "round " << round << ": the writer ended by itself";
    opened += writer.open() ? 1 : 0;
    most.seq = std::max(most.seq, writer.acknowledged().seq);
    most.generation = std::max(most.generation, writer.acknowledged().generation);
    ASSERT_EQ(CheckState(data_dir, most), "") << "round " << round << ", acknowledged " << most.seq;
  }
  RecordProperty("rounds", std::to_string(rounds));
  RecordProperty("acknowledged_writes", std::to_string(most.seq));
  if (rounds >= 5) {
    EXPECT_GT(opened, 0);
    EXPECT_GT(most.seq, 10u);
  }
}

TEST(Follower, ReadsBesideCommitsPublishesAndCompactionWithoutOneError) {
  TempDir temp;
  const std::string data_dir = temp / "data";
  Writer writer(data_dir, 7);
  ASSERT_TRUE(writer.WaitFor(1));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(FromEnvironment("LECTERN_FOLLOW_SECONDS", 2));
  auto follower = DocumentStore::Open(DataDirectory::StorePath(data_dir), {.mode = StoreOptions::Mode::kFollow});
  ASSERT_TRUE(follower.ok()) << follower.status();
  uint64_t last_seq = 0, last_generation = 0;
  int64_t reads = 0;
  while (std::chrono::steady_clock::now() < end) {
    const uint64_t acknowledged = writer.acknowledged().seq;
    const absl::Status caught_up = (*follower)->CatchUp();
    ASSERT_TRUE(caught_up.ok()) << caught_up;
    ASSERT_GE((*follower)->last_seq(), std::max(last_seq, acknowledged)) << "what was acknowledged is not visible";
    last_seq = (*follower)->last_seq();
    ASSERT_EQ(CheckReader(**follower), "");
    uint64_t indexed_seq = 0, generation = 0;
    ASSERT_EQ(CheckPublished(data_dir, &indexed_seq, &generation), "");
    ASSERT_GE(generation, last_generation);
    last_generation = generation;
    if (++reads % 5 == 0) {   // a process that has just started
      auto fresh = DocumentStore::Open(DataDirectory::StorePath(data_dir), {.mode = StoreOptions::Mode::kFollow});
      ASSERT_TRUE(fresh.ok()) << fresh.status();
      ASSERT_EQ(CheckReader(**fresh), "");
    }
    if (reads % 20 == 0) {
      const absl::Status verified = (*follower)->VerifyChecksums();
      ASSERT_TRUE(verified.ok()) << verified;
    }
  }
  EXPECT_EQ(writer.Kill(), SIGKILL);
  EXPECT_GT(reads, 3);
  RecordProperty("reads", std::to_string(reads));
  RecordProperty("writes", std::to_string(last_seq));
}

// A writer removes a log once a flush has put its records into tables: it may be listed, and gone when it is opened. RocksDB then
// reads none of the later logs and says nothing.
TEST(Follower, IsNeverOpenedWithoutTheLogsBehindOneThatVanished) {
  TempDir temp;
  const std::string path = temp / "store", old_log = path + "/000001.log";
  auto store = DocumentStore::Open(path, {});
  ASSERT_TRUE(store.ok()) << store.status();
  WriteBatch batch;
  batch.Delete("c", "absent");
  const auto seq = (*store)->Commit(batch);   // in the log, in no table
  ASSERT_TRUE(seq.ok()) << seq.status();
  stdfs::create_symlink(path + "/nowhere", old_log);   // listed, and cannot be opened
  EXPECT_EQ(DocumentStore::Open(path, {.mode = StoreOptions::Mode::kFollow}).status().code(), absl::StatusCode::kUnavailable);
  std::thread remover([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    stdfs::remove(old_log);
  });
  const auto follower = DocumentStore::Open(path, {.mode = StoreOptions::Mode::kFollow});
  remover.join();
  ASSERT_TRUE(follower.ok()) << follower.status();
  EXPECT_EQ((*follower)->last_seq(), *seq);
}

TEST(Follower, WritesNothing) {
  TempDir temp;
  { ASSERT_TRUE(DocumentStore::Open(temp / "store", {}).ok()); }
  const auto bytes_of = [&] {
    std::string all;
    for (const auto& entry : stdfs::directory_iterator(temp / "store")) {
      all += entry.path().filename().string() + lectern::testing::ReadBytes(entry.path().string());
    }
    return all.size();
  };
  const size_t bytes = bytes_of();
  { ASSERT_TRUE(DocumentStore::Open(temp / "store", {.mode = StoreOptions::Mode::kFollow}).ok()); }
  EXPECT_EQ(bytes_of(), bytes);
}

// A file system of its own, of a few MiB.
class SmallDisk {
 public:
  SmallDisk() : mounted_(::mount("tmpfs", temp_.path().c_str(), "tmpfs", 0, "size=4m") == 0) {}
  ~SmallDisk() {
    if (mounted_) ::umount2(temp_.path().c_str(), MNT_DETACH);
  }
  bool ok() const { return mounted_; }
  bool MakeReadOnly() { return ::mount("tmpfs", temp_.path().c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) == 0; }
  std::string operator/(std::string_view name) const { return temp_ / name; }

 private:
  TempDir temp_;
  bool mounted_;
};

TEST(FullDisk, EndsInACleanErrorAndLosesNothing) {
  SmallDisk disk;
  if (!disk.ok()) GTEST_SKIP() << "left out: mounting a small tmpfs needs root";
  const std::string data_dir = disk / "data";
  Acknowledged acknowledged;
  Rng rng(5);
  for (int round = 0; round < 4; ++round) {   // each fills the disk at another step
    lectern::testing::WriteBytes(disk / "ballast", std::string((3 << 20) - round * (150 << 10), 'b'));
    absl::Status status;
    {
      auto dir = DataDirectory::OpenForWriting(data_dir);
      auto store = dir.ok() ? DocumentStore::Open(DataDirectory::StorePath(data_dir), {.write_buffer_bytes = 64 << 10})
                            : dir.status();
      status = store.status();
      while (status.ok()) {
        const auto seq = (*store)->Commit(ModelWrites((*store)->last_seq() + 1, 10));
        status = seq.status();
        if (!status.ok()) break;
        acknowledged.seq = *seq;
        // So that the disk fills: ever more bytes that are kept and do not compress.
        std::string filler;
        for (int i = 0; i < 2000; ++i) filler += HexU64(rng.Next());
        status = (*store)->PutMeta("filler/" + std::to_string(*seq), filler);
        if (status.ok()) status = PublishModel(**dir, *seq);
        if (status.ok()) acknowledged.generation = (*dir)->manifest().collections.at(kModelCollection).generation;
      }
    }
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    stdfs::remove(disk / "ballast");
    {
      auto store = DocumentStore::Open(DataDirectory::StorePath(data_dir), {});
      ASSERT_TRUE(store.ok()) << store.status();
      const auto keys = (*store)->ListMeta("filler/");
      ASSERT_TRUE(keys.ok());
      for (const std::string& key : *keys) ASSERT_TRUE((*store)->DeleteMeta(key).ok());
    }
    ASSERT_EQ(CheckState(data_dir, acknowledged), "") << "round " << round;
  }
  EXPECT_GT(acknowledged.generation, 0u);
}

TEST(ReadOnlyMount, IsReadAndRefusesWritersCleanly) {
  SmallDisk disk;
  if (!disk.ok()) GTEST_SKIP() << "left out: mounting a small tmpfs needs root";
  const std::string data_dir = disk / "data";
  {
    auto dir = DataDirectory::OpenForWriting(data_dir);
    auto store = DocumentStore::Open(DataDirectory::StorePath(data_dir), {});
    ASSERT_TRUE(dir.ok() && store.ok());
    ASSERT_TRUE((*store)->Commit(ModelWrites(1, 20)).ok());
    ASSERT_TRUE(PublishModel(**dir, 20).ok());
  }
  ASSERT_TRUE(disk.MakeReadOnly());
  auto reader = DocumentStore::Open(DataDirectory::StorePath(data_dir), {.mode = StoreOptions::Mode::kFollow});
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->last_seq(), 20u);
  EXPECT_EQ(CheckReader(**reader), "");
  EXPECT_TRUE((*reader)->CatchUp().ok());
  uint64_t indexed_seq = 0, generation = 0;
  EXPECT_EQ(CheckPublished(data_dir, &indexed_seq, &generation), "");
  EXPECT_EQ(indexed_seq, 20u);
  const absl::Status dir = DataDirectory::OpenForWriting(data_dir).status();
  EXPECT_TRUE(absl::IsPermissionDenied(dir)) << dir;
  const absl::Status store = DocumentStore::Open(DataDirectory::StorePath(data_dir), {}).status();
  EXPECT_TRUE(absl::IsPermissionDenied(store)) << store;
  const absl::Status fresh = DataDirectory::OpenForWriting(disk / "other").status();
  EXPECT_TRUE(absl::IsPermissionDenied(fresh)) << fresh;
}

TEST(ReadOnlyFolder, RefusesWritersCleanly) {
  if (::geteuid() == 0) GTEST_SKIP() << "left out: permissions do not bind root (ReadOnlyMount covers it)";
  TempDir temp;
  stdfs::create_directories(temp / "closed");
  stdfs::permissions(temp / "closed", stdfs::perms::owner_read | stdfs::perms::owner_exec);
  const absl::Status dir = DataDirectory::OpenForWriting(temp / "closed/data").status();
  EXPECT_TRUE(absl::IsPermissionDenied(dir)) << dir;
  const absl::Status store = DocumentStore::Open(temp / "closed/store", {}).status();
  EXPECT_TRUE(absl::IsPermissionDenied(store)) << store;
  stdfs::permissions(temp / "closed", stdfs::perms::owner_all);
}

}  // namespace
}  // namespace lectern::index::testing
