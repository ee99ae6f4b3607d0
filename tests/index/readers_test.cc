#include "index/readers/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>

#include "base/rng.h"
#include "index/readers/byte_source.h"
#include "index/readers/extract.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

using ::testing::HasSubstr;

std::vector<Item> ReadAll(const InputFile& file, const ReaderOptions& options = {}) {
  std::vector<Item> items;
  auto reader = OpenReader(file, options);
  EXPECT_TRUE(reader.ok()) << reader.status();
  while (reader.ok()) {
    auto item = (*reader)->Next();
    EXPECT_TRUE(item.ok()) << item.status();
    if (!item.ok() || !*item) break;
    items.push_back(**std::move(item));
    if (items.size() > 100000) ADD_FAILURE() << "no end";
    if (items.size() > 100000) break;
  }
  return items;
}
std::vector<Item> ReadBytesAs(Format format, std::string_view bytes, const ReaderOptions& options = {}) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "input", bytes);
  return ReadAll({dir / "input", "input", format}, options);
}
std::string Doc(const char* name) { return testing::SourcePath(std::string("data/tiny/documents/") + name); }
const Document& DocumentOf(const Item& item) {
  EXPECT_TRUE(item.record.has_value()) << item.reject.reason;
  static const Document kNone;
  return item.record ? item.record->document : kNone;
}

TEST(JsonlReader, ReadsIdsTextsTitlesAndFields) {
  for (const char* name : {"docs.jsonl", "docs.jsonl.gz", "docs.jsonl.zst", "docs.jsonl.xz"}) {
    const std::vector<Item> items = ReadAll({Doc(name), name, Format::kJsonl});
    ASSERT_EQ(items.size(), 3u) << name;
    const Document& whale = DocumentOf(items[0]);
    EXPECT_EQ(whale.id, "whale");
    EXPECT_EQ(whale.title, "The blue whale");
    EXPECT_THAT(whale.text, HasSubstr("four tonnes"));
    EXPECT_EQ(std::get<int64_t>(whale.fields.at("year")[0]), 2019);
    EXPECT_EQ(whale.fields.at("tags").size(), 2u);
    EXPECT_EQ(std::get<int64_t>(whale.fields.at("metadata.source.page")[0]), 7);
    EXPECT_EQ(std::get<bool>(whale.fields.at("checked")[0]), true);
    EXPECT_EQ(DocumentOf(items[1]).fields.count("empty"), 0u);
    EXPECT_EQ(DocumentOf(items[2]).id, "12");
    EXPECT_EQ(items[1].line, 2);
    EXPECT_EQ(items[1].byte, items[0].next_byte);
    EXPECT_EQ(items[2].next_line, 4);
  }
}

TEST(JsonlReader, RejectsBadRecordsWithLineByteAndReasonAndGoesOn) {
  const std::string input =
      "\xef\xbb\xbf{\"id\":\"a\",\"text\":\"x\"}\r\n"
      "\n"
      "{\"id\":\"b\",\"text\":\"x\xff\"}\n"
      "{\"id\":\"c\",\"text\":}\n"
      "[1]\n"
      "{\"text\":\"no id\"}\n"
      "{\"id\":\"d\"}\n"
      "{\"id\":\"e\",\"text\":3}\n"
      "{\"id\":\"f\",\"id\":\"g\",\"text\":\"x\"}\n"
      "{\"id\":\"\",\"text\":\"x\"}\n"
      "{\"id\":\"h\\u0007\",\"text\":\"x\"}\n"
      "{\"op\":\"delete\",\"id\":\"z\"}\n"
      "{\"op\":\"put\",\"doc\":{\"id\":\"y\",\"text\":\"t\",\"fields\":{\"lang\":\"en\"},\"vector\":null}}\n"
      "{\"id\":\"last\",\"body\":\"no newline\"}";
  const std::vector<Item> items = ReadBytesAs(Format::kJsonl, input);
  ASSERT_EQ(items.size(), 13u);
  EXPECT_EQ(DocumentOf(items[0]).id, "a");
  EXPECT_EQ(DocumentOf(items[0]).source, "{\"id\":\"a\",\"text\":\"x\"}");
  EXPECT_EQ(items[1].line, 3);
  EXPECT_EQ(static_cast<unsigned char>(input[static_cast<size_t>(items[1].byte)]), 0xff);
  EXPECT_THAT(items[1].reject.reason, HasSubstr("invalid UTF-8"));
  EXPECT_THAT(items[1].reject.reason, HasSubstr("0xff"));
  EXPECT_THAT(items[2].reject.reason, HasSubstr("malformed JSON at byte"));
  EXPECT_THAT(items[3].reject.reason, HasSubstr("JSON object"));
  EXPECT_THAT(items[4].reject.reason, HasSubstr("id, _id, docid"));
  EXPECT_EQ(items[5].reject.id, "d");
  EXPECT_THAT(items[5].reject.reason, HasSubstr("no text"));
  EXPECT_THAT(items[6].reject.reason, HasSubstr("must be a string"));
  EXPECT_THAT(items[7].reject.reason, HasSubstr("twice"));
  EXPECT_THAT(items[8].reject.reason, HasSubstr("1..512 bytes"));
  EXPECT_THAT(items[9].reject.reason, HasSubstr("control"));
  EXPECT_TRUE(items[10].record->is_delete);
  EXPECT_EQ(DocumentOf(items[10]).id, "z");
  EXPECT_EQ(std::get<std::string>(DocumentOf(items[11]).fields.at("lang")[0]), "en");
  EXPECT_EQ(DocumentOf(items[12]).text, "no newline");
  EXPECT_EQ(items[12].line, 14);
}

