#include "index/data_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "index/manifest_json.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace stdfs = std::filesystem;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// A segment of one file.
SegmentEntry MakeSegment(DataDirectory& dir, std::string_view collection, std::string_view bytes) {
  auto folder = dir.NewSegment(collection);
  EXPECT_TRUE(folder.ok()) << folder.status();
  auto file = (*folder)->Create("data.bin");
  EXPECT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->Append(bytes).ok());
  auto entry = (*file)->Finish();
  EXPECT_TRUE(entry.ok()) << entry.status();
  return SegmentEntry{.folder = (*folder)->folder(), .files = {*entry}, .num_documents = 1, .num_chunks = 1};
}

absl::Status PublishOne(DataDirectory& dir, std::string_view collection, std::string_view bytes, uint64_t seq) {
  CollectionState state{.indexed_seq = seq, .segments = {MakeSegment(dir, collection, bytes)}};
  (*state.settings)["analyzer"] = "en/1";
  return dir.Publish(collection, std::move(state));
}

class DataDirectoryTest : public ::testing::Test {
 protected:
  std::unique_ptr<DataDirectory> Open() {
    auto dir = DataDirectory::OpenForWriting(path_);
    EXPECT_TRUE(dir.ok()) << dir.status();
    return dir.ok() ? *std::move(dir) : nullptr;
  }
  std::vector<std::string> Segments(std::string_view collection) {
    auto names = FileSystem::Posix().List(DataDirectory::CollectionPath(path_, collection));
    return names.ok() ? *names : std::vector<std::string>{};
  }
  void DamageManifests(FileSystem& fs = FileSystem::Posix()) {
    const auto names = fs.List(path_);
    ASSERT_TRUE(names.ok()) << names.status();
    for (const std::string& name : *names) {
      if (!name.starts_with("manifest-")) continue;
      ASSERT_TRUE(WriteFileAtomically(fs, path_ + "/" + name, "{}").ok());
    }
  }
  testing::TempDir temp_;
  std::string path_ = temp_ / "data";
};

TEST_F(DataDirectoryTest, IsMadeWhereMissingAndOpensEmpty) {
  path_ = temp_ / "a/b/data";
  EXPECT_FALSE(DataDirectory::LooksLikeOne(path_));
  EXPECT_TRUE(absl::IsNotFound(DataDirectory::ReadManifest(path_).status()));
  { auto dir = Open(); }
  EXPECT_TRUE(DataDirectory::LooksLikeOne(path_));
  auto manifest = DataDirectory::ReadManifest(path_);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->number, 0u);
  EXPECT_TRUE(manifest->collections.empty());
}

TEST_F(DataDirectoryTest, PublishesWhatReadersThenOpen) {
  auto dir = Open();
  ASSERT_TRUE(PublishOne(*dir, "books", "hello", 7).ok());
  auto manifest = DataDirectory::ReadManifest(path_);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const CollectionState& books = manifest->collections.at("books");
  EXPECT_EQ(books.generation, 1u);
  EXPECT_EQ(books.indexed_seq, 7u);
  EXPECT_EQ((*books.settings)["analyzer"], "en/1");
  ASSERT_EQ(books.segments.size(), 1u);
  const std::string segment = DataDirectory::SegmentPath(path_, "books", books.segments[0].folder);
  auto files = SegmentFiles::Map(segment, books.segments[0]);
  ASSERT_TRUE(files.ok()) << files.status();
  auto map = files->Take("data.bin");
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->text(), "hello");
}

TEST_F(DataDirectoryTest, ASecondWriterIsRefusedWithTheHoldersPid) {
  auto dir = Open();
  auto second = DataDirectory::OpenForWriting(path_);
  EXPECT_TRUE(absl::IsAborted(second.status())) << second.status();
  EXPECT_THAT(Message(second.status()), HasSubstr(std::to_string(::getpid())));
  dir.reset();
  EXPECT_TRUE(DataDirectory::OpenForWriting(path_).ok());
}

TEST_F(DataDirectoryTest, KeepsThePreviousGenerationAndRemovesOlderOnes) {
  auto dir = Open();
  for (int i = 1; i <= 4; ++i) ASSERT_TRUE(PublishOne(*dir, "books", std::to_string(i), i).ok());
  EXPECT_THAT(Segments("books"), ElementsAre("segment-000003", "segment-000004"));
  EXPECT_FALSE(stdfs::exists(path_ + "/manifest-000002.json"));
  EXPECT_TRUE(stdfs::exists(path_ + "/manifest-000003.json"));
}

