#include "manifold/harm_check.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/rng.h"
#include "manifold/neighbours.h"

namespace lectern::manifold {
namespace {

constexpr int64_t kLeastDocuments = 20, kResamples = 2000, kLeastOfAList = 30;

struct Bounds {
  double mean = 0, low = 0, high = 0, error = 0;
};

Bounds Bootstrap(const std::vector<double>& values, uint64_t seed) {
  Bounds bounds;
  const int64_t n = static_cast<int64_t>(values.size());
  for (const double value : values) bounds.mean += value;
  bounds.mean /= static_cast<double>(n);
  std::vector<double> means(static_cast<size_t>(kResamples));
  Rng rng(seed, 0x626f6f74);
  double square = 0;
  for (double& mean : means) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += values[rng.Below(n)];
    mean = sum / static_cast<double>(n);
    square += (mean - bounds.mean) * (mean - bounds.mean);
  }
  std::sort(means.begin(), means.end());
  bounds.low = means[static_cast<size_t>(0.025 * kResamples)];
  bounds.high = means[static_cast<size_t>(0.975 * kResamples) - 1];
  bounds.error = std::sqrt(square / kResamples);
  return bounds;
}

std::vector<float> Gather(std::span<const float> vectors, int64_t dim, std::span<const int32_t> rows) {
  std::vector<float> out;
  out.reserve(rows.size() * static_cast<size_t>(dim));
  for (const int32_t row : rows) out.insert(out.end(), vectors.begin() + int64_t{row} * dim, vectors.begin() + (int64_t{row} + 1) * dim);
  return out;
}

}  // namespace

std::vector<double> RecallRows(std::span<const int32_t> found, std::span<const int32_t> truth, int64_t k) {
  std::vector<double> recall;
  for (size_t at = 0; at + static_cast<size_t>(k) <= truth.size(); at += static_cast<size_t>(k)) {
    int64_t hits = 0, wanted = 0;
    for (int64_t j = 0; j < k; ++j) {
      if (truth[at + j] < 0) continue;
      ++wanted;
      for (int64_t i = 0; i < k; ++i) hits += found[at + i] == truth[at + j];
    }
    recall.push_back(wanted == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(wanted));
  }
  return recall;
}

absl::StatusOr<HarmCheck> CheckHarm(const HarmCheckRequest& request, ThreadPool& pool) {
  const int64_t dim = request.dim;
  RETURN_IF_ERROR(CheckFinite(request.first, dim, "replicas"));
  RETURN_IF_ERROR(CheckFinite(request.second, dim, "replicas"));
  RETURN_IF_ERROR(CheckFinite(request.questions, dim, "questions"));
  const int64_t m = static_cast<int64_t>(request.rows.size()), n = static_cast<int64_t>(request.raw.size()) / dim;
  if (static_cast<int64_t>(request.first.size()) != m * dim || request.second.size() != request.first.size() ||
      request.fitted.size() != request.raw.size() || (!request.list.empty() && static_cast<int64_t>(request.list.size()) != m) ||
      request.questions.size() != request.answers.size() * static_cast<size_t>(dim)) {
    return InvalidArgument("replicas must be of the same ", m, " documents, fitted vectors of the same ", n, ", questions of the same ",
                           request.answers.size(), " answers");
  }
  if (m < std::max(kLeastDocuments, request.k + 2)) {
    return InvalidArgument("the check needs at least ", std::max(kLeastDocuments, request.k + 2), " documents with replicas, got ", m);
  }
  const bool asked = static_cast<int64_t>(request.answers.size()) >= kLeastDocuments;
  const std::span<const float> questions = asked ? request.questions : request.first;
  const std::span<const int32_t> answers = asked ? request.answers : request.rows;
  for (const std::span<const int32_t> ids : {request.rows, answers}) {
    for (const int32_t id : ids) {
      if (id < 0 || id >= n) return InvalidArgument("a held-out document must be in 0..", n - 1, ", got ", id);
    }
  }
  std::vector<float> average(request.first.size());
  for (size_t i = 0; i < average.size(); ++i) average[i] = (request.first[i] + request.second[i]) / 2;
  const auto search = [&](std::span<const float> corpus, std::span<const float> queries, std::vector<int32_t> self) -> absl::StatusOr<std::vector<int32_t>> {
    ASSIGN_OR_RETURN(const NeighbourTable table, NeighbourTable::Make(corpus, dim));
    const NeighbourOptions options{.k = std::min(request.k, table.rows() - (self.empty() ? 0 : 1)), .self = std::move(self)};
    ASSIGN_OR_RETURN(Neighbours near, table.Search(queries, options, pool));
    return std::move(near.ids);
  };
  const std::vector<float> raw_rows = Gather(request.raw, dim, request.rows), fitted_rows = Gather(request.fitted, dim, request.rows);
  ASSIGN_OR_RETURN(const std::vector<int32_t> truth, search(average, average, AllRows(m)));
  ASSIGN_OR_RETURN(const std::vector<int32_t> in_raw, search(raw_rows, raw_rows, AllRows(m)));
  ASSIGN_OR_RETURN(const std::vector<int32_t> in_fitted, search(fitted_rows, raw_rows, AllRows(m)));
  const std::vector<double> raw = RecallRows(in_raw, truth, request.k), fitted = RecallRows(in_fitted, truth, request.k);
  HarmCheck check;
  check.documents = m;
  std::vector<double> gains(static_cast<size_t>(m));
  std::map<int32_t, std::vector<double>> by_list;
  for (int64_t i = 0; i < m; ++i) {
    gains[i] = fitted[i] - raw[i];
    check.recall_raw += raw[i] / static_cast<double>(m);
    check.recall_fitted += fitted[i] / static_cast<double>(m);
    if (!request.list.empty()) by_list[request.list[i]].push_back(gains[i]);
  }
  const Bounds all = Bootstrap(gains, request.seed);
  check.gain = all.mean;
  check.low = all.low;
  check.high = all.high;
  check.detectable = 1.96 * all.error;
  for (const auto& [list, values] : by_list) {
    if (static_cast<int64_t>(values.size()) < kLeastOfAList) continue;
    const Bounds bounds = Bootstrap(values, request.seed);
    check.lists.push_back({list, static_cast<int64_t>(values.size()), bounds.mean, bounds.high, bounds.high < 0});
  }
  check.questions = static_cast<int64_t>(answers.size());
  std::vector<double> found(answers.size());
  for (const bool after : {false, true}) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids, search(after ? request.fitted : request.raw, questions, {}));
    const int64_t depth = static_cast<int64_t>(ids.size()) / check.questions;
    double& mean = after ? check.found_fitted : check.found_raw;
    for (int64_t i = 0; i < check.questions; ++i) {
      const auto begin = ids.begin() + i * depth, at = std::find(begin, begin + depth, answers[i]);
      const double value = at == begin + depth ? 0 : 1 / std::log2(2.0 + static_cast<double>(at - begin));
      mean += value / static_cast<double>(check.questions);
      found[i] = after ? value - found[i] : value;
    }
  }
  const Bounds asking = Bootstrap(found, request.seed);
  check.found_gain = asking.mean;
  check.found_low = asking.low;
  check.found_high = asking.high;
  check.finds_neighbours = check.low > kHarmTolerance;
  check.keeps_answers = check.found_low >= -kHarmTolerance;
  check.helps = check.finds_neighbours && check.keeps_answers;
  return check;
}

}  // namespace lectern::manifold
