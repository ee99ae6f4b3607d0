// base/cpu_quota.h: how many processors' worth of time the control group of this process may use.
//
//   if (const auto cpus = CpuQuota(); cpus.has_value()) threads = std::min(threads, *cpus);   // docker run --cpus=2
//
// Shapes:  whole processors, rounded up, at least 1; nullopt where nothing limits them.
// Threads: pure.
// Errors:  what cannot be read or understood limits nothing.
// Cost:    a few small files of /proc and /sys; ask once.
#pragma once

#include <optional>
#include <string>

namespace lectern {

// The least quota of the process's group and the groups above it (version 2: cpu.max; version 1: cpu.cfs_quota_us).
// The arguments are for tests.
std::optional<int> CpuQuota(const std::string& groups = "/sys/fs/cgroup", const std::string& own = "/proc/self/cgroup");

}  // namespace lectern
