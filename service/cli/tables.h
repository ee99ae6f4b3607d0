// service/cli/tables.h: what the eval commands share: tables in the formats asked for, and --fail-under.
//
//   terminal.Out(FormatTable({{"query", "RR@10"}, {"all", Fixed(0.5)}}, "markdown"));
//   ASSIGN_OR_RETURN(const auto least, ParseFailUnder(args.fail_under));       // "RR@10=0.35"
//   return CheckFailUnder(terminal, least, [&](const std::string& name) { return ValueOf(name); });
//
// Shapes:  the first row is the head.
// Threads: pure.
// Errors:  kInvalidArgument where a rule has no measure, or a number that is empty, not finite or none.
// Cost:    the text.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "service/cli/terminal.h"

namespace lectern::cli {

std::string Fixed(double value, int digits = 4);

// format: text (tabs), csv (quoted where a cell needs it) or markdown.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows, const std::string& format);

struct FailUnder {
  std::string measure;
  double least = 0;
};
absl::StatusOr<std::vector<FailUnder>> ParseFailUnder(const std::vector<std::string>& rules);
// Warns of every value below its rule and gives kThresholdNotMet, else kOk. kInvalidArgument where `value` knows no such
// measure.
absl::StatusOr<int> CheckFailUnder(const Terminal& terminal, const std::vector<FailUnder>& rules,
                                   const std::function<std::optional<double>(const std::string& measure)>& value);

}  // namespace lectern::cli
