#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "base/cpu_quota.h"

namespace lectern {
namespace {
constexpr auto kSpin = std::chrono::microseconds(200);  // a decode step's gaps between matrices are shorter

inline void Pause() { __builtin_ia32_pause(); }
}  // namespace

struct ThreadPool::Impl {
  absl::Mutex call_mutex;  // one RunOnAll at a time
  const std::function<void(int)>* body = nullptr;
  std::atomic<uint64_t> epoch{0};
  std::atomic<int> pending{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;

  void Work(int thread) {
    uint64_t seen = 0;
    while (true) {
      const auto spin_until = std::chrono::steady_clock::now() + kSpin;
      uint64_t now = epoch.load(std::memory_order_acquire);
      for (int spins = 0; now == seen; now = epoch.load(std::memory_order_acquire)) {
        if (++spins % 64 == 0 && std::chrono::steady_clock::now() > spin_until) {
          epoch.wait(seen, std::memory_order_acquire);
        } else {
          Pause();
        }
      }
      seen = now;
      if (stop.load(std::memory_order_acquire)) return;
      (*body)(thread);
      if (pending.fetch_sub(1, std::memory_order_acq_rel) == 1) pending.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : impl_(std::make_unique<Impl>()) {
  for (int i = 1; i < std::max(1, num_threads); ++i) {
    impl_->workers.emplace_back([impl = impl_.get(), i] { impl->Work(i); });
  }
}

ThreadPool::~ThreadPool() {
  impl_->stop.store(true, std::memory_order_release);
  impl_->epoch.fetch_add(1, std::memory_order_acq_rel);
  impl_->epoch.notify_all();
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::num_threads() const { return static_cast<int>(impl_->workers.size()) + 1; }

void ThreadPool::RunOnAll(const std::function<void(int)>& body) {
  absl::MutexLock lock(&impl_->call_mutex);
  if (impl_->workers.empty()) return body(0);
  impl_->body = &body;
  impl_->pending.store(static_cast<int>(impl_->workers.size()), std::memory_order_release);
  impl_->epoch.fetch_add(1, std::memory_order_acq_rel);
  impl_->epoch.notify_all();
  body(0);
  const auto spin_until = std::chrono::steady_clock::now() + kSpin;
  for (int left; (left = impl_->pending.load(std::memory_order_acquire)) != 0;) {
    if (std::chrono::steady_clock::now() > spin_until) {
      impl_->pending.wait(left, std::memory_order_acquire);
    } else {
      Pause();
    }
  }
}

void ThreadPool::ParallelFor(int64_t n, const std::function<void(int64_t, int64_t, int)>& body) {
  if (n <= 0) return;
  const int64_t parts = std::min<int64_t>(n, num_threads());
  if (parts == 1) return body(0, n, 0);
  const auto part = [&](int thread) {
    if (thread >= parts) return;
    const int64_t begin = n * thread / parts;
    const int64_t end = n * (thread + 1) / parts;
    body(begin, end, thread);
  };
  RunOnAll(std::ref(part));  // by reference: a copy of the captures would allocate
}

int ThreadPool::HardwareThreads() {
  static const int threads = [] {
    cpu_set_t set;
    const bool known = sched_getaffinity(0, sizeof(set), &set) == 0;
    const int cores = std::max(1, known ? CPU_COUNT(&set) : static_cast<int>(std::thread::hardware_concurrency()));
    return std::min(cores, CpuQuota().value_or(cores));   // more threads than quota would spin on one another's time
  }();
  return threads;
}

}  // namespace lectern
