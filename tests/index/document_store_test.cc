#include "index/document_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "base/rng.h"
#include "index/key_codec.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

Document Doc(std::string id, std::string text) {
  Document document;
  document.id = std::move(id);
  document.source_sha256 = text;
  document.text = std::move(text);
  return document;
}

std::unique_ptr<DocumentStore> OpenStore(const std::string& path, StoreOptions options = {}) {
  auto store = DocumentStore::Open(path, options);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

TEST(DocumentStore, KeepsEveryFieldOfADocument) {
  testing::TempDir dir;
  auto store = OpenStore(dir / "s");
  Document document = Doc("d 1", "héllo");
  document.title = "T";
  document.uri = "u";
  document.source = "source";
  document.extractor = "x/1";
  document.fields["year"] = {int64_t{-5}, int64_t{1851}};
  document.fields["score"] = {0.25, true, std::string("s")};
  WriteBatch batch;
  batch.Put("c", document);
  ASSERT_TRUE(store->Commit(batch).ok());
  store = nullptr;
  store = OpenStore(dir / "s");
  auto stored = store->Get("c", document.id);
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->seq, 1u);
  EXPECT_EQ(stored->document.fields, document.fields);
  EXPECT_EQ(stored->document.title, "T");
  EXPECT_EQ(stored->document.source, "source");
  EXPECT_EQ(stored->document.text, "héllo");
}

// The store against a plain map, over random puts and deletes.
TEST(DocumentStore, AgreesWithAMapOverRandomOperations) {
  testing::TempDir dir;
  auto store = OpenStore(dir / "s");
  Rng rng(11);
  std::map<std::string, std::string> truth;
  std::map<std::string, uint64_t> last;   // latest change of each id ever written
  uint64_t seq = 0;
  for (int round = 0; round < 60; ++round) {
    WriteBatch batch;
    for (int64_t i = rng.Below(6); i >= 0; --i) {
      const std::string id = "d" + std::to_string(rng.Below(20));
      if (rng.Below(3) == 0) {
        batch.Delete("c", id);
        if (last.contains(id)) last[id] = ++seq;
        truth.erase(id);
      } else {
        const std::string text = std::to_string(rng.Next());
        batch.Put("c", Doc(id, text));
        truth[id] = text;
        last[id] = ++seq;
      }
    }
    auto durable = store->Commit(batch);
    ASSERT_TRUE(durable.ok()) << durable.status();
    ASSERT_EQ(*durable, seq);
    if (round % 20 == 19) {
      store = nullptr;
      store = OpenStore(dir / "s");
    }
    ASSERT_EQ(*store->CountDocuments("c"), static_cast<int64_t>(truth.size()));
  }
  std::map<std::string, std::string> scanned;
  ASSERT_TRUE(store->Scan("c", "", [&](StoredDocument&& stored) {
    scanned[stored.document.id] = stored.document.text;
    return true;
  }).ok());
  EXPECT_EQ(scanned, truth);
  std::map<std::string, uint64_t> changes;
  uint64_t before = 0;
  ASSERT_TRUE(store->ScanChanges("c", 0, [&](const Change& change) {
    EXPECT_GT(change.seq, before);
    before = change.seq;
    EXPECT_TRUE(changes.emplace(change.id, change.seq).second) << "a document comes once";
    EXPECT_EQ(change.deleted, !truth.contains(change.id));
    return absl::OkStatus();
  }).ok());
  EXPECT_EQ(changes, last);
  EXPECT_EQ(*store->SourceSha256("c", "no such"), std::nullopt);
}

TEST(DocumentStore, ScansAfterAnIdAndKeepsCollectionsApart) {
  testing::TempDir dir;
  auto store = OpenStore(dir / "s");
  WriteBatch batch;
  for (const char* id : {"a", "b", "c"}) batch.Put("one", Doc(id, id));
  batch.Put("one2", Doc("z", "z"));
  ASSERT_TRUE(store->Commit(batch).ok());
  std::string seen;
  ASSERT_TRUE(store->Scan("one", "a", [&](StoredDocument&& stored) {
    seen += stored.document.id;
    return true;
  }).ok());
  EXPECT_EQ(seen, "bc");
  ASSERT_TRUE(store->DropCollection("one").ok());
  EXPECT_EQ(*store->CountDocuments("one"), 0);
  EXPECT_EQ(*store->CountDocuments("one2"), 1);
  EXPECT_TRUE(store->Get("one2", "z").ok());
}

