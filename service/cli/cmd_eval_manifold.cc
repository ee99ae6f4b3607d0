// eval manifold: the published tables, the simulation, and real collections with noise added.
#include <cmath>

#include "base/file.h"
#include "base/json.h"
#include "base/problem.h"
#include "index/chunker.h"
#include "service/cli/app.h"
#include "service/cli/tables.h"
#include "service/eval/manifold/collection.h"
#include "service/eval/manifold/growing.h"
#include "service/eval/manifold/simulation.h"
#include "service/eval/manifold/synthetic.h"

namespace lectern::cli {
namespace {

struct Args {
  bool synthetic = false, simulation = false, embed_only = false, growing = false;
  std::string collection, topics, qrels, cache, plots, dump, missing, rows, noise = "clean,ocr:0.02,ocr:0.05,ocr:0.1,typo:0.05,typo:0.15,typo:0.3,"
                                                               "drop:0.1,drop:0.3,drop:0.5,asr:0.05,asr:0.15,asr:0.3";
  int64_t trials = 20, seeds = 10, replicas = 1000;
  uint64_t seed = 1;
  bool dense = false;
};

absl::StatusOr<int> Synthetic(Context& context, const Args& args) {
  eval::SyntheticOptions options{.trials = args.trials, .first_seed = args.seed, .dense = args.dense, .plots = args.plots};
  Progress progress(*context.terminal, "trial", 0);
  options.progress = [&](int64_t done, int64_t total) { progress.Update(done, total); };
  ASSIGN_OR_RETURN(const std::vector<eval::SyntheticRow> rows, eval::RunSynthetic(options, context.engine->pool()));
  if (context.flags.json) {
    for (const eval::SyntheticRow& row : rows) context.terminal->Json(eval::SyntheticJson(row));
  } else {
    context.terminal->Out(eval::SyntheticTable(rows));
  }
  return kOk;
}

absl::StatusOr<int> Simulation(Context& context, const Args& args) {
  eval::SimulationOptions options{.seeds = args.seeds, .first_seed = args.seed, .rows = args.rows};
  options.row = [&](const eval::SimulationRow& row) {
    context.terminal->Line(context.flags.json ? DumpJson(eval::SimulationJson(row)) : eval::SimulationLine(row));
  };
  options.cancel = &InterruptToken();
  if (!context.flags.json) context.terminal->Line(eval::SimulationHead());
  RETURN_IF_ERROR(eval::RunSimulation(options, context.engine->pool()));
  return kOk;
}

// Documents that the collection's index holds as one chunk, encoded by this very encoder, need not be encoded again.
absl::Status KnowIndexed(Context& context, const std::string& name, const index::Encoder& encoder, const eval::CollectionData& data,
                         eval::EmbeddingCache& cache) {
  const auto corpus = context.engine->OpenCorpus(name);
  if (absl::IsNotFound(corpus.status())) return absl::OkStatus();
  RETURN_IF_ERROR(corpus.status());
  if ((*corpus)->settings().value("encoder", Json::object()).value("fingerprint", std::string()) != encoder.fingerprint()) {
    context.terminal->Note("the collection's vectors are of another encoder; documents are encoded again");
    return absl::OkStatus();
  }
  int64_t known = 0;
  for (size_t i = 0; i < data.texts.size(); ++i) {
    const auto vectors = (*corpus)->DocumentVectors(data.doc_ids[i]);
    if (!vectors.ok() || static_cast<int64_t>(vectors->size()) != encoder.dim()) continue;   // not indexed yet, or several chunks
    cache.Know(data.texts[i], *vectors);
    ++known;
  }
  context.terminal->Note(internal::Concat("vectors of ", known, " of ", data.texts.size(), " documents are the index's"));
  return absl::OkStatus();
}

// raw.fbin, fitted.fbin, queries.fbin (rows, dim as int32, then float32), and the ids, one a line.
absl::Status Dump(const std::string& folder, const eval::CollectionData& data, const eval::CollectionCell& cell, int64_t dim) {
  FileSystem& files = FileSystem::Posix();
  RETURN_IF_ERROR(files.CreateDirectories(folder));
  const auto write = [&](const char* name, const std::vector<float>& vectors) {
    const int32_t head[2] = {static_cast<int32_t>(static_cast<int64_t>(vectors.size()) / dim), static_cast<int32_t>(dim)};
    std::string bytes(reinterpret_cast<const char*>(head), sizeof(head));
    bytes.append(reinterpret_cast<const char*>(vectors.data()), vectors.size() * sizeof(float));
    return WriteFileAtomically(files, folder + "/" + name, bytes);
  };
  RETURN_IF_ERROR(write("raw.fbin", cell.raw));
  RETURN_IF_ERROR(write("fitted.fbin", cell.gated));
  RETURN_IF_ERROR(write("queries.fbin", cell.queries));
  std::string documents, topics;
  for (const std::string& id : data.doc_ids) documents += id + "\n";
  for (const eval::Topic& topic : cell.topics) topics += topic.id + "\n";
  RETURN_IF_ERROR(WriteFileAtomically(files, folder + "/documents.txt", documents));
  return WriteFileAtomically(files, folder + "/queries.txt", topics);
}

absl::Status TellGrowing(Context& context, const Args& args, eval::CollectionData& data, const eval::CollectionCell& cell, int64_t dim) {
  data.topics = cell.topics;
  ASSIGN_OR_RETURN(const eval::GrowingReport r,
                   eval::MeasureGrowing(data, cell.raw, cell.queries, dim, cell.decision.params, {.seed = args.seed, .cancel = &InterruptToken()},
                                        context.engine->pool()));
  if (context.flags.json) {
    context.terminal->Json(eval::GrowingJson(r));
    return absl::OkStatus();
  }
  const auto interval = [](const eval::PairedDifference& d) {
    return Fixed(d.difference.mean, 5) + " [" + Fixed(d.difference.low, 5) + ", " + Fixed(d.difference.high, 5) + "]";
  };
  context.terminal->Line(internal::Concat("growing: ", r.start, " documents, ", r.deleted, " deleted and ", r.added, " added in steps; ", r.lists,
                                          " lists, ", r.refitted_lists, " refits, ", r.refitted_rows, " rows fitted again or anew"));
  context.terminal->Line(internal::Concat("grown against rebuilt over ", r.queries, " queries: recall@10 of the raw ten ", Fixed(r.recall_grown, 5), ", ",
                                          Fixed(r.recall_rebuilt, 5), ", difference ", interval(r.recall), "; judged (", r.judged_queries, ") ",
                                          Fixed(r.judged_grown, 5), ", ", Fixed(r.judged_rebuilt, 5), ", difference ", interval(r.judged), "; ",
                                          r.same_top, " lists of ten equal; mean distance of a document ", Fixed(r.moved, 6)));
  return absl::OkStatus();
}

absl::StatusOr<int> Collection(Context& context, const Args& args) {
  if (args.cache.empty()) return InvalidArgument("--collection needs --cache FOLDER: every cell encodes the whole collection once");
  eval::CollectionData data;
  ASSIGN_OR_RETURN(const std::string name, context.engine->ResolveAlias(args.collection));
  ASSIGN_OR_RETURN(const auto store, context.engine->OpenFollower());
  RETURN_IF_ERROR(store->Scan(name, "", [&](index::StoredDocument&& stored) {
    data.doc_ids.push_back(stored.document.id);
    data.texts.push_back(index::EmbeddingText(stored.document.title, stored.document.text));
    return true;
  }));
  if (data.texts.empty()) return NotFound("collection '", args.collection, "' has no documents");
  ASSIGN_OR_RETURN(data.topics, eval::ReadTopics(args.topics));
  ASSIGN_OR_RETURN(data.qrels, eval::ReadQrels(args.qrels));
  ASSIGN_OR_RETURN(const std::vector<eval::NoiseCell> cells, eval::ParseNoiseCells(args.noise));
  std::string why;
  ASSIGN_OR_RETURN(index::Encoder * encoder, context.engine->EncoderNamed("", &why));
  if (encoder == nullptr) return FailedPrecondition("eval manifold --collection needs an encoder: ", why);
  ASSIGN_OR_RETURN(const auto cache, eval::EmbeddingCache::Open(args.cache, *encoder));
  if (!args.missing.empty()) RETURN_IF_ERROR(cache->ListMissing(args.missing));
  RETURN_IF_ERROR(KnowIndexed(context, name, *encoder, data, *cache));
  if (!context.flags.json && !args.embed_only && args.missing.empty()) {
    context.terminal->Line("noise\tauto\tk/d\tsigma\trho2/sigma2\tmedian s\tcheck gain [95 %]\traw\tglobal PCA\tDBA mean\tvector feedback\tungated\tgated\tfull sigma2\ttrue sigma2\tgated - raw [95 %] p");
  }
  for (const eval::NoiseCell& noise : cells) {
    const std::string label = noise.level == 0 ? "clean" : internal::Concat(eval::TextNoiseName(noise.family), ":", noise.level);
    Progress progress(*context.terminal, label, 0, "texts");
    eval::CellOptions options{.replicas = args.replicas, .seed = args.seed, .embed_only = args.embed_only || !args.missing.empty(),
                              .keep_vectors = args.growing || !args.dump.empty()};
    options.progress = [&](int64_t done, int64_t total) { progress.Update(done, total); };
    ASSIGN_OR_RETURN(const eval::CollectionCell cell, eval::MeasureCell(data, noise, options, *cache, context.engine->pool(), &InterruptToken()));
    if (options.embed_only) {
      context.terminal->Json({{"noise", label}, {"new_texts", cache->encoded()}});
      context.terminal->Note(internal::Concat(label, ": embedded, ", cache->encoded(), " new texts so far"));
      continue;
    }
    if (!args.dump.empty()) RETURN_IF_ERROR(Dump(args.dump, data, cell, cache->dim()));
    if (context.flags.json) context.terminal->Json(eval::CellJson(cell));
    if (args.growing) RETURN_IF_ERROR(TellGrowing(context, args, data, cell, cache->dim()));
    if (context.flags.json) continue;
    const manifold::Denoised& d = cell.decision;
    std::string line = label + "\t" + (d.on ? "on" : "off") + "\t" + internal::Concat(d.params.k, "/", d.params.d) + "\t" +
                       Fixed(std::sqrt(d.noise.sigma2), 4) + "\t" + Fixed(d.noise.sigma2 > 0 ? d.median_rho2 / d.noise.sigma2 : 0, 2) +
                       "\t" + Fixed(d.median_s, 3) + "\t" + Fixed(d.check.gain, 4) + " [" + Fixed(d.check.low, 4) + ", " + Fixed(d.check.high, 4) + "]";
    std::string gain;
    for (const eval::SystemScore& s : cell.systems) {
      line += "\t" + Fixed(s.value, 4);
      if (s.name == "gated") {
        gain = Fixed(s.difference.difference.mean, 4) + " [" + Fixed(s.difference.difference.low, 4) + ", " +
               Fixed(s.difference.difference.high, 4) + "] " + Fixed(s.difference.p, 3);
      }
    }
    context.terminal->Line(line + "\t" + gain);
  }
  return kOk;
}

absl::StatusOr<int> Run(Context& context, const Args& args) {
  const int asked = args.synthetic + args.simulation + !args.collection.empty();
  if (asked != 1) return InvalidArgument("eval manifold takes one of --synthetic, --simulation and --collection NAME");
  RETURN_IF_ERROR(CheckAtLeast("--trials", args.trials, 1));
  RETURN_IF_ERROR(CheckAtLeast("--seeds", args.seeds, 1));
  if (args.synthetic) return Synthetic(context, args);
  if (args.simulation) return Simulation(context, args);
  if (args.topics.empty() || args.qrels.empty()) return InvalidArgument("--collection needs --topics and --qrels");
  if ((args.growing || !args.dump.empty()) && args.noise.find(',') != std::string::npos) {
    return InvalidArgument("--growing and --dump take one cell: --noise clean");
  }
  return Collection(context, args);
}

}  // namespace

void RegisterEvalManifold(Registry& registry, CommandLine eval) {
  auto args = std::make_shared<Args>();
  CommandLine command = registry.Add("manifold", "measure manifold fitting", [args](Context& c) { return Run(c, *args); }, eval);
  command.Flag("--synthetic", args->synthetic, "circle, sphere and torus beside the published figures");
  command.Flag("--dense", args->dense, "with --synthetic: the dense samples instead of the published table");
  command.Option("--trials", args->trials, "with --synthetic: trials a row").ShowDefault();
  command.Option("--plots", args->plots, "with --synthetic: write SVG plots into this folder");
  command.Flag("--simulation", args->simulation, "random manifolds in 128 dimensions, recall by noise ratio");
  command.Option("--seeds", args->seeds, "with --simulation: seeds a row").ShowDefault();
  command.Option("--rows", args->rows, "with --simulation: these alone, as d:ratio, separated by commas");
  command.Option("--seed", args->seed, "the first seed").ShowDefault();
  command.Option("--collection", args->collection, "a collection whose texts get noise");
  command.Option("--topics", args->topics, "JSONL, or id TAB text");
  command.Option("--qrels", args->qrels, "judgements");
  command.Option("--noise", args->noise, "cells: clean, or FAMILY:LEVEL with ocr, typo, drop, asr, shift");
  command.Option("--replicas", args->replicas, "documents with replicas").ShowDefault();
  command.Option("--cache", args->cache, "folder of cached embeddings");
  command.Option("--dump", args->dump, "write raw, fitted and query vectors of the one cell into this folder (bench/manifold_pq.py)");
  command.Flag("--growing", args->growing, "with one cell: a fit that grew by a tenth and lost a tenth beside one made anew");
  command.Option("--missing", args->missing, "write the texts that the cache lacks into this file and stop (bench/manifold_embed.py)");
  command.Flag("--embed-only", args->embed_only, "fill the cache and stop");
}

}  // namespace lectern::cli
