#include "index/segment_documents.h"

#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"
#include "index/deletes.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

StoredDocument Doc(std::string id, std::string text, uint64_t seq) {
  StoredDocument stored;
  stored.seq = seq;
  stored.document.id = std::move(id);
  stored.document.title = "t" + stored.document.id;
  stored.document.uri = "u" + stored.document.id;
  stored.document.source_sha256 = "s" + stored.document.id;
  stored.document.text = std::move(text);
  return stored;
}

FileEntry Write(const std::string& folder, const std::vector<StoredDocument>& documents, const std::vector<std::vector<Span>>& chunks) {
  SegmentFolder segment(FileSystem::Posix(), folder, "s");
  auto file = segment.Create("documents.bin");
  EXPECT_TRUE(file.ok()) << file.status();
  SegmentDocumentsWriter writer(**file);
  for (size_t i = 0; i < documents.size(); ++i) {
    const absl::Status status = writer.Add(documents[i], chunks[i]);
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_TRUE(writer.Finish().ok());
  auto entry = (*file)->Finish();
  EXPECT_TRUE(entry.ok());
  return *entry;
}

absl::StatusOr<std::shared_ptr<const SegmentDocuments>> OpenOne(const std::string& folder, const FileEntry& entry) {
  ASSIGN_OR_RETURN(SegmentFiles files, SegmentFiles::Map(folder, {.folder = "s", .files = {entry}}));
  return SegmentDocuments::Open(files);
}

void Sample(std::vector<StoredDocument>* documents, std::vector<std::vector<Span>>* chunks) {
  documents->push_back(Doc("b", "the first text, of the second id", 7));
  documents->back().document.fields = {{"year", {int64_t{1851}}}, {"tags", {std::string("sea"), std::string("sea"), std::string("")}}, {"ok", {true, false}}};
  chunks->push_back({{0, 14}, {10, 32}});
  documents->push_back(Doc("a", "", 8));
  chunks->push_back({});
  documents->push_back(Doc("c", std::string(5000, 'x') + "\xc3\xa9", 9));
  documents->back().document.fields = {{"year", {int64_t{-3}, 0.25}}};
  chunks->push_back({{0, 5002}});
}

TEST(SegmentDocuments, GivesBackWhatWasAdded) {
  testing::TempDir dir;
  std::vector<StoredDocument> documents;
  std::vector<std::vector<Span>> chunks;
  Sample(&documents, &chunks);
  const FileEntry entry = Write(dir.path(), documents, chunks);
  auto opened = OpenOne(dir.path(), entry);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const SegmentDocuments& segment = **opened;
  ASSERT_EQ(segment.num_documents(), 3);
  ASSERT_EQ(segment.num_chunks(), 3);
  for (int32_t i = 0; i < 3; ++i) {
    const Document& document = documents[static_cast<size_t>(i)].document;
    EXPECT_EQ(segment.Id(i), document.id);
    EXPECT_EQ(segment.Title(i), document.title);
    EXPECT_EQ(segment.Uri(i), document.uri);
    EXPECT_EQ(segment.SourceSha256(i), document.source_sha256);
    EXPECT_EQ(segment.Seq(i), documents[static_cast<size_t>(i)].seq);
    auto text = segment.Text(i);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, document.text);
    EXPECT_EQ(segment.FindDocument(document.id), i);
    for (const char* field : {"year", "tags", "ok", "none"}) {
      const auto it = document.fields.find(field);
      EXPECT_EQ(segment.FieldValues(i, field), it == document.fields.end() ? std::vector<FieldValue>() : it->second) << field;
    }
  }
  EXPECT_EQ(segment.FindDocument("bb"), -1);
  EXPECT_EQ(segment.FindDocument(""), -1);
  EXPECT_EQ(segment.FieldNames(), (std::vector<std::string>{"ok", "tags", "year"}));
  EXPECT_EQ(segment.ChunksOf(0), std::make_pair(int64_t{0}, int64_t{2}));
  EXPECT_EQ(segment.ChunksOf(1), std::make_pair(int64_t{2}, int64_t{2}));
  EXPECT_EQ(segment.ChunkAt(1).document, 0);
  EXPECT_EQ(segment.ChunkAt(1).number, 1);
  EXPECT_EQ(segment.ChunkAt(1).span, (Span{10, 32}));
  EXPECT_EQ(segment.ChunkAt(2).document, 2);
}

