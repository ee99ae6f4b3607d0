#include "service/eval/manifold/simulation.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/json.h"
#include "base/rng.h"
#include "manifold/decide.h"
#include "manifold/shapes.h"
#include "service/eval/manifold/baselines.h"

namespace lectern::eval {
namespace {

using manifold::AddNoise;
using manifold::AllRows;
using manifold::VectorNoise;

constexpr int64_t kReplicas = 2000, kRecallAt = 10;

struct Setting {
  int64_t d, k, plane_d;
  double ratio;
  double published_raw, published_gated;  // recall@10 of clean queries
};
// Plane dimensions: twice the manifold's own, and for d = 4 its own as well.
constexpr Setting kSettings[] = {
    {4, 48, 8, 0, 1.000, 1.000},  {4, 64, 8, .5, .916, .925},   {4, 64, 8, 1, .818, .841},   {4, 64, 8, 2, .556, .701},
    {12, 64, 24, 0, 1.000, 1.000}, {12, 64, 24, .25, .875, .874}, {12, 64, 24, .5, .767, .768}, {12, 64, 24, 1, .542, .543},
    {12, 64, 24, 2, .220, .191},
};

struct World {
  std::vector<float> clean, queries;   // [n, dim], [q, dim]
  std::vector<int32_t> truth;          // [q, 10]
  double distance10 = 0;               // median to the 10th neighbour
};

absl::StatusOr<World> MakeWorld(int64_t d, uint64_t seed, const SimulationOptions& options, ThreadPool& pool) {
  const manifold::RandomManifold surface(static_cast<int>(d), static_cast<int>(options.dim), seed);
  World world;
  world.clean.resize(static_cast<size_t>(options.documents * options.dim));
  world.queries.resize(static_cast<size_t>(options.queries * options.dim));
  std::vector<double> z(static_cast<size_t>(d));
  Rng rng(seed, 11);
  for (int64_t i = 0; i < options.documents; ++i) {
    for (double& value : z) value = 2 * rng.Uniform();
    surface.Embed(z, world.clean.data() + i * options.dim);
  }
  for (int64_t i = 0; i < options.queries; ++i) {
    for (double& value : z) value = .1 + 1.8 * rng.Uniform();
    surface.Embed(z, world.queries.data() + i * options.dim);
  }
  ASSIGN_OR_RETURN(world.truth, TopK(world.clean, world.queries, options.dim, kRecallAt, pool));
  const int64_t sample = std::min<int64_t>(2000, options.documents);
  ASSIGN_OR_RETURN(const manifold::NeighbourTable table, manifold::NeighbourTable::Make(world.clean, options.dim));
  ASSIGN_OR_RETURN(const manifold::Neighbours near,
                   table.Search(std::span(world.clean).first(static_cast<size_t>(sample * options.dim)), {.k = 10, .self = AllRows(sample)}, pool));
  std::vector<float> tenth;
  for (int64_t i = 0; i < sample; ++i) tenth.push_back(near.distances[i * 10 + 9]);
  std::nth_element(tenth.begin(), tenth.begin() + sample / 2, tenth.end());
  world.distance10 = tenth[sample / 2];
  return world;
}

absl::StatusOr<double> Recall(const World& world, std::span<const float> corpus, std::span<const float> queries, int64_t dim,
                              ThreadPool& pool) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> found, TopK(corpus, queries, dim, kRecallAt, pool));
  double sum = 0;
  const std::vector<double> rows = manifold::RecallRows(found, world.truth, kRecallAt);
  for (const double value : rows) sum += value;
  return sum / static_cast<double>(rows.size());
}

