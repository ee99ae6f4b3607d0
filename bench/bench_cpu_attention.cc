// bench/bench_cpu_attention: decode attention on the CPU beside what the memory and the multipliers allow.
//
//   bench_cpu_attention --threads 2 --keys 8192 32768 --repeats 20 --what dense
//   bench_cpu_attention --what sparse --keys 32768
//
// dense: one JSON line a shape: median, 10th and 90th percentile of a call over caches that are cold (calls go round over copies
// that together exceed 128 MB, pages in random order), GB/s, and `roof` = max(bytes / bandwidth, flops / peak) / median,
// bandwidth and fp32 peak the best measured before and after in the same process. `roof_in_turns` takes the median of plain
// reads of as many bytes, one after each call, for the first. Every result is checked against the fp64 reference.
//
// sparse: layers of one model, together beyond 160 MB. A round is a pass of dense steps (append, decode) over all layers, then
// a pass of sparse steps (append with descriptors, select, decode of the listed tenth): each pass finds nothing of its own in
// the caches. Each layer has its own pages, descriptors and gate. Outputs and lists are checked against fp64.
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "attention/reference.h"
#include "attention/select_reference.h"
#include "base/json.h"
#include "bench/roofline.h"

namespace lectern::attention {
namespace {

struct Shape {
  int64_t q_heads, kv_heads, width;
};
constexpr int64_t kColdBytes = 160 << 20;

struct Copy {  // one paged cache, in huge pages if there are any, as the decoder's is
  std::unique_ptr<uint16_t, decltype(&std::free)> memory{nullptr, std::free};
  int64_t bytes = 0;
  std::vector<int32_t> pages;
  PagedKv kv;
};

Copy MakeCopy(const Shape& shape, int64_t keys, std::mt19937& rng) {
  Copy copy;
  const int64_t num_pages = (keys + kPageSlots - 1) / kPageSlots, block = shape.width * kPageSlots;
  const size_t elements = static_cast<size_t>(num_pages * shape.kv_heads * 2 * block);
  copy.bytes = static_cast<int64_t>((elements * 2 + bench::kHugePage - 1) / bench::kHugePage * bench::kHugePage);
  copy.memory.reset(static_cast<uint16_t*>(bench::AllocateHuge(static_cast<size_t>(copy.bytes))));
  std::vector<uint16_t> normal(1 << 16);
  std::normal_distribution<float> distribution;
  for (uint16_t& v : normal) v = ToBf16(distribution(rng)).bits;
  for (size_t i = 0; i < elements;) {
    const size_t n = std::min<size_t>(elements - i, 1 + rng() % 4096), from = rng() % (normal.size() - 4096);
    std::copy_n(normal.begin() + static_cast<int64_t>(from), n, copy.memory.get() + i);
    i += n;
  }
  copy.pages.resize(static_cast<size_t>(num_pages));
  std::iota(copy.pages.begin(), copy.pages.end(), 0);
  std::shuffle(copy.pages.begin(), copy.pages.end(), rng);
  const KvView view{.base = reinterpret_cast<std::byte*>(copy.memory.get()),
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
  for (double total = 0; copies.size() < 2 || total < kColdBytes; total += bytes) copies.push_back(MakeCopy(shape, keys, rng));
  const auto plan = Plan({.q_heads = shape.q_heads, .k_heads = shape.kv_heads, .v_heads = shape.kv_heads,
                          .key_width = shape.width, .value_width = shape.width, .max_keys = keys},
                         {}, {.num_threads = pool.num_threads()});
  if (!plan.ok()) std::exit((std::cerr << plan.status() << "\n", 1));
  std::vector<std::byte> workspace(static_cast<size_t>(plan->workspace_bytes));
  std::vector<float> q(static_cast<size_t>(shape.q_heads * shape.width)), out(q.size()), want(q.size());
  for (float& v : q) v = normal(rng);
  const Queries queries{.q = {q.data(), {1, shape.q_heads, shape.width}}, .out = {out.data(), {1, shape.q_heads, shape.width}}};
  const bench::Roof before = bench::MeasureRoof(pool, kColdBytes);
  std::vector<double> seconds, read_seconds;
  for (int run = 0; run < repeats + 2; ++run) {
    const Copy& copy = copies[static_cast<size_t>(run) % copies.size()];
    const double start = bench::Now();
    const absl::Status status = Decode(*plan, queries, copy.kv, pool, workspace);
    const double end = bench::Now();
    if (!status.ok()) std::exit((std::cerr << status << "\n", 1));
    // In turns, what a plain loop takes for as many bytes: neighbours on the machine take their part of both.
    const Copy& other = copies[(static_cast<size_t>(run) + copies.size() / 2) % copies.size()];
    const double read = bench::ReadSeconds(pool, reinterpret_cast<const uint64_t*>(other.memory.get()), other.bytes);
    if (run < 2) continue;
    seconds.push_back(end - start);
    read_seconds.push_back(read * bytes / static_cast<double>(other.bytes));
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
  std::sort(read_seconds.begin(), read_seconds.end());
  const double read = read_seconds[read_seconds.size() / 2];
  std::cout << DumpJson({{"what", "dense decode"}, {"heads", std::to_string(shape.q_heads) + "/" + std::to_string(shape.kv_heads)},
                         {"width", shape.width}, {"keys", keys}, {"threads", pool.num_threads()}, {"cpu", CpuTargetName(ActiveCpuTarget())},
                         {"us", {{"p10", 1e6 * seconds[seconds.size() / 10]}, {"median", 1e6 * median},
                                 {"p90", 1e6 * seconds[seconds.size() * 9 / 10]}}},
                         {"GBps", bytes / median / 1e9}, {"GFLOPs", flops / median / 1e9},
                         {"roof_GBps", {before.bytes_per_s / 1e9, after.bytes_per_s / 1e9}},
                         {"roof_GFLOPs", {before.flops_per_s / 1e9, after.flops_per_s / 1e9}},
                         {"floor_us", 1e6 * floor}, {"roof", floor / median}, {"read_us", 1e6 * read},
                         {"roof_in_turns", std::max(read, flops / roof.flops_per_s) / median}, {"error", error / size}}) << std::endl;
}

// What a selector reads of one layer.
struct LayerExtra {
  std::vector<bf16> descriptors, query_weights, key_weights;
  std::vector<float> pool;
  Gate gate;
};

struct Quartiles {
  std::vector<double> seconds;
  double At(double share) {
    std::sort(seconds.begin(), seconds.end());
    return 1e6 * seconds[static_cast<size_t>(share * static_cast<double>(seconds.size() - 1))];
  }
  Json Us() { return {{"p10", At(0.1)}, {"median", At(0.5)}, {"p90", At(0.9)}}; }
};

void MeasureSparse(const Shape& shape, int64_t keys, const Selector& selector, const char* name, int repeats, ThreadPool& pool) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  const int64_t d = shape.width, heads = shape.q_heads + 2 * shape.kv_heads, group = shape.q_heads / shape.kv_heads;
  const double bytes = 4.0 * static_cast<double>(keys * shape.kv_heads * d);
  const bool is_gate = selector.kind == SelectorKind::kGate;
  const int64_t size = is_gate ? d : 2 * d, per_page = BlocksPerPage(selector.block_tokens);
  const int64_t num_pages = NumBlocks(keys, kPageSlots);
  std::vector<Copy> layers;
  for (double total = 0; layers.size() < 2 || total < kColdBytes; total += bytes) layers.push_back(MakeCopy(shape, keys, rng));
  std::vector<LayerExtra> extras(layers.size());
  std::vector<float> frequencies, norm(static_cast<size_t>(d), 1.0f);
  for (int64_t i = 0; i < d / 2; ++i) frequencies.push_back(static_cast<float>(std::pow(1e6, -2.0 * static_cast<double>(i) / static_cast<double>(d))));
  const auto fill = [&](std::vector<bf16>& to, int64_t n, float scale) {
    to.resize(static_cast<size_t>(n));
    for (bf16& x : to) x = ToBf16(scale * normal(rng));
  };
  for (LayerExtra& extra : extras) {
    fill(extra.descriptors, num_pages * shape.kv_heads * per_page * size, 1.0f);
    if (is_gate) {
      fill(extra.query_weights, shape.q_heads * d * d, 0.05f);
      fill(extra.key_weights, shape.kv_heads * 3 * d * d, 0.05f);
    } else {  // [minimum, maximum]
      for (size_t i = 0; i < extra.descriptors.size(); ++i) {
        const float x = std::abs(ToFloat(extra.descriptors[i]));
        extra.descriptors[i] = ToBf16(static_cast<int64_t>(i) % size < d ? -x : x);
      }
    }
    extra.pool.assign(static_cast<size_t>(shape.kv_heads * 3 * d), 0.0f);
    extra.gate = {.query_weights = extra.query_weights.data(), .key_weights = extra.key_weights.data(), .query_norm = norm.data(),
                  .key_norm = norm.data(), .frequencies = frequencies.data(), .type = DType::kBF16, .width = d};
  }
  const Problem problem{.q_heads = shape.q_heads, .k_heads = shape.kv_heads, .v_heads = shape.kv_heads, .key_width = d,
                        .value_width = d, .max_keys = keys};
  const auto plan = Plan(problem, {}, {.num_threads = pool.num_threads()});
  if (!plan.ok()) std::exit((std::cerr << plan.status() << "\n", 1));
  std::vector<std::byte> workspace(static_cast<size_t>(plan->workspace_bytes));
  const Execution execution{.pool = &pool, .workspace = workspace};
  std::vector<float> qkv(static_cast<size_t>(heads * d)), q(static_cast<size_t>(shape.q_heads * d)), plain(q.size()), out(q.size()), want(q.size());
  for (float& v : qkv) v = normal(rng);
  const int32_t length = static_cast<int32_t>(keys);
  const int64_t capacity = BlockCapacity(selector, keys, group);
  std::vector<int32_t> ids(static_cast<size_t>(shape.kv_heads * capacity)), counts(static_cast<size_t>(shape.kv_heads));
  const BlockIds blocks{.ids = ids.data(), .counts = counts.data(), .capacity = capacity, .block_tokens = selector.block_tokens};
  const AppendConfig no_descriptors{.frequencies = frequencies.data()};
  AppendConfig with_descriptors = no_descriptors;
  (is_gate ? with_descriptors.gate_block_tokens : with_descriptors.min_max_block_tokens) = selector.block_tokens;

  AppendBatch append;
  DecodeBatch decode;
  SelectBatch select;
  const auto layer_step = [&](size_t layer) {
    const Copy& copy = layers[layer];
    LayerExtra& extra = extras[layer];
    const DescriptorView view{reinterpret_cast<std::byte*>(extra.descriptors.data()), DType::kBF16, d,
                              shape.kv_heads * per_page * size, per_page * size, size};
    append = {.qkv = qkv.data(), .q = q.data(), .gate_q = plain.data(), .k = copy.kv.k, .v = copy.kv.v, .min_max = view, .gate_keys = view,
              .gate = &extra.gate, .pool = extra.pool.data(), .page_table = copy.pages.data(), .page_table_stride = num_pages,
              .lengths = &length, .batch = 1};
    decode = {.q = q.data(), .out = out.data(), .k = copy.kv.k, .v = copy.kv.v, .page_table = copy.pages.data(),
              .page_table_stride = num_pages, .lengths = &length, .batch = 1};
    select = {.q = is_gate ? plain.data() : q.data(), .descriptors = view, .gate = &extra.gate, .k = copy.kv.k,
              .page_table = copy.pages.data(), .page_table_stride = num_pages, .lengths = &length, .batch = 1};
  };
  const auto run = [&](Quartiles* to, bool keep, const auto& call) {
    const double start = bench::Now();
    const absl::Status status = call();
    if (!status.ok()) std::exit((std::cerr << status << "\n", 1));
    const double seconds = bench::Now() - start;
    if (keep) to->seconds.push_back(seconds);
    return seconds;
  };
  const bench::Roof before = bench::MeasureRoof(pool, kColdBytes);
  Quartiles dense_append, dense, dense_step, sparse_append, choose, attend, select_attend, sparse_step;
  for (int round = 0; round <= repeats; ++round) {
    const bool keep = round > 0;
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      layer_step(layer);
      const double a = run(&dense_append, keep, [&] { return Append(*plan, append, no_descriptors, execution); });
      const double b = run(&dense, keep, [&] { return Decode(*plan, decode, execution); });
      if (keep) dense_step.seconds.push_back(a + b);
    }
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      layer_step(layer);
      const double a = run(&sparse_append, keep, [&] { return Append(*plan, append, with_descriptors, execution); });
      const double b = run(&choose, keep, [&] { return Select(*plan, selector, select, blocks, execution); });
      const double c = run(&attend, keep, [&] { return SparseDecode(*plan, decode, blocks, execution); });
      if (keep) select_attend.seconds.push_back(b + c), sparse_step.seconds.push_back(a + b + c);
    }
  }
  const bench::Roof after = bench::MeasureRoof(pool, kColdBytes);
  // The last sparse step again in fp64: its list, and its attention over the list that was used.
  std::vector<int32_t> true_ids(ids.size()), true_counts(counts.size());
  BlockIds truth = blocks;
  truth.ids = true_ids.data();
  truth.counts = true_counts.data();
  ReferenceSelect(problem, selector, select, truth);
  int64_t listed = 0, different = 0;
  for (int64_t row = 0; row < shape.kv_heads; ++row) {
    for (int64_t i = 0; i < counts[static_cast<size_t>(row)]; ++i) {
      const auto begin = true_ids.begin() + row * capacity, end = begin + true_counts[static_cast<size_t>(row)];
      different += !std::binary_search(begin, end, ids[static_cast<size_t>(row * capacity + i)]);
      ++listed;
    }
  }
  std::vector<float> got = out;
  decode.out = want.data();
  ReferenceDecode(problem, plan->variant, decode, &blocks);
  double error = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error = std::max(error, std::abs(double{got[i]} - want[i]));
    largest = std::max(largest, std::abs(double{want[i]}));
  }
  const double sparse_bytes = 4.0 * static_cast<double>(listed * selector.block_tokens * d);
  const double select_bytes = 2.0 * static_cast<double>(NumBlocks(keys, selector.block_tokens) * shape.kv_heads * size +
                                                        (is_gate ? shape.q_heads * d * d : 0));
  const double bandwidth = std::max(before.bytes_per_s, after.bytes_per_s), peak = std::max(before.flops_per_s, after.flops_per_s);
  const auto floor = [&](double b) { return 1e6 * std::max(b / bandwidth, b * static_cast<double>(group) / peak); };
  std::cout << DumpJson({{"what", "sparse decode"}, {"selector", name}, {"block", selector.block_tokens},
                         {"heads", std::to_string(shape.q_heads) + "/" + std::to_string(shape.kv_heads)}, {"width", d}, {"keys", keys},
                         {"layers", static_cast<int64_t>(layers.size())}, {"threads", pool.num_threads()},
                         {"cpu", CpuTargetName(ActiveCpuTarget())},
                         {"kept", static_cast<double>(listed * selector.block_tokens) / static_cast<double>(keys * shape.kv_heads)},
                         {"dense_append_us", dense_append.Us()}, {"dense_us", dense.Us()}, {"append_us", sparse_append.Us()},
                         {"select_us", choose.Us()}, {"attend_us", attend.Us()}, {"select_attend_us", select_attend.Us()},
                         {"ratio_attend", dense.At(0.5) / attend.At(0.5)}, {"ratio_select_attend", dense.At(0.5) / select_attend.At(0.5)},
                         {"ratio_with_append", dense_step.At(0.5) / sparse_step.At(0.5)},
                         {"floor_us", {{"dense", floor(bytes)}, {"select", 1e6 * select_bytes / bandwidth}, {"attend", floor(sparse_bytes)}}},
                         {"roof_GBps", {before.bytes_per_s / 1e9, after.bytes_per_s / 1e9}},
                         {"roof_GFLOPs", {before.flops_per_s / 1e9, after.flops_per_s / 1e9}},
                         {"different_ids", different}, {"listed", listed}, {"error", error / largest}}) << std::endl;
  if (error / largest > 2e-2 || different * 100 > listed) std::exit((std::cerr << "results are wrong\n", 1));
}

}  // namespace
}  // namespace lectern::attention