TEST(JsonlReader, SaysWhatIsMissingOfAListAndOfAnOperation) {
  const auto reason = [](const std::string& line) { return ReadBytesAs(Format::kJsonl, line)[0].reject.reason; };
  for (const char* line : {"[\n", "{\n", "[{\"id\":1,\"text\":\"x\"}]\n"}) EXPECT_THAT(reason(line), HasSubstr("a record stands on one line")) << line;
  EXPECT_THAT(reason("{\"id\" 1}\n"), ::testing::AllOf(HasSubstr("malformed JSON at byte"), ::testing::Not(HasSubstr("json.exception")), ::testing::Not(HasSubstr("one line"))));
  EXPECT_THAT(reason("{\"op\":\"remove\",\"id\":\"x\"}\n"), HasSubstr("op is put, with a doc, or delete, with an id, got 'remove'"));
}

TEST(JsonlReader, HoldsItsLimits) {
  std::string deep = "{\"id\":\"a\",\"text\":\"x\",\"f\":";
  for (int i = 0; i < 200000; ++i) deep += "[";
  const std::string input = deep + "\n{\"id\":\"big\",\"text\":\"" + std::string(5000, 'y') + "\"}\n{\"id\":\"ok\",\"text\":\"x\"}\n";
  const std::vector<Item> items = ReadBytesAs(Format::kJsonl, input, {.max_record_bytes = 4000});
  ASSERT_EQ(items.size(), 3u);
  EXPECT_THAT(items[0].reject.reason, HasSubstr("the limit is 4000"));
  EXPECT_THAT(items[1].reject.reason, HasSubstr("the limit is 4000"));
  EXPECT_EQ(DocumentOf(items[2]).id, "ok");
  const std::vector<Item> nested = ReadBytesAs(Format::kJsonl, input);
  EXPECT_THAT(nested[0].reject.reason, HasSubstr("deep, the limit is 32"));
  EXPECT_EQ(DocumentOf(nested[1]).text.size(), 5000u);
}

TEST(JsonlReader, TakesTheFieldsItIsTold) {
  const std::string input = "{\"key\":1,\"id\":\"other\",\"words\":\"w\",\"text\":\"t\"}\n";
  const std::vector<Item> items = ReadBytesAs(Format::kJsonl, input, {.id_field = "key", .text_field = "words"});
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(DocumentOf(items[0]).id, "1");
  EXPECT_EQ(DocumentOf(items[0]).text, "w");
  EXPECT_EQ(std::get<std::string>(DocumentOf(items[0]).fields.at("id")[0]), "other");
}

TEST(JsonlReader, GoesOnWhereAnEarlierRunStopped) {
  for (const char* name : {"docs.jsonl", "docs.jsonl.gz"}) {
    const std::vector<Item> all = ReadAll({Doc(name), name, Format::kJsonl});
    const std::vector<Item> rest = ReadAll({Doc(name), name, Format::kJsonl}, {.start_byte = all[0].next_byte, .start_line = all[0].next_line});
    ASSERT_EQ(rest.size(), 2u);
    EXPECT_EQ(DocumentOf(rest[0]).id, "wasp");
    EXPECT_EQ(rest[0].line, 2);
    EXPECT_EQ(rest[1].byte, all[2].byte);
  }
}

