// service/cli/terminal.h: what a command prints: results on stdout, everything else on stderr.
//
//   Terminal term(flags);
//   term.Note("ingested 12 documents");          // stderr, silent with --quiet
//   term.Json({{"durable_seq", 7}});             // one line on stdout, only with --json
//   Progress bar(term, "encode", total);  bar.Update(done);
//
// Shapes:  lines.
// Threads: one command's thread; Progress::Update from any.
// Errors:  a stdout that takes no more ends the program with exit code 1, with a message unless its reader left (SIGPIPE is ignored).
// Cost:    a progress bar redraws at most ten times a second; without a terminal it prints a line every 10 s.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/json_fwd.h"
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

enum ExitCode {
  kOk = 0,
  kFailure = 1,
  kUsage = 2,               // a flag, an argument or a setting
  kMissing = 3,
  kDamaged = 4,
  kDirectoryLocked = 5,     // by another process
  kRejected = 6,            // finished, but some records were rejected
  kResource = 7,            // disk, memory
  kModelMissing = 8,        // or not the one that the collection needs
  kThresholdNotMet = 9,     // --fail-under, doctor --strict
                            // 10: a remote error; nothing here is remote yet
  kCancelledResumable = 11, // stopped by a signal or --timeout; how to go on was printed
  kUnsupported = 12,        // not by this build: a command, an option, a newer format
  kSignalBase = 128,        // and the signal: 130 interrupted, 143 terminated, with nothing to go on with
};
int ExitCodeOf(const absl::Status& status);
// What --json prints of an error as the last object on stderr: type, title, status, detail, code and exit_code; of a limit
// also limit, got and setting; of work to be taken up again also resume.
Json ProblemJson(const absl::Status& status);
// Stopped by a signal or by --timeout.
bool WasStopped(const absl::Status& status);

// Text of documents for a terminal: control characters (of C0, C1 and DEL) become U+FFFD, so that none moves the cursor or
// changes colours. Line ends and tabs stay.
std::string Printable(std::string_view text);
std::string PrintableLine(std::string_view text);   // on one line: line ends and tabs become blanks
// A word as a shell takes it: quoted where it needs to be.
std::string ShellQuoted(std::string_view word);

class Terminal {
 public:
  explicit Terminal(const GlobalFlags& flags);
  bool json() const { return json_; }
  bool color() const { return color_; }              // of stdout
  bool interactive() const { return interactive_; }  // stderr is a terminal and progress is wanted
  bool quiet() const { return level_ < kInfo; }
  bool progress() const { return progress_; }        // a bar, or a line every 10 s
  bool out_is_terminal() const { return out_is_terminal_; }

  void Out(std::string_view text) const;             // stdout, as it is
  void Line(std::string_view text) const;            // stdout and a newline
  void Json(const lectern::Json& value) const;       // stdout, one line, in --json mode only
  void Result(const lectern::Json& json, std::string_view text) const;   // stdout: the one with --json, else the other
  void Note(std::string_view text) const;            // stderr, not with --quiet
  void Warn(std::string_view text) const;            // stderr, also with --quiet
  void Detail(std::string_view text) const;          // stderr, with --verbose
  // The error line, or with --json a problem document; before it how to go on, where the status says. Returns the exit code.
  int Fail(const absl::Status& status) const;
  std::string Bold(std::string_view text) const;
  std::string Dim(std::string_view text) const;
  std::string Green(std::string_view text) const;

 private:
  enum Level { kError, kWarn, kInfo, kDebug };
  void Log(Level level, std::string_view text) const;
  bool json_, log_json_, color_, out_is_terminal_, interactive_, progress_;
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
// A standard stream that the caller closed stays closed: no file opened later gets its number and then our output.
void ReserveStandardStreams();

}  // namespace lectern::cli
