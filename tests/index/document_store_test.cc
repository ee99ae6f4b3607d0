#include "index/document_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "index/key_codec.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace stdfs = std::filesystem;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

Document Doc(std::string id, std::string text) {
  Document doc{.id = std::move(id), .title = "T " + text, .text = std::move(text)};
  doc.source_sha256 = Sha256Hex(doc.text);
  doc.content_sha256 = ContentSha256(doc);
  return doc;
}

std::vector<std::string> Changes(const DocumentStore& store, std::string_view collection, uint64_t after) {
  std::vector<std::string> seen;
  EXPECT_TRUE(store.ScanChanges(collection, after, [&](const Change& c) {
    seen.push_back(internal::Concat(c.seq, c.deleted ? "-" : "+", c.id));
    return absl::OkStatus();
  }).ok());
  return seen;
}

std::vector<std::string> Ids(const DocumentStore& store, std::string_view collection, std::string_view after = "") {
  std::vector<std::string> ids;
  EXPECT_TRUE(store.Scan(collection, after, [&](StoredDocument&& d) {
    ids.push_back(d.document.id);
    return true;
  }).ok());
  return ids;
}

class DocumentStoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<DocumentStore> Open(StoreOptions::Mode mode = StoreOptions::Mode::kReadWrite) {
    auto store = DocumentStore::Open(path_, {.mode = mode});
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  uint64_t Put(DocumentStore& store, std::string_view collection, std::string id, std::string text) {
    WriteBatch batch;
    batch.Put(collection, Doc(std::move(id), std::move(text)));
    auto seq = store.Commit(batch);
    EXPECT_TRUE(seq.ok()) << seq.status();
    return seq.ok() ? *seq : 0;
  }
  testing::TempDir temp_;
  std::string path_ = temp_ / "store";
};

TEST_F(DocumentStoreTest, ReturnsEveryPartOfADocumentAfterReopening) {
  Document doc = Doc("d\0\xff"
                     "1",
                     std::string(100000, 'x') + "\xc3\xa9");
  doc.uri = "file:///a";
  doc.source = std::string("\0source", 7);
  doc.extractor = "markdown/1";
  doc.fields["year"] = {int64_t{-5}, int64_t{1851}};
  doc.fields["mixed"] = {std::string("a"), 0.5, true, false, -0.0};
  doc.fields["none"] = {};
  {
    auto store = Open();
    WriteBatch batch;
    batch.Put("books", doc);
    EXPECT_EQ(*store->Commit(batch), 1u);
  }
  auto store = Open();
  EXPECT_EQ(store->last_seq(), 1u);
  auto got = store->Get("books", doc.id);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->seq, 1u);
  EXPECT_EQ(got->document.text, doc.text);
  EXPECT_EQ(got->document.title, doc.title);
  EXPECT_EQ(got->document.uri, doc.uri);
  EXPECT_EQ(got->document.source, doc.source);
  EXPECT_EQ(got->document.extractor, doc.extractor);
  EXPECT_EQ(got->document.fields, doc.fields);
  EXPECT_EQ(got->document.source_sha256, doc.source_sha256);
  EXPECT_EQ(*store->ContentSha256("books", doc.id), doc.content_sha256);
  EXPECT_EQ(*store->ContentSha256("books", "other"), std::nullopt);
  EXPECT_EQ(*store->LatestChange("books", "other"), std::nullopt);
  EXPECT_TRUE(absl::IsNotFound(store->Get("book", doc.id).status()));
}

TEST_F(DocumentStoreTest, KeepsOnlyTheLatestChangeOfADocumentAndTombstones) {
  auto store = Open();
  WriteBatch batch;
  batch.Put("c", Doc("a", "1"));
  batch.Put("c", Doc("b", "1"));
  batch.Put("c", Doc("a", "2"));      // twice in one batch
  batch.Delete("c", "never there");   // uses a number, leaves nothing
  EXPECT_EQ(*store->Commit(batch), 4u);
  EXPECT_THAT(Changes(*store, "c", 0), ElementsAre("2+b", "3+a"));
  EXPECT_EQ(*store->CountDocuments("c"), 2);
  batch.Clear();
  batch.Delete("c", "a");
  batch.Delete("c", "a");
  EXPECT_EQ(*store->Commit(batch), 6u);
  EXPECT_THAT(Changes(*store, "c", 0), ElementsAre("2+b", "5-a"));
  EXPECT_THAT(Changes(*store, "c", 2), ElementsAre("5-a"));
  EXPECT_THAT(Changes(*store, "c", 5), ElementsAre());
  EXPECT_TRUE(absl::IsNotFound(store->Get("c", "a").status()));
  EXPECT_EQ(*store->ContentSha256("c", "a"), std::nullopt);
  EXPECT_EQ((*store->LatestChange("c", "a"))->seq, 5u);
  EXPECT_TRUE((*store->LatestChange("c", "a"))->deleted);
  EXPECT_FALSE((*store->LatestChange("c", "b"))->deleted);
  EXPECT_EQ(*store->CountDocuments("c"), 1);
  Put(*store, "c", "a", "3");
  EXPECT_THAT(Changes(*store, "c", 0), ElementsAre("2+b", "7+a"));
  EXPECT_EQ(*store->CountDocuments("c"), 2);
  EXPECT_TRUE(store->VerifyChecksums().ok()) << store->VerifyChecksums();
}

