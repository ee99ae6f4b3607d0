// base/thread_pool.h: one fixed set of threads, handed to whoever computes.
//
//   ThreadPool pool(2);
//   pool.ParallelFor(rows, [&](int64_t begin, int64_t end, int thread) { ... });
//
// Shapes:  [0, n) is cut into at most num_threads() contiguous ranges; `thread` is 0..num_threads()-1.
// Threads: ParallelFor from one thread at a time (it locks); the caller takes part. Not reentrant.
// Errors:  none; the function must not throw.
// Cost:    a fork and a join of 2-6 us while the workers spin (200 us after the last call), then a
//          futex wake. Tasks that must balance take work from an atomic counter of their own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace lectern {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // num_threads >= 1; 1 runs everything on the caller
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;
  void ParallelFor(int64_t n, const std::function<void(int64_t begin, int64_t end, int thread)>& body);
  // Runs body(thread) once on each thread.
  void RunOnAll(const std::function<void(int thread)>& body);

  static int HardwareThreads();  // cores this process may use (affinity and cgroup), at least 1

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern
