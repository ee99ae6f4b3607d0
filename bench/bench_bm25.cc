// bench/bench_bm25: queries per second and a run file for one BEIR folder.
//
//   bench_bm25 data/scifact --split test --k 10 1000 --repeats 5 --run /tmp/scifact.run
//
// Builds one segment (a chunk a document), then answers the queries of the split one by one on one thread: parsing and
// analysis included, ids and scores out, the stem cache as earlier queries left it. Prints one JSON line.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <set>
#include <sstream>

#include "base/json.h"
#include "index/query.h"
#include "index/wand.h"

namespace lectern::index {
namespace {

std::string ReadText(const std::string& path) {
  const bool plain = std::filesystem::exists(path);
  FILE* pipe = ::popen(((plain ? "cat '" + path : "xz -dc '" + path + ".xz") + "'").c_str(), "r");
  std::string all;
  static char buffer[1 << 16];
  for (size_t got; (got = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) all.append(buffer, got);
  if (::pclose(pipe) != 0) {
    std::cerr << "cannot read " << path << "\n";
    std::exit(1);
  }
  return all;
}

void ForEachLine(const std::string& text, const std::function<void(std::string_view)>& line) {
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    if (end > at) line(std::string_view(text).substr(at, end - at));
    at = end + 1;
  }
}

struct Options {
  std::string folder, split = "test", run, strategy = "auto", analyzer = "en";
  std::vector<int64_t> ks = {10, 1000};
  int repeats = 5, title_weight = kTitleWeight;
  Bm25Params params;
};

double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }
double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct ById final : ChunkOrder {
  std::vector<std::string> ids;
  bool Before(ChunkPlace a, ChunkPlace b) const override { return ids[a.chunk] < ids[b.chunk]; }
};

int Run(const Options& options) {
  const auto analyzer = *Analyzer::Named(options.analyzer);
  ById order;
  std::vector<std::pair<std::string, std::string>> texts;
  ForEachLine(ReadText(options.folder + "/corpus.jsonl"), [&](std::string_view line) {
    const Json json = *ParseJson(line);
    order.ids.push_back(json["_id"]);
    texts.emplace_back(json.value("title", ""), json["text"]);
  });
  std::set<std::string> judged;
  ForEachLine(ReadText(options.folder + "/qrels/" + options.split + ".tsv"), [&](std::string_view line) {
    std::istringstream row{std::string(line)};
    std::string query, document;
    int grade = 0;
    if (row >> query >> document >> grade && grade > 0) judged.insert(query);
  });
  std::string queries_path = options.folder + "/queries.jsonl";
  if (!std::filesystem::exists(queries_path) && !std::filesystem::exists(queries_path + ".xz")) {
    queries_path = options.folder + "/queries." + options.split + ".jsonl";
  }
  std::vector<std::pair<std::string, std::string>> queries;
  ForEachLine(ReadText(queries_path), [&](std::string_view line) {
    const Json json = *ParseJson(line);
    if (judged.count(json["_id"]) > 0) queries.emplace_back(json["_id"], json["text"]);
  });

  const double index_begin = Seconds();
  Bm25SegmentWriter writer(*analyzer);
  for (const auto& [title, text] : texts) {
    if (options.title_weight == kTitleWeight) {
      if (!writer.Add(title, text).ok()) return 1;
    } else {  // for choosing the weight
      std::string all;
      for (int i = 0; i < options.title_weight; ++i) all += title + " ";
      if (!writer.Add("", all + text).ok()) return 1;
    }
  }
  std::string bytes = *writer.Serialize();
  const double index_s = Seconds() - index_begin;
  const double index_mib = static_cast<double>(bytes.size()) / (1 << 20);
  const double open_begin = Seconds();
  const auto segment = Bm25Segment::FromBytes(std::move(bytes));
  if (!segment.ok()) return 1;
  const double open_s = Seconds() - open_begin;
  const Bm25Searcher searcher({{*segment, std::nullopt}});

  const std::map<std::string, Bm25Strategy> strategies = {{"auto", Bm25Strategy::kAuto},
                                                          {"exhaustive", Bm25Strategy::kExhaustive},
                                                          {"maxscore", Bm25Strategy::kMaxScore},
                                                          {"bmw", Bm25Strategy::kBlockMaxWand}};
  Bm25SearchOptions search;
  search.params = options.params;
  search.order = &order;
  search.strategy = strategies.at(options.strategy);
  auto parse = [&](const std::string& text) { return *PlainQuery(*analyzer, text); };
  Json out;
  out["set"] = std::filesystem::path(options.folder).filename().string();
  out["strategy"] = options.strategy;
  out["docs"] = texts.size();
  out["queries"] = queries.size();
  out["index_s"] = index_s;
  out["open_s"] = open_s;
  out["index_MiB"] = index_mib;
  for (const int64_t k : options.ks) {
    search.k = k;
    std::vector<double> rates;
    double cpu = 1e9;
    int64_t scored = 0;
    for (int repeat = 0; repeat <= options.repeats; ++repeat) {
      scored = 0;
      const double begin = Seconds(), cpu_begin = CpuSeconds();
      for (const auto& [id, text] : queries) {
        const auto found = searcher.Search(parse(text).terms, search);
        if (!found.ok()) return 1;
        scored += found->postings_scored;
      }
      cpu = std::min(cpu, CpuSeconds() - cpu_begin);
      const double rate = static_cast<double>(queries.size()) / (Seconds() - begin);
      if (repeat > 0) rates.push_back(rate);
      else if (k == options.ks.front()) out["first_pass_qps_top" + std::to_string(k)] = rate;   // every query new
    }
    std::sort(rates.begin(), rates.end());
    if (rates.empty()) continue;
    out["qps_top" + std::to_string(k)] = {{"min", rates.front()}, {"median", rates[rates.size() / 2]}, {"max", rates.back()}};
    out["per_cpu_second_top" + std::to_string(k)] = static_cast<double>(queries.size()) / cpu;
    out["postings_per_query_top" + std::to_string(k)] = static_cast<double>(scored) / static_cast<double>(queries.size());
  }
  std::cout << DumpJson(out) << std::endl;
  if (!options.run.empty()) {
    std::ofstream run(options.run);
    run.precision(9);
    search.k = 100;
    for (const auto& [id, text] : queries) {
      const auto found = searcher.Search(parse(text).terms, search);
      int rank = 0;
      for (const Bm25Hit& hit : found->hits) {
        run << id << " Q0 " << order.ids[hit.place.chunk] << " " << ++rank << " " << hit.score << " lectern\n";
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace lectern::index

int main(int argc, char** argv) {
  lectern::index::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    auto value = [&] { return std::string(i + 1 < argc ? argv[++i] : ""); };
    if (flag == "--split") options.split = value();
    else if (flag == "--run") options.run = value();
    else if (flag == "--strategy") options.strategy = value();
    else if (flag == "--analyzer") options.analyzer = value();
    else if (flag == "--repeats") options.repeats = std::stoi(value());
    else if (flag == "--title-weight") options.title_weight = std::stoi(value());
    else if (flag == "--k1") options.params.k1 = std::stod(value());
    else if (flag == "--b") options.params.b = std::stod(value());
    else if (flag == "--k") {
      options.ks.clear();
      while (i + 1 < argc && std::isdigit(static_cast<unsigned char>(argv[i + 1][0]))) options.ks.push_back(std::stoll(argv[++i]));
    } else if (flag[0] != '-') {
      options.folder = flag;
    } else {
      std::cerr << "unknown flag " << flag << "\n";
      return 2;
    }
  }
  if (options.folder.empty()) {
    std::cerr << "usage: bench_bm25 FOLDER [--split S] [--k K...] [--repeats N] [--k1 X] [--b X] [--title-weight N]\n"
                 "       [--analyzer A] [--strategy auto|exhaustive|maxscore|bmw] [--run FILE]\n";
    return 2;
  }
  return lectern::index::Run(options);
}