TEST_F(DocumentStoreTest, ScansOneCollectionInIdOrderAndStopsWhenTold) {
  auto store = Open();
  for (const char* id : {"b", "a", "ab", "c"}) Put(*store, "c", id, id);
  Put(*store, "c2", "zz", "other collection");
  Put(*store, "b", "zz", "other collection");
  EXPECT_THAT(Ids(*store, "c"), ElementsAre("a", "ab", "b", "c"));
  EXPECT_THAT(Ids(*store, "c", "ab"), ElementsAre("b", "c"));
  EXPECT_THAT(Ids(*store, "c", "aa"), ElementsAre("ab", "b", "c"));
  int seen = 0;
  ASSERT_TRUE(store->Scan("c", "", [&](StoredDocument&&) { return ++seen < 2; }).ok());
  EXPECT_EQ(seen, 2);
  EXPECT_TRUE(absl::IsCancelled(store->ScanChanges("c", 0, [](const Change&) { return Cancelled("stop"); })));
}

TEST_F(DocumentStoreTest, ADroppedCollectionTakesItsChangesAndNumbersGoOn) {
  auto store = Open();
  Put(*store, "c", "a", "1");
  Put(*store, "c2", "b", "2");
  ASSERT_TRUE(store->DropCollection("c").ok());
  EXPECT_EQ(*store->CountDocuments("c"), 0);
  EXPECT_THAT(Ids(*store, "c"), ElementsAre());
  EXPECT_THAT(Changes(*store, "c", 0), ElementsAre());
  EXPECT_THAT(Ids(*store, "c2"), ElementsAre("b"));
  store.reset();
  store = Open();
  EXPECT_EQ(Put(*store, "c", "a", "3"), 3u);
  EXPECT_THAT(Changes(*store, "c", 0), ElementsAre("3+a"));
  EXPECT_TRUE(store->VerifyChecksums().ok()) << store->VerifyChecksums();
}

TEST_F(DocumentStoreTest, KeepsSmallValuesByKey) {
  auto store = Open();
  ASSERT_TRUE(store->PutMeta("cursor/b", Json{{"line", 7}}).ok());
  ASSERT_TRUE(store->PutMeta("cursor/a", 1).ok());
  ASSERT_TRUE(store->PutMeta("d", "x").ok());
  store.reset();
  store = Open();
  EXPECT_EQ((**store->GetMeta("cursor/b"))["line"], 7);
  EXPECT_EQ(*store->GetMeta("cursor/c"), std::nullopt);
  EXPECT_THAT(*store->ListMeta("cursor/"), ElementsAre("cursor/a", "cursor/b"));
  EXPECT_THAT(*store->ListMeta(""), ElementsAre("cursor/a", "cursor/b", "d"));
  ASSERT_TRUE(store->DeleteMeta("cursor/a").ok());
  EXPECT_THAT(*store->ListMeta("cursor/"), ElementsAre("cursor/b"));
}

TEST_F(DocumentStoreTest, RefusesIdsAndCollectionsPastTheLimits) {
  auto store = Open();
  WriteBatch batch;
  batch.Put("c", Doc(std::string(512, 'x'), ""));
  EXPECT_TRUE(store->Commit(batch).ok());
  batch.Put("c", Doc(std::string(513, 'x'), ""));
  EXPECT_THAT(Message(store->Commit(batch).status()), HasSubstr("1..512 bytes, got 513"));
  batch.Clear();
  batch.Put("c", Doc("", ""));
  EXPECT_TRUE(absl::IsInvalidArgument(store->Commit(batch).status()));
  batch.Clear();
  batch.Delete(std::string_view("a\0b", 3), "x");
  EXPECT_TRUE(absl::IsInvalidArgument(store->Commit(batch).status()));
  batch.Clear();
  EXPECT_EQ(*store->Commit(batch), 1u);   // an empty batch: what is durable so far
}