TEST_F(DataDirectoryTest, AnUnpublishedSegmentSurvivesPublishesAndGoesAtTheNextOpening) {
  auto dir = Open();
  ASSERT_TRUE(PublishOne(*dir, "books", "1", 1).ok());
  const SegmentEntry building = MakeSegment(*dir, "books", "in progress");
  for (int i = 2; i <= 4; ++i) ASSERT_TRUE(PublishOne(*dir, "papers", "x", i).ok());
  EXPECT_TRUE(stdfs::exists(DataDirectory::SegmentPath(path_, "books", building.folder)));
  testing::WriteBytes(path_ + "/manifest-000099.json", "left by a crash");
  testing::WriteBytes(path_ + "/CURRENT.tmp", "left by a crash");
  testing::WriteBytes(path_ + "/collections/books/segment-000001/deletes-1.bin", "left by a crash");
  dir.reset();
  dir = Open();
  EXPECT_THAT(Segments("books"), ElementsAre("segment-000001"));
  EXPECT_FALSE(stdfs::exists(path_ + "/manifest-000099.json"));
  EXPECT_FALSE(stdfs::exists(path_ + "/CURRENT.tmp"));
  EXPECT_FALSE(stdfs::exists(path_ + "/collections/books/segment-000001/deletes-1.bin"));
  EXPECT_EQ(dir->manifest().collections.at("books").indexed_seq, 1u);
}

TEST_F(DataDirectoryTest, SegmentNumbersAreNeverGivenTwice) {
  auto dir = Open();
  ASSERT_TRUE(PublishOne(*dir, "books", "1", 1).ok());
  ASSERT_TRUE(dir->PublishDrop("books").ok());
  ASSERT_TRUE(dir->PublishDrop("books").code() == absl::StatusCode::kNotFound);
  ASSERT_TRUE(PublishOne(*dir, "papers", "2", 2).ok());
  dir.reset();
  dir = Open();
  EXPECT_FALSE(stdfs::exists(DataDirectory::CollectionPath(path_, "books")));
  ASSERT_TRUE(PublishOne(*dir, "books", "3", 3).ok());
  EXPECT_THAT(Segments("books"), ElementsAre("segment-000003"));
}

TEST_F(DataDirectoryTest, AFileAddedToAPublishedSegmentReplacesItsPredecessorTwoPublishesLater) {
  auto dir = Open();
  ASSERT_TRUE(PublishOne(*dir, "books", "1", 1).ok());
  for (int round = 1; round <= 3; ++round) {
    CollectionState state = dir->manifest().collections.at("books");
    auto folder = dir->ExistingSegment("books", state.segments[0].folder);
    ASSERT_TRUE(folder.ok()) << folder.status();
    auto file = (*folder)->Create("deletes-" + std::to_string(round) + ".bin");
    ASSERT_TRUE((*file)->Append("bits").ok());
    auto entry = (*file)->Finish();
    ASSERT_TRUE(entry.ok());
    state.segments[0].files.resize(1);
    state.segments[0].files.push_back(*entry);
    state.segments[0].deletes_file = entry->name;
    state.segments[0].num_deleted = 1;
    state.generation = 0;
    ASSERT_TRUE(dir->Publish("books", state).ok());
    EXPECT_TRUE(absl::IsAlreadyExists((*folder)->Create("data.bin").status()));
  }
  EXPECT_EQ(dir->manifest().collections.at("books").generation, 4u);
  auto names = FileSystem::Posix().List(path_ + "/collections/books/segment-000001");
  ASSERT_TRUE(names.ok());
  EXPECT_THAT(*names, ElementsAre("data.bin", "deletes-2.bin", "deletes-3.bin"));
}

TEST_F(DataDirectoryTest, RefusesToPublishWhatIsNotThere) {
  auto dir = Open();
  CollectionState state;
  state.segments.push_back({.folder = "segment-000001", .files = {{.name = "data.bin"}}});
  EXPECT_THAT(Message(dir->Publish("books", state)), HasSubstr("does not exist"));
  state.segments[0].folder = "../elsewhere";
  EXPECT_TRUE(absl::IsInvalidArgument(dir->Publish("books", state)));
  EXPECT_TRUE(absl::IsInvalidArgument(dir->Publish("../books", {})));
  EXPECT_TRUE(absl::IsInvalidArgument(dir->NewSegment("a/b").status()));
  ASSERT_TRUE(PublishOne(*dir, "books", "1", 1).ok());
  CollectionState old = dir->manifest().collections.at("books");
  EXPECT_THAT(Message(dir->Publish("books", old)), HasSubstr("must exceed 1, got 1"));
}

