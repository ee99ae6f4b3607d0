#include "index/ingest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/json.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<DocumentStore> OpenStore(const std::string& path) {
  auto store = DocumentStore::Open(path, {});
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

std::string Lines(int first, int count, const std::string& text = "text") {
  std::string out;
  for (int i = first; i < first + count; ++i) {
    out += DumpJson({{"id", "d" + std::to_string(i)}, {"text", text + " " + std::to_string(i)}, {"n", i}}) + "\n";
  }
  return out;
}

std::map<std::string, std::string> Texts(const DocumentStore& store) {
  std::map<std::string, std::string> all;
  EXPECT_TRUE(store.Scan("c", "", [&](StoredDocument&& stored) {
    EXPECT_TRUE(all.emplace(stored.document.id, stored.document.text).second);
    return true;
  }).ok());
  return all;
}

TEST(Ingest, MakesTheCollectionCommitsInGroupsAndSkipsWhatIsUnchanged) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "in.jsonl", Lines(0, 25));
  auto store = OpenStore(dir / "s");
  std::vector<uint64_t> seqs;
  IngestOptions options;
  options.batch_documents = 10;
  options.on_commit = [&](uint64_t seq) { seqs.push_back(seq); };
  auto report = Ingest(*store, "c", {dir / "in.jsonl"}, options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->created_collection);
  EXPECT_EQ(report->added, 25);
  EXPECT_EQ(seqs, (std::vector<uint64_t>{10, 20, 25}));
  EXPECT_EQ(report->schema.Find("n")->type, FieldType::kInt);
  EXPECT_EQ(Texts(*store).size(), 25u);
  EXPECT_EQ(LoadCollection(*store, "c")->schema, report->schema);
  testing::WriteBytes(dir / "in.jsonl", Lines(0, 24) + Lines(24, 2, "other"));
  auto again = Ingest(*store, "c", {dir / "in.jsonl"}, options);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->created_collection);
  EXPECT_EQ(again->unchanged, 24);
  EXPECT_EQ(again->replaced, 1);
  EXPECT_EQ(again->added, 1);
  EXPECT_EQ(Texts(*store).at("d24"), "other 24");
}

TEST(Ingest, ReadsAgainWhatIsExtractedOtherwise) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "in.jsonl", "{\"id\":\"a\",\"abstract\":\"short\",\"body\":\"long\"}\n");
  testing::WriteBytes(dir / "in.csv", "id,text,colour\nb,one,red\n");
  auto store = OpenStore(dir / "s");
  const auto ingest = [&](const char* name, const char* text_field) {
    auto report = Ingest(*store, "c", {dir / name}, {.text_field = text_field});
    EXPECT_TRUE(report.ok()) << report.status();
    return *report;
  };
  EXPECT_EQ(ingest("in.jsonl", "abstract").added, 1);
  EXPECT_EQ(ingest("in.jsonl", "abstract").unchanged, 1);
  EXPECT_EQ(ingest("in.jsonl", "body").replaced, 1);
  EXPECT_EQ(Texts(*store).at("a"), "long");
  // The row is the same to the byte; what it says is not.
  EXPECT_EQ(ingest("in.csv", "").added, 1);
  testing::WriteBytes(dir / "in.csv", "id,text,paint\nb,one,red\n");
  EXPECT_EQ(ingest("in.csv", "").replaced, 1);
  EXPECT_TRUE(store->Get("c", "b")->document.fields.contains("paint"));
  EXPECT_EQ(ingest("in.csv", "").unchanged, 1);
}

TEST(Ingest, GoesByOnConflict) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "a.jsonl", Lines(0, 3));
  testing::WriteBytes(dir / "b.jsonl", Lines(2, 2, "other"));
  auto store = OpenStore(dir / "s");
  ASSERT_TRUE(Ingest(*store, "c", {dir / "a.jsonl"}, {}).ok());
  auto skipped = Ingest(*store, "c", {dir / "b.jsonl"}, {.on_conflict = OnConflict::kSkip});
  ASSERT_TRUE(skipped.ok());
  EXPECT_EQ(skipped->skipped, 1);
  EXPECT_EQ(skipped->added, 1);
  EXPECT_EQ(Texts(*store).at("d2"), "text 2");
  auto failed = Ingest(*store, "c", {dir / "b.jsonl"}, {.on_conflict = OnConflict::kFail});
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("'d2'"));
}

