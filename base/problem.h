// base/problem.h: what a program may read of an error beside its sentence: a code, the limit that was passed, how to go on.
//
//   RETURN_IF_ERROR(CheckRange("k", k, 1, kMaxTopK, "search.k"));   // "k must be in 1..10000, got 0"
//   return WithCode(status, "bad-filter");
//   const Problem problem = ProblemOf(status);                       // as the command line prints it
//
// Shapes:  payloads of the status; its code and its message stay what they are.
// Threads: pure.
// Errors:  CheckRange makes kInvalidArgument. Annotate (base/status.h) keeps the message only: mark a status after it.
// Cost:    nothing while all is well.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/cord.h"
#include "base/status.h"

namespace lectern {

struct Problem {
  std::string code;                  // empty: as the status code says
  std::string setting, limit, got;   // of a limit: who controls it, the bound that was passed, the value; empty: none
  std::string resume;                // how to go on with the work that was stopped; empty: not at all
};

namespace internal {

inline absl::Status WithPayload(absl::Status status, std::string_view key, const std::string& value) {
  if (!status.ok() && !value.empty()) status.SetPayload(Concat("lectern/", key), absl::Cord(value));
  return status;
}
inline std::string PayloadOf(const absl::Status& status, std::string_view key) {
  const auto payload = status.GetPayload(Concat("lectern/", key));
  return payload.has_value() ? std::string(*payload) : std::string();
}

}  // namespace internal

inline absl::Status WithCode(absl::Status status, std::string_view code) {
  return internal::WithPayload(std::move(status), "code", std::string(code));
}

template <class T, class U>
absl::Status WithLimit(absl::Status status, std::string_view setting, const T& limit, const U& got) {
  status = internal::WithPayload(std::move(status), "setting", std::string(setting));
  status = internal::WithPayload(std::move(status), "limit", internal::Concat(limit));
  return internal::WithPayload(std::move(status), "got", internal::Concat(got));
}

// Stopped work that can be taken up again: `how` says by which command.
inline absl::Status Resumable(absl::Status status, std::string_view how) {
  return internal::WithPayload(std::move(status), "resume", std::string(how));
}

inline Problem ProblemOf(const absl::Status& status) {
  return {internal::PayloadOf(status, "code"), internal::PayloadOf(status, "setting"), internal::PayloadOf(status, "limit"),
          internal::PayloadOf(status, "got"), internal::PayloadOf(status, "resume")};
}

// `name` as the sentence calls the value; `setting` where what controls it is called otherwise. NaN is in no range.
template <class T>
absl::Status CheckRange(std::string_view name, T got, std::type_identity_t<T> least, std::type_identity_t<T> most,
                        std::string_view setting = "") {
  if (got >= least && got <= most) return absl::OkStatus();
  return WithLimit(InvalidArgument(name, " must be in ", least, "..", most, ", got ", got), setting.empty() ? name : setting,
                   got < least ? least : most, got);
}
template <class T>
absl::Status CheckAtLeast(std::string_view name, T got, std::type_identity_t<T> least, std::string_view setting = "") {
  if (got >= least) return absl::OkStatus();
  return WithLimit(InvalidArgument(name, " must be ", least, " or more, got ", got), setting.empty() ? name : setting, least, got);
}

}  // namespace lectern