TEST(SegmentDocuments, AnEmptySegmentOpens) {
  testing::TempDir dir;
  const FileEntry entry = Write(dir.path(), {}, {});
  auto opened = OpenOne(dir.path(), entry);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->num_documents(), 0);
  EXPECT_EQ((*opened)->FindDocument("x"), -1);
}

TEST(SegmentDocuments, RefusesTheSameIdTwiceAndChunksOutsideTheText) {
  testing::TempDir dir;
  SegmentFolder segment(FileSystem::Posix(), dir.path(), "s");
  auto file = segment.Create("documents.bin");
  SegmentDocumentsWriter writer(**file);
  const std::vector<Span> outside = {{0, 6}};
  EXPECT_EQ(writer.Add(Doc("z", "short", 1), outside).code(), absl::StatusCode::kInternal);
  auto second = segment.Create("twice.bin");
  SegmentDocumentsWriter twice(**second);
  ASSERT_TRUE(twice.Add(Doc("a", "x", 1), {}).ok());
  ASSERT_TRUE(twice.Add(Doc("a", "y", 2), {}).ok());
  EXPECT_EQ(twice.Finish().code(), absl::StatusCode::kInternal);
}

// Reads everything a searcher could.
void ReadAll(const SegmentDocuments& segment) {
  for (int32_t d = 0; d < segment.num_documents(); ++d) {
    (void)segment.Id(d).size();
    (void)segment.Text(d).ok();
    (void)segment.FindDocument(segment.Id(d));
    const auto [first, last] = segment.ChunksOf(d);
    for (int64_t c = first; c < last; ++c) (void)segment.ChunkAt(c).span.end;
    for (const std::string& field : segment.FieldNames()) (void)segment.FieldValues(d, field).size();
  }
}

TEST(SegmentDocuments, EveryMutationIsRefusedOrReadWithinItself) {
  testing::TempDir dir;
  std::vector<StoredDocument> documents;
  std::vector<std::vector<Span>> chunks;
  Sample(&documents, &chunks);
  const FileEntry entry = Write(dir.path(), documents, chunks);
  const std::string whole = testing::ReadBytes(dir / entry.name);
  const std::string path = dir / "mutated";
  testing::Mutations mutations("documents.bin");
  while (mutations.Next()) {
    testing::WriteBytes(path, mutations.Of(whole));
    auto map = MappedFile::Open(path);
    ASSERT_TRUE(map.ok());
    auto opened = SegmentDocuments::FromMapping(*std::move(map), "mutated");
    mutations.Count(opened.status());
    if (opened.ok()) ReadAll(**opened);
  }
  EXPECT_GT(mutations.refused(), 300);
}

TEST(DeletedDocuments, EveryMutationIsRefusedOrASetOfTheSegment) {
  DeletedDocuments dead(700);
  for (int64_t i = 0; i < 700; i += 3) dead.Add(i);
  const std::string whole = dead.Serialize();
  testing::Mutations mutations("deletes file");
  while (mutations.Next()) {
    const testing::Exact exact(mutations.Of(whole));
    const auto parsed = DeletedDocuments::Parse(exact.text(), 700);
    mutations.Count(parsed.status());
    if (!parsed.ok()) continue;
    int64_t count = 0;
    for (int64_t i = 0; i < 700; ++i) count += parsed->Contains(i);
    EXPECT_EQ(count, parsed->count());
  }
  EXPECT_GT(mutations.refused(), 300);
}

TEST(DeletedDocuments, AreWhatWasAddedAfterARoundTrip) {
  DeletedDocuments dead(70);
  dead.Add(0);
  dead.Add(69);
  dead.Add(69);
  EXPECT_EQ(dead.count(), 2);
  auto again = DeletedDocuments::Parse(dead.Serialize(), 70);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->count(), 2);
  EXPECT_TRUE(again->Contains(69));
  EXPECT_FALSE(again->Contains(68));
  std::string bytes = dead.Serialize();
  EXPECT_EQ(DeletedDocuments::Parse(bytes, 71).status().code(), absl::StatusCode::kDataLoss);
  bytes.back() = '\x80';   // past the last document
  EXPECT_EQ(DeletedDocuments::Parse(bytes, 70).status().code(), absl::StatusCode::kDataLoss);
  bytes.pop_back();
  EXPECT_EQ(DeletedDocuments::Parse(bytes, 70).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace lectern::index
