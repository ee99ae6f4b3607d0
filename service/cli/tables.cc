#include "service/cli/tables.h"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace lectern::cli {

std::string Fixed(double value, int digits) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string FormatTable(const std::vector<std::vector<std::string>>& rows, const std::string& format) {
  const bool markdown = format == "markdown", csv = format == "csv";
  std::string out;
  const auto add = [&](const std::vector<std::string>& cells) {
    if (markdown) out += "| ";
    for (size_t i = 0; i < cells.size(); ++i) {
      const bool quote = csv && cells[i].find_first_of(",\"\r\n") != std::string::npos;
      std::string cell = cells[i];
      if (quote) {
        for (size_t at = 0; (at = cell.find('"', at)) != std::string::npos; at += 2) cell.insert(at, 1, '"');
        cell = '"' + cell + '"';
      }
      out += (i ? (csv ? "," : markdown ? " | " : "\t") : "") + cell;
    }
    out += markdown ? " |\n" : "\n";
  };
  for (size_t r = 0; r < rows.size(); ++r) {
    add(rows[r]);
    if (markdown && r == 0) add(std::vector<std::string>(rows[0].size(), "---"));
  }
  return out;
}

absl::StatusOr<std::vector<FailUnder>> ParseFailUnder(const std::vector<std::string>& rules) {
  std::vector<FailUnder> out;
  for (const std::string& rule : rules) {
    const size_t equals = rule.rfind('=');   // RBP(p=0.8)=0.5 has one in its name
    double least = NAN;
    if (equals != std::string::npos) {
      const char* const end = rule.data() + rule.size();
      const auto [stop, error] = std::from_chars(rule.data() + equals + 1, end, least);
      if (error != std::errc() || stop != end) least = NAN;
    }
    if (equals == std::string::npos || equals == 0 || !std::isfinite(least)) {
      return InvalidArgument("--fail-under takes MEASURE=NUMBER, got '", rule, "'");
    }
    out.push_back({rule.substr(0, equals), least});
  }
  return out;
}

absl::StatusOr<int> CheckFailUnder(const Terminal& terminal, const std::vector<FailUnder>& rules,
                                   const std::function<std::optional<double>(const std::string& measure)>& value) {
  int code = kOk;
  for (const FailUnder& rule : rules) {
    const std::optional<double> got = value(rule.measure);
    if (!got.has_value()) return InvalidArgument("--fail-under names ", rule.measure, ", which is not among the measures");
    if (*got >= rule.least) continue;
    terminal.Warn(internal::Concat(rule.measure, " is ", Fixed(*got), ", below ", rule.least));
    code = kThresholdNotMet;
  }
  return code;
}

}  // namespace lectern::cli
