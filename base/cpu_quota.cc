#include "base/cpu_quota.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

namespace lectern {
namespace {

// "max 100000" or "150000 100000": microseconds a period.
std::optional<int> FromMax(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || !(period > 0)) return std::nullopt;
  std::istringstream number(quota);
  double allowed = 0;
  if (!(number >> allowed) || !(allowed > 0)) return std::nullopt;
  return std::max(1, static_cast<int>(std::ceil(std::min(allowed / period, 1e6))));
}

std::optional<int> FromCfs(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
  double quota = 0, period = 0;   // -1: no quota
  if (!(quota_file >> quota) || !(period_file >> period) || !(quota > 0) || !(period > 0)) return std::nullopt;
  return std::max(1, static_cast<int>(std::ceil(std::min(quota / period, 1e6))));
}

bool Lists(const std::string& controllers, const std::string& wanted) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == wanted) return true;
  }
  return false;
}

}  // namespace

std::optional<int> CpuQuota(const std::string& groups, const std::string& own) {
  std::optional<int> least;
  const auto walk = [&least](const std::string& root, std::string path, const auto& quota_of) {
    while (true) {   // a group never gets more than the groups above it
      while (!path.empty() && path.back() == '/') path.pop_back();
      if (const auto quota = quota_of(root + path); quota.has_value()) least = std::min(least.value_or(*quota), *quota);
      if (path.empty()) return;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  };
  std::ifstream lines(own);
  for (std::string line; std::getline(lines, line);) {   // "0::/path", or "4:cpu,cpuacct:/path"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) walk(groups, path, FromMax);
    else if (Lists(controllers, "cpu")) walk(groups + "/cpu", path, FromCfs);
  }
  return least;
}

}  // namespace lectern
