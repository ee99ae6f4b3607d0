#include "service/eval/manifold/collection.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/json.h"
#include "base/rng.h"
#include "service/eval/manifold/baselines.h"

namespace lectern::eval {
namespace {

constexpr int64_t kDepth = 100;

// Noise is measured with another perturbation than the one under test, as it would be in use.
NoiseCell ReplicaNoise(TextNoise tested) {
  if (tested == TextNoise::kDrop || tested == TextNoise::kShift) return {TextNoise::kTypo, 0.1};
  return {TextNoise::kDrop, 0.2};
}

std::vector<std::string> Perturb(const std::vector<std::string>& texts, const NoiseCell& noise, uint64_t seed) {
  std::vector<std::string> out;
  for (const std::string& text : texts) out.push_back(AddTextNoise(noise.family, noise.level, seed, text));
  return out;
}

// Of the distance between rows that belong together, [n, dim] each.
double RootMeanSquare(std::span<const float> a, std::span<const float> b, int64_t dim) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return std::sqrt(sum * static_cast<double>(dim) / static_cast<double>(a.size()));
}

absl::StatusOr<std::vector<double>> Score(const CollectionData& data, const std::vector<Topic>& topics,
                                          std::span<const float> corpus, std::span<const float> queries, int64_t dim,
                                          ThreadPool& pool, double* mean) {
  const int64_t k = std::min<int64_t>(kDepth, static_cast<int64_t>(data.doc_ids.size()));
  ASSIGN_OR_RETURN(const std::vector<int32_t> top, TopK(corpus, queries, dim, k, pool));
  RunMap run;
  for (size_t q = 0; q < topics.size(); ++q) {
    std::vector<RunEntry> entries;
    for (int64_t i = 0; i < k; ++i) {
      const int32_t id = top[q * static_cast<size_t>(k) + static_cast<size_t>(i)];
      // A text does not retrieve itself where queries are documents.
      if (id >= 0 && data.doc_ids[id] != topics[q].id) entries.push_back({data.doc_ids[id], -static_cast<double>(i)});
    }
    run[topics[q].id] = std::move(entries);
  }
  ASSIGN_OR_RETURN(const auto measures, ParseMeasures("nDCG@10"));
  const Scores scores = Evaluate(data.qrels, run, measures);
  *mean = scores.mean[0];
  std::vector<double> values;
  for (const QueryScores& query : scores.per_query) values.push_back(query.values[0]);
  return values;
}

}  // namespace

absl::StatusOr<std::vector<NoiseCell>> ParseNoiseCells(const std::string& text) {
  std::vector<NoiseCell> cells;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string one = text.substr(begin, end - begin);
    begin = end + 1;
    if (one == "clean") {
      cells.push_back({TextNoise::kOcr, 0});
      continue;
    }
    const size_t colon = one.find(':');
    char* stop = nullptr;
    const double level = colon == std::string::npos ? 0 : std::strtod(one.c_str() + colon + 1, &stop);
    if (stop == nullptr || *stop != '\0' || !(level > 0) || level > 1) {
      return InvalidArgument("--noise takes clean or FAMILY:LEVEL with a level in (0, 1], got '", one, "'");
    }
    ASSIGN_OR_RETURN(const TextNoise family, ParseTextNoise(one.substr(0, colon)));
    cells.push_back({family, level});
  }
  return cells;
}