int main(int argc, char** argv) {
  std::vector<int64_t> keys;
  int threads = 2, repeats = 30;
  std::string what = "dense";
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--threads" && i + 1 < argc) threads = std::max(1, std::atoi(argv[++i]));
    else if (arg == "--repeats" && i + 1 < argc) repeats = std::max(10, std::atoi(argv[++i]));
    else if (arg == "--what" && i + 1 < argc) what = argv[++i];
    else if (arg != "--keys") keys.push_back(std::max(1LL, std::atoll(arg.c_str())));
  }
  if (keys.empty()) keys = {4096, 32768};
  lectern::ThreadPool pool(threads);
  using namespace lectern::attention;
  for (int64_t count : keys) {
    if (what == "sparse") {
      const int64_t tenth = count / 10;
      const auto gate = [&](int64_t block) {
        return Selector{.kind = SelectorKind::kGate, .block_tokens = block, .budget_tokens = tenth};
      };
      const auto pairs = [&](SelectorKind kind, int64_t block) {
        return Selector{.kind = kind, .mode = SelectMode::kRatio, .block_tokens = block, .ratio_per_mille = 100, .min_blocks = 16, .first_blocks = 0};
      };
      MeasureSparse({14, 2, 64}, count, gate(64), "gate", repeats, pool);
      MeasureSparse({14, 2, 64}, count, gate(128), "gate", repeats, pool);
      MeasureSparse({14, 2, 64}, count, pairs(SelectorKind::kResa, 16), "resa", repeats, pool);
      MeasureSparse({14, 2, 64}, count, pairs(SelectorKind::kResa, 64), "resa", repeats, pool);
      MeasureSparse({14, 2, 64}, count, pairs(SelectorKind::kQuest, 64), "quest", repeats, pool);
      MeasureSparse({32, 8, 128}, count, gate(64), "gate", repeats, pool);
      continue;
    }
    for (const Shape& shape : {Shape{32, 8, 128}, Shape{14, 2, 64}, Shape{12, 2, 128}}) Measure(shape, count, repeats, pool);
  }
  return 0;
}