TEST(PackedInput, ThatBreaksOffIsARejectBehindWhatWasRead) {
  for (const char* name : {"docs.jsonl.gz", "docs.jsonl.zst", "docs.jsonl.xz"}) {
    const std::string whole = testing::ReadBytes(Doc(name));
    for (size_t cut = 7; cut < whole.size(); cut += 11) {
      const std::vector<Item> items = ReadBytesAs(Format::kJsonl, std::string_view(whole).substr(0, cut));
      ASSERT_FALSE(items.empty()) << name << " " << cut;
      EXPECT_FALSE(items.back().record.has_value()) << name << " " << cut;
      EXPECT_THAT(items.back().reject.reason, HasSubstr("packed byte")) << name;
    }
    std::string damaged = whole;
    damaged[damaged.size() / 2] ^= 0x55;
    EXPECT_FALSE(ReadBytesAs(Format::kJsonl, damaged).back().record.has_value()) << name;
  }
  // Two members in a row are one input.
  const std::string gz = testing::ReadBytes(Doc("docs.jsonl.gz"));
  EXPECT_EQ(ReadBytesAs(Format::kJsonl, gz + gz).size(), 6u);
  const std::string zst = testing::ReadBytes(Doc("docs.jsonl.zst"));
  EXPECT_EQ(ReadBytesAs(Format::kJsonl, zst + zst).size(), 6u);
  const std::string xz = testing::ReadBytes(Doc("docs.jsonl.xz"));
  EXPECT_EQ(ReadBytesAs(Format::kJsonl, xz + xz).size(), 6u);
}

TEST(MsmarcoReader, SplitsAtTheFirstTab) {
  const std::vector<Item> items = ReadAll({Doc("collection.tsv"), "collection.tsv", Format::kMsmarco});
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(DocumentOf(items[0]).id, "whale");
  EXPECT_EQ(DocumentOf(items[1]).text, "A paper wasp knows faces,\tand remembers them.");
  EXPECT_THAT(ReadBytesAs(Format::kMsmarco, "no tab here\n")[0].reject.reason, HasSubstr("no tab"));
}

TEST(TrectextReader, ReadsDocumentsTitlesAndEntities) {
  const std::vector<Item> items = ReadAll({Doc("docs.trec"), "docs.trec", Format::kTrectext});
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(DocumentOf(items[0]).id, "TR-1");
  EXPECT_EQ(DocumentOf(items[0]).title, "Salt & pepper");
  EXPECT_EQ(DocumentOf(items[0]).text, "Salt keeps; pepper <bites>.\n\nSecond part.");
  EXPECT_EQ(DocumentOf(items[1]).text, "All that is here is text.");
  EXPECT_EQ(items[1].line, 9);
  const std::vector<Item> bad = ReadBytesAs(Format::kTrectext, "stray\n<DOC>\n<TEXT>x</TEXT>\n</DOC><DOC><DOCNO>1</DOCNO><TEXT>y</TEXT></DOC>\n<DOC><DOCNO>2</DOCNO>\n");
  ASSERT_EQ(bad.size(), 4u);
  EXPECT_THAT(bad[0].reject.reason, HasSubstr("outside"));
  EXPECT_THAT(bad[1].reject.reason, HasSubstr("DOCNO"));
  EXPECT_EQ(DocumentOf(bad[2]).text, "y");
  EXPECT_THAT(bad[3].reject.reason, HasSubstr("without its </DOC>"));
}

TEST(CsvReader, ReadsQuotedCellsAsRfc4180) {
  const std::vector<Item> items = ReadAll({Doc("rows.csv"), "rows.csv", Format::kCsv});
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(DocumentOf(items[0]).title, "A \"quoted\" title");
  EXPECT_EQ(DocumentOf(items[0]).text, "two\nlines, and a comma");
  EXPECT_EQ(std::get<std::string>(DocumentOf(items[0]).fields.at("code")[0]), "007");
  EXPECT_TRUE(items[0].record->untyped_fields);
  EXPECT_EQ(DocumentOf(items[1]).fields.count("code"), 0u);
  EXPECT_EQ(items[1].line, 4);
  const std::vector<Item> rest = ReadAll({Doc("rows.csv"), "rows.csv", Format::kCsv}, {.start_byte = items[0].next_byte, .start_line = items[0].next_line});
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(DocumentOf(rest[0]).text, "short");
}

