// bench/bench_cpu_attention: decode attention on the CPU beside what the memory and the multipliers allow.
//
//   bench_cpu_attention --threads 2 --keys 8192 32768 --repeats 20
//
// One JSON line a shape: median, 10th and 90th percentile of a call over caches that are cold (calls go round over copies
// that together exceed 128 MB, pages in random order), GB/s, and `roof` = max(bytes / bandwidth, flops / peak) / median,
// bandwidth and fp32 peak measured before and after in the same process. Every result is checked against the fp64 reference.
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "attention/reference.h"
#include "base/json.h"
#include "bench/roofline.h"

namespace lectern::attention {
namespace {

struct Shape {
  int64_t q_heads, kv_heads, width;
};
constexpr int64_t kColdBytes = 160 << 20;

struct Copy {  // one paged cache
  std::vector<uint16_t> memory;
  std::vector<int32_t> pages;
  PagedKv kv;
};

Copy MakeCopy(const Shape& shape, int64_t keys, std::mt19937& rng) {
  Copy copy;
  const int64_t num_pages = (keys + kPageSlots - 1) / kPageSlots, block = shape.width * kPageSlots;
  copy.memory.resize(static_cast<size_t>(num_pages * shape.kv_heads * 2 * block));
  std::vector<uint16_t> normal(1 << 16);
  std::normal_distribution<float> distribution;
  for (uint16_t& v : normal) v = ToBf16(distribution(rng)).bits;
  for (size_t i = 0; i < copy.memory.size();) {
    const size_t n = std::min<size_t>(copy.memory.size() - i, 1 + rng() % 4096), from = rng() % (normal.size() - 4096);
    std::copy_n(normal.begin() + static_cast<int64_t>(from), n, copy.memory.begin() + static_cast<int64_t>(i));
    i += n;
  }
  copy.pages.resize(static_cast<size_t>(num_pages));
  std::iota(copy.pages.begin(), copy.pages.end(), 0);
  std::shuffle(copy.pages.begin(), copy.pages.end(), rng);
  const KvView view{.base = reinterpret_cast<std::byte*>(copy.memory.data()),
                    .type = DType::kBF16,
                    .heads = shape.kv_heads,
                    .width = shape.width,
                    .page_stride = 2 * shape.kv_heads * block,
                    .head_stride = block};
  copy.kv = {.k = view, .v = view, .pages = copy.pages, .num_keys = keys};
  copy.kv.v.base += shape.kv_heads * block * 2;
  return copy;
}

void Measure(const Shape& shape, int64_t keys, int repeats, ThreadPool& pool) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  const double bytes = 4.0 * static_cast<double>(keys * shape.kv_heads * shape.width);
  const double flops = 4.0 * static_cast<double>(keys * shape.q_heads * shape.width);
  std::vector<Copy> copies;
  for (double total = 0; copies.empty() || total < kColdBytes; total += bytes) copies.push_back(MakeCopy(shape, keys, rng));
  const auto plan = Plan({.q_heads = shape.q_heads, .k_heads = shape.kv_heads, .v_heads = shape.kv_heads,
                          .key_width = shape.width, .value_width = shape.width, .max_keys = keys},
                         {}, {.num_threads = pool.num_threads()});
  if (!plan.ok()) std::exit((std::cerr << plan.status() << "\n", 1));
  std::vector<std::byte> workspace(static_cast<size_t>(plan->workspace_bytes));
  std::vector<float> q(static_cast<size_t>(shape.q_heads * shape.width)), out(q.size()), want(q.size());
  for (float& v : q) v = normal(rng);
  const Queries queries{.q = {q.data(), {1, shape.q_heads, shape.width}}, .out = {out.data(), {1, shape.q_heads, shape.width}}};
  const bench::Roof before = bench::MeasureRoof(pool, kColdBytes);
  std::vector<double> seconds;
  for (int run = 0; run < repeats + 2; ++run) {
    const Copy& copy = copies[static_cast<size_t>(run) % copies.size()];
    const double start = bench::Now();
    const absl::Status status = Decode(*plan, queries, copy.kv, pool, workspace);
    if (run >= 2) seconds.push_back(bench::Now() - start);
    if (!status.ok()) std::exit((std::cerr << status << "\n", 1));
  }
  const bench::Roof after = bench::MeasureRoof(pool, kColdBytes);
  const Copy& last = copies[static_cast<size_t>(repeats + 1) % copies.size()];
  Reference(plan->problem, plan->variant, {.q = queries.q, .out = {want.data(), {1, shape.q_heads, shape.width}}}, last.kv);
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error = std::max(error, std::abs(double{out[i]} - want[i]));
    size = std::max(size, std::abs(double{want[i]}));
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const bench::Roof roof{std::max(before.bytes_per_s, after.bytes_per_s), std::max(before.flops_per_s, after.flops_per_s)};
  const double floor = std::max(bytes / roof.bytes_per_s, flops / roof.flops_per_s);
  std::cout << DumpJson({{"what", "dense decode"}, {"heads", std::to_string(shape.q_heads) + "/" + std::to_string(shape.kv_heads)},
                         {"width", shape.width}, {"keys", keys}, {"threads", pool.num_threads()}, {"cpu", CpuTargetName(ActiveCpuTarget())},
                         {"us", {{"p10", 1e6 * seconds[seconds.size() / 10]}, {"median", 1e6 * median},
                                 {"p90", 1e6 * seconds[seconds.size() * 9 / 10]}}},
                         {"GBps", bytes / median / 1e9}, {"GFLOPs", flops / median / 1e9},
                         {"roof_GBps", {before.bytes_per_s / 1e9, after.bytes_per_s / 1e9}},
                         {"roof_GFLOPs", {before.flops_per_s / 1e9, after.flops_per_s / 1e9}},
                         {"floor_us", 1e6 * floor}, {"roof", floor / median}, {"error", error / size}}) << std::endl;
}

}  // namespace
}  // namespace lectern::attention

int main(int argc, char** argv) {
  std::vector<int64_t> keys;
  int threads = 2, repeats = 30;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--threads" && i + 1 < argc) threads = std::max(1, std::atoi(argv[++i]));
    else if (arg == "--repeats" && i + 1 < argc) repeats = std::max(10, std::atoi(argv[++i]));
    else if (arg != "--keys") keys.push_back(std::max(1LL, std::atoll(arg.c_str())));
  }
  if (keys.empty()) keys = {4096, 32768};
  lectern::ThreadPool pool(threads);
  for (int64_t count : keys) {
    for (const lectern::attention::Shape& shape :
         {lectern::attention::Shape{32, 8, 128}, lectern::attention::Shape{14, 2, 64}, lectern::attention::Shape{12, 2, 128}}) {
      lectern::attention::Measure(shape, count, repeats, pool);
    }
  }
  return 0;
}
