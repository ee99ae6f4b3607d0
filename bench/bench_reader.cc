// bench/bench_reader: tokens per second of the reader, prefill and decode, in the terms of the llama.cpp peer script.
//
//   bench_reader MODEL.gguf --threads 2 --prompts 512 2048 --depths 0 4096 --gen 128 --repeats 5
//
// One JSON line a measurement: ppN is N tokens from an empty cache with the logits of the last one; tgG@D is G single
// steps behind D tokens. Token ids are pseudo-random (speed does not depend on them), sampling is not included. `others`
// is the number of cores that other processes used in the worst run; runs with 0.15 or more are repeated.
#include <sys/resource.h>
#include <sys/times.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "decoder/model.h"

namespace lectern::decoder {
namespace {

struct Options {
  std::string model;
  std::vector<int64_t> threads = {2}, prompts = {512, 2048}, depths = {0, 4096};
  int64_t gen = 128, repeats = 5;
};

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

[[noreturn]] void Fail(const absl::Status& status) {
  std::cerr << "bench_reader: " << status << "\n";
  std::exit(1);
}

double TicksToSeconds(double ticks) { return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK)); }

double BusySeconds() {  // of all cores
  std::ifstream stat("/proc/stat");
  std::string word;
  stat >> word;
  double total = 0, value = 0;
  for (int i = 0; i < 8 && stat >> value; ++i) total += i == 3 || i == 4 ? 0 : value;
  return TicksToSeconds(total);
}

double OwnSeconds() {
  tms times{};
  ::times(&times);
  return TicksToSeconds(static_cast<double>(times.tms_utime + times.tms_stime));
}

struct Timing {
  std::vector<double> seconds;
  double others = 0;
};

Timing Repeat(int64_t times, const std::function<void()>& body) {
  std::vector<std::pair<double, double>> quiet, every;
  for (int64_t run = 0; run < 3 * times && static_cast<int64_t>(quiet.size()) < times; ++run) {
    const double busy = BusySeconds() - OwnSeconds(), start = Seconds();
    body();
    const double seconds = Seconds() - start, others = (BusySeconds() - OwnSeconds() - busy) / seconds;
    every.emplace_back(seconds, others);
    if (others < 0.15) quiet.emplace_back(seconds, others);
  }
  Timing timing;
  for (const auto& [seconds, others] : static_cast<int64_t>(quiet.size()) >= std::min<int64_t>(3, times) ? quiet : every) {
    timing.seconds.push_back(seconds);
    timing.others = std::max(timing.others, others);
  }
  std::sort(timing.seconds.begin(), timing.seconds.end());
  return timing;
}

double Round(double value) { return std::round(value * 100) / 100; }

void Report(const std::string& what, int64_t threads, int64_t tokens, const Timing& timing, Json more = Json::object()) {
  const auto rate = [&](double seconds) { return Round(static_cast<double>(tokens) / seconds); };
  const double median = timing.seconds[timing.seconds.size() / 2];
  Json line{{"what", what}, {"threads", threads},
            {"tokens_per_s", {{"min", rate(timing.seconds.back())}, {"median", rate(median)}, {"max", rate(timing.seconds.front())}}},
            {"median_s", median}, {"runs", timing.seconds.size()}, {"others", Round(timing.others)}};
  line.update(more);
  std::cout << DumpJson(line) << std::endl;
}

void Forward(Model& model, std::span<const int32_t> tokens, KvCache& cache) {
  for (size_t at = 0; at < tokens.size();) {
    const size_t n = std::min<size_t>(kMaxChunk, tokens.size() - at);
    const absl::Status status = model.Forward(tokens.subspan(at, n), cache, {.logit_rows = at + n == tokens.size() ? 1 : 0});
    if (!status.ok()) Fail(status);
    at += n;
  }
}

void Measure(const Options& options, const model_file::ModelFile& file, int64_t threads) {
  const int64_t need = std::max(*std::max_element(options.prompts.begin(), options.prompts.end()),
                                *std::max_element(options.depths.begin(), options.depths.end()) + options.gen) + 8;
  const double load_start = Seconds();
  ThreadPool pool(static_cast<int>(threads));
  auto model = Model::Load(file, {.max_context_tokens = need}, pool);
  if (!model.ok()) Fail(model.status());
  const double load_s = Seconds() - load_start;
  auto cache = (*model)->NewCache(need);
  if (!cache.ok()) Fail(cache.status());
  std::mt19937 rng(1);
  std::vector<int32_t> words(static_cast<size_t>(need));
  const int64_t top = std::min<int64_t>((*model)->config().vocab_size, 30000);
  for (int32_t& word : words) word = static_cast<int32_t>(1000 + rng() % (top - 1000));
  const std::span<const int32_t> all = words;
  Forward(**model, all.first(64), *cache);
  for (int64_t n : options.prompts) {
    if (n < 1) continue;
    Report("pp" + std::to_string(n), threads, n, Repeat(options.repeats, [&] {
      cache->Truncate(0);
      Forward(**model, all.first(n), *cache);
    }));
  }
  for (int64_t depth : options.depths) {
    cache->Truncate(0);
    Forward(**model, all.first(depth), *cache);
    const Timing timing = Repeat(options.repeats, [&] {
      cache->Truncate(depth);
      for (int64_t i = 0; i < options.gen; ++i) Forward(**model, all.subspan(i, 1), *cache);
    });
    const double step = timing.seconds[timing.seconds.size() / 2] / static_cast<double>(options.gen);
    Report("tg" + std::to_string(options.gen) + "@" + std::to_string(depth), threads, options.gen, timing,
           {{"weights_GBps", Round((*model)->weight_bytes() / step / 1e9)}});
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::cout << DumpJson({{"what", "memory"}, {"threads", threads}, {"load_s", Round(load_s)},
                         {"max_rss_MiB", usage.ru_maxrss / 1024}, {"n_ctx", need}}) << std::endl;
}

int Run(const Options& options) {
  const auto file = model_file::ModelFile::Open(options.model);
  if (!file.ok()) Fail(file.status());
  std::cout << DumpJson({{"tool", "lectern"}, {"model", options.model.substr(options.model.rfind('/') + 1)},
                         {"bytes", (*file)->total_bytes()}, {"cpu", CpuTargetName(ActiveCpuTarget())}}) << std::endl;
  for (int64_t threads : options.threads) Measure(options, **file, threads);
  return 0;
}

}  // namespace
}  // namespace lectern::decoder

int main(int argc, char** argv) {
  lectern::decoder::Options options;
  std::vector<int64_t>* list = nullptr;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--threads") (list = &options.threads)->clear();
    else if (arg == "--prompts") (list = &options.prompts)->clear();
    else if (arg == "--depths") (list = &options.depths)->clear();
    else if (arg == "--gen" && i + 1 < argc) options.gen = std::atoll(argv[++i]);
    else if (arg == "--repeats" && i + 1 < argc) options.repeats = std::max(1LL, std::atoll(argv[++i]));
    else if (list != nullptr && arg.find_first_not_of("0123456789") == std::string::npos) list->push_back(std::atoll(arg.c_str()));
    else if (options.model.empty()) options.model = arg;
    else options.model.clear();
  }
  if (options.model.empty() || options.threads.empty() || options.prompts.empty() || options.depths.empty() || options.gen < 1) {
    std::cerr << "bench_reader MODEL [--threads 2] [--prompts 512 2048] [--depths 0 4096] [--gen 128] [--repeats 5]\n";
    return 2;
  }
  return lectern::decoder::Run(options);
}