TEST(CsvReader, RejectsRowsThatDoNotFit) {
  const std::vector<Item> items = ReadBytesAs(Format::kCsv, "id,text\n1\n2,\"x\"y\n3,ok\n4,a\xff\n5,\"open\nto the end\n");
  ASSERT_EQ(items.size(), 5u);
  EXPECT_THAT(items[0].reject.reason, HasSubstr("2 columns, this row 1"));
  EXPECT_THAT(items[1].reject.reason, HasSubstr("closing quote"));
  EXPECT_EQ(DocumentOf(items[2]).text, "ok");
  EXPECT_THAT(items[3].reject.reason, HasSubstr("invalid UTF-8"));
  EXPECT_THAT(items[4].reject.reason, HasSubstr("line 6 has no end; 2 lines"));
  EXPECT_THAT(ReadBytesAs(Format::kCsv, "a,b\n1,2\n")[0].reject.reason, HasSubstr("no column id, _id or docid"));
  EXPECT_TRUE(ReadBytesAs(Format::kCsv, "").empty());
  EXPECT_EQ(DocumentOf(ReadBytesAs(Format::kTsv, "id\ttext\n1\ta,b\n")[0]).text, "a,b");
}

TEST(WholeFileReader, KeepsMarkdownAndTextAsTheyAre) {
  const std::vector<Item> notes = ReadAll({Doc("notes.md"), "sub/notes.md", Format::kMarkdown});
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(DocumentOf(notes[0]).id, "sub/notes.md");
  EXPECT_EQ(DocumentOf(notes[0]).title, "Tides");
  EXPECT_EQ(DocumentOf(notes[0]).text, testing::ReadBytes(Doc("notes.md")));
  EXPECT_TRUE(DocumentOf(notes[0]).source.empty());
  EXPECT_EQ(DocumentOf(notes[0]).fields.at("tags").size(), 2u);
  EXPECT_EQ(DocumentOf(ReadBytesAs(Format::kMarkdown, "text\n\nA *bold* `head`\n===\n")[0]).title, "A bold head");
  EXPECT_EQ(DocumentOf(ReadBytesAs(Format::kMarkdown, "no heading")[0]).title, "input");
  EXPECT_EQ(DocumentOf(ReadAll({Doc("plain.txt"), "plain.txt", Format::kText})[0]).title, "Lichens");
  EXPECT_EQ(DocumentOf(ReadBytesAs(Format::kText, "")[0]).text, "");
  const std::vector<Item> bad = ReadBytesAs(Format::kText, "line\nx\xc3\x28");
  EXPECT_EQ(bad[0].byte, 6);
  EXPECT_EQ(bad[0].line, 2);
  EXPECT_THAT(ReadBytesAs(Format::kText, "12345", {.max_record_bytes = 4})[0].reject.reason, HasSubstr("more than 4 bytes"));
}

TEST(WholeFileReader, TakesTheNameForATitleWhereTheTextHasNone) {
  testing::TempDir dir;
  for (const auto& [name, title] : {std::pair("notes.txt", "notes"), std::pair("LGPL-2.1", "LGPL-2.1"), std::pair("1.5.0.txt", "1.5.0"), std::pair("plain", "plain")}) {
    testing::WriteBytes(dir / name, "a sentence.\nanother.\n");
    EXPECT_EQ(DocumentOf(ReadAll({dir / name, name, Format::kText})[0]).title, title);
  }
}

TEST(HtmlReader, KeepsWhatAReaderSees) {
  const std::vector<Item> items = ReadAll({Doc("page.html"), "page.html", Format::kHtml});
  ASSERT_EQ(items.size(), 1u);
  const Document& page = DocumentOf(items[0]);
  EXPECT_EQ(page.title, "Bees & wax");
  EXPECT_EQ(page.text, "Bees\n\nBees make wax from honey.\nThey café not.\n\none\ntwo\n\na\tb\nc\td\n\nkeep\n  this");
  EXPECT_EQ(page.source, testing::ReadBytes(Doc("page.html")));
}