TEST_F(DocumentStoreTest, ASecondWriterIsRefused) {
  auto store = Open();
  auto second = DocumentStore::Open(path_, {});
  EXPECT_TRUE(absl::IsAborted(second.status())) << second.status();
}

TEST_F(DocumentStoreTest, ConcurrentCommitsGetDistinctNumbersInLogOrder) {
  auto store = Open();
  constexpr int kThreads = 8, kCommits = 25;
  std::vector<std::thread> threads;
  std::vector<std::vector<uint64_t>> acknowledged(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kCommits; ++i) {
        WriteBatch batch;
        batch.Put("c", Doc(internal::Concat(t, ".", i), "own"));
        batch.Put("c", Doc("shared", internal::Concat(t, ".", i)));   // read, changed and written by all
        auto seq = store->Commit(batch);
        ASSERT_TRUE(seq.ok()) << seq.status();
        ASSERT_TRUE(store->Get("c", internal::Concat(t, ".", i)).ok());
        acknowledged[t].push_back(*seq);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& seqs : acknowledged) EXPECT_TRUE(std::is_sorted(seqs.begin(), seqs.end()));
  EXPECT_EQ(store->last_seq(), uint64_t{2 * kThreads * kCommits});
  EXPECT_EQ(*store->CountDocuments("c"), kThreads * kCommits + 1);
  EXPECT_EQ(Changes(*store, "c", 0).size(), size_t{kThreads * kCommits + 1});
  EXPECT_TRUE(store->VerifyChecksums().ok()) << store->VerifyChecksums();
}

TEST_F(DocumentStoreTest, AFollowerSeesWhatWasCommittedOnceItCatchesUp) {
  EXPECT_TRUE(absl::IsNotFound(DocumentStore::Open(path_, {.mode = StoreOptions::Mode::kFollow}).status()));
  auto store = Open();
  Put(*store, "c", "a", "1");
  auto follower = Open(StoreOptions::Mode::kFollow);
  EXPECT_EQ(follower->last_seq(), 1u);
  EXPECT_EQ(follower->Get("c", "a")->document.text, "1");
  Put(*store, "c", "a", "2");
  Put(*store, "c", "b", "3");
  EXPECT_EQ(follower->Get("c", "a")->document.text, "1");
  ASSERT_TRUE(follower->CatchUp().ok());
  EXPECT_EQ(follower->last_seq(), 3u);
  EXPECT_EQ(follower->Get("c", "a")->document.text, "2");
  EXPECT_THAT(Changes(*follower, "c", 0), ElementsAre("2+a", "3+b"));
  EXPECT_TRUE(absl::IsFailedPrecondition(follower->PutMeta("x", 1)));
  WriteBatch batch;
  batch.Delete("c", "a");
  EXPECT_TRUE(absl::IsFailedPrecondition(follower->Commit(batch).status()));
  // The writer closes (which flushes and removes its log) and opens again (which makes a new manifest).
  store.reset();
  EXPECT_EQ(follower->Get("c", "b")->document.text, "3");
  store = Open();
  Put(*store, "c", "d", "4");
  ASSERT_TRUE(follower->CatchUp().ok());
  EXPECT_EQ(follower->last_seq(), 4u);
  EXPECT_THAT(Ids(*follower, "c"), ElementsAre("a", "b", "d"));
  EXPECT_TRUE(follower->VerifyChecksums().ok()) << follower->VerifyChecksums();
}

TEST_F(DocumentStoreTest, ABatchBehavesAsAMapWould) {
  Rng rng(11);
  std::map<std::string, std::pair<uint64_t, std::string>> model;   // id -> seq, text
  auto store = Open();
  uint64_t seq = 0;
  for (int round = 0; round < 60; ++round) {
    WriteBatch batch;
    for (int64_t n = 1 + rng.Below(6); n > 0; --n) {
      const std::string id = "d" + std::to_string(rng.Below(12));
      ++seq;
      if (rng.Below(3) == 0) {
        batch.Delete("c", id);
        model.erase(id);
      } else {
        const std::string text = std::to_string(rng.Next());
        batch.Put("c", Doc(id, text));
        model[id] = {seq, text};
      }
    }
    ASSERT_EQ(*store->Commit(batch), seq);
    if (rng.Below(10) == 0) {
      store.reset();
      store = Open();
    }
    std::map<std::string, std::pair<uint64_t, std::string>> found;
    ASSERT_TRUE(store->Scan("c", "", [&](StoredDocument&& d) {
      found[d.document.id] = {d.seq, d.document.text};
      return true;
    }).ok());
    ASSERT_EQ(found, model);
    ASSERT_EQ(*store->CountDocuments("c"), static_cast<int64_t>(model.size()));
    std::map<uint64_t, std::string> live;
    ASSERT_TRUE(store->ScanChanges("c", 0, [&](const Change& c) {
      if (!c.deleted) live[c.seq] = c.id;
      return absl::OkStatus();
    }).ok());
    std::map<uint64_t, std::string> expected;
    for (const auto& [id, value] : model) expected[value.first] = id;
    ASSERT_EQ(live, expected);
  }
  EXPECT_TRUE(store->VerifyChecksums().ok());
}