TEST_F(DataDirectoryTest, AliasesPointAtPublishedCollectionsAndGoWithThem) {
  auto dir = Open();
  EXPECT_TRUE(absl::IsNotFound(dir->PublishAlias("now", "books")));
  ASSERT_TRUE(PublishOne(*dir, "books", "1", 1).ok());
  ASSERT_TRUE(dir->PublishAlias("now", "books").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(dir->PublishAlias("books", "books")));
  EXPECT_TRUE(absl::IsAlreadyExists(PublishOne(*dir, "now", "1", 1)));
  EXPECT_EQ(DataDirectory::ReadManifest(path_)->aliases.at("now"), "books");
  ASSERT_TRUE(dir->PublishDrop("books").ok());
  EXPECT_TRUE(dir->manifest().aliases.empty());
}

TEST_F(DataDirectoryTest, ANewerFormatIsRefusedByNameAndNothingIsTouched) {
  { auto dir = Open(); }
  testing::WriteBytes(path_ + "/VERSION", "lectern-data 2\n");
  stdfs::remove(path_ + "/LOCK");
  for (const absl::Status& status :
       {DataDirectory::OpenForWriting(path_).status(), DataDirectory::ReadManifest(path_).status()}) {
    EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr("data format 2; this build reads up to 1"));
  }
  EXPECT_FALSE(stdfs::exists(path_ + "/LOCK"));
}

TEST_F(DataDirectoryTest, AFolderThatHoldsSomethingElseIsRefusedAndLeftAlone) {
  testing::WriteBytes(path_ + "/thesis.tex", "do not touch");
  auto dir = DataDirectory::OpenForWriting(path_);
  EXPECT_TRUE(absl::IsInvalidArgument(dir.status())) << dir.status();
  EXPECT_THAT(Message(dir.status()), HasSubstr("thesis.tex"));
  EXPECT_EQ(*FileSystem::Posix().List(path_), std::vector<std::string>{"thesis.tex"});
}

TEST_F(DataDirectoryTest, DamageToAnyByteOfCurrentOrManifestIsNamed) {
  {
    auto dir = Open();
    ASSERT_TRUE(PublishOne(*dir, "books", "hello", 7).ok());
  }
  for (const char* name : {"CURRENT", "manifest-000001.json", "VERSION"}) {
    const std::string file = path_ + "/" + name;
    const std::string whole = testing::ReadBytes(file);
    for (size_t i = 0; i <= whole.size(); ++i) {
      std::string damaged = whole.substr(0, i);  // cut
      if (i < whole.size()) {
        testing::WriteBytes(file, damaged);
        EXPECT_FALSE(DataDirectory::ReadManifest(path_).ok()) << name << " cut at " << i;
        damaged = whole;
        damaged[i] ^= 1;
      } else {
        damaged = whole + "x";
      }
      testing::WriteBytes(file, damaged);
      const absl::Status status = DataDirectory::ReadManifest(path_).status();
      // A flipped digit of a format number may read as a newer format; all else is damage.
      EXPECT_TRUE(absl::IsDataLoss(status) || absl::IsUnimplemented(status)) << name << " byte " << i << ": " << status;
    }
    testing::WriteBytes(file, whole);
  }
  EXPECT_TRUE(DataDirectory::ReadManifest(path_).ok());
}

TEST_F(DataDirectoryTest, DamageToASegmentFileIsNamedWithWhatWasExpectedAndFound) {
  auto dir = Open();
  ASSERT_TRUE(PublishOne(*dir, "books", "hello", 7).ok());
  const SegmentEntry segment = dir->manifest().collections.at("books").segments[0];
  const std::string folder = DataDirectory::SegmentPath(path_, "books", segment.folder);
  testing::WriteBytes(folder + "/data.bin", "jello");
  const auto open = [&](bool take) {
    auto files = SegmentFiles::Map(folder, segment);
    return !files.ok() ? files.status() : take ? files->Take("data.bin").status() : files->CheckRest();
  };
  for (const bool take : {true, false}) {
    EXPECT_TRUE(absl::IsDataLoss(open(take)));
    EXPECT_THAT(Message(open(take)), HasSubstr(HexU64(Hash64("hello")) + " expected, " + HexU64(Hash64("jello")) + " found"));
  }
  testing::WriteBytes(folder + "/data.bin", "hell");
  EXPECT_THAT(Message(open(true)), HasSubstr("5 bytes expected, 4 found"));
  testing::WriteBytes(folder + "/data.bin", "hello");
  auto mapped = SegmentFiles::Map(folder, segment);
  ASSERT_TRUE(mapped.ok());
  stdfs::remove(folder + "/data.bin");
  EXPECT_TRUE(absl::IsNotFound(open(true)));
  EXPECT_EQ(mapped->Take("data.bin")->text(), "hello") << "mapped before it went";
  EXPECT_TRUE(absl::IsDataLoss(mapped->Take("other.bin").status()));
}

