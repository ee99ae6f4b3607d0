// service/cli/terminal.h: what a command prints: results on stdout, everything else on stderr.
//
//   Terminal term(flags);
//   term.Note("ingested 12 documents");          // stderr, silent with --quiet
//   term.Json({{"durable_seq", 7}});             // one line on stdout, only with --json
//   Progress bar(term, "encode", total);  bar.Update(done);
//
// Shapes:  lines.
// Threads: one command's thread; Progress::Update from any.
// Errors:  a closed stdout ends the program with exit code 1 (SIGPIPE is ignored).
// Cost:    a progress bar redraws at most ten times a second; without a terminal it prints a line every 10 s.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "base/cancel.h"

namespace lectern::cli {

struct GlobalFlags {
  std::string data = "lectern-data";
  std::string config_file;
  bool json = false, quiet = false, no_progress = false, yes = false;
  int verbose = 0;
  std::string log_format, log_level;   // empty: as the settings say
  std::string color = "auto", timeout, url;
};

// Exit codes of product-surface §2.
enum ExitCode {
  kOk = 0, kFailure = 1, kUsage = 2, kMissing = 3, kDamaged = 4, kDirectoryLocked = 5, kRejected = 6, kResource = 7,
  kModelMissing = 8, kThresholdNotMet = 9, kRemote = 10, kCancelledResumable = 11, kUnsupported = 12,
  kSignalBase = 128,   // and the signal: 130 interrupted, 143 terminated
};
int ExitCodeOf(const absl::Status& status);
// A short name of the problem, as in `code` of problem documents: "not-found", "data-damaged", ...
const char* ProblemCode(const absl::Status& status);

class Terminal {
 public:
  explicit Terminal(const GlobalFlags& flags);
  bool json() const { return json_; }
  bool color() const { return color_; }              // of stdout
  bool interactive() const { return interactive_; }  // stderr is a terminal and progress is wanted
  bool quiet() const { return level_ < kInfo; }
  bool progress() const { return progress_; }        // a bar, or a line every 10 s

  void Out(std::string_view text) const;             // stdout, as it is
  void Line(std::string_view text) const;            // stdout and a newline
  void Json(const lectern::Json& value) const;       // stdout, one line, in --json mode only
  void Result(const lectern::Json& json, std::string_view text) const;   // stdout: the one with --json, else the other
  void Note(std::string_view text) const;            // stderr, not with --quiet
  void Warn(std::string_view text) const;            // stderr, also with --quiet
  void Detail(std::string_view text) const;          // stderr, with --verbose
  // The error line, or with --json a problem document as the last object on stderr. Returns the exit code, which is the
  // one of the status unless another is given.
  int Fail(const absl::Status& status, int code = -1) const;
  std::string Bold(std::string_view text) const;
  std::string Dim(std::string_view text) const;
  std::string Green(std::string_view text) const;

 private:
  enum Level { kError, kWarn, kInfo, kDebug };
  void Log(Level level, std::string_view text) const;
  bool json_, log_json_, color_, interactive_, progress_;
  Level level_;
};

class Progress {
 public:
  Progress(const Terminal& terminal, std::string label, int64_t total, std::string unit = "");
  ~Progress();   // clears the bar
  void Update(int64_t done, int64_t total = -1);
  void SetLabel(std::string label, bool restart = true);   // restart: the rate and what is left count from here

 private:
  void Draw(int64_t done);
  const Terminal& terminal_;
  std::string label_, unit_;
  int64_t total_, last_done_ = 0;
  std::chrono::steady_clock::time_point start_, last_draw_;
  bool drawn_ = false;
};

// The token that SIGINT and SIGTERM cancel: once stops cleanly, twice aborts with 130 or 143.
CancelToken& InterruptToken();
void InstallSignalHandlers();
bool Interrupted();

}  // namespace lectern::cli