TEST_F(DocumentStoreTest, ANewerFormatIsRefusedByName) {
  {
    auto store = Open();
    Put(*store, "c", "a", "1");
  }
  // The format is an ordinary record; this writes it as a newer build would.
  {
    rocksdb::DB* raw = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), path_, &raw).ok());
    const std::unique_ptr<rocksdb::DB> db(raw);
    ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), std::string(kFormatKey), EncodeU64(kStoreFormat + 1)).ok());
  }
  for (const auto mode : {StoreOptions::Mode::kReadWrite, StoreOptions::Mode::kFollow}) {
    const absl::Status status = DocumentStore::Open(path_, {.mode = mode}).status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr("format 2; this build reads up to 1"));
  }
}

TEST_F(DocumentStoreTest, DamageIsReportedAndNeverOverwritten) {
  {
    auto store = Open();
    for (int i = 0; i < 50; ++i) Put(*store, "c", std::to_string(i), std::string(500, 'a' + i % 26));
  }
  for (const auto& entry : stdfs::directory_iterator(path_)) {
    const std::string file = entry.path().string(), name = entry.path().filename().string();
    const std::string whole = testing::ReadBytes(file);
    if (whole.empty() || name == "LOCK" || name == "IDENTITY" || name.starts_with("OPTIONS")) continue;
    SCOPED_TRACE(name);
    std::string damaged = whole;
    damaged[damaged.size() / 2] ^= 0x10;
    testing::WriteBytes(file, damaged);
    for (const auto mode : {StoreOptions::Mode::kReadWrite, StoreOptions::Mode::kFollow}) {
      auto store = DocumentStore::Open(path_, {.mode = mode});
      const absl::Status status = store.ok() ? (*store)->VerifyChecksums() : store.status();
      EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    }
    EXPECT_TRUE(stdfs::exists(file)) << "removed a damaged file";
    testing::WriteBytes(file, whole);
  }
  stdfs::rename(path_ + "/CURRENT", path_ + "/CURRENT.away");
  EXPECT_TRUE(absl::IsDataLoss(DocumentStore::Open(path_, {}).status()));
  stdfs::rename(path_ + "/CURRENT.away", path_ + "/CURRENT");
  auto store = Open();
  EXPECT_EQ(Ids(*store, "c").size(), 50u);
}

TEST(KeyCodec, KeysSortByCollectionThenIdOrNumber) {
  EXPECT_LT(DocumentKey("a", "z"), DocumentKey("aa", "a"));
  EXPECT_LT(DocumentKey("a", "\xff\xff"), RangeOf(KeyKind::kDocument, "a").end);
  EXPECT_LT(RangeOf(KeyKind::kDocument, "a").end, DocumentKey("aa", ""));
  uint64_t previous = 0;
  for (const uint64_t seq : {uint64_t{1}, uint64_t{255}, uint64_t{256}, uint64_t{1} << 40, ~uint64_t{0}}) {
    EXPECT_LT(ChangeKey("c", previous), ChangeKey("c", seq));
    previous = seq;
  }
}

TEST(KeyCodec, AnyCutOrMutatedRecordIsRefusedOrDecodedWithoutACrash) {
  Document doc = Doc("d", "some text");
  doc.fields["f"] = {int64_t{1}, 2.0, true, std::string("x")};
  const std::string whole = EncodeDocument(doc, 300);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(DecodeDocument("d", whole.substr(0, size)).status())) << size;
  }
  testing::Mutations mutations("record of the store");
  while (mutations.Next()) {
    const testing::Exact damaged(mutations.Of(whole));
    const auto decoded = DecodeDocument("d", damaged.text());
    mutations.Count(decoded.status());
    EXPECT_TRUE(decoded.ok() || absl::IsDataLoss(decoded.status()));
    (void)DecodeHead(damaged.text());
    (void)DecodeChange(damaged.text());
  }
}

}  // namespace
}  // namespace lectern::index
