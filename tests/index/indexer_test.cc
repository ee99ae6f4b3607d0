#include "index/indexer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "base/json.h"
#include "index/collection.h"
#include "index/corpus.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

using lectern::testing::FaultyDisk;
using lectern::testing::ReadBytes;
using lectern::testing::SourcePath;
using lectern::testing::WriteBytes;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
namespace stdfs = std::filesystem;

class IndexerTest : public ::testing::Test {
 protected:
  IndexerTest() {
    Open();
    EXPECT_TRUE(SaveCollection(*store_, "c", {}).ok());
  }
  void Open(FileSystem& fs = FileSystem::Posix(), uint64_t expected_seq = 0) {
    store_.reset();
    directory_.reset();
    auto directory = DataDirectory::OpenForWriting(path_, fs);
    ASSERT_TRUE(directory.ok()) << directory.status();
    directory_ = *std::move(directory);
    auto store = DocumentStore::Open(DataDirectory::StorePath(path_), {.expected_seq = expected_seq});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void Put(int first, int count, const std::string& text = "whale") {
    WriteBatch batch;
    for (int i = first; i < first + count; ++i) batch.Put("c", {.id = "d" + std::to_string(i), .text = text + " number " + std::to_string(i)});
    ASSERT_TRUE(store_->Commit(batch).ok());
  }
  void Delete(int i) {
    WriteBatch batch;
    batch.Delete("c", "d" + std::to_string(i));
    ASSERT_TRUE(store_->Commit(batch).ok());
  }
  IndexOptions Options(Encoder* encoder = nullptr) { return {.encoder = encoder, .pool = &pool_}; }
  Encoder* Tiny() {
    if (encoder_ == nullptr) {
      auto encoder = Encoder::Open(SourcePath("data/tiny/encoder"), {.precision = Precision::kFloat32, .max_tokens = 64}, pool_);
      EXPECT_TRUE(encoder.ok()) << encoder.status();
      encoder_ = *std::move(encoder);
    }
    return encoder_.get();
  }
  absl::StatusOr<IndexReport> Update(Encoder* encoder = nullptr) { return UpdateIndex(*directory_, *store_, "c", Options(encoder)); }
  // The ids that a search for "whale" finds; the error where the index does not open.
  std::set<std::string> Found() {
    const auto corpus = Corpus::Open(path_, "c");
    EXPECT_TRUE(corpus.ok()) << corpus.status();
    std::set<std::string> ids;
    if (!corpus.ok()) return ids;
    const auto response = (*corpus)->Search({.query = "whale", .k = 1000}, nullptr);
    EXPECT_TRUE(response.ok()) << response.status();
    for (const SearchHit& hit : response->hits) ids.insert(hit.doc_id);
    return ids;
  }
  std::vector<std::string> Problems() {
    const auto report = VerifyIndex(path_, *store_, "c");
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? report->problems : std::vector<std::string>();
  }
  const CollectionState State() { return directory_->manifest().collections.at("c"); }

  testing::TempDir dir_;
  const std::string path_ = dir_ / "data";
  ThreadPool pool_{1};
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<DataDirectory> directory_;
  std::unique_ptr<DocumentStore> store_;
};

TEST_F(IndexerTest, AnUpdateOfDeletesAloneClaimsNoVectorsThatAreNotThere) {
  Put(0, 5);
  ASSERT_TRUE(Update().ok());
  Delete(3);
  ASSERT_TRUE(Update(Tiny()).ok());   // an encoder came meanwhile
  EXPECT_FALSE(State().settings->contains("encoder"));
  EXPECT_EQ(Found(), (std::set<std::string>{"d0", "d1", "d2", "d4"}));
  Put(5, 1);
  const auto report = Update(Tiny());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->notes, Each(HasSubstr("no vectors yet")));
  EXPECT_THAT(Found(), SizeIs(5));
  ASSERT_TRUE(BuildIndex(*directory_, *store_, "c", Options(Tiny())).ok());
  EXPECT_TRUE(State().settings->contains("encoder"));
  Delete(5);
  ASSERT_TRUE(Update().ok());   // and the other way round: deletes need no encoder
  EXPECT_TRUE((*Corpus::Open(path_, "c"))->has_vectors());
  EXPECT_THAT(Found(), SizeIs(4));
}

TEST_F(IndexerTest, AnUpdateRebuildsFromTheStoreWhateverFileIsDamagedOrGone) {
  Put(0, 40);
  IndexOptions options = Options(Tiny());
  options.dense.kind = DenseKind::kHnsw;
  std::set<std::string> names;
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(BuildIndex(*directory_, *store_, "c", options).ok());
    Delete(round);
    ASSERT_TRUE(UpdateIndex(*directory_, *store_, "c", options).ok());
    const std::vector<FileEntry> files = State().segments.at(0).files;
    if (round >= 2 * static_cast<int>(files.size())) break;
    const FileEntry& file = files[static_cast<size_t>(round / 2)];
    SCOPED_TRACE(internal::Concat(file.name, round % 2 == 0 ? " damaged" : " gone"));
    names.insert(file.name.substr(0, 7));
    const std::string file_path = DataDirectory::SegmentPath(path_, "c", State().segments[0].folder) + "/" + file.name;
    if (round % 2 == 0) {
      std::string bytes = ReadBytes(file_path);
      bytes[bytes.size() / 2] ^= 4;
      WriteBytes(file_path, bytes);
    } else {
      stdfs::remove(file_path);
    }
    const absl::Status broken = Corpus::Open(path_, "c").status();
    EXPECT_TRUE(absl::IsDataLoss(broken)) << broken;
    EXPECT_THAT(std::string(broken.message()), HasSubstr("index repair c"));
    const auto report = UpdateIndex(*directory_, *store_, "c", options);   // nothing has changed but the damage
    ASSERT_TRUE(report.ok()) << report.status();
    ASSERT_THAT(report->notes, SizeIs(1));
    EXPECT_THAT(report->notes[0], HasSubstr(file.name));
    EXPECT_TRUE(stdfs::exists(path_ + "/quarantine/c-" + stdfs::path(file_path).parent_path().filename().string()));
    EXPECT_THAT(Found(), SizeIs(static_cast<size_t>(39 - round)));
    EXPECT_THAT(Problems(), IsEmpty());
  }
  EXPECT_EQ(names, (std::set<std::string>{"bm25.bi", "deletes", "documen", "hnsw.bi", "vectors"}));
}

