#include "service/cli/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/json.h"
#include "base/problem.h"

namespace lectern::cli {
namespace {

CancelToken g_interrupt;  // the one mutable global: a signal handler can reach nothing else
std::atomic<int> g_signal{0};   // the first that came

constexpr const char* kLevelNames[] = {"error", "warn", "info", "debug"};

void OnSignal(int signal) {
  int none = 0;
  if (!g_signal.compare_exchange_strong(none, signal)) _exit(kSignalBase + signal);
  g_interrupt.Cancel();
}

// A reader of stdout that left (`| head`) needs no message; a full disk does.
[[noreturn]] void EndWithoutOut() {
  if (errno != EPIPE) std::fprintf(stderr, "! io failed: cannot write to standard output: %s\n", std::strerror(errno));
  std::_Exit(kFailure);
}

void Write(FILE* to, std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), to) != text.size() && to == stdout) EndWithoutOut();
}

void FlushOut() {
  if (std::fflush(stdout) != 0) EndWithoutOut();
}

std::string MessageOf(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

}  // namespace

CancelToken& InterruptToken() { return g_interrupt; }

void ReserveStandardStreams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) != -1 || errno != EBADF) continue;
    const int opened = ::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);   // the lowest number that is free: this one
    if (opened != stream && opened >= 0) ::close(opened);
  }
}

void InstallSignalHandlers() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

namespace {

// How a status code is told: a short name, a sentence, an HTTP status, an exit code.
struct Kind {
  const char* code;
  const char* title;
  int http;
  int exit_code;
};

Kind KindOf(const absl::Status& status, const Problem& problem) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      if (!problem.limit.empty()) return {"out-of-range", "A value is outside its limits", 422, kUsage};
      return {"invalid-argument", "A flag, an argument or a setting is not valid", 400, kUsage};
    case absl::StatusCode::kNotFound: return {"not-found", "What was named does not exist", 404, kMissing};
    case absl::StatusCode::kAlreadyExists: return {"exists", "The name is taken", 409, kFailure};
    case absl::StatusCode::kDataLoss: return {"data-damaged", "Stored or given data are damaged", 500, kDamaged};
    case absl::StatusCode::kAborted: return {"directory-locked", "Another process is writing", 409, kDirectoryLocked};
    case absl::StatusCode::kResourceExhausted: return {"resource-limit", "A limit of memory, disk or size was reached", 507, kResource};
    case absl::StatusCode::kFailedPrecondition: return {"model-mismatch", "A model is missing or is another one", 409, kModelMissing};
    case absl::StatusCode::kPermissionDenied: return {"forbidden", "Reading or writing is not permitted", 403, kFailure};
    case absl::StatusCode::kCancelled:
      return {"cancelled", "The work was stopped", 499, g_signal.load() != 0 ? kSignalBase + g_signal.load() : int{kFailure}};
    case absl::StatusCode::kDeadlineExceeded: return {"deadline-exceeded", "The time allowed has passed", 504, kFailure};
    case absl::StatusCode::kUnimplemented: return {"not-supported", "This build does not do that", 501, kUnsupported};
    case absl::StatusCode::kUnavailable: return {"io-failed", "Reading or writing failed", 503, kFailure};
    default: return {"internal", "An error inside lectern", 500, kFailure};
  }
}

// A number as a number, anything else as text.
Json NumberOrText(const std::string& text) {
  auto value = ParseJson(text);
  return value.ok() && value->is_number() ? *std::move(value) : Json(text);
}

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kOk;
  const Problem problem = ProblemOf(status);
  return problem.resume.empty() ? KindOf(status, problem).exit_code : int{kCancelledResumable};
}

Json ProblemJson(const absl::Status& status) {
  const Problem problem = ProblemOf(status);
  Kind kind = KindOf(status, problem);
  if (problem.code == "bad-filter") kind = {"bad-filter", "The filter is not valid", 400, kUsage};
  Json out = {{"type", internal::Concat("urn:lectern:problem:", kind.code)}, {"title", kind.title}, {"status", kind.http},
              {"detail", MessageOf(status)}, {"code", kind.code}, {"exit_code", ExitCodeOf(status)}};
  if (!problem.limit.empty()) {
    out["limit"] = NumberOrText(problem.limit);
    out["got"] = NumberOrText(problem.got);
    out["setting"] = problem.setting;
  }
  if (!problem.resume.empty()) out["resume"] = problem.resume;
  return out;
}

bool WasStopped(const absl::Status& status) {
  return status.code() == absl::StatusCode::kCancelled || status.code() == absl::StatusCode::kDeadlineExceeded;
}

namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";   // U+FFFD

std::string WithoutControls(std::string_view text, bool one_line) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\n' || c == '\t') {
      out += one_line ? ' ' : text[i];
    } else if (c < 0x20 || c == 0x7f) {
      if (!(one_line && c == '\r')) out += kReplacement;
    } else if (c == 0xc2 && i + 1 < text.size() && (static_cast<unsigned char>(text[i + 1]) & 0xe0) == 0x80) {
      out += kReplacement;   // U+0080..U+009F, of which U+009B opens a command as ESC [ does
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::string Printable(std::string_view text) { return WithoutControls(text, /*one_line=*/false); }
std::string PrintableLine(std::string_view text) { return WithoutControls(text, /*one_line=*/true); }

std::string ShellQuoted(std::string_view word) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+=,-";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string_view::npos) return std::string(word);
  std::string out = "'";
  for (const char c : word) {
    if (c == '\'') out += "'\\''";
    else out += c;
  }
  return out + "'";
}