TEST_F(DataDirectoryTest, QuarantineSetsASegmentAsideAndAsksForARebuild) {
  auto dir = Open();
  CollectionState state{.indexed_seq = 9};
  state.segments = {MakeSegment(*dir, "books", "good"), MakeSegment(*dir, "books", "bad")};
  ASSERT_TRUE(dir->Publish("books", state).ok());
  ASSERT_TRUE(dir->Quarantine("books", "segment-000002", "checksum").ok());
  const CollectionState now = DataDirectory::ReadManifest(path_)->collections.at("books");
  EXPECT_EQ(now.indexed_seq, 0u);
  EXPECT_EQ(now.generation, 2u);
  ASSERT_EQ(now.segments.size(), 1u);
  EXPECT_EQ(now.segments[0].folder, "segment-000001");
  EXPECT_EQ(testing::ReadBytes(path_ + "/quarantine/books-segment-000002/data.bin"), "bad");
  EXPECT_THAT(testing::ReadBytes(path_ + "/quarantine/books-segment-000002.reason"), HasSubstr("checksum"));
  EXPECT_TRUE(absl::IsNotFound(dir->Quarantine("books", "segment-000002", "again")));
}

TEST_F(DataDirectoryTest, RepairGoesOnFromTheNewestIntactManifest) {
  {
    auto dir = Open();
    ASSERT_TRUE(PublishOne(*dir, "books", "one", 1).ok());
    ASSERT_TRUE(PublishOne(*dir, "books", "two", 2).ok());
  }
  testing::WriteBytes(path_ + "/manifest-000002.json", "{}");
  EXPECT_TRUE(absl::IsDataLoss(DataDirectory::OpenForWriting(path_).status()));
  std::vector<std::string> repaired;
  {
    auto dir = DataDirectory::OpenForRepair(path_, &repaired);
    ASSERT_TRUE(dir.ok()) << dir.status();
    EXPECT_EQ((*dir)->manifest().number, 3u);
    EXPECT_EQ((*dir)->manifest().collections.at("books").indexed_seq, 1u);
  }
  EXPECT_EQ(repaired.size(), 2u);
  EXPECT_EQ(testing::ReadBytes(path_ + "/quarantine/manifest-000002.json"), "{}");
  // A damaged segment beneath a damaged CURRENT: set aside, and indexed anew.
  testing::WriteBytes(path_ + "/collections/books/segment-000001/data.bin", "???");
  testing::WriteBytes(path_ + "/CURRENT", "");
  repaired.clear();
  auto dir = DataDirectory::OpenForRepair(path_, &repaired);
  ASSERT_TRUE(dir.ok()) << dir.status();
  EXPECT_EQ((*dir)->manifest().collections.at("books").indexed_seq, 0u);
  EXPECT_TRUE((*dir)->manifest().collections.at("books").segments.empty());
  EXPECT_EQ(testing::ReadBytes(path_ + "/quarantine/books-segment-000001/data.bin"), "???");
  dir->reset();
  repaired.clear();
  ASSERT_TRUE(DataDirectory::OpenForRepair(path_, &repaired).ok());
  EXPECT_TRUE(repaired.empty());
}

TEST_F(DataDirectoryTest, RepairGoesOnWithoutVersionAndCurrentAndDeletesNothing) {
  { auto dir = Open(); ASSERT_TRUE(PublishOne(*dir, "books", "one", 1).ok()); }
  stdfs::remove(path_ + "/VERSION");
  stdfs::remove(path_ + "/CURRENT");
  EXPECT_TRUE(absl::IsInvalidArgument(DataDirectory::OpenForWriting(path_).status()));
  std::vector<std::string> repaired;
  {
    auto dir = DataDirectory::OpenForRepair(path_, &repaired);
    ASSERT_TRUE(dir.ok()) << dir.status();
    EXPECT_EQ((*dir)->manifest().collections.at("books").indexed_seq, 1u);
  }
  EXPECT_FALSE(repaired.empty());
  EXPECT_TRUE(DataDirectory::ReadManifest(path_).ok());
  // No manifest is intact: the segments are kept out of reach, not deleted.
  DamageManifests();
  {
    auto dir = DataDirectory::OpenForRepair(path_, &repaired);
    ASSERT_TRUE(dir.ok()) << dir.status();
    EXPECT_TRUE((*dir)->manifest().collections.empty());
    ASSERT_TRUE(PublishOne(**dir, "books", "new", 2).ok());
  }
  EXPECT_EQ(testing::ReadBytes(path_ + "/quarantine/collections/books/segment-000001/data.bin"), "one");
  EXPECT_THAT(Segments("books"), ElementsAre("segment-000002"));
  EXPECT_NE(Open(), nullptr);
}

