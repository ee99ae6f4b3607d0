#include "service/cli/terminal.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

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

void Write(FILE* to, std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), to) != text.size() && to == stdout) std::_Exit(kFailure);
}

std::string MessageOf(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

}  // namespace

CancelToken& InterruptToken() { return g_interrupt; }
bool Interrupted() { return g_signal.load() != 0; }

void InstallSignalHandlers() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return kOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange: return kUsage;
    case absl::StatusCode::kNotFound: return kMissing;
    case absl::StatusCode::kDataLoss: return kDamaged;
    case absl::StatusCode::kAborted: return kDirectoryLocked;
    case absl::StatusCode::kResourceExhausted: return kResource;
    case absl::StatusCode::kFailedPrecondition: return kModelMissing;
    case absl::StatusCode::kCancelled: return Interrupted() ? kSignalBase + g_signal.load() : int{kCancelledResumable};
    case absl::StatusCode::kUnimplemented: return kUnsupported;
    default: return kFailure;
  }
}

const char* ProblemCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange: return "out-of-range";
    case absl::StatusCode::kNotFound: return "not-found";
    case absl::StatusCode::kAlreadyExists: return "exists";
    case absl::StatusCode::kDataLoss: return "data-damaged";
    case absl::StatusCode::kAborted: return "directory-locked";
    case absl::StatusCode::kResourceExhausted: return "resource-limit";
    case absl::StatusCode::kFailedPrecondition: return "model-mismatch";
    case absl::StatusCode::kPermissionDenied: return "forbidden";
    case absl::StatusCode::kCancelled: return "cancelled";
    case absl::StatusCode::kDeadlineExceeded: return "deadline-exceeded";
    case absl::StatusCode::kUnimplemented: return "not-supported";
    default: return "internal";
  }
}

Terminal::Terminal(const GlobalFlags& flags) : json_(flags.json), log_json_(flags.log_format == "json"), level_(kInfo) {
  for (int level = kError; level <= kDebug; ++level) {
    if (flags.log_level == kLevelNames[level]) level_ = static_cast<Level>(level);
  }
  if (flags.verbose > 0) level_ = kDebug;
  if (flags.quiet) level_ = std::min(level_, kWarn);
  const char* no_color = std::getenv("NO_COLOR");
  color_ = flags.color == "always" ||
           (flags.color == "auto" && isatty(STDOUT_FILENO) && (no_color == nullptr || *no_color == '\0'));
  progress_ = !flags.no_progress && level_ >= kInfo && !flags.json;
  interactive_ = progress_ && isatty(STDERR_FILENO);
}

void Terminal::Out(std::string_view text) const {
  Write(stdout, text);
  std::fflush(stdout);
}
void Terminal::Line(std::string_view text) const {
  Write(stdout, text);
  Write(stdout, "\n");
  std::fflush(stdout);
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
  std::fflush(stdout);
  Write(stderr, log_json_ ? DumpJson({{"level", kLevelNames[level]}, {"message", std::string(text)}}) : std::string(text));
  Write(stderr, "\n");
}
void Terminal::Detail(std::string_view text) const { Log(kDebug, text); }
void Terminal::Note(std::string_view text) const { Log(kInfo, text); }
void Terminal::Warn(std::string_view text) const { Log(kWarn, text); }

int Terminal::Fail(const absl::Status& status, int code) const {
  if (code < 0) code = ExitCodeOf(status);
  if (json_) {
    std::fflush(stdout);
    Write(stderr, DumpJson({{"title", ProblemCode(status)}, {"detail", MessageOf(status)}, {"code", ProblemCode(status)}, {"exit_code", code}}) + "\n");
    return code;
  }
  std::string kind = ProblemCode(status);
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
  char tail[96];
  if (total_ > 0) {
    const double left = rate > 0 ? (total_ - done) / rate : 0;
    std::snprintf(tail, sizeof(tail), "%lld/%lld%s%s  %.0f/s  %.0f s left", static_cast<long long>(done),
                  static_cast<long long>(total_), unit_.empty() ? "" : " ", unit_.c_str(), rate, left);
  } else {
    std::snprintf(tail, sizeof(tail), "%lld%s%s  %.0f/s", static_cast<long long>(done), unit_.empty() ? "" : " ",
                  unit_.c_str(), rate);
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