TEST(Ingest, SaysWhichIdsOfOneRunClash) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "a/readme.txt", "of a");
  testing::WriteBytes(dir / "b/readme.txt", "of b");
  testing::WriteBytes(dir / "c/readme.txt", "of b");
  auto store = OpenStore(dir / "s");
  const std::vector<std::string> inputs = {dir / "a", dir / "b", dir / "c"};
  auto report = Ingest(*store, "c", inputs, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->clashes, 1);   // c/readme.txt says what b's said
  EXPECT_EQ(report->first_clash, "'readme.txt', again in " + (dir / "b") + "/readme.txt:1");
  EXPECT_EQ(Texts(*store).at("readme.txt"), "of b");
  auto skipped = Ingest(*store, "d", inputs, {.on_conflict = OnConflict::kSkip});
  ASSERT_TRUE(skipped.ok()) << skipped.status();
  EXPECT_EQ(skipped->clashes, 2);
  auto again = Ingest(*store, "c", {dir / "a"}, {});   // an update is no clash
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->replaced, 1);
  EXPECT_EQ(again->clashes, 0);
}

TEST(Ingest, TheLastOfRepeatedIdsStandsAndDeletesDelete) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "in.jsonl", Lines(0, 2) + Lines(0, 1, "second") + "{\"op\":\"delete\",\"id\":\"d1\"}\n{\"op\":\"delete\",\"id\":\"none\"}\n" + Lines(0, 1, "third"));
  auto store = OpenStore(dir / "s");
  auto report = Ingest(*store, "c", {dir / "in.jsonl"}, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->repeated_ids, 3);
  EXPECT_EQ(report->deleted, 1);
  EXPECT_EQ(report->absent_deletes, 1);
  EXPECT_EQ(Texts(*store), (std::map<std::string, std::string>{{"d0", "third 0"}}));
}

TEST(Ingest, WritesRejectsAndGoesOn) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "in.jsonl", Lines(0, 1) + "{broken\n" + "{\"id\":\"d5\",\"text\":\"x\",\"n\":\"word\"}\n" + Lines(1, 1));
  auto store = OpenStore(dir / "s");
  IngestOptions options;
  options.rejects_path = dir / "rejects.jsonl";
  auto report = Ingest(*store, "c", {dir / "in.jsonl"}, options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->added, 2);
  EXPECT_EQ(report->rejected, 2);
  std::istringstream rejects(testing::ReadBytes(dir / "rejects.jsonl"));
  std::string line;
  ASSERT_TRUE(std::getline(rejects, line));
  EXPECT_EQ((*ParseJson(line))["line"], 2);
  ASSERT_TRUE(std::getline(rejects, line));
  const Json second = *ParseJson(line);
  EXPECT_EQ(second["id"], "d5");
  EXPECT_THAT(second["reason"].get<std::string>(), ::testing::AllOf(HasSubstr("'n'"), HasSubstr("int"), HasSubstr("'word'")));
  EXPECT_FALSE(std::getline(rejects, line));
  options.max_rejects = 1;
  EXPECT_EQ(Ingest(*store, "c", {dir / "in.jsonl"}, options).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Ingest, ADryRunChangesNothing) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "in.jsonl", Lines(0, 5) + "{\n");
  auto store = OpenStore(dir / "s");
  IngestOptions options;
  options.dry_run = true;
  options.rejects_path = dir / "rejects.jsonl";
  auto report = Ingest(*store, "c", {dir / "in.jsonl"}, options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->added, 5);
  EXPECT_EQ(report->rejected, 1);
  EXPECT_EQ(store->last_seq(), 0u);
  EXPECT_TRUE(ListCollections(*store)->empty());
  EXPECT_FALSE(std::filesystem::exists(dir / "rejects.jsonl"));
}

TEST(Ingest, ShardsShareOutEveryDocumentOnce) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "in.jsonl", Lines(0, 200));
  std::set<std::string> seen;
  for (int64_t shard = 0; shard < 3; ++shard) {
    auto store = OpenStore(dir / ("s" + std::to_string(shard)));
    IngestOptions options;
    options.shard = shard;
    options.num_shards = 3;
    auto report = Ingest(*store, "c", {dir / "in.jsonl"}, options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_GT(report->added, 30);
    EXPECT_EQ(report->added + report->other_shards, 200);
    for (const auto& [id, text] : Texts(*store)) EXPECT_TRUE(seen.insert(id).second);
  }
  EXPECT_EQ(seen.size(), 200u);
}