Terminal::Terminal(const GlobalFlags& flags) : json_(flags.json), log_json_(flags.log_format == "json"), level_(kInfo) {
  for (int level = kError; level <= kDebug; ++level) {
    if (flags.log_level == kLevelNames[level]) level_ = static_cast<Level>(level);
  }
  if (flags.verbose > 0) level_ = kDebug;
  if (flags.quiet) level_ = std::min(level_, kWarn);
  const char* no_color = std::getenv("NO_COLOR");
  out_is_terminal_ = isatty(STDOUT_FILENO);
  color_ = flags.color == "always" ||
           (flags.color == "auto" && out_is_terminal_ && (no_color == nullptr || *no_color == '\0'));
  progress_ = !flags.no_progress && level_ >= kInfo && !flags.json;
  interactive_ = progress_ && isatty(STDERR_FILENO);
}

void Terminal::Out(std::string_view text) const {
  Write(stdout, text);
  FlushOut();
}
void Terminal::Line(std::string_view text) const {
  Write(stdout, text);
  Write(stdout, "\n");
  FlushOut();
}
void Terminal::Json(const lectern::Json& value) const {
  if (json_) Line(DumpJson(value));
}
void Terminal::Result(const lectern::Json& json, std::string_view text) const {
  if (json_) Json(json);
  else Line(text);
}
void Terminal::Log(Level level, std::string_view text) const {
  if (level > level_) return;
  FlushOut();
  Write(stderr, log_json_ ? DumpJson({{"level", kLevelNames[level]}, {"message", std::string(text)}}) : Printable(text));
  Write(stderr, "\n");
}
void Terminal::Detail(std::string_view text) const { Log(kDebug, text); }
void Terminal::Note(std::string_view text) const { Log(kInfo, text); }
void Terminal::Warn(std::string_view text) const { Log(kWarn, text); }

int Terminal::Fail(const absl::Status& status) const {
  const lectern::Json problem = ProblemJson(status);
  if (problem.contains("resume")) Log(kWarn, problem["resume"].get<std::string>());
  const int code = problem["exit_code"];
  if (json_) {
    FlushOut();
    Write(stderr, DumpJson(problem) + "\n");
    return code;
  }
  std::string kind = problem["code"];
  for (char& c : kind) c = c == '-' ? ' ' : c;
  if (code == kUsage) kind = "invalid argument";
  Log(kError, log_json_ ? kind + ": " + MessageOf(status) : "! " + kind + ": " + MessageOf(status));
  return code;
}

std::string Terminal::Bold(std::string_view text) const {
  return color_ ? internal::Concat("\x1b[1m", text, "\x1b[0m") : std::string(text);
}
std::string Terminal::Dim(std::string_view text) const {
  return color_ ? internal::Concat("\x1b[2m", text, "\x1b[0m") : std::string(text);
}
std::string Terminal::Green(std::string_view text) const {
  return color_ ? internal::Concat("\x1b[32m", text, "\x1b[0m") : std::string(text);
}

Progress::Progress(const Terminal& terminal, std::string label, int64_t total, std::string unit)
    : terminal_(terminal), label_(std::move(label)), unit_(std::move(unit)), total_(total),
      start_(std::chrono::steady_clock::now()), last_draw_(start_) {}

Progress::~Progress() {
  if (drawn_ && terminal_.interactive()) std::fputs("\r\x1b[K", stderr);
}

void Progress::SetLabel(std::string label, bool restart) {
  if (label == label_) return;
  label_ = std::move(label);
  if (restart) start_ = std::chrono::steady_clock::now();
}

void Progress::Update(int64_t done, int64_t total) {
  if (total >= 0) total_ = total;
  last_done_ = done;
  if (!terminal_.progress()) return;
  const auto now = std::chrono::steady_clock::now();
  const auto every = terminal_.interactive() ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000);
  if (now - last_draw_ < every) return;
  last_draw_ = now;
  Draw(done);
}

void Progress::Draw(int64_t done) {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double rate = seconds > 0 ? done / seconds : 0;
  const int decimals = rate < 10 ? 1 : 0;
  char tail[96];
  if (total_ > 0) {
    const double left = rate > 0 ? (total_ - done) / rate : 0;
    std::snprintf(tail, sizeof(tail), "%lld/%lld%s%s  %.*f/s  %.0f s left", static_cast<long long>(done),
                  static_cast<long long>(total_), unit_.empty() ? "" : " ", unit_.c_str(), decimals, rate, left);
  } else {
    std::snprintf(tail, sizeof(tail), "%lld%s%s  %.*f/s", static_cast<long long>(done), unit_.empty() ? "" : " ",
                  unit_.c_str(), decimals, rate);
  }
  if (terminal_.interactive()) {
    std::string bar;
    if (total_ > 0) {
      const int filled = static_cast<int>(24.0 * done / total_);
      bar = "[" + std::string(static_cast<size_t>(filled), '=') + std::string(static_cast<size_t>(24 - filled), ' ') + "] ";
    }
    std::fprintf(stderr, "\r\x1b[K%s %s%s", label_.c_str(), bar.c_str(), tail);
    std::fflush(stderr);
    drawn_ = true;
  } else {
    std::fprintf(stderr, "%s %s\n", label_.c_str(), tail);
  }
}

}  // namespace lectern::cli
