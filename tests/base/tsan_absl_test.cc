// What ThreadSanitizer makes of absl::Mutex in this build: what a mutex orders is no race, and
// every real race is seen.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace lectern {
namespace {

constexpr int kTurns = 2000;

void InTwoThreads(const std::function<void()>& one, const std::function<void()>& other) {
  std::thread first(one), second(other);
  first.join();
  second.join();
}

// Runs in a process of its own: ends with ThreadSanitizer's exit code where it saw a race, with 0
// where it did not.
void ExpectRace(const std::function<void()>& body) {
  EXPECT_EXIT((body(), std::exit(0)), ::testing::ExitedWithCode(66), "data race");
}
void ExpectNoRace(const std::function<void()>& body) {
  EXPECT_EXIT((body(), std::exit(0)), ::testing::ExitedWithCode(0), "");
}

class TsanAbsl : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(TsanAbsl, AMutexOrdersWhatItGuards) {
  ExpectNoRace([] {
    absl::Mutex mutex;
    int64_t count = 0;
    const auto add = [&] {
      for (int i = 0; i < kTurns; ++i) {
        absl::MutexLock lock(&mutex);
        ++count;
      }
    };
    InTwoThreads(add, add);
    if (count != 2 * kTurns) std::exit(1);
  });
}

TEST_F(TsanAbsl, ARaceIsSeen) {
  ExpectRace([] {
    int64_t count = 0;
    const auto add = [&] {
      for (int i = 0; i < kTurns; ++i) ++count;
    };
    InTwoThreads(add, add);
  });
}

TEST_F(TsanAbsl, ARaceBesideAMutexIsSeen) {
  ExpectRace([] {
    absl::Mutex mutex;
    int64_t guarded = 0, forgotten = 0;
    const auto add = [&] {
      for (int i = 0; i < kTurns; ++i) {
        ++forgotten;
        absl::MutexLock lock(&mutex);
        ++guarded;
      }
    };
    InTwoThreads(add, add);
  });
}

TEST_F(TsanAbsl, TwoMutexesDoNotOrderOneAnother) {
  ExpectRace([] {
    absl::Mutex one;
    absl::Mutex other;
    int64_t count = 0;
    const auto add = [&](absl::Mutex* mutex) {
      for (int i = 0; i < kTurns; ++i) {
        absl::MutexLock lock(mutex);
        ++count;
      }
    };
    InTwoThreads([&] { add(&one); }, [&] { add(&other); });
  });
}

// One thread hands `turn` to the other and back; both write what it guards, one awaits with a
// timeout.
TEST_F(TsanAbsl, AwaitingAConditionOrdersWhatTheMutexGuards) {
  ExpectNoRace([] {
    absl::Mutex mutex;
    bool turn = false;
    int64_t count = 0;
    const auto play = [&](bool mine, bool timed) {
      auto is_mine = [&] { return turn == mine; };
      for (int i = 0; i < kTurns; ++i) {
        absl::MutexLock lock(&mutex);
        if (timed) {
          while (!mutex.AwaitWithTimeout(absl::Condition(&is_mine), absl::Milliseconds(1))) {
          }
        } else {
          mutex.Await(absl::Condition(&is_mine));
        }
        ++count;
        turn = !mine;
      }
    };
    InTwoThreads([&] { play(false, false); }, [&] { play(true, true); });
    if (count != 2 * kTurns) std::exit(1);
  });
}

TEST_F(TsanAbsl, AConditionOverWhatAnotherThreadWritesWithoutTheMutexIsSeen) {
  ExpectRace([] {
    absl::Mutex mutex;
    bool ready = false;
    auto is_ready = [&] { return ready; };
    InTwoThreads(
        [&] {
          absl::MutexLock lock(&mutex);
          mutex.AwaitWithTimeout(absl::Condition(&is_ready), absl::Milliseconds(200));
        },
        [&] { ready = true; });
  });
}

TEST_F(TsanAbsl, WhatIsWrittenWhileAnotherAwaitsIsNotOrderedByTheWaiting) {
  ExpectRace([] {
    absl::Mutex mutex;
    bool ready = false;
    int64_t before = 0;
    InTwoThreads(
        [&] {
          absl::MutexLock lock(&mutex);
          auto is_ready = [&] { return ready; };
          mutex.Await(absl::Condition(&is_ready));
          ++before;  // the other thread writes after it has let go
        },
        [&] {
          {
            absl::MutexLock lock(&mutex);
            ready = true;
          }
          ++before;
        });
  });
}

}  // namespace
}  // namespace lectern
