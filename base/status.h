// base/status.h: the error makers and the two macros every fallible function uses.
//
//   if (k < 1) return InvalidArgument("k must be in 1..", kMaxK, ", got ", k);
//   ASSIGN_OR_RETURN(std::string bytes, ReadFile(path));
//   RETURN_IF_ERROR(Validate(bytes));
//
// Shapes:  a message is the rule, then the fact; arguments are concatenated.
// Threads: any.
// Errors:  these functions make them; the code decides the exit code and the HTTP status.
// Cost:    a message is built only when an error is made.
#pragma once

#include <charconv>
#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern {

namespace internal {
// One argument of a message, as text. No stream: every file makes messages, and streams would be compiled in each.
class Piece {
 public:
  Piece(const char* text) : text_(text) {}
  Piece(char c) : Piece(std::string_view(&c, 1), 0) {}
  Piece(double value);   // six digits, as printf's %g
  Piece(float value) : Piece(static_cast<double>(value)) {}
  template <std::same_as<bool> T>   // no pointer turns into it
  Piece(T value) : Piece(value ? '1' : '0') {}
  template <std::integral T>
  Piece(T value) requires(!std::same_as<T, bool>) : text_(digits_, static_cast<size_t>(std::to_chars(digits_, digits_ + sizeof(digits_), value).ptr - digits_)) {}
  template <class T> requires requires(const T& text) { text.data(); text.size(); }
  Piece(const T& text) : text_(text.data(), text.size()) {}   // std::string, std::string_view, absl::string_view
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;
  std::string_view text() const { return text_; }

 private:
  Piece(std::string_view copied, int) : text_(digits_, copied.copy(digits_, sizeof(digits_))) {}
  char digits_[24];
  std::string_view text_;
};

std::string Join(std::initializer_list<Piece> pieces);
absl::Status Error(absl::StatusCode code, std::initializer_list<Piece> pieces);

template <class... Args>
std::string Concat(const Args&... args) {
  return Join({Piece(args)...});
}
}  // namespace internal

#define LECTERN_STATUS_MAKER(Name, Code)                                          \
  template <class... Args>                                                        \
  absl::Status Name(const Args&... args) {                                        \
    return internal::Error(absl::StatusCode::Code, {internal::Piece(args)...});   \
  }
LECTERN_STATUS_MAKER(InvalidArgument, kInvalidArgument)        // the caller's value breaks a rule
LECTERN_STATUS_MAKER(NotFound, kNotFound)                      // a named thing does not exist
LECTERN_STATUS_MAKER(AlreadyExists, kAlreadyExists)
LECTERN_STATUS_MAKER(DataLoss, kDataLoss)                      // bytes are damaged
LECTERN_STATUS_MAKER(ResourceExhausted, kResourceExhausted)    // memory, disk, queue, budget
LECTERN_STATUS_MAKER(FailedPrecondition, kFailedPrecondition)  // a model or index is missing or differs
LECTERN_STATUS_MAKER(PermissionDenied, kPermissionDenied)    // read-only file system, permissions
LECTERN_STATUS_MAKER(Locked, kAborted)                         // another process holds the directory
LECTERN_STATUS_MAKER(Cancelled, kCancelled)
LECTERN_STATUS_MAKER(DeadlineExceeded, kDeadlineExceeded)
LECTERN_STATUS_MAKER(NotSupported, kUnimplemented)             // a thing we know of and do not do
LECTERN_STATUS_MAKER(Unavailable, kUnavailable)                // input or output failed; may pass
LECTERN_STATUS_MAKER(Internal, kInternal)                      // a bug of ours or of a library
#undef LECTERN_STATUS_MAKER

// The same status with `context` and ": " before its message. Cost: one string.
absl::Status Annotate(const absl::Status& status, std::string_view context);

}  // namespace lectern

#define RETURN_IF_ERROR(expr)                            \
  do {                                                   \
    if (absl::Status lectern_status_ = (expr); !lectern_status_.ok()) return lectern_status_; \
  } while (false)

#define LECTERN_CONCAT_INNER(a, b) a##b
#define LECTERN_CONCAT(a, b) LECTERN_CONCAT_INNER(a, b)
#define ASSIGN_OR_RETURN(lhs, expr) \
  LECTERN_ASSIGN_OR_RETURN(LECTERN_CONCAT(lectern_statusor_, __COUNTER__), lhs, expr)
#define LECTERN_ASSIGN_OR_RETURN(tmp, lhs, expr) \
  auto tmp = (expr);                             \
  if (!tmp.ok()) return std::move(tmp).status(); \
  lhs = *std::move(tmp)
