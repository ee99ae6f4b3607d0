// service/eval/manifold/collection.h: does denoising help searching real texts that noise has been added to?
//
//   CollectionData data{.texts = texts, .doc_ids = ids, .topics = topics, .qrels = qrels};
//   ASSIGN_OR_RETURN(CollectionCell cell, MeasureCell(data, {TextNoise::kOcr, 0.05}, options, cache, pool, cancel));
//
// Shapes:  one text a document; queries stay clean, documents carry the noise; measured by nDCG@10 of the dense ranking.
// Threads: one; parts use the pool.
// Errors:  those of the parts; kInvalidArgument where nothing was fitted.
// Cost:    the encoding of every document, clean and noisy, and of two replicas of `replicas` of them, once: the cache keeps both.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/json_fwd.h"
#include "manifold/decide.h"
#include "service/eval/embedding_cache.h"
#include "service/eval/manifold/baselines.h"
#include "service/eval/measures.h"
#include "service/eval/stats.h"
#include "service/eval/text_noise.h"
#include "service/eval/trec_io.h"

namespace lectern::eval {

struct CollectionData {
  std::vector<std::string> doc_ids, texts;
  std::vector<Topic> topics;
  Qrels qrels;
};

struct NoiseCell {
  TextNoise family = TextNoise::kOcr;
  double level = 0;   // 0: clean
};
absl::StatusOr<std::vector<NoiseCell>> ParseNoiseCells(const std::string& text);  // "clean,ocr:0.05,typo:0.2"

struct CellOptions {
  int64_t replicas = 1000;
  uint64_t seed = 1;
  bool embed_only = false;
  bool keep_vectors = false;
  std::function<void(int64_t done, int64_t total)> progress;
};

struct SystemScore {
  std::string name;
  double value = 0;
  PairedDifference difference;  // from raw
  double from_clean = -1;       // root mean square distance of a document to its clean vector; below 0: not a corpus of its own
};

struct CollectionCell {
  NoiseCell noise;
  std::string replica_family;
  manifold::Denoised decision;   // vectors emptied
  std::vector<SystemScore> systems;
  double true_sigma = 0;         // of the noise: root mean square of noisy - clean a coordinate; 0 for clean texts
  double detectable = 0;         // half width of the 95 % interval of gated - raw in nDCG@10
  Hubness hubness_raw, hubness_gated;
  std::vector<float> raw, gated, queries;   // where CellOptions::keep_vectors
  std::vector<Topic> topics;                // those judged, in the order of `queries`
};

absl::StatusOr<CollectionCell> MeasureCell(const CollectionData& data, const NoiseCell& noise, const CellOptions& options,
                                           EmbeddingCache& cache, ThreadPool& pool, const CancelToken* cancel);
Json CellJson(const CollectionCell& cell);
Json DenoisedJson(const manifold::Denoised& result);

}  // namespace lectern::eval
