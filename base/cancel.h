// base/cancel.h: how a caller stops work it started.
//
//   CancelToken cancel;  cancel.SetDeadline(std::chrono::steady_clock::now() + 500ms);
//   RETURN_IF_ERROR(CheckCancel(token));     // inside loops; a null token never stops
//
// Shapes:  one flag and one optional deadline.
// Threads: Cancel() from any thread or signal handler (the flag is lock-free).
// Errors:  CheckCancel gives kCancelled or kDeadlineExceeded.
// Cost:    two loads, and a clock read where a deadline is set.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/status.h"

namespace lectern {

class CancelToken {
 public:
  using Clock = std::chrono::steady_clock;
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  void SetDeadline(Clock::time_point at) {
    deadline_ns_.store(at.time_since_epoch().count(), std::memory_order_relaxed);
  }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  bool expired() const {
    const int64_t at = deadline_ns_.load(std::memory_order_relaxed);
    return at != 0 && Clock::now().time_since_epoch().count() > at;
  }

 private:
  std::atomic<bool> cancelled_{false};
  std::atomic<int64_t> deadline_ns_{0};
};

inline absl::Status CheckCancel(const CancelToken* token) {
  if (token == nullptr) return absl::OkStatus();
  if (token->cancelled()) return Cancelled("stopped by the caller");
  if (token->expired()) return DeadlineExceeded("the time allowed for this work has passed");
  return absl::OkStatus();
}

}  // namespace lectern