TEST(HtmlReader, RefusesDeepNestingInsteadOfOverflowing) {
  std::string deep;
  for (int i = 0; i < 200000; ++i) deep += "<div>";
  EXPECT_THAT(ReadBytesAs(Format::kHtml, deep)[0].reject.reason, HasSubstr("2000 deep"));
  std::string mixed;
  for (int i = 0; i < 50000; ++i) mixed += i % 2 == 0 ? "<b>" : "</i>";
  EXPECT_THAT(ReadBytesAs(Format::kHtml, mixed)[0].reject.reason, HasSubstr("2000 deep"));
  // Inside a picture nothing is closed by itself.
  for (const char* open : {"<svg>", "<math>", "<svg><circle/>", "<p><svg><title></title>"}) {
    std::string picture = open;
    for (int i = 0; i < 500000; ++i) picture += "<td>";
    EXPECT_THAT(ReadBytesAs(Format::kHtml, picture)[0].reject.reason, HasSubstr("2000 deep")) << open;
  }
  std::string paragraphs = "<svg viewBox='0 0 1 1'>";
  for (int i = 0; i < 3000; ++i) paragraphs += "<path d='M0 0L1 1'/>";
  paragraphs += "</svg><table>";
  for (int i = 0; i < 3000; ++i) paragraphs += "<tr><td>x<td>y<input>";
  paragraphs += "</table><svg/>";
  for (int i = 0; i < 20000; ++i) paragraphs += "<p>x<br>";
  EXPECT_TRUE(ReadBytesAs(Format::kHtml, paragraphs)[0].record.has_value());
}

TEST(PdfReader, ReadsTheTextOfAllPages) {
  const std::vector<Item> items = ReadAll({Doc("ferns.pdf"), "ferns.pdf", Format::kPdf});
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(DocumentOf(items[0]).title, "Ferns and moss");
  EXPECT_EQ(DocumentOf(items[0]).text, "The first page speaks of ferns.\n\nThe second speaks of moss.");
  EXPECT_FALSE(ReadBytesAs(Format::kPdf, "not a pdf")[0].record.has_value());
}

TEST(ExpandInputs, WalksFoldersInOrderAndTellsFormats) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "b/two.md", "# Two");
  testing::WriteBytes(dir / "a/one.txt", "one");
  testing::WriteBytes(dir / "a/.hidden", "x");
  testing::WriteBytes(dir / "noext", "{\"id\":1,\"text\":\"\"}\n");
  testing::WriteBytes(dir / "binary", std::string("\0\1\2\3\xff", 5));
  testing::WriteBytes(dir / "data.tsv", "id\ttext\n");
  testing::WriteBytes(dir / "passages.tsv", "1\tno header\n");
  auto found = ExpandInputs({dir.path()}, Format::kAuto);
  ASSERT_TRUE(found.ok()) << found.status();
  std::vector<std::string> seen;
  for (const InputFile& file : found->files) seen.push_back(file.relative + ":" + FormatName(file.format));
  EXPECT_THAT(seen, ::testing::ElementsAre("a/one.txt:txt", "b/two.md:md", "data.tsv:tsv", "noext:jsonl", "passages.tsv:msmarco"));
  ASSERT_EQ(found->rejects.size(), 1u);
  EXPECT_THAT(found->rejects[0].reject.reason, HasSubstr("cannot be told"));
  EXPECT_EQ(ExpandInputs({dir / "none"}, Format::kAuto).status().code(), absl::StatusCode::kNotFound);
  std::filesystem::create_directory(dir / "empty");
  EXPECT_THAT(std::string(ExpandInputs({dir / "empty"}, Format::kAuto).status().message()), HasSubstr("holds no file"));
  auto beir = ExpandInputs({Doc("beir")}, Format::kAuto);
  ASSERT_TRUE(beir.ok());
  ASSERT_EQ(beir->files.size(), 1u);
  EXPECT_EQ(beir->files[0].format, Format::kJsonl);
  EXPECT_FALSE(ParseFormat("word").ok());
}

TEST(ExpandInputs, GivesLinksTheirOwnNamesAndSaysWhatItLeavesOut) {
  namespace fs = std::filesystem;
  testing::TempDir dir, outside;
  testing::WriteBytes(dir / "real.txt", "real");
  testing::WriteBytes(outside / "far.txt", "far");
  fs::create_symlink("real.txt", dir / "alias.txt");
  fs::create_symlink(outside / "far.txt", dir / "near.txt");
  fs::create_symlink(outside.path(), dir / "folder");
  fs::create_symlink(".", dir / "loop");
  fs::create_symlink("gone.txt", dir / "broken.txt");
  ASSERT_EQ(::mkfifo((dir / "pipe.txt").c_str(), 0600), 0);
  testing::WriteBytes(dir / ".git/config", "x");
  testing::WriteBytes(dir / ".profile", "x");
  testing::WriteBytes(dir / "closed/secret.txt", "x");
  fs::permissions(dir / "closed", fs::perms::none);
  const auto found = ExpandInputs({dir.path()}, Format::kAuto);
  fs::permissions(dir / "closed", fs::perms::owner_all);
  ASSERT_TRUE(found.ok()) << found.status();
  std::vector<std::string> seen, left_out;
  for (const InputFile& file : found->files) seen.push_back(file.relative);
  for (const Item& item : found->rejects) left_out.push_back(item.reject.id + ": " + item.reject.reason);
  std::sort(left_out.begin(), left_out.end());
  const bool root = ::geteuid() == 0;   // whom no permission stops
  if (root) EXPECT_THAT(seen, ::testing::ElementsAre("alias.txt", "closed/secret.txt", "near.txt", "real.txt"));
  else EXPECT_THAT(seen, ::testing::ElementsAre("alias.txt", "near.txt", "real.txt"));
  std::vector<std::string> expected = {"broken.txt: a link to nothing", "folder: a link to a folder, which is not followed; name the folder itself",
                                       "loop: a link to a folder, which is not followed; name the folder itself",
                                       "pipe.txt: not a file: a pipe, a socket or a device"};
  if (!root) expected.insert(expected.begin() + 1, "closed: cannot list the folder: Permission denied");
  EXPECT_EQ(left_out, expected);
  EXPECT_EQ(found->hidden, 2);
}