absl::StatusOr<CollectionCell> MeasureCell(const CollectionData& data, const NoiseCell& noise, const CellOptions& options,
                                           EmbeddingCache& cache, ThreadPool& pool, const CancelToken* cancel) {
  CollectionCell cell;
  cell.noise = noise;
  const int64_t n = static_cast<int64_t>(data.texts.size()), dim = cache.dim();
  const std::vector<std::string> noisy = Perturb(data.texts, noise, options.seed);
  ASSIGN_OR_RETURN(const std::vector<float> raw, cache.Encode(noisy, options.progress, cancel));
  std::vector<float> clean;
  if (noise.level > 0) {
    ASSIGN_OR_RETURN(clean, cache.Encode(data.texts, options.progress, cancel));
    cell.true_sigma = RootMeanSquare(raw, clean, dim) / std::sqrt(static_cast<double>(dim));
  }
  // The documents with replicas, and the replicas: perturbed again, twice, from what is stored.
  std::vector<int32_t> rows = manifold::AllRows(n);
  Rng pick(options.seed, 3);
  const int64_t m = std::min(options.replicas, n);
  for (int64_t i = 0; i < m; ++i) std::swap(rows[i], rows[i + pick.Below(n - i)]);
  rows.resize(static_cast<size_t>(m));
  std::sort(rows.begin(), rows.end());
  std::vector<std::string> held;
  for (const int32_t row : rows) held.push_back(noisy[row]);
  const NoiseCell replica = ReplicaNoise(noise.family);
  cell.replica_family = internal::Concat(TextNoiseName(replica.family), ":", replica.level);
  ASSIGN_OR_RETURN(const std::vector<float> first, cache.Encode(Perturb(held, replica, options.seed + 101), options.progress, cancel));
  ASSIGN_OR_RETURN(const std::vector<float> second, cache.Encode(Perturb(held, replica, options.seed + 202), options.progress, cancel));
  std::vector<std::string> sentences;   // of the stored text, noise and all: the judged queries are for measuring alone
  std::vector<int32_t> answers;
  for (size_t i = 0; i < held.size(); ++i) {
    std::string sentence = PickSentence(options.seed + 303, held[i]);
    if (sentence.empty()) continue;
    sentences.push_back(std::move(sentence));
    answers.push_back(rows[i]);
  }
  ASSIGN_OR_RETURN(const std::vector<float> asked, cache.Encode(sentences, options.progress, cancel));
  std::vector<Topic> topics;
  std::vector<std::string> questions;
  for (const Topic& topic : data.topics) {
    if (!data.qrels.contains(topic.id)) continue;
    topics.push_back(topic);
    questions.push_back(topic.text);
  }
  ASSIGN_OR_RETURN(const std::vector<float> queries, cache.Encode(questions, options.progress, cancel));
  if (options.embed_only) return cell;

  const manifold::DenoiseInput input{.raw = raw, .dim = dim, .first = first, .second = second, .rows = rows, .questions = asked, .answers = answers};
  ASSIGN_OR_RETURN(cell.decision, manifold::Denoise(input, {.seed = options.seed}, pool));
  if (cell.decision.vectors.empty()) return InvalidArgument("nothing was fitted, so there is nothing to compare: ", cell.decision.reason);
  const std::vector<float> gated = std::move(cell.decision.vectors);
  cell.decision.vectors.clear();
  manifold::FitParams params = cell.decision.params;
  ASSIGN_OR_RETURN(const manifold::NeighbourTable table, manifold::NeighbourTable::Make(raw, dim));
  ASSIGN_OR_RETURN(const manifold::Neighbours near, table.Search(raw, {.k = params.k, .self = manifold::AllRows(n), .collapse = true}, pool));
  params.sigma2_factor = 1;
  ASSIGN_OR_RETURN(const manifold::FitResult full, manifold::FitBatch(raw, dim, near, params, pool));
  manifold::FitParams told = params;  // the noise as it is, which no one has in use
  told.sigma2 = static_cast<float>(cell.true_sigma * cell.true_sigma);
  ASSIGN_OR_RETURN(const manifold::FitResult oracle, manifold::FitBatch(raw, dim, near, told, pool));
  params.gate = false;
  ASSIGN_OR_RETURN(const manifold::FitResult ungated, manifold::FitBatch(raw, dim, near, params, pool));
  ASSIGN_OR_RETURN(const std::vector<float> pca, GlobalPca(raw, dim, 0.999));
  const std::vector<float> dba = DbaMean(raw, dim, near, 16);
  ASSIGN_OR_RETURN(const std::vector<float> fed, VectorFeedback(queries, raw, dim, 3, pool));

  struct System { const char* name; const std::vector<float>* corpus; const std::vector<float>* queries; };
  const System systems[] = {{"raw", &raw, &queries},         {"global PCA", &pca, &queries},
                            {"DBA mean", &dba, &queries},    {"vector feedback", &raw, &fed},
                            {"ungated", &ungated.vectors, &queries}, {"gated", &gated, &queries},
                            {"full sigma2", &full.vectors, &queries},
                            {"true sigma2", &oracle.vectors, &queries}};
  std::vector<double> base;
  for (const System& system : systems) {
    SystemScore score{.name = system.name};
    ASSIGN_OR_RETURN(const std::vector<double> values, Score(data, topics, *system.corpus, *system.queries, dim, pool, &score.value));
    if (base.empty()) base = values;
    score.difference = ComparePaired(base, values, options.seed);
    if (!clean.empty() && system.queries == &queries) score.from_clean = RootMeanSquare(*system.corpus, clean, dim);
    if (score.name == "gated") cell.detectable = (score.difference.difference.high - score.difference.difference.low) / 2;
    cell.systems.push_back(std::move(score));
  }
  ASSIGN_OR_RETURN(cell.hubness_raw, MeasureHubness(raw, dim, pool));
  ASSIGN_OR_RETURN(cell.hubness_gated, MeasureHubness(gated, dim, pool));
  if (options.keep_vectors) {
    cell.raw = raw;
    cell.gated = gated;
    cell.queries = queries;
    cell.topics = topics;
  }
  return cell;
}

