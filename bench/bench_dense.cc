// bench/bench_dense: recall@10 and queries per second of flat and HNSW search, one thread, one query a call.
//
//   bench_dense docs.npy queries.npy --m 16 32 --ef 10 20 40 80 160 320 --repeats 5
//
// The .npy files are bench_encoder --save's. Prints a JSON line a setting; the truth is our own exact search.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>

#include "base/json.h"
#include "index/dense_index.h"

namespace lectern::index {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::vector<float> ReadNpy(const std::string& path, int64_t* dim) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream all;
  all << in.rdbuf();
  const std::string bytes = all.str();
  if (bytes.size() < 10 || bytes.find("'<f4'") == std::string::npos) {
    std::cerr << "not a float32 .npy: " << path << "\n";
    std::exit(1);
  }
  const size_t data = 10 + static_cast<uint8_t>(bytes[8]) + 256u * static_cast<uint8_t>(bytes[9]);
  const size_t comma = bytes.find(',', bytes.find("'shape'"));
  *dim = std::atoll(bytes.c_str() + comma + 1);
  std::vector<float> values((bytes.size() - data) / 4);
  std::memcpy(values.data(), bytes.data() + data, values.size() * 4);
  return values;
}

struct Setting {
  Json name;
  const DenseIndex* index;
  int ef;
};

void Measure(const Setting& setting, const std::vector<float>& queries, int64_t dim, int repeats,
             const std::vector<std::set<int64_t>>& truth) {
  const int64_t n = static_cast<int64_t>(queries.size()) / dim;
  int64_t found = 0;
  std::vector<double> rates, per_cpu;
  for (int run = 0; run <= repeats; ++run) {
    const double start = Seconds(), cpu = CpuSeconds();
    for (int64_t q = 0; q < n; ++q) {
      auto hits = setting.index->Search({&queries[q * dim], static_cast<size_t>(dim)}, {.k = 10, .ef = setting.ef});
      if (!hits.ok()) std::exit(1);
      if (run > 0) continue;
      for (const DenseHit& hit : *hits) found += truth[q].contains(hit.chunk);
    }
    if (run == 0) continue;
    rates.push_back(n / (Seconds() - start));
    per_cpu.push_back(n / (CpuSeconds() - cpu));
  }
  std::sort(rates.begin(), rates.end());
  std::sort(per_cpu.begin(), per_cpu.end());
  Json line = setting.name;
  line["recall_at_10"] = static_cast<double>(found) / (10.0 * n);
  line["qps"] = {{"min", rates.front()}, {"median", rates[rates.size() / 2]}, {"max", rates.back()}};
  line["queries_per_cpu_s"] = {{"median", per_cpu[per_cpu.size() / 2]}, {"max", per_cpu.back()}};
  std::cout << DumpJson(line) << std::endl;
}

}  // namespace
}  // namespace lectern::index

int main(int argc, char** argv) {
  using namespace lectern::index;
  std::vector<std::string> plain;
  std::vector<int> ms = {16, 32}, efs = {10, 20, 40, 80, 160, 320};
  int repeats = 5, most_queries = 1000;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto list = [&] {
      std::vector<int> values;
      while (i + 1 < argc && argv[i + 1][0] != '-') values.push_back(std::atoi(argv[++i]));
      return values;
    };
    if (arg == "--m") ms = list();
    else if (arg == "--ef") efs = list();
    else if (arg == "--repeats") repeats = std::max(1, std::atoi(argv[++i]));
    else if (arg == "--queries") most_queries = std::atoi(argv[++i]);
    else plain.push_back(arg);
  }
  if (plain.size() != 2) {
    std::cerr << "bench_dense DOCS.npy QUERIES.npy [--m 16 32] [--ef 10 ...] [--repeats 5] [--queries 1000]\n";
    return 2;
  }
  int64_t dim = 0;
  std::vector<float> queries = ReadNpy(plain[1], &dim);
  const std::vector<float> docs = ReadNpy(plain[0], &dim);
  queries.resize(std::min<size_t>(queries.size(), static_cast<size_t>(most_queries * dim)));
  lectern::ThreadPool pool(1);
  auto flat = DenseIndex::Build(docs, dim, {}, pool);
  if (!flat.ok()) {
    std::cerr << flat.status() << "\n";
    return 1;
  }
  std::vector<std::set<int64_t>> truth;
  for (size_t q = 0; q < queries.size() / dim; ++q) {
    std::set<int64_t> best;
    const auto hits = (*flat)->Search({&queries[q * dim], static_cast<size_t>(dim)}, {.k = 10});
    if (!hits.ok()) return 1;
    for (const DenseHit& hit : *hits) best.insert(hit.chunk);
    truth.push_back(std::move(best));
  }
  const int64_t vectors = (*flat)->size();
  Measure({lectern::Json{{"kind", "flat"}, {"vectors", vectors}}, flat->get(), 1}, queries, dim, repeats, truth);
  for (int m : ms) {
    const double start = CpuSeconds();
    auto hnsw = DenseIndex::Build(docs, dim, {.kind = DenseKind::kHnsw, .m = m}, pool);
    const double build = CpuSeconds() - start;
    for (int ef : efs) {
      Measure({lectern::Json{{"kind", "hnsw"}, {"m", m}, {"ef", ef}, {"build_cpu_s", build}, {"vectors", vectors}}, hnsw->get(), ef},
              queries, dim, repeats, truth);
    }
  }
  return 0;
}
