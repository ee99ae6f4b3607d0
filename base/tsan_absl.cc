// absl::Mutex as ThreadSanitizer must see it; part of the tsan preset alone.
//
// The system's Abseil is built without ThreadSanitizer: what its mutexes order would look like a
// race. The members below stand in front of the library's, for its own calls too (a Notification
// locks a Mutex), tell the sanitizer what happens and call the library. Between a pre_ and a post_
// the sanitizer ignores memory accesses: a condition that the library evaluates, for this thread or
// for one that waits, holds the mutex in a way which only the library knows. So that a condition is
// watched nevertheless, Await evaluates it once before.
//
// What the program uses and this file does not have, tests/base/tsan_symbols.py finds.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <string>

#include "absl/base/options.h"
#include "absl/synchronization/mutex.h"
#include "base/check.h"

#define LECTERN_TEXT_OF(name) #name
#define LECTERN_TEXT(name) LECTERN_TEXT_OF(name)

namespace {

// The library's own member, by the mangled name that follows the namespaces.
template <class Function>
Function* Real(const char* member) {
  const std::string space = LECTERN_TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  const std::string name = "_ZN4absl" + std::to_string(space.size()) + space + member;
  void* found = dlsym(RTLD_NEXT, name.c_str());
  CHECK(found != nullptr);  // another Abseil than the one whose headers were read
  return reinterpret_cast<Function*>(found);
}

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

Mutex::~Mutex() {
  static auto* const real = Real<void(Mutex*)>("5MutexD1Ev");
  real(this);
  __tsan_mutex_destroy(this, __tsan_mutex_not_static);
}

void Mutex::Lock() {
  static auto* const real = Real<void(Mutex*)>("5Mutex4LockEv");
  __tsan_mutex_pre_lock(this, 0);
  real(this);
  __tsan_mutex_post_lock(this, 0, 0);
}

void Mutex::Unlock() {
  static auto* const real = Real<void(Mutex*)>("5Mutex6UnlockEv");
  __tsan_mutex_pre_unlock(this, 0);
  real(this);
  __tsan_mutex_post_unlock(this, 0);
}

void Mutex::Await(const Condition& condition) {
  static auto* const real = Real<void(Mutex*, const Condition&)>("5Mutex5AwaitERKNS0_9ConditionE");
  if (condition.Eval()) return;
  __tsan_mutex_pre_unlock(this, 0);
  __tsan_mutex_post_unlock(this, 0);
  __tsan_mutex_pre_lock(this, 0);
  real(this, condition);
  __tsan_mutex_post_lock(this, 0, 0);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  static auto* const real = Real<bool(Mutex*, const Condition&, Duration)>(
      "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  if (condition.Eval()) return true;
  __tsan_mutex_pre_unlock(this, 0);
  __tsan_mutex_post_unlock(this, 0);
  __tsan_mutex_pre_lock(this, 0);
  const bool met = real(this, condition, timeout);
  __tsan_mutex_post_lock(this, 0, 0);
  return met;
}

ABSL_NAMESPACE_END
}  // namespace absl