// Stops the run at its n-th commit, as a kill would, then goes on.
TEST(Ingest, ResumesAfterAnAbortAtEveryCommitWithoutLossOrDouble) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "in/a.jsonl", Lines(0, 23) + "{bad\n");
  testing::WriteBytes(dir / "in/b.md", "# B\n\ntext");
  testing::WriteBytes(dir / "in/c.csv", "id,text,n\nx1,one,1\nx2,\"two\nlines\",2\nx3,three,bad\nx4,four,4\n");
  testing::WriteBytes(dir / "in/d.jsonl", Lines(40, 17));
  std::map<std::string, std::string> expected;
  std::string expected_rejects;
  int64_t commits = 0;
  for (int64_t stop_at = 0; stop_at <= commits; ++stop_at) {
    const std::string name = "s" + std::to_string(stop_at);
    auto store = OpenStore(dir / name);
    IngestOptions options;
    options.batch_documents = 4;
    options.rejects_path = dir / (name + ".rejects");
    CancelToken cancel;
    options.cancel = &cancel;
    int64_t seen = 0;
    uint64_t durable = 0;
    options.on_commit = [&](uint64_t seq) {
      durable = seq;
      if (++seen == stop_at) cancel.Cancel();
    };
    auto report = Ingest(*store, "c", {dir / "in"}, options);
    if (stop_at == 0) {
      ASSERT_TRUE(report.ok()) << report.status();
      commits = seen;
      ASSERT_GT(commits, 8);
      expected = Texts(*store);
      ASSERT_EQ(expected.size(), 23u + 1 + 3 + 17);
      expected_rejects = testing::ReadBytes(options.rejects_path);
      continue;
    }
    EXPECT_GE(static_cast<int64_t>(Texts(*store).size()), stop_at * 4 - 4);
    EXPECT_EQ(store->last_seq(), durable);
    IngestOptions rest = options;
    rest.cancel = nullptr;
    rest.on_commit = nullptr;
    rest.resume = true;
    auto resumed = Ingest(*store, "c", {dir / "in"}, rest);
    ASSERT_TRUE(resumed.ok()) << resumed.status();
    EXPECT_EQ(resumed->unchanged, 0) << "stopped cleanly, so nothing is read twice";
    EXPECT_EQ(Texts(*store), expected) << stop_at;
    EXPECT_EQ(testing::ReadBytes(options.rejects_path), expected_rejects) << stop_at;
    EXPECT_TRUE(store->ListMeta("ingest/")->empty());
  }
}

TEST(Ingest, ResumeReadsFromTheStartWhereTheInputChanged) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "in.jsonl", Lines(0, 20));
  auto store = OpenStore(dir / "s");
  CancelToken cancel;
  IngestOptions options;
  options.batch_documents = 5;
  options.cancel = &cancel;
  options.on_commit = [&](uint64_t) { cancel.Cancel(); };
  EXPECT_EQ(Ingest(*store, "c", {dir / "in.jsonl"}, options).status().code(), absl::StatusCode::kCancelled);
  testing::WriteBytes(dir / "in.jsonl", Lines(0, 30, "changed"));
  auto report = Ingest(*store, "c", {dir / "in.jsonl"}, {.resume = true});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(Texts(*store).size(), 30u);
  EXPECT_EQ(Texts(*store).at("d0"), "changed 0");
  ASSERT_FALSE(report->notes.empty());
  EXPECT_THAT(report->notes[0], HasSubstr("changed since"));
}

TEST(Ingest, SaysWhatIsWrongWithItsOptionsAndInputs) {
  testing::TempDir dir;
  auto store = OpenStore(dir / "s");
  testing::WriteBytes(dir / "in.jsonl", "");
  EXPECT_EQ(Ingest(*store, "Bad Name", {dir / "in.jsonl"}, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Ingest(*store, "c", {dir / "none"}, {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(ListCollections(*store)->empty()) << "a mistyped input makes no collection";
  EXPECT_EQ(Ingest(*store, "c", {dir / "in.jsonl"}, {.memory_bytes = 1 << 20}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Ingest(*store, "c", {dir / "in.jsonl"}, {.shard = 2, .num_shards = 2}).status().code(), absl::StatusCode::kInvalidArgument);
  auto empty = Ingest(*store, "c", {dir / "in.jsonl"}, {});
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_EQ(empty->records, 0);
}

}  // namespace
}  // namespace lectern::index