absl::Status OneSeed(const Setting& setting, uint64_t seed, const SimulationOptions& options, ThreadPool& pool, SimulationRow& row,
                     std::vector<RecallPair>& gains) {
  const int64_t dim = options.dim;
  ASSIGN_OR_RETURN(const World world, MakeWorld(setting.d, seed, options, pool));
  const double sigma = setting.ratio * world.distance10 / std::sqrt(static_cast<double>(dim));
  std::vector<float> raw = world.clean, noisy_queries = world.queries;
  std::vector<float> first(world.clean.begin(), world.clean.begin() + kReplicas * dim), second = first;
  if (sigma > 0) {
    AddNoise(VectorNoise::kGaussian, {.sigma = sigma}, seed * 1000 + 1, dim, raw);
    AddNoise(VectorNoise::kGaussian, {.sigma = sigma}, seed * 1000 + 2, dim, noisy_queries);
    AddNoise(VectorNoise::kGaussian, {.sigma = sigma}, seed * 1000 + 3, dim, first);
    AddNoise(VectorNoise::kGaussian, {.sigma = sigma}, seed * 1000 + 4, dim, second);
  }
  const auto measure = [&](std::span<const float> corpus, RecallPair& into, RecallPair* own) -> absl::Status {
    RecallPair pair;
    ASSIGN_OR_RETURN(pair.clean, Recall(world, corpus, world.queries, dim, pool));
    ASSIGN_OR_RETURN(pair.noisy, Recall(world, corpus, noisy_queries, dim, pool));
    into.clean += pair.clean / static_cast<double>(options.seeds);
    into.noisy += pair.noisy / static_cast<double>(options.seeds);
    if (own != nullptr) *own = pair;
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(const manifold::NeighbourTable table, manifold::NeighbourTable::Make(raw, dim));
  ASSIGN_OR_RETURN(const manifold::Neighbours near, table.Search(raw, {.k = setting.k, .self = AllRows(table.rows()), .collapse = true}, pool));
  // The noise of what is stored: vectors are made unit length after it was added, which makes it less than sigma.
  double sigma2 = 0;
  if (sigma > 0) {
    ASSIGN_OR_RETURN(const manifold::NoiseLevel noise, manifold::NoiseFromReplicas(first, second, dim));
    sigma2 = noise.total;
  }
  manifold::FitParams params{.k = setting.k, .d = setting.plane_d, .sigma2 = static_cast<float>(sigma2), .sigma2_factor = 1};
  RecallPair raw_pair, gated_pair, shipped_pair;
  RETURN_IF_ERROR(measure(raw, row.raw, &raw_pair));
  ASSIGN_OR_RETURN(const std::vector<float> pca, GlobalPca(raw, dim, 0.999));
  RETURN_IF_ERROR(measure(pca, row.pca, nullptr));
  RETURN_IF_ERROR(measure(DbaMean(raw, dim, near, 16), row.dba, nullptr));
  ASSIGN_OR_RETURN(const manifold::FitResult gated, manifold::FitBatch(raw, dim, near, params, pool));
  RETURN_IF_ERROR(measure(gated.vectors, row.gated, &gated_pair));
  params.gate = false;
  if (params.sigma2 == 0) params.sigma2 = 1;  // ungated moves everything, noise or not
  ASSIGN_OR_RETURN(const manifold::FitResult ungated, manifold::FitBatch(raw, dim, near, params, pool));
  RETURN_IF_ERROR(measure(ungated.vectors, row.ungated, nullptr));
  gains.push_back({gated_pair.clean - raw_pair.clean, gated_pair.noisy - raw_pair.noisy});
  // What is shipped: noise from replicas, k and d chosen, half the noise, the check.
  const std::vector<int32_t> rows = AllRows(kReplicas);
  ASSIGN_OR_RETURN(const manifold::Denoised shipped,
                   manifold::Denoise({.raw = raw, .dim = dim, .first = first, .second = second, .rows = rows}, {.seed = seed}, pool));
  row.on += shipped.on;
  row.checks.push_back(shipped.check);
  row.chosen_k.push_back(shipped.params.k);
  row.chosen_d.push_back(shipped.params.d);
  RETURN_IF_ERROR(measure(shipped.vectors.empty() ? std::span<const float>(raw) : shipped.vectors, row.shipped, &shipped_pair));
  row.shipped_gain.push_back(shipped_pair.clean - raw_pair.clean);
  return absl::OkStatus();
}

std::string Pair(const RecallPair& pair) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.3f / %.3f", pair.clean, pair.noisy);
  return text;
}

}  // namespace

namespace {

absl::StatusOr<std::vector<Setting>> RowsNamed(const std::string& names) {
  if (names.empty()) return std::vector<Setting>(std::begin(kSettings), std::end(kSettings));
  std::vector<Setting> rows;
  for (size_t begin = 0; begin <= names.size();) {
    const size_t end = std::min(names.find(',', begin), names.size());
    const std::string name = names.substr(begin, end - begin);
    begin = end + 1;
    const auto found = std::find_if(std::begin(kSettings), std::end(kSettings), [&](const Setting& s) { return internal::Concat(s.d, ":", s.ratio) == name; });
    if (found == std::end(kSettings)) return InvalidArgument("--rows names d:ratio of the table, such as 4:2 or 12:0.25, got '", name, "'");
    rows.push_back(*found);
  }
  return rows;
}

}  // namespace

