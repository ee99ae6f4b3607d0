#include "service/cli/terminal.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "base/problem.h"
#include "service/cli/tables.h"

namespace lectern::cli {
namespace {

TEST(Terminal, TextOfDocumentsCannotMoveTheCursor) {
  const std::string mark = "\xef\xbf\xbd";
  EXPECT_EQ(Printable("a\x1b]0;title\x07z"), "a" + mark + "]0;title" + mark + "z");
  EXPECT_EQ(Printable("a\xc2\x9b" "31mz\x7f"), "a" + mark + "31mz" + mark);
  EXPECT_EQ(Printable("two\nlines\tof caf\xc3\xa9 \xc2\xa0 \xe2\x80\x9cquoted\xe2\x80\x9d"), "two\nlines\tof caf\xc3\xa9 \xc2\xa0 \xe2\x80\x9cquoted\xe2\x80\x9d");
  EXPECT_EQ(PrintableLine("two\r\nlines\tmore"), "two lines more");
  EXPECT_EQ(Printable("a\rb"), "a" + mark + "b");
  EXPECT_EQ(Printable("cut \xc2"), "cut \xc2");
}

TEST(Terminal, AWordIsQuotedForAShellWhereItNeedsToBe) {
  EXPECT_EQ(ShellQuoted("notes/a-1.md"), "notes/a-1.md");
  EXPECT_EQ(ShellQuoted("my file.md"), "'my file.md'");
  EXPECT_EQ(ShellQuoted("it's $HOME"), "'it'\\''s $HOME'");
  EXPECT_EQ(ShellQuoted(""), "''");
}

TEST(Terminal, AProblemDocumentHasTheLimitAndEveryCodeItsExit) {
  const Json limit = ProblemJson(CheckRange("k", int64_t{0}, 1, 10000, "search.k"));
  EXPECT_EQ(limit["code"], "out-of-range");
  EXPECT_EQ(limit["status"], 422);
  EXPECT_EQ(limit["limit"], 1);
  EXPECT_EQ(limit["got"], 0);
  EXPECT_EQ(limit["setting"], "search.k");
  EXPECT_EQ(limit["exit_code"], kUsage);
  EXPECT_EQ(ProblemJson(InvalidArgument("x"))["code"], "invalid-argument");
  EXPECT_FALSE(ProblemJson(InvalidArgument("x")).contains("limit"));
  EXPECT_EQ(ProblemJson(WithCode(InvalidArgument("x"), "bad-filter"))["code"], "bad-filter");
  EXPECT_EQ(ProblemJson(WithCode(InvalidArgument("x"), "bad-filter"))["status"], 400);

  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), kOk);
  EXPECT_EQ(ExitCodeOf(NotFound("x")), kMissing);
  EXPECT_EQ(ExitCodeOf(DataLoss("x")), kDamaged);
  EXPECT_EQ(ExitCodeOf(Locked("x")), kDirectoryLocked);
  EXPECT_EQ(ExitCodeOf(ResourceExhausted("x")), kResource);
  EXPECT_EQ(ExitCodeOf(FailedPrecondition("x")), kModelMissing);
  EXPECT_EQ(ExitCodeOf(NotSupported("x")), kUnsupported);
  EXPECT_EQ(ExitCodeOf(Internal("x")), kFailure);
  for (const absl::Status& stopped : {Cancelled("x"), DeadlineExceeded("x")}) {
    EXPECT_NE(ExitCodeOf(stopped), kCancelledResumable);
    EXPECT_EQ(ExitCodeOf(Resumable(stopped, "again with --resume")), kCancelledResumable);
    EXPECT_EQ(ProblemJson(Resumable(stopped, "again with --resume"))["resume"], "again with --resume");
  }
}

TEST(Tables, AreTabsCsvOrMarkdown) {
  const std::vector<std::vector<std::string>> rows = {{"id", "x"}, {"a,\"b\"", Fixed(0.5)}};
  EXPECT_EQ(FormatTable(rows, "text"), "id\tx\na,\"b\"\t0.5000\n");
  EXPECT_EQ(FormatTable(rows, "csv"), "id,x\n\"a,\"\"b\"\"\",0.5000\n");
  EXPECT_EQ(FormatTable(rows, "markdown"), "| id | x |\n| --- | --- |\n| a,\"b\" | 0.5000 |\n");
}

TEST(FailUnder, TakesAMeasureAndAFiniteNumber) {
  const auto rules = ParseFailUnder({"RR@10=0.35", "RBP(p=0.8)=1e-3"});
  ASSERT_TRUE(rules.ok()) << rules.status();
  EXPECT_EQ((*rules)[1].measure, "RBP(p=0.8)");
  EXPECT_DOUBLE_EQ((*rules)[1].least, 1e-3);
  for (const char* bad : {"RR@10", "RR@10=", "RR@10=nan", "RR@10=inf", "RR@10=0.5x", "=0.5", ""}) {
    EXPECT_EQ(ParseFailUnder({bad}).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(FailUnder, OneValueBelowIsEnough) {
  const Terminal terminal({.quiet = true, .log_level = "error"});
  const auto value = [](const std::string& name) { return name == "a" ? std::optional<double>(0.5) : name == "b" ? std::optional<double>(0.1) : std::nullopt; };
  EXPECT_EQ(*CheckFailUnder(terminal, {{"a", 0.5}, {"b", 0.1}}, value), kOk);
  EXPECT_EQ(*CheckFailUnder(terminal, {{"a", 0.4}, {"b", 0.2}}, value), kThresholdNotMet);
  EXPECT_FALSE(CheckFailUnder(terminal, {{"c", 0}}, value).ok());
}

}  // namespace
}  // namespace lectern::cli