Json DenoisedJson(const manifold::Denoised& r) {
  Json lists = Json::array();
  for (const auto& list : r.check.lists) {
    if (list.vetoed) lists.push_back({{"list", list.list}, {"documents", list.documents}, {"gain", list.gain}, {"high", list.high}});
  }
  return {{"on", r.on}, {"reason", r.reason}, {"replicas", r.replicas}, {"sigma2", r.noise.sigma2}, {"sigma2_total", r.noise.total},
          {"dominant_share", r.noise.dominant_share}, {"anisotropic", r.noise.anisotropic}, {"k", r.params.k}, {"d", r.params.d},
          {"sigma2_factor", r.params.sigma2_factor}, {"median_rho2", r.median_rho2}, {"median_s", r.median_s},
          {"rho2_over_sigma2", r.noise.sigma2 > 0 ? r.median_rho2 / r.noise.sigma2 : 0.0},
          {"check", {{"documents", r.check.documents}, {"recall_raw", r.check.recall_raw}, {"recall_fitted", r.check.recall_fitted},
                     {"gain", r.check.gain}, {"low", r.check.low}, {"high", r.check.high}, {"detectable", r.check.detectable},
                     {"questions", r.check.questions}, {"found_raw", r.check.found_raw}, {"found_fitted", r.check.found_fitted},
                     {"found_gain", r.check.found_gain}, {"found_low", r.check.found_low}, {"found_high", r.check.found_high}}},
          {"vetoed_lists", lists}, {"vetoed_rows", r.vetoed_rows}, {"ambiguous", r.ambiguous}, {"unfitted", r.unfitted}};
}

Json CellJson(const CollectionCell& cell) {
  Json systems = Json::array();
  for (const SystemScore& s : cell.systems) {
    systems.push_back({{"name", s.name}, {"ndcg10", s.value}, {"difference", s.difference.difference.mean},
                       {"low", s.difference.difference.low}, {"high", s.difference.difference.high}, {"p", s.difference.p}});
    if (s.from_clean >= 0) systems.back()["from_clean"] = s.from_clean;
  }
  const auto hubness = [](const Hubness& h) { return Json{{"skew", h.skew}, {"mean_cosine", h.mean_cosine}}; };
  return {{"noise", cell.noise.level == 0 ? "clean" : TextNoiseName(cell.noise.family)}, {"level", cell.noise.level},
          {"replicas_by", cell.replica_family}, {"decision", DenoisedJson(cell.decision)}, {"systems", systems},
          {"detectable_ndcg10", cell.detectable}, {"true_sigma", cell.true_sigma}, {"hubness_raw", hubness(cell.hubness_raw)},
          {"hubness_gated", hubness(cell.hubness_gated)}};
}

}  // namespace lectern::eval
