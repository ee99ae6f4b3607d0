// bench/bench_search: time of a whole search, one query after another, each query new to the process.
//
//   bench_search DATA_DIRECTORY COLLECTION topics.jsonl [--k 10] [--modes bm25 hybrid] [--threads 2] [--limit N]
//
// A search is what `lectern search` does once the collection is open: parse, encode, retrieve, fuse, fetch the texts of the
// page and highlight them. Prints a JSON line a mode: percentiles of the time, medians of its stages. Nothing is warmed but
// by three queries that are not among the topics.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <vector>

#include "base/json.h"
#include "service/engine.h"

namespace lectern {
namespace {

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(share * static_cast<double>(values.size())))];
}

template <class T>
T OrExit(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::cerr << value.status() << "\n";
    std::exit(1);
  }
  return *std::move(value);
}

int Run(const std::string& data, const std::string& collection, const std::string& topics, int64_t k, int64_t threads,
        size_t limit, const std::vector<std::string>& modes) {
  std::vector<std::string> queries;
  std::ifstream in(topics);
  for (std::string line; std::getline(in, line) && queries.size() < limit;) {
    queries.push_back(OrExit(ParseJson(line)).at("text").get<std::string>());
  }
  if (queries.empty()) {
    std::cerr << "no topic in " << topics << "\n";
    return 1;
  }
  service::Engine engine(data, OrExit(service::Config::Load({.overrides = {{"index.threads", std::to_string(threads)}}})));
  using Clock = std::chrono::steady_clock;
  const auto ms_since = [](Clock::time_point begin) { return std::chrono::duration<double, std::milli>(Clock::now() - begin).count(); };
  for (const std::string& mode : modes) {
    const auto open_begin = Clock::now();
    const auto corpus = OrExit(engine.OpenCorpus(collection));
    std::string why;
    index::Encoder* encoder = nullptr;
    if (mode != "bm25") {
      encoder = OrExit(engine.EncoderOf(*corpus, &why));
      if (encoder == nullptr) {
        std::cerr << mode << " needs an encoder: " << why << "\n";
        return 1;
      }
    }
    const double open_ms = ms_since(open_begin);
    std::vector<double> took;
    std::map<std::string, std::vector<double>> stages;
    int64_t hits = 0;
    const auto search = [&](const std::string& query, bool timed) {
      index::SearchRequest request{.query = query, .operators = false, .k = k};
      if (mode == "bm25" || mode == "dense") {
        request.retrievers = {{.type = mode == "bm25" ? index::RetrieverSpec::Type::kBm25 : index::RetrieverSpec::Type::kDense}};
      }
      const auto begin = Clock::now();
      const index::SearchResponse found = OrExit(corpus->Search(request, encoder));
      const double ms = ms_since(begin);
      if (!timed) return;
      if (!found.degraded.empty()) std::exit((std::cerr << "degraded: " << found.degraded[0] << "\n", 1));
      took.push_back(ms);
      hits += static_cast<int64_t>(found.hits.size());
      for (const auto& [stage, stage_ms] : found.took_ms) stages[stage].push_back(stage_ms);
    };
    for (const char* warm : {"the first words of a process", "pages that were never read", "what a warm cache holds"}) search(warm, false);
    for (const std::string& query : queries) search(query, true);
    Json by_stage = Json::object();
    for (const auto& [stage, values] : stages) by_stage[stage] = Percentile(values, 0.5);
    std::cout << DumpJson(Json{{"what", "search"}, {"collection", collection}, {"mode", mode}, {"k", k}, {"threads", threads},
                               {"chunks", corpus->num_chunks()}, {"queries", queries.size()}, {"hits", hits}, {"open_ms", open_ms},
                               {"ms", {{"median", Percentile(took, 0.5)}, {"p95", Percentile(took, 0.95)},
                                       {"p99", Percentile(took, 0.99)}, {"longest", Percentile(took, 1)}}},
                               {"stage_median_ms", by_stage}})
              << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) {
  std::vector<std::string> plain, modes = {"bm25", "hybrid"};
  int64_t k = 10, threads = 0;
  size_t limit = ~size_t{0};
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--k" && i + 1 < argc) k = std::atoll(argv[++i]);
    else if (arg == "--threads" && i + 1 < argc) threads = std::atoll(argv[++i]);
    else if (arg == "--limit" && i + 1 < argc) limit = static_cast<size_t>(std::atoll(argv[++i]));
    else if (arg == "--modes") {
      modes.clear();
      while (i + 1 < argc && argv[i + 1][0] != '-') modes.push_back(argv[++i]);
    } else plain.push_back(arg);
  }
  if (plain.size() != 3) {
    std::cerr << "bench_search DATA_DIRECTORY COLLECTION topics.jsonl [--k 10] [--modes bm25 hybrid dense] [--threads 0] [--limit N]\n";
    return 2;
  }
  for (const std::string& mode : modes) {
    if (mode == "bm25" || mode == "dense" || mode == "hybrid") continue;
    std::cerr << "--modes knows bm25, dense and hybrid, got '" << mode << "'\n";
    return 2;
  }
  return lectern::Run(plain[0], plain[1], plain[2], k, threads, limit, modes);
}