TEST_F(IndexerTest, AStoreThatEndsBeforeWhatIsIndexedIsNoticed) {
  Put(0, 3);
  ASSERT_TRUE(Update().ok());
  const std::string store_path = DataDirectory::StorePath(path_);
  store_.reset();
  stdfs::copy(store_path, dir_ / "backup", stdfs::copy_options::recursive);
  Open();
  Put(3, 3);
  ASSERT_TRUE(Update().ok());
  EXPECT_EQ(directory_->manifest().IndexedSeq(), 6u);

  // An older copy: opened for writing it is refused, and an update says what happened instead of missing the new documents.
  store_.reset();
  stdfs::remove_all(store_path);
  stdfs::copy(dir_ / "backup", store_path, stdfs::copy_options::recursive);
  EXPECT_TRUE(absl::IsDataLoss(DocumentStore::Open(store_path, {.expected_seq = 6}).status()));
  EXPECT_TRUE(DocumentStore::Open(store_path, {.expected_seq = 3}).ok());
  Open();
  Put(9, 1);
  const absl::Status behind = Update().status();
  EXPECT_TRUE(absl::IsDataLoss(behind)) << behind;
  EXPECT_THAT(std::string(behind.message()), ::testing::AllOf(HasSubstr("ends at write 4"), HasSubstr("up to write 6")));
  EXPECT_THAT(Problems(), ::testing::Not(IsEmpty()));
  const auto repaired = RepairIndex(*directory_, *store_, "c", Options());
  ASSERT_TRUE(repaired.ok()) << repaired.status();
  EXPECT_EQ(Found(), (std::set<std::string>{"d0", "d1", "d2", "d9"}));
  EXPECT_THAT(Problems(), IsEmpty());
  Put(10, 1);
  ASSERT_TRUE(Update().ok());
  EXPECT_THAT(Found(), SizeIs(5));

  // No store at all: none is made in its place, and a repair puts the index aside.
  store_.reset();
  stdfs::remove_all(store_path);
  EXPECT_TRUE(absl::IsDataLoss(DocumentStore::Open(store_path, {.expected_seq = 5}).status()));
  EXPECT_FALSE(stdfs::exists(store_path));
  const std::string segment = State().segments[0].folder;
  Open();
  const auto aside = RepairIndex(*directory_, *store_, "c", Options());
  ASSERT_TRUE(aside.ok()) << aside.status();
  EXPECT_THAT(aside->notes, Each(HasSubstr("quarantine")));
  EXPECT_TRUE(stdfs::exists(path_ + "/quarantine/c-" + segment + "/documents.bin"));
  EXPECT_TRUE(absl::IsNotFound(Corpus::Open(path_, "c").status()));
}

TEST_F(IndexerTest, VerifyTakesNoChangeThatIsNotIndexedYetForDamage) {
  Put(0, 6);
  ASSERT_TRUE(Update().ok());
  auto follower = DocumentStore::Open(DataDirectory::StorePath(path_), {.mode = StoreOptions::Mode::kFollow});
  ASSERT_TRUE(follower.ok()) << follower.status();
  Delete(1);
  Put(2, 1, "shark");
  Put(6, 1);
  EXPECT_THAT(Problems(), IsEmpty());
  ASSERT_TRUE(Update().ok());
  const auto behind = VerifyIndex(path_, **follower, "c");   // opened before the writes that are indexed now
  ASSERT_TRUE(behind.ok()) << behind.status();
  EXPECT_THAT(behind->problems, IsEmpty());
  EXPECT_EQ(behind->documents, 6);
  // What is not in the store, and was never deleted from it, is damage.
  ASSERT_TRUE(store_->DropCollection("c").ok());
  EXPECT_THAT(Problems(), Each(HasSubstr("not in the store")));
  EXPECT_THAT(Problems(), ::testing::Not(IsEmpty()));
}

TEST_F(IndexerTest, AnUpdateThatFailedAtAnyStepCanBeMadeAgain) {
  Put(0, 4);
  ASSERT_TRUE(Update().ok());
  int failures = 0;
  bool done = false;
  for (int64_t step = 1; !done; ++step) {
    FaultyDisk disk(dir_.path());
    Open(disk.files());
    Delete(static_cast<int>(step) - 1);
    Put(static_cast<int>(step) + 3, 1);
    disk.Arm(FaultyDisk::Fault::kNoSpaceOnce, disk.operations() + step);
    const auto first = Update();
    done = !disk.fault_happened();
    failures += first.ok() ? 0 : 1;
    const auto again = Update();
    ASSERT_TRUE(again.ok()) << "after a failure at step " << step << ": " << again.status();
    ASSERT_THAT(Found(), SizeIs(4)) << step;
    ASSERT_LT(step, 200);
  }
  EXPECT_GT(failures, 10);
}

}  // namespace
}  // namespace lectern::index
