#include "service/eval/manifold/growing.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/json.h"
#include "base/rng.h"
#include "manifold/growth.h"
#include "manifold/harm_check.h"
#include "service/eval/manifold/baselines.h"

namespace lectern::eval {
namespace {

constexpr int64_t kTop = 10, kRowsOfAList = 500, kClusters = 5;

std::vector<float> Gather(std::span<const float> vectors, int64_t dim, std::span<const int32_t> rows) {
  std::vector<float> out;
  out.reserve(rows.size() * static_cast<size_t>(dim));
  for (const int32_t row : rows) out.insert(out.end(), vectors.begin() + int64_t{row} * dim, vectors.begin() + (int64_t{row} + 1) * dim);
  return out;
}

// `count` rows of `from`: half of them the neighbourhoods of a few documents, which lie across lists, half drawn from all.
absl::StatusOr<std::vector<int32_t>> Draw(std::span<const float> raw, int64_t dim, std::vector<int32_t> from, int64_t count, Rng& rng,
                                          ThreadPool& pool) {
  std::vector<uint8_t> taken(raw.size() / static_cast<size_t>(dim), 0);
  std::vector<int32_t> drawn;
  for (int64_t cluster = 0; cluster < kClusters; ++cluster) {
    const int32_t centre = from[static_cast<size_t>(rng.Below(static_cast<int64_t>(from.size())))];
    const std::vector<float> pool_of = Gather(raw, dim, from);
    ASSIGN_OR_RETURN(const std::vector<int32_t> near, TopK(pool_of, raw.subspan(static_cast<size_t>(centre * dim), static_cast<size_t>(dim)), dim,
                                                           std::min<int64_t>(count / 2 / kClusters, static_cast<int64_t>(from.size())), pool));
    for (const int32_t at : near) {
      if (at < 0 || taken[from[at]] != 0) continue;
      taken[from[at]] = 1;
      drawn.push_back(from[at]);
    }
  }
  for (size_t i = from.size(); i > 1; --i) std::swap(from[i - 1], from[static_cast<size_t>(rng.Below(static_cast<int64_t>(i)))]);
  for (const int32_t row : from) {
    if (static_cast<int64_t>(drawn.size()) == count) break;
    if (taken[row] != 0) continue;
    taken[row] = 1;
    drawn.push_back(row);
  }
  for (size_t i = drawn.size(); i > 1; --i) std::swap(drawn[i - 1], drawn[static_cast<size_t>(rng.Below(static_cast<int64_t>(i)))]);
  return drawn;
}

std::vector<int32_t> Without(const std::vector<int32_t>& all, std::vector<int32_t> some) {
  std::sort(some.begin(), some.end());
  std::vector<int32_t> rest;
  for (const int32_t row : all) {
    if (!std::binary_search(some.begin(), some.end(), row)) rest.push_back(row);
  }
  return rest;
}

// Share of the judged documents that are left among the first ten, for queries that have one left.
std::vector<double> Judged(const CollectionData& data, const std::vector<int32_t>& living, const std::vector<int32_t>& top) {
  std::unordered_map<std::string, int32_t> place;
  for (size_t i = 0; i < living.size(); ++i) place.emplace(data.doc_ids[living[i]], static_cast<int32_t>(i));
  std::vector<double> recall;
  for (size_t q = 0; q < data.topics.size(); ++q) {
    const auto judged = data.qrels.find(data.topics[q].id);
    if (judged == data.qrels.end()) continue;
    int64_t wanted = 0, found = 0;
    for (const auto& [id, grade] : judged->second) {
      const auto at = place.find(id);
      if (grade <= 0 || at == place.end()) continue;
      ++wanted;
      const auto begin = top.begin() + static_cast<std::ptrdiff_t>(q) * kTop;
      found += std::find(begin, begin + kTop, at->second) != begin + kTop;
    }
    if (wanted > 0) recall.push_back(static_cast<double>(found) / static_cast<double>(wanted));
  }
  return recall;
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

}  // namespace

absl::StatusOr<GrowingReport> MeasureGrowing(const CollectionData& data, std::span<const float> raw, std::span<const float> queries,
                                             int64_t dim, const manifold::FitParams& params, const GrowingOptions& options,
                                             ThreadPool& pool) {
  const int64_t n = static_cast<int64_t>(raw.size()) / dim;
  GrowingReport report;
  report.start = static_cast<int64_t>(static_cast<double>(n) / (1 + options.share));
  report.added = n - report.start;
  report.deleted = static_cast<int64_t>(options.share * static_cast<double>(report.start));
  if (report.deleted < options.steps || report.added < options.steps || report.start < 4 * params.k) {
    return InvalidArgument("growing needs more documents, got ", n);
  }
  Rng rng(options.seed, 17);
  ASSIGN_OR_RETURN(const std::vector<int32_t> added, Draw(raw, dim, manifold::AllRows(n), report.added, rng, pool));
  std::vector<int32_t> rows = Without(manifold::AllRows(n), added);   // of the collection, in the order of the fit's own rows
  ASSIGN_OR_RETURN(const std::vector<int32_t> deleted, Draw(raw, dim, rows, report.deleted, rng, pool));
  std::unordered_map<int32_t, int32_t> own;
  for (size_t i = 0; i < rows.size(); ++i) own.emplace(rows[i], static_cast<int32_t>(i));

  report.lists = std::max<int64_t>(1, report.start / kRowsOfAList);
  ASSIGN_OR_RETURN(manifold::GrowingFit grown, manifold::GrowingFit::Make(Gather(raw, dim, rows), dim, params, report.lists, pool));
  for (int64_t step = 0; step < options.steps; ++step) {
    RETURN_IF_ERROR(CheckCancel(options.cancel));
    const auto part = [&](const std::vector<int32_t>& all) {
      const int64_t count = static_cast<int64_t>(all.size());
      return std::vector<int32_t>(all.begin() + count * step / options.steps, all.begin() + count * (step + 1) / options.steps);
    };
    const std::vector<int32_t> fresh = part(added);
    std::vector<int32_t> dead;
    for (const int32_t row : part(deleted)) dead.push_back(own.at(row));
    RETURN_IF_ERROR(grown.Change(Gather(raw, dim, fresh), dead, pool));
    rows.insert(rows.end(), fresh.begin(), fresh.end());
    report.refitted_lists += grown.refitted_lists();
    report.refitted_rows += grown.refitted_rows();
  }
  std::vector<int32_t> living;
  std::vector<float> from_grown;
  for (int64_t i = 0; i < grown.rows(); ++i) {
    if (!grown.Alive(i)) continue;
    living.push_back(rows[i]);
    from_grown.insert(from_grown.end(), grown.Fitted(i).begin(), grown.Fitted(i).end());
  }
  const std::vector<float> left = Gather(raw, dim, living);
  ASSIGN_OR_RETURN(const manifold::NeighbourTable table, manifold::NeighbourTable::Make(left, dim));
  ASSIGN_OR_RETURN(const manifold::Neighbours near,
                   table.Search(left, {.k = params.k, .self = manifold::AllRows(table.rows()), .collapse = true, .cancel = options.cancel}, pool));
  ASSIGN_OR_RETURN(const manifold::FitResult rebuilt, manifold::FitBatch(left, dim, near, params, pool));
  for (size_t i = 0; i < living.size(); ++i) {
    double squared = 0;
    for (int64_t j = 0; j < dim; ++j) {
      const double step = double{from_grown[i * static_cast<size_t>(dim) + j]} - rebuilt.vectors[i * static_cast<size_t>(dim) + j];
      squared += step * step;
    }
    report.moved += std::sqrt(squared) / static_cast<double>(living.size());
  }
  ASSIGN_OR_RETURN(const std::vector<int32_t> truth, TopK(left, queries, dim, kTop, pool));
  ASSIGN_OR_RETURN(const std::vector<int32_t> of_grown, TopK(from_grown, queries, dim, kTop, pool));
  ASSIGN_OR_RETURN(const std::vector<int32_t> of_rebuilt, TopK(rebuilt.vectors, queries, dim, kTop, pool));
  const std::vector<double> a = manifold::RecallRows(of_grown, truth, kTop), b = manifold::RecallRows(of_rebuilt, truth, kTop);
  report.queries = static_cast<int64_t>(a.size());
  report.recall_grown = Mean(a);
  report.recall_rebuilt = Mean(b);
  report.recall = ComparePaired(b, a, options.seed);
  for (size_t q = 0; q < a.size(); ++q) {
    const auto begin = static_cast<std::ptrdiff_t>(q) * kTop;
    report.same_top += std::equal(of_grown.begin() + begin, of_grown.begin() + begin + kTop, of_rebuilt.begin() + begin);
  }
  const std::vector<double> judged_a = Judged(data, living, of_grown), judged_b = Judged(data, living, of_rebuilt);
  report.judged_queries = static_cast<int64_t>(judged_a.size());
  report.judged_grown = Mean(judged_a);
  report.judged_rebuilt = Mean(judged_b);
  report.judged = ComparePaired(judged_b, judged_a, options.seed);
  return report;
}

Json GrowingJson(const GrowingReport& r) {
  const auto difference = [](const PairedDifference& d) {
    return Json{{"mean", d.difference.mean}, {"low", d.difference.low}, {"high", d.difference.high}, {"wins", d.wins}, {"losses", d.losses}};
  };
  return {{"start", r.start}, {"deleted", r.deleted}, {"added", r.added}, {"lists", r.lists}, {"refitted_lists", r.refitted_lists},
          {"refitted_rows", r.refitted_rows}, {"mean_distance", r.moved}, {"queries", r.queries}, {"same_top10", r.same_top},
          {"recall10_grown", r.recall_grown}, {"recall10_rebuilt", r.recall_rebuilt}, {"recall10_difference", difference(r.recall)},
          {"judged_queries", r.judged_queries}, {"judged_recall10_grown", r.judged_grown}, {"judged_recall10_rebuilt", r.judged_rebuilt},
          {"judged_difference", difference(r.judged)}};
}

}  // namespace lectern::eval