TEST(DocumentStore, ConcurrentCommitsAllArriveUnderOneFsyncOrMore) {
  testing::TempDir dir;
  auto store = OpenStore(dir / "s");
  std::vector<std::thread> writers;
  std::atomic<int> failed{0};
  std::vector<std::set<uint64_t>> seqs(4);
  for (size_t w = 0; w < 4; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < 25; ++i) {
        WriteBatch batch;
        batch.Put("c", Doc(std::to_string(w) + "-" + std::to_string(i), "x"));
        batch.Put("c", Doc("shared", std::to_string(w)));
        auto seq = store->Commit(batch);
        if (!seq.ok() || !seqs[w].insert(*seq).second) ++failed;
      }
    });
  }
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(failed.load(), 0);
  EXPECT_EQ(*store->CountDocuments("c"), 101);
  EXPECT_EQ(store->last_seq(), 200u);
}

TEST(DocumentStore, AFollowerSeesCommitsAfterItCatchesUp) {
  testing::TempDir dir;
  auto store = OpenStore(dir / "s");
  WriteBatch batch;
  batch.Put("c", Doc("a", "1"));
  ASSERT_TRUE(store->Commit(batch).ok());
  StoreOptions follow;
  follow.mode = StoreOptions::Mode::kFollow;
  auto follower = OpenStore(dir / "s", follow);
  EXPECT_TRUE(follower->Get("c", "a").ok());
  batch.Clear();
  batch.Put("c", Doc("b", "2"));
  ASSERT_TRUE(store->Commit(batch).ok());
  ASSERT_TRUE(follower->CatchUp().ok());
  EXPECT_TRUE(follower->Get("c", "b").ok());
  EXPECT_EQ(follower->last_seq(), 2u);
  EXPECT_EQ(follower->Commit(batch).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(DocumentStore, ASecondWriterIsRefused) {
  testing::TempDir dir;
  auto store = OpenStore(dir / "s");
  EXPECT_EQ(DocumentStore::Open(dir / "s", {}).status().code(), absl::StatusCode::kAborted);
}

TEST(DocumentStore, MetaValuesSurviveAndAreListedByPrefix) {
  testing::TempDir dir;
  auto store = OpenStore(dir / "s");
  ASSERT_TRUE(store->PutMeta("collection/b", Json{{"x", 1}}).ok());
  ASSERT_TRUE(store->PutMeta("collection/a", Json{{"x", 2}}).ok());
  ASSERT_TRUE(store->PutMeta("other", Json(3)).ok());
  EXPECT_EQ(*store->ListMeta("collection/"), (std::vector<std::string>{"collection/a", "collection/b"}));
  ASSERT_TRUE(store->DeleteMeta("collection/a").ok());
  EXPECT_EQ(*store->GetMeta("collection/a"), std::nullopt);
  EXPECT_EQ((**store->GetMeta("collection/b"))["x"], 1);
}

TEST(KeyCodec, MutatedDocumentsNeverCrashAndNeverReadAsMore) {
  Document document = Doc("id", "some text");
  document.fields["f"] = {int64_t{1}, 2.0, true, std::string("s")};
  const std::string bytes = EncodeDocument(document, 7);
  Rng rng(5);
  for (int i = 0; i < 5000; ++i) {
    std::string mutated = bytes;
    if (rng.Below(4) == 0) mutated.resize(static_cast<size_t>(rng.Below(static_cast<int64_t>(bytes.size()))));
    for (int64_t k = rng.Below(3); k >= 0 && !mutated.empty(); --k) {
      mutated[static_cast<size_t>(rng.Below(static_cast<int64_t>(mutated.size())))] = static_cast<char>(rng.Next());
    }
    auto decoded = DecodeDocument(mutated);
    if (decoded.ok()) EXPECT_LE(decoded->document.text.size(), bytes.size());
  }
}

}  // namespace
}  // namespace lectern::index
