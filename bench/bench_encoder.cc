// bench/bench_encoder: encoder tokens per second and the time of one query; or the vectors of a whole set.
//
//   bench_encoder MODEL data/scifact --n 256 --threads 1 2 --repeats 5        one JSON line a precision and thread count
//   bench_encoder MODEL data/scifact --save /tmp/scifact [--precision bf16]   docs.npy, queries.npy, ids.txt, query_ids.txt
//
// Texts are cut at 256 tokens, as the peers' are. Time includes tokenizing.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>

#include "base/json.h"
#include "bench/beir_folder.h"
#include "index/encoder.h"

namespace lectern::index {
namespace {

struct Options {
  std::string model, folder, split = "test", save;
  std::vector<std::string> precisions = {"bf16", "float32"};
  std::vector<int> threads = {1, 2};
  int64_t n = 256, batch_tokens = EncoderOptions().batch_tokens;
  int repeats = 5;
};

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::unique_ptr<Encoder> Open(const Options& options, const std::string& precision, ThreadPool& pool) {
  auto encoder = Encoder::Open(options.model, {.precision = precision == "bf16" ? Precision::kBf16 : Precision::kFloat32,
                                               .batch_tokens = options.batch_tokens}, pool);
  if (!encoder.ok()) {
    std::cerr << encoder.status() << "\n";
    std::exit(1);
  }
  return *std::move(encoder);
}

void WriteNpy(const std::string& path, const std::vector<float>& values, int64_t dim) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(values.size() / dim) + ", " +
                       std::to_string(dim) + "), }";
  header.append(64 - (10 + header.size() + 1) % 64, ' ').push_back('\n');
  const uint16_t length = static_cast<uint16_t>(header.size());
  std::ofstream out(path, std::ios::binary);
  out.write("\x93NUMPY\x01\x00", 8).write(reinterpret_cast<const char*>(&length), 2) << header;
  out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
}

void Save(const Options& options, const bench::BeirFolder& set) {
  ThreadPool pool(options.threads.back());
  const auto encoder = Open(options, options.precisions.front(), pool);
  std::filesystem::create_directories(options.save);
  const double start = Seconds(), cpu = CpuSeconds();
  EncodeStats stats;
  const auto encode = [&](const std::vector<std::string>& texts, const std::string& name) {
    auto vectors = encoder->Encode(std::vector<std::string_view>(texts.begin(), texts.end()), /*cut=*/true, &stats);
    if (!vectors.ok()) std::exit((std::cerr << vectors.status() << "\n", 1));
    WriteNpy(options.save + "/" + name + ".npy", *vectors, encoder->dim());
  };
  encode(set.texts, "docs");
  encode(set.queries, "queries");
  std::ofstream ids(options.save + "/ids.txt"), query_ids(options.save + "/query_ids.txt");
  for (const std::string& id : set.ids) ids << id << "\n";
  for (const std::string& id : set.query_ids) query_ids << id << "\n";
  const double seconds = Seconds() - start;
  std::cout << DumpJson(Json{{"what", "save"}, {"set", options.folder}, {"precision", options.precisions.front()},
                             {"documents", set.texts.size()}, {"queries", set.queries.size()}, {"tokens", stats.tokens},
                             {"cut", stats.cut_texts}, {"seconds", seconds}, {"tokens_per_s", stats.tokens / seconds},
                             {"tokens_per_cpu_s", stats.tokens / (CpuSeconds() - cpu)}}) << std::endl;
}

void Speed(const Options& options, const bench::BeirFolder& set) {
  const std::vector<std::string_view> texts(set.texts.begin(), set.texts.begin() + std::min<int64_t>(options.n, set.texts.size()));
  for (const std::string& precision : options.precisions) {
    for (int threads : options.threads) {
      ThreadPool pool(threads);
      const double opened = Seconds();
      const auto encoder = Open(options, precision, pool);
      const double open_ms = 1e3 * (Seconds() - opened);
      std::vector<double> rates, per_cpu, latency;
      EncodeStats stats;
      for (int run = 0; run <= options.repeats; ++run) {  // the first warms up
        stats = {};
        const double start = Seconds(), cpu = CpuSeconds();
        if (!encoder->Encode(texts, true, &stats).ok()) std::exit(1);
        if (run == 0) continue;
        rates.push_back(stats.tokens / (Seconds() - start));
        per_cpu.push_back(stats.tokens / (CpuSeconds() - cpu));
      }
      for (size_t i = 0; i < std::min<size_t>(200, set.queries.size()); ++i) {
        const double start = Seconds();
        if (!encoder->Encode(std::vector<std::string_view>{set.queries[i]}, true).ok()) std::exit(1);
        latency.push_back(1e3 * (Seconds() - start));
      }
      for (auto* values : {&rates, &per_cpu, &latency}) std::sort(values->begin(), values->end());
      rusage usage{};
      ::getrusage(RUSAGE_SELF, &usage);
      const auto middle = [](const std::vector<double>& v) { return v.empty() ? 0.0 : v[v.size() / 2]; };
      std::cout << DumpJson(Json{{"what", "encode"}, {"precision", precision}, {"threads", threads}, {"texts", texts.size()},
                                 {"tokens", stats.tokens}, {"open_ms", open_ms},
                                 {"texts_per_s", middle(rates) * static_cast<double>(texts.size()) / static_cast<double>(stats.tokens)},
                                 {"tokens_per_s", {{"min", rates.front()}, {"median", middle(rates)}, {"max", rates.back()}}},
                                 {"tokens_per_cpu_s_max", per_cpu.back()},
                                 {"one_query_ms", {{"min", latency.front()}, {"median", middle(latency)},
                                                   {"p95", latency[latency.size() * 95 / 100]}}},
                                 {"max_rss_mib", usage.ru_maxrss / 1024}}) << std::endl;
    }
  }
}

}  // namespace
}  // namespace lectern::index

int main(int argc, char** argv) {
  lectern::index::Options options;
  std::vector<std::string> plain;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto list = [&] {
      std::vector<std::string> values;
      while (i + 1 < argc && argv[i + 1][0] != '-') values.push_back(argv[++i]);
      return values;
    };
    if (arg == "--split") options.split = argv[++i];
    else if (arg == "--save") options.save = argv[++i];
    else if (arg == "--n") options.n = std::atoll(argv[++i]);
    else if (arg == "--batch-tokens") options.batch_tokens = std::atoll(argv[++i]);
    else if (arg == "--repeats") options.repeats = std::max(1, std::atoi(argv[++i]));
    else if (arg == "--precision") options.precisions = list();
    else if (arg == "--threads") {
      options.threads.clear();
      for (const std::string& value : list()) options.threads.push_back(std::atoi(value.c_str()));
    } else plain.push_back(arg);
  }
  if (plain.size() != 2) {
    std::cerr << "bench_encoder MODEL FOLDER [--split S] [--precision bf16 float32] [--threads 1 2] [--n 256] [--save DIR]\n";
    return 2;
  }
  options.model = plain[0];
  options.folder = plain[1];
  const lectern::bench::BeirFolder set = lectern::bench::ReadBeirFolder(options.folder, options.split);
  if (!options.save.empty()) lectern::index::Save(options, set);
  else lectern::index::Speed(options, set);
  return 0;
}