absl::Status RunSimulation(const SimulationOptions& options, ThreadPool& pool) {
  if (options.documents < kReplicas) return InvalidArgument("the simulation needs at least ", kReplicas, " documents, got ", options.documents);
  ASSIGN_OR_RETURN(const std::vector<Setting> settings, RowsNamed(options.rows));
  for (const Setting& setting : settings) {
    SimulationRow row{.d = setting.d, .k = setting.k, .plane_d = setting.plane_d, .ratio = setting.ratio, .seeds = options.seeds};
    row.published_raw = setting.published_raw;
    row.published_gated = setting.published_gated;
    std::vector<RecallPair> gains;
    for (int64_t s = 0; s < options.seeds; ++s) {
      RETURN_IF_ERROR(CheckCancel(options.cancel));
      RETURN_IF_ERROR(OneSeed(setting, options.first_seed + static_cast<uint64_t>(s), options, pool, row, gains));
    }
    double clean = 0, noisy = 0;
    for (const RecallPair& gain : gains) clean += gain.clean / static_cast<double>(gains.size()), noisy += gain.noisy / static_cast<double>(gains.size());
    for (const RecallPair& gain : gains) {
      row.gain_error.clean += (gain.clean - clean) * (gain.clean - clean);
      row.gain_error.noisy += (gain.noisy - noisy) * (gain.noisy - noisy);
    }
    const double degrees = std::max(1.0, static_cast<double>(gains.size()) * (static_cast<double>(gains.size()) - 1));
    row.gain_error = {std::sqrt(row.gain_error.clean / degrees), std::sqrt(row.gain_error.noisy / degrees)};
    options.row(row);
  }
  return absl::OkStatus();
}

std::string SimulationHead() {
  return "d\tratio\tk\tplane d\traw (clean / noisy queries)\tglobal PCA\tDBA mean\tungated\tgated, factor 1\tgated - raw\tspecified gated - raw\tshipped\tworst shipped - raw\tauto on\tchosen k/d";
}

std::string SimulationLine(const SimulationRow& row) {
  char gain[96], shipped[64];
  std::snprintf(gain, sizeof(gain), "%+.4f +- %.4f / %+.4f\t%+.3f", row.gated.clean - row.raw.clean, row.gain_error.clean,
                row.gated.noisy - row.raw.noisy, row.published_gated - row.published_raw);
  std::snprintf(shipped, sizeof(shipped), "%+.4f\t%lld of %lld", *std::min_element(row.shipped_gain.begin(), row.shipped_gain.end()),
                static_cast<long long>(row.on), static_cast<long long>(row.seeds));
  std::string chosen;
  for (size_t i = 0; i < row.chosen_d.size(); ++i) chosen += internal::Concat(i > 0 ? " " : "", row.chosen_k[i], "/", row.chosen_d[i]);
  return internal::Concat(row.d, "\t", row.ratio, "\t", row.k, "\t", row.plane_d, "\t", Pair(row.raw), "\t", Pair(row.pca), "\t", Pair(row.dba), "\t",
                          Pair(row.ungated), "\t", Pair(row.gated), "\t", gain, "\t", Pair(row.shipped), "\t", shipped, "\t", chosen);
}

Json SimulationJson(const SimulationRow& row) {
  const auto pair = [](const RecallPair& p) { return Json{{"clean", p.clean}, {"noisy", p.noisy}}; };
  Json checks = Json::array();
  for (const manifold::HarmCheck& c : row.checks) {
    checks.push_back({{"gain", c.gain}, {"low", c.low}, {"high", c.high}, {"found_gain", c.found_gain}, {"found_low", c.found_low}, {"found_high", c.found_high}});
  }
  return {{"d", row.d}, {"ratio", row.ratio}, {"k", row.k}, {"plane_d", row.plane_d}, {"seeds", row.seeds}, {"raw", pair(row.raw)},
          {"global_pca", pair(row.pca)}, {"dba_mean", pair(row.dba)}, {"ungated", pair(row.ungated)}, {"gated", pair(row.gated)},
          {"shipped", pair(row.shipped)}, {"gain_error", pair(row.gain_error)}, {"shipped_gain", row.shipped_gain}, {"on", row.on},
          {"chosen_k", row.chosen_k}, {"chosen_d", row.chosen_d}, {"checks", checks}};
}

}  // namespace lectern::eval