TEST(ExpandInputs, LeavesOutWhatLecternWrote) {
  testing::TempDir dir;
  testing::WriteBytes(dir / "a.txt", "a");
  testing::WriteBytes(dir / "VERSION", "1.2\n");   // of someone else's
  testing::WriteBytes(dir / "notes.rejects.jsonl", "{}\n");
  testing::WriteBytes(dir / "lectern-data/VERSION", "lectern-data 1\n");
  testing::WriteBytes(dir / "lectern-data/store/LOCK", "x");
  const auto found = ExpandInputs({dir.path()}, Format::kAuto);
  ASSERT_TRUE(found.ok()) << found.status();
  std::vector<std::string> seen, own = found->own;
  for (const InputFile& file : found->files) seen.push_back(file.relative);
  EXPECT_THAT(seen, ::testing::ElementsAre("VERSION", "a.txt"));
  std::sort(own.begin(), own.end());
  EXPECT_THAT(own, ::testing::ElementsAre(dir / "lectern-data", dir / "notes.rejects.jsonl"));
  EXPECT_THAT(std::string(ExpandInputs({dir / "lectern-data"}, Format::kAuto).status().message()), HasSubstr("is a data directory of lectern"));
}

TEST(ExpandInputs, TakesNoBytesFromAPipe) {
  testing::TempDir dir;
  for (const char* name : {"pipe", "pipe.csv"}) ASSERT_EQ(::mkfifo((dir / name).c_str(), 0600), 0);
  const auto found = ExpandInputs({dir / "pipe", dir / "pipe.csv"}, Format::kAuto);   // opening one would wait for ever
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->files[0].format, Format::kJsonl);
  EXPECT_EQ(found->files[1].format, Format::kCsv);
}

class MutatedInput : public ::testing::TestWithParam<std::pair<const char*, Format>> {};

TEST_P(MutatedInput, GivesRecordsOfValidTextOrReasons) {
  const auto& [name, format] = GetParam();
  const std::string whole = testing::ReadBytes(Doc(name));
  testing::Mutations mutations(std::string("input ") + name);
  while (mutations.Next()) {
    absl::Status refused;
    for (const Item& item : ReadBytesAs(format, mutations.Of(whole))) {
      if (!item.record) {
        refused = InvalidArgument(item.reject.reason);
        continue;
      }
      EXPECT_LT(FindInvalidUtf8(item.record->document.text), 0) << name << " seed " << mutations.seed();
      EXPECT_LT(FindInvalidUtf8(item.record->document.title), 0) << name << " seed " << mutations.seed();
      EXPECT_FALSE(item.record->document.id.empty());
    }
    mutations.Count(refused);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats, MutatedInput,
    ::testing::Values(std::pair("docs.jsonl", Format::kJsonl), std::pair("docs.jsonl.gz", Format::kJsonl),
                      std::pair("docs.jsonl.zst", Format::kJsonl), std::pair("docs.jsonl.xz", Format::kJsonl),
                      std::pair("collection.tsv", Format::kMsmarco), std::pair("docs.trec", Format::kTrectext),
                      std::pair("notes.md", Format::kMarkdown), std::pair("page.html", Format::kHtml),
                      std::pair("rows.csv", Format::kCsv), std::pair("ferns.pdf", Format::kPdf)),
    [](const auto& info) {
      std::string name = info.param.first;
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

}  // namespace
}  // namespace lectern::index