// By an error, or by a power cut that leaves only what was synced.
TEST_F(DataDirectoryTest, ARepairThatStopsAtAnyStepLosesNoSegmentAndCanBeMadeAgain) {
  using testing::FaultyDisk;
  for (const auto fault : {FaultyDisk::Fault::kIoError, FaultyDisk::Fault::kPowerCut}) {
    const bool cut = fault == FaultyDisk::Fault::kPowerCut;
    bool whole = false;
    for (int64_t step = 1; !whole; ++step) {
      ASSERT_LT(step, 200);
      const std::string root = temp_ / internal::Concat(cut ? "cut" : "error", step), image = root + ".image";
      stdfs::create_directories(root);
      path_ = root + "/data";
      std::vector<std::string> repaired;
      {
        FaultyDisk disk(root);
        {
          auto dir = DataDirectory::OpenForWriting(path_, disk.files());
          ASSERT_TRUE(dir.ok()) << dir.status();
          ASSERT_TRUE(PublishOne(**dir, "books", "one", 1).ok());
        }
        DamageManifests(disk.files());
        disk.Arm(fault, disk.operations() + step);
        (void)DataDirectory::OpenForRepair(path_, &repaired, disk.files());
        whole = !disk.fault_happened();
        if (cut) disk.WriteImage(image, FaultyDisk::Loss::kAllUnsynced);
      }
      if (cut) path_ = image + "/data";
      FaultyDisk healthy(cut ? image : root);
      const absl::Status again = DataDirectory::OpenForRepair(path_, &repaired, healthy.files()).status();
      ASSERT_TRUE(again.ok()) << step << ": " << again;
      int kept = 0;
      for (const auto& entry : stdfs::recursive_directory_iterator(path_)) kept += entry.path().filename() == "data.bin";
      ASSERT_GE(kept, 1) << (cut ? "power cut" : "stopped") << " at step " << step;
    }
  }
}

TEST_F(DataDirectoryTest, RepairLeavesAloneWhatWasNeverADataDirectory) {
  std::vector<std::string> repaired;
  EXPECT_TRUE(absl::IsNotFound(DataDirectory::OpenForRepair(path_, &repaired).status()));
  EXPECT_FALSE(stdfs::exists(path_));
  testing::WriteBytes(path_ + "/collections/stamps/red.txt", "mine");
  EXPECT_TRUE(absl::IsNotFound(DataDirectory::OpenForRepair(path_, &repaired).status()));
  EXPECT_EQ(testing::ReadBytes(path_ + "/collections/stamps/red.txt"), "mine");
  EXPECT_THAT(*FileSystem::Posix().List(path_), ElementsAre("collections"));
}

TEST(ManifestJson, SaysWhatIsWrongWithImpossibleValues) {
  Manifest manifest{.number = 3};
  manifest.collections["books"].segments.push_back({.folder = "../../etc"});
  const absl::Status status = DecodeManifest(EncodeManifest(manifest), "m").status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(Message(status), HasSubstr("../../etc"));
}

TEST(ManifestJson, KeepsEveryValue) {
  Manifest manifest{.number = 12, .next_segment = 99};
  CollectionState& state = manifest.collections["b"];
  state.generation = 4;
  state.indexed_seq = 1u << 31;
  (*state.settings)["k1"] = 1.2;
  state.segments.push_back({.folder = "segment-000007",
                            .files = {{.name = "a", .length = 5, .xxh3 = ~0ull}, {.name = "d"}},
                            .num_documents = 3,
                            .num_chunks = 4,
                            .deletes_file = "d",
                            .num_deleted = 2});
  manifest.aliases["x"] = "b";
  auto back = DecodeManifest(EncodeManifest(manifest), "m");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(EncodeManifest(*back), EncodeManifest(manifest));
  EXPECT_EQ(back->collections["b"].segments[0].files[0].xxh3, ~0ull);
  EXPECT_EQ(back->collections["b"].segments[0].deletes_file, "d");
}

}  // namespace
}  // namespace lectern::index
