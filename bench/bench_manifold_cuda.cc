// Exact neighbours and the fit on one card: medians, their share of the roofs, and whether the results are right.
//
//   bench_manifold_cuda [--rows 1000000] [--dim 384] [--k 64] [--d 16] [--data surface|planes] [--rounds 20] [--check 1000]
//                       [--cpu-fit 1] [--commit ID]
//
// One JSON line a result. Times are events around the launches; vectors and, for the fit, neighbours are on the card.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"
#include "bench/manifold_cuda_data.h"
#include "manifold/cuda/launch.h"
#include "manifold/fitter.h"
#include "manifold/plane.h"

namespace lectern::bench {
namespace {

void Check(int error, const char* what) {
  if (error == 0) return;
  std::fprintf(stderr, "%s: %s\n", what, manifold::cuda::ErrorName(error));
  std::exit(1);
}

template <class T>
T* OnCard(size_t count) {
  void* at = nullptr;
  Check(cudaMalloc(&at, std::max<size_t>(count, 1) * sizeof(T)), "allocate");
  Check(cudaMemset(at, 0xff, count * sizeof(T)), "poison");  // what is not written shows
  return static_cast<T*>(at);
}

template <class T>
std::vector<T> Fetch(const T* from, size_t count) {
  std::vector<T> host(count);
  Check(cudaMemcpy(host.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost), "fetch");
  return host;
}

struct Times {
  double median = 0, least = 0, greatest = 0;
};

Times Measure(int rounds, const std::function<void()>& work) {
  cudaEvent_t begin, end;
  Check(cudaEventCreate(&begin), "event");
  Check(cudaEventCreate(&end), "event");
  std::vector<double> ms;
  for (int round = 0; round <= rounds; ++round) {  // the first is a warm-up
    Check(cudaEventRecord(begin), "event");
    work();
    Check(cudaEventRecord(end), "event");
    Check(cudaEventSynchronize(end), "run");
    float one = 0;
    Check(cudaEventElapsedTime(&one, begin, end), "event");
    if (round > 0 || rounds == 0) ms.push_back(one);
  }
  std::sort(ms.begin(), ms.end());
  return {ms[ms.size() / 2] / 1e3, ms.front() / 1e3, ms.back() / 1e3};
}

struct Run {
  long long n = 1000000;
  int dim = 384, k = 64, d = 16, rounds = 20, check = 1000;
  Vectors kind = Vectors::kSurface;
  Json base;
};

void Print(const Run& run, const char* what, Json fields) {
  Json line = run.base;
  line["kind"] = what;
  line.update(fields);
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

Json Seconds(const Times& t) { return {{"s", t.median}, {"s_min", t.least}, {"s_max", t.greatest}}; }

// Rows whose ids differ from fp64's, by (distance, id), out of `check`.
void CheckNeighbours(const Run& run, const float* vectors, const std::vector<int32_t>& ids) {
  constexpr int kBatch = 8;
  std::vector<int32_t> rows;
  for (int i = 0; i < run.check; ++i) rows.push_back(static_cast<int32_t>(i * (run.n / run.check) + i % 7));
  int32_t* on_card = OnCard<int32_t>(kBatch);
  double* distances = OnCard<double>(static_cast<size_t>(kBatch * run.n));
  int wrong_rows = 0, wrong_ids = 0;
  for (int begin = 0; begin < run.check; begin += kBatch) {
    const int count = std::min(kBatch, run.check - begin);
    Check(cudaMemcpy(on_card, rows.data() + begin, static_cast<size_t>(count) * 4, cudaMemcpyHostToDevice), "rows");
    Check(PlainDistances(vectors, run.n, run.dim, on_card, count, distances, nullptr), "distances");
    const std::vector<double> host = Fetch(distances, static_cast<size_t>(count * run.n));
    std::vector<int> wrong(static_cast<size_t>(count), 0);
    std::vector<std::thread> threads;
    for (int q = 0; q < count; ++q) {
      threads.emplace_back([&, q] {
        const int32_t self = rows[begin + q];
        std::vector<int32_t> order;
        for (int32_t j = 0; j < run.n; ++j) {
          if (j != self) order.push_back(j);
        }
        const double* row = host.data() + q * run.n;
        std::partial_sort(order.begin(), order.begin() + run.k, order.end(),
                          [&](int32_t a, int32_t b) { return row[a] != row[b] ? row[a] < row[b] : a < b; });
        for (int j = 0; j < run.k; ++j) wrong[q] += order[j] != ids[int64_t{self} * run.k + j];
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const int one : wrong) wrong_rows += one > 0, wrong_ids += one;
  }
  Print(run, "neighbours_check", {{"rows_checked", run.check}, {"rows_wrong", wrong_rows}, {"ids_wrong", wrong_ids}});
  cudaFree(on_card);
  cudaFree(distances);
}

// max |delta| of two sets of vectors where the reference's gap is wide enough.
Json Difference(const std::vector<float>& got, std::span<const float> want, std::span<const float> gaps, int dim) {
  std::vector<float> worst(16, 0);
  std::vector<long long> beyond(16, 0), ambiguous(16, 0);
  std::vector<float> worst_ambiguous(16, 0);
  std::vector<std::thread> threads;
  const int64_t n = static_cast<int64_t>(gaps.size());
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = t; i < n; i += 16) {
        float row = 0;
        for (int64_t c = 0; c < dim; ++c) {
          const float delta = std::abs(got[i * dim + c] - want[i * dim + c]);
          row = delta <= row ? row : delta;  // a NaN stays
        }
        if (gaps[i] < manifold::kAmbiguousGap) {
          ++ambiguous[t];
          worst_ambiguous[t] = row <= worst_ambiguous[t] ? worst_ambiguous[t] : row;
        } else {
          beyond[t] += !(row <= 1e-4f);
          worst[t] = row <= worst[t] ? worst[t] : row;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  float most = 0, most_ambiguous = 0;
  long long count = 0, over = 0;
  for (int t = 0; t < 16; ++t) {
    most = worst[t] <= most ? most : worst[t];
    most_ambiguous = worst_ambiguous[t] <= most_ambiguous ? most_ambiguous : worst_ambiguous[t];
    count += ambiguous[t];
    over += beyond[t];
  }
  return {{"points", n}, {"max_delta", most}, {"points_over_1e-4", over}, {"ambiguous_share", static_cast<double>(count) / static_cast<double>(n)},
          {"max_delta_ambiguous", most_ambiguous}};
}

int Main(int argc, char** argv) {
  std::map<std::string, std::string> options{{"--data", "surface"}, {"--cpu-fit", "1"}, {"--commit", "?"}, {"--rows", "1000000"},
                                             {"--dim", "384"}, {"--k", "64"}, {"--d", "16"}, {"--rounds", "20"}, {"--check", "1000"}};
  for (int i = 1; i + 1 < argc; i += 2) {
    if (options.count(argv[i]) == 0) {
      std::fprintf(stderr, "unknown option %s\n", argv[i]);
      return 2;
    }
    options[argv[i]] = argv[i + 1];
  }
  Run run;
  run.n = std::atoll(options["--rows"].c_str());
  run.dim = std::atoi(options["--dim"].c_str());
  run.k = std::atoi(options["--k"].c_str());
  run.d = std::atoi(options["--d"].c_str());
  run.rounds = std::atoi(options["--rounds"].c_str());
  run.check = std::atoi(options["--check"].c_str());
  run.kind = options["--data"] == "planes" ? Vectors::kPlanes : Vectors::kSurface;
  if (const char* why = manifold::cuda::WhyNoDevice()) {
    std::fprintf(stderr, "%s\n", why);
    return 1;
  }
  cudaDeviceProp device;
  Check(cudaGetDeviceProperties(&device, 0), "device");
  run.base = {{"device", device.name}, {"commit", options["--commit"]}, {"data", options["--data"]}, {"rows", run.n}, {"dim", run.dim}, {"k", run.k}};
  const size_t elements = static_cast<size_t>(run.n) * run.dim, lists = static_cast<size_t>(run.n) * run.k, n = static_cast<size_t>(run.n);

  float* raw = OnCard<float>(elements);
  Check(MakeVectors(run.kind, run.n, run.dim, 1, raw, nullptr), "vectors");
  Check(cudaDeviceSynchronize(), "vectors");
  float* sink = OnCard<float>(1);
  const Times read = Measure(run.rounds, [&] { Check(ReadAll(raw, static_cast<long long>(elements) * 4, sink, nullptr), "read"); });
  const double roof = static_cast<double>(elements) * 4 / read.median;
  Print(run, "read_roof", {{"GBps", roof / 1e9}});

  // Neighbours.
  manifold::cuda::SearchPlan plan;
  if (const char* why = manifold::cuda::PlanSearch(run.dim, run.k, &plan)) {
    std::fprintf(stderr, "%s\n", why);
    return 1;
  }
  const long long blocks = manifold::cuda::TableBlocks(run.n);
  const manifold::cuda::Table table{.elements = OnCard<uint16_t>(static_cast<size_t>(manifold::cuda::TableElements(run.n, run.dim))),
                                    .bias = OnCard<float>(static_cast<size_t>(blocks * manifold::cuda::kTableRows)),
                                    .longest = OnCard<float>(1), .rows = run.n, .blocks = blocks, .dim = run.dim,
                                    .pieces = manifold::cuda::TablePieces(run.dim)};
  std::vector<int32_t> self = manifold::AllRows(run.n);
  int32_t* self_ids = OnCard<int32_t>(n);
  Check(cudaMemcpy(self_ids, self.data(), n * 4, cudaMemcpyHostToDevice), "self");
  const size_t launch_rows = static_cast<size_t>(std::min(run.n, plan.rows_a_launch));
  int32_t *candidates = OnCard<int32_t>(launch_rows * manifold::cuda::kListKept), *counts = OnCard<int32_t>(n), *ids = OnCard<int32_t>(lists);
  float* distances = OnCard<float>(lists);
  auto* partial = reinterpret_cast<manifold::cuda::Candidate*>(OnCard<char>(plan.list_bytes));
  auto* collapsed = OnCard<unsigned long long>(1);
  const auto pack = [&] {
    Check(cudaMemsetAsync(table.longest, 0, 4), "clear");
    Check(manifold::cuda::LaunchPack(raw, table, nullptr), "pack");
  };
  const auto search = [&](bool rank) {
    for (long long begin = 0; begin < run.n; begin += plan.rows_a_launch) {
      const long long end = std::min(run.n, begin + plan.rows_a_launch);
      Check(manifold::cuda::LaunchSearch(plan, {.table = table, .queries = table, .self = self_ids, .begin = begin, .end = end, .keep = run.k,
                                                .lists = partial, .candidates = candidates, .counts = counts + begin}, nullptr), "search");
      if (!rank) continue;
      Check(manifold::cuda::LaunchRank({.table = table, .queries = table, .self = self_ids, .candidates = candidates, .counts = counts + begin,
                                        .begin = begin, .end = end, .k = run.k, .keep = run.k, .collapse = false, .ids = ids,
                                        .distances = distances, .collapsed = collapsed}, nullptr), "rank");
    }
  };
  const int few = std::min(run.rounds, 3);
  const Times whole = Measure(few, [&] { pack(), search(true); });
  std::vector<int32_t> found = Fetch(ids, lists);
  const std::vector<int32_t> held = Fetch(counts, n);
  Check(cudaMemset(ids, 0xff, lists * 4), "poison");
  const Times searched = Measure(few > 1 ? 1 : 0, [&] { search(false); });
  pack(), search(true);
  Check(cudaDeviceSynchronize(), "search");
  const std::vector<int32_t> again = Fetch(ids, lists);
  long long candidates_sum = 0, looked_at_all = 0;
  for (const int32_t count : held) candidates_sum += std::max(count, 0), looked_at_all += count < 0;
  const double flops = 2.0 * static_cast<double>(run.n) * static_cast<double>(run.n) * run.dim;
  Json line = Seconds(whole);
  line.update({{"search_s", searched.median}, {"search_TFLOPs", flops / searched.median / 1e12},
               {"candidates_a_row", static_cast<double>(candidates_sum) / static_cast<double>(run.n)}, {"rows_in_fp64", looked_at_all},
               {"same_ids_again", found == again}});
  Print(run, "neighbours", line);
  CheckNeighbours(run, raw, found);

  // The fit.
  const manifold::FitParams params{.k = run.k, .d = run.d, .sigma2 = run.kind == Vectors::kSurface ? 1e-4f : 4e-6f, .sigma2_factor = 1};
  const std::vector<float> block = manifold::StartBlock(run.k, manifold::cuda::PlaneRows(run.k), manifold::cuda::PlaneBlock(run.d), manifold::cuda::PlaneBlock(run.d));
  float* start = OnCard<float>(block.size());
  Check(cudaMemcpy(start, block.data(), block.size() * 4, cudaMemcpyHostToDevice), "start");
  float *vectors = OnCard<float>(elements), *residual2 = OnCard<float>(n), *gap = OnCard<float>(n);
  int32_t* used = OnCard<int32_t>(n);
  auto* info = OnCard<manifold::cuda::GateInfo>(n);
  const manifold::cuda::PlaneParams planes{.points = raw, .planes = raw, .means = raw, .ids = ids, .n = run.n, .k = run.k, .dim = run.dim, .d = run.d,
                                           .start = start, .offset = vectors, .residual2 = residual2, .gap = gap, .count = used};
  const manifold::cuda::GateParams gate{.points = raw, .ids = ids, .residual2 = residual2, .gap = gap, .count = used, .pool_residual2 = residual2,
                                        .pool_count = used, .n = run.n, .k = run.k, .dim = run.dim, .d = run.d, .sigma2 = params.sigma2, .noise2 = params.sigma2,
                                        .gate = true, .normalise = true, .vectors = vectors, .info = info};
  const auto fit = [&] {
    Check(manifold::cuda::LaunchPlanes(planes, nullptr), "planes");
    Check(manifold::cuda::LaunchGate(gate, nullptr), "gate");
  };
  const Times fitted = Measure(run.rounds, fit);
  const std::vector<float> first = Fetch(vectors, elements);
  const Times planes_only = Measure(few, [&] { Check(manifold::cuda::LaunchPlanes(planes, nullptr), "planes"); });
  const std::vector<float> offsets = Fetch(vectors, elements);
  Check(cudaMemset(vectors, 0xff, elements * 4), "poison");
  fit();
  const std::vector<float> second = Fetch(vectors, elements);
  // Gathered once from the card's memory at least where rows are not shared: neighbours, point, offsets, and the gate's three.
  const double gathered = static_cast<double>(lists) * run.dim * 4, bytes = gathered + 5.0 * static_cast<double>(elements) * 4;
  line = Seconds(fitted);
  line.update({{"d", run.d}, {"planes_s", planes_only.median}, {"points_a_second", static_cast<double>(run.n) / fitted.median},
               {"gathered_GBps", gathered / fitted.median / 1e9}, {"share_of_read_roof", bytes / fitted.median / roof},
               {"same_bits_again", std::memcmp(first.data(), second.data(), elements * 4) == 0}});
  Print(run, "fit", line);

  if (options["--cpu-fit"] == "0") return 0;
  const std::vector<float> host = Fetch(raw, elements);
  manifold::Neighbours near{.k = run.k, .ids = std::move(found), .distances = std::vector<float>(lists)};
  ThreadPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const auto begin = std::chrono::steady_clock::now();
  auto of_planes = manifold::FitPlanes({.points = host, .planes = host, .means = host, .dim = run.dim, .neighbours = near.ids, .k = run.k, .d = run.d},
                                       pool);
  const double cpu_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (!of_planes.ok()) return 1;
  Json result = Difference(offsets, of_planes->offset, of_planes->gap, run.dim);
  result.update({{"cpu_s", cpu_s}, {"cpu_threads", pool.num_threads()}});
  Print(run, "planes_against_cpu", result);
  const std::vector<float> gaps = std::move(of_planes->gap);
  auto want = manifold::FitBatch(host, run.dim, near, params, pool);
  if (!want.ok()) return 1;
  result = Difference(first, want->vectors, gaps, run.dim);
  const std::vector<manifold::cuda::GateInfo> infos = Fetch(info, n);
  long long flags = 0, between = 0;
  double s = 0, from_threshold = 0, gap_error = 0;  // of the points whose flags differ; of all
  for (size_t i = 0; i < n; ++i) {
    const float card = infos[i].gap, cpu = want->info[i].gap;
    s += infos[i].s;
    gap_error = std::max<double>(gap_error, std::abs(card - cpu));
    if (infos[i].flag == static_cast<uint8_t>(want->info[i].flag)) continue;
    ++flags;
    between += (card < manifold::kAmbiguousGap) != (cpu < manifold::kAmbiguousGap);  // the gaps lie on two sides of the threshold
    from_threshold = std::max<double>({from_threshold, std::abs(card - manifold::kAmbiguousGap), std::abs(cpu - manifold::kAmbiguousGap)});
  }
  result.update({{"flags_differ", flags}, {"of_them_gaps_on_two_sides", between}, {"their_greatest_distance_from_threshold", from_threshold},
                 {"greatest_gap_difference", gap_error}, {"mean_s", s / static_cast<double>(n)}});
  Print(run, "fit_against_cpu", result);
  return 0;
}

}  // namespace
}  // namespace lectern::bench

int main(int argc, char** argv) { return lectern::bench::Main(argc, argv); }
