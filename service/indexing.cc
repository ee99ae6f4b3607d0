#include "service/indexing.h"

#include "base/file.h"
#include "index/analyzer.h"
#include "index/chunker.h"
#include "index/ingest.h"
#include "service/denoise.h"

namespace lectern::service {
namespace {

absl::Status CheckAnn(const std::string& kind, std::string_view name) {
  if (kind == "ivfpq") return NotSupported(name, " ivfpq is not part of this build; flat and hnsw are");
  if (kind != "flat" && kind != "hnsw") return InvalidArgument(name, " must be flat or hnsw, got '", kind, "'");
  return absl::OkStatus();
}

absl::StatusOr<index::IndexOptions> OptionsFor(Engine& engine, const Writer& writer, std::string_view collection,
                                               const std::string& ann, const std::string& denoise, const IndexHooks& hooks) {
  ASSIGN_OR_RETURN(const index::CollectionSettings settings, index::LoadCollection(*writer.store, collection));
  index::IndexOptions options;
  options.memory_bytes = engine.config().Int("index.memory_bytes");
  RETURN_IF_ERROR(index::CheckMemory(options.memory_bytes));
  options.cancel = hooks.cancel;
  options.progress = hooks.progress;
  const std::string& kind = ann.empty() ? settings.ann : ann;
  RETURN_IF_ERROR(CheckAnn(kind, "--ann"));
  options.dense.kind = kind == "hnsw" ? index::DenseKind::kHnsw : index::DenseKind::kFlat;
  options.pool = &engine.pool();
  std::string why;
  if (settings.embed_model == "none") {
    why = "the collection was made with --embed-model none";
  } else {
    ASSIGN_OR_RETURN(options.encoder, engine.EncoderNamed(settings.embed_model, &why));
  }
  if (options.encoder == nullptr && hooks.note) hooks.note("no vectors, BM25 alone: " + why);
  const index::Manifest manifest = writer.directory->manifest();
  const auto state = manifest.collections.find(std::string(collection));
  std::string mode = denoise;
  if (mode.empty()) mode = state == manifest.collections.end() ? "off" : DenoiseModeOf(state->second);
  if (denoise.empty() && mode == "on" && options.encoder == nullptr) mode = "auto";   // `on` was asked for when there were vectors
  ASSIGN_OR_RETURN(options.denoise, MakeDenoiseHook(mode, options.encoder, engine.pool(), hooks));
  return options;
}

void TellCuts(const index::IndexReport& report, const IndexHooks& hooks) {
  if (report.cut_chunks > 0 && hooks.note) {
    hooks.note(internal::Concat(report.cut_chunks, " chunks were longer than the encoder reads; their vectors stand for the beginning, their words are all searched"));
  }
}

}  // namespace

absl::StatusOr<index::CollectionSettings> NewCollectionSettings(const Config& config, const std::string& schema_file) {
  index::CollectionSettings settings;
  settings.analyzer = config.String("index.analyzer");
  settings.chunking.tokens = config.Int("index.chunk_tokens");
  settings.chunking.overlap = settings.chunking.tokens == 0 ? 0 : config.Int("index.chunk_overlap");
  settings.ann = config.String("index.ann");
  settings.embed_model = config.String("models.embed");
  // Refused now, not at the first indexing.
  RETURN_IF_ERROR(index::Analyzer::Named(settings.analyzer).status());
  RETURN_IF_ERROR(index::Chunker::Create(settings.chunking, nullptr).status());
  RETURN_IF_ERROR(CheckAnn(settings.ann, "index.ann"));
  if (!schema_file.empty()) {
    ASSIGN_OR_RETURN(const std::string toml, ReadFile(schema_file));
    auto schema = index::Schema::FromToml(toml);
    if (!schema.ok()) return Annotate(schema.status(), schema_file);
    settings.schema = *std::move(schema);
  }
  return settings;
}

absl::StatusOr<index::IndexReport> UpdateIndexNow(Engine& engine, Writer& writer, std::string_view collection, const IndexHooks& hooks) {
  ASSIGN_OR_RETURN(const index::IndexOptions options, OptionsFor(engine, writer, collection, "", "", hooks));
  ASSIGN_OR_RETURN(const index::IndexReport report, index::UpdateIndex(*writer.directory, *writer.store, collection, options));
  TellCuts(report, hooks);
  return report;
}

absl::StatusOr<index::IndexReport> BuildIndexNow(Engine& engine, Writer& writer, std::string_view collection, const std::string& ann,
                                                 const std::string& denoise, const IndexHooks& hooks) {
  ASSIGN_OR_RETURN(const index::IndexOptions options, OptionsFor(engine, writer, collection, ann, denoise, hooks));
  ASSIGN_OR_RETURN(const index::IndexReport report, index::BuildIndex(*writer.directory, *writer.store, collection, options));
  TellCuts(report, hooks);
  return report;
}

absl::StatusOr<index::IndexReport> RepairIndexNow(Engine& engine, Writer& writer, std::string_view collection, const IndexHooks& hooks) {
  index::IndexOptions options;
  // Where the store has lost the collection there is nothing to build: then no encoder is needed, either.
  if (!absl::IsNotFound(index::LoadCollection(*writer.store, collection).status())) {
    ASSIGN_OR_RETURN(options, OptionsFor(engine, writer, collection, "", "", hooks));
  }
  ASSIGN_OR_RETURN(const index::IndexReport report, index::RepairIndex(*writer.directory, *writer.store, collection, options));
  TellCuts(report, hooks);
  return report;
}

}  // namespace lectern::service
