#include "base/problem.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lectern {
namespace {

TEST(Problem, ALimitSaysWhichBoundWasPassedByWhatAndWhoControlsIt) {
  EXPECT_TRUE(CheckRange("k", int64_t{10}, 1, 10).ok());
  const absl::Status above = CheckRange("k", int64_t{11}, 1, 10, "search.k");
  EXPECT_EQ(above.message(), "k must be in 1..10, got 11");
  const Problem problem = ProblemOf(above);
  EXPECT_EQ(problem.setting + " " + problem.limit + " " + problem.got, "search.k 10 11");
  EXPECT_EQ(ProblemOf(CheckRange("--ef", 0, 1, 10)).limit, "1");
  EXPECT_EQ(ProblemOf(CheckRange("--ef", 0, 1, 10)).setting, "--ef");
  EXPECT_FALSE(CheckRange("b", std::nan(""), 0, 1).ok());
  EXPECT_EQ(ProblemOf(CheckAtLeast("--limit", 0, 1)).limit, "1");
}

TEST(Problem, MarksStayTogetherAndLeaveTheStatusAsItIs) {
  const absl::Status status = Resumable(WithCode(Cancelled("stopped"), "cancelled"), "with --resume");
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(status.message(), "stopped");
  EXPECT_EQ(ProblemOf(status).code, "cancelled");
  EXPECT_EQ(ProblemOf(status).resume, "with --resume");
  EXPECT_TRUE(WithCode(absl::OkStatus(), "x").ok());
  EXPECT_EQ(ProblemOf(Internal("x")).code, "");
}

}  // namespace
}  // namespace lectern
