// ingest and index.
#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "base/problem.h"
#include "index/ingest.h"
#include "service/cli/app.h"
#include "service/denoise.h"
#include "service/indexing.h"

namespace lectern::cli {
namespace {

struct Args {
  std::string collection, format = "auto", on_conflict = "replace", shard, ann, rejects, only, denoise;
  std::vector<std::string> inputs;
  index::IngestOptions options;
  bool no_index = false, dry_run = false, resume = false;
};

service::IndexHooks Hooks(const Terminal& terminal, Progress& progress) {
  service::IndexHooks hooks;
  hooks.cancel = &InterruptToken();
  hooks.progress = [&progress](std::string_view phase, int64_t done, int64_t total) {
    progress.SetLabel(std::string(phase));
    progress.Update(done, total);
  };
  hooks.note = [&terminal](std::string_view note) { terminal.Note(note); };
  return hooks;
}

std::string Seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof(text), seconds < 10 ? "%.2f s" : "%.0f s", seconds);
  return text;
}

Json ReportJson(const index::IndexReport& r) {
  return {{"generation", r.generation}, {"indexed_seq", r.indexed_seq}, {"documents", r.documents}, {"chunks", r.chunks},
          {"deleted", r.deleted}, {"cut_chunks", r.cut_chunks}, {"seconds", r.seconds}, {"encode_seconds", r.encode_seconds}};
}

void Tell(const Terminal& terminal, const index::IndexReport& r, std::string_view what) {
  for (const std::string& note : r.notes) terminal.Note(note);
  terminal.Result({{"index", ReportJson(r)}}, internal::Concat(what, " ", r.documents, " documents, ", r.chunks, " chunks",
                                 r.deleted > 0 ? internal::Concat(", ", r.deleted, " removed") : "", " as generation ", r.generation,
                                 " in ", Seconds(r.seconds), r.encode_seconds > 0 ? " (" + Seconds(r.encode_seconds) + " encoding)" : ""));
}

absl::Status ParseShard(const std::string& text, index::IngestOptions& options) {
  if (text.empty()) return absl::OkStatus();
  const size_t slash = text.find('/');
  char *end_i = nullptr, *end_n = nullptr;
  const int64_t i = std::strtoll(text.c_str(), &end_i, 10);
  const int64_t n = slash == std::string::npos ? 0 : std::strtoll(text.c_str() + slash + 1, &end_n, 10);
  if (slash == std::string::npos || end_i != text.c_str() + slash || *end_n != '\0' || n < 1 || i < 0 || i >= n) {
    return InvalidArgument("--shard must be I/N with 0 <= I < N, got '", text, "'");
  }
  options.shard = i;
  options.num_shards = n;
  return absl::OkStatus();
}

absl::StatusOr<index::IngestOptions> OptionsOf(const Context& context, const Args& args) {
  index::IngestOptions options = args.options;
  ASSIGN_OR_RETURN(options.format, index::ParseFormat(args.format));
  ASSIGN_OR_RETURN(options.on_conflict, index::ParseOnConflict(args.on_conflict));
  RETURN_IF_ERROR(ParseShard(args.shard, options));
  options.memory_bytes = context.config().Int("index.memory_bytes");
  options.rejects_path = args.rejects.empty() ? args.collection + ".rejects.jsonl" : args.rejects;
  options.resume = args.resume;
  options.dry_run = args.dry_run;
  options.cancel = &InterruptToken();
  ASSIGN_OR_RETURN(options.new_collection, service::NewCollectionSettings(context.config(), ""));
  return options;
}

// What was fixed when the collection was made cannot be asked for again.
absl::Status CheckSettings(const service::Config& config, const std::string& collection, const index::CollectionSettings& settings) {
  const std::pair<const char*, std::string> fixed[] = {{"index.chunk_tokens", internal::Concat(settings.chunking.tokens)},
                                                       {"index.chunk_overlap", internal::Concat(settings.chunking.overlap)},
                                                       {"index.analyzer", settings.analyzer},
                                                       {"models.embed", settings.embed_model}};
  for (const auto& [key, value] : fixed) {
    if (config.Origin(key) != "flag" || config.Text(key) == value) continue;
    return InvalidArgument(key, " of collection '", collection, "' is '", value, "' since it was made; it cannot become '", config.Text(key), "'");
  }
  return absl::OkStatus();
}

void TellIngest(const Terminal& terminal, const index::IngestReport& report, const Args& args, const std::string& rejects_path) {
  for (const std::string& note : report.notes) terminal.Note(note);
  if (!report.schema.fields().empty() && report.added > 0) {
    std::string fields;
    for (const auto& field : report.schema.fields()) {
      fields += (fields.empty() ? "" : ", ") + field.name + " " + index::FieldTypeName(field.type) + (field.multi ? " (multi)" : "");
    }
    terminal.Note("fields: " + fields);
  }
  if (report.rejected > 0) {
    terminal.Warn(internal::Concat(report.rejected, " records were rejected", args.dry_run ? "" : "; line, byte and reason of each are in " + rejects_path));
  }
  if (report.clashes > 0) {
    terminal.Warn(internal::Concat(report.clashes, " records had an id that came before in this run, with other content, and the ",
                                   args.on_conflict == "skip" ? "first" : "last", " of each id stands: ", report.first_clash));
  }
  if (report.hidden > 0) terminal.Note(internal::Concat(report.hidden, " files and folders whose names begin with a dot were left out"));
  std::string line = internal::Concat(args.dry_run ? "would ingest " : "ingested ", report.added + report.replaced, " documents");
  auto more = [&line](int64_t n, const char* what) { if (n > 0) line += internal::Concat(", ", n, " ", what); };
  more(report.replaced, "of them replaced");
  more(report.unchanged, "unchanged");
  more(report.skipped, "skipped");
  more(report.deleted, "deleted");
  more(report.absent_deletes, "deletes of what was not there");
  more(report.rejected, "rejected");
  more(report.other_shards, "of other shards");
  terminal.Result({{"ingest", {{"records", report.records}, {"added", report.added}, {"replaced", report.replaced},
                               {"unchanged", report.unchanged}, {"skipped", report.skipped}, {"deleted", report.deleted},
                               {"absent_deletes", report.absent_deletes}, {"rejected", report.rejected}, {"other_shards", report.other_shards},
                               {"resumed_records", report.resumed_records}, {"repeated_ids", report.repeated_ids},
                               {"clashes", report.clashes}, {"hidden", report.hidden},
                               {"durable_seq", report.durable_seq}, {"dry_run", args.dry_run}}}}, line);
}

// Reads and checks; beside a live writer too, and where nothing exists yet.
absl::StatusOr<int> DryIngest(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const index::IngestOptions options, OptionsOf(context, args));
  absl::StatusOr<index::IngestReport> report;
  if (index::DataDirectory::LooksLikeOne(context.engine->data_dir())) {
    ASSIGN_OR_RETURN(const auto store, context.engine->OpenFollower());
    if (const auto settings = index::LoadCollection(*store, args.collection); settings.ok()) {
      RETURN_IF_ERROR(CheckSettings(context.config(), args.collection, *settings));
    }
    report = index::Ingest(*store, args.collection, args.inputs, options);
  } else {
    report = index::TryIngest(args.collection, args.inputs, options);
  }
  RETURN_IF_ERROR(report.status());
  TellIngest(*context.terminal, *report, args, "");
  return report->rejected > 0 ? kRejected : kOk;
}

absl::StatusOr<int> Ingest(Context& context, const Args& given) {
  RETURN_IF_ERROR(index::DataDirectory::CheckName(given.collection));
  Args args = given;
  const bool new_directory = !index::DataDirectory::LooksLikeOne(context.engine->data_dir());
  if (!new_directory) {
    ASSIGN_OR_RETURN(args.collection, context.engine->ResolveAlias(given.collection));
  }
  if (args.dry_run) return DryIngest(context, args);
  const Terminal& terminal = *context.terminal;
  ASSIGN_OR_RETURN(index::IngestOptions options, OptionsOf(context, args));
  // Inputs that cannot be read must not leave a new data directory behind.
  if (new_directory) RETURN_IF_ERROR(index::ExpandInputs(args.inputs, options.format).status());
  ASSIGN_OR_RETURN(service::Writer writer, context.engine->OpenWriter());
  if (new_directory) terminal.Note("made the data directory " + context.engine->data_dir());
  const auto settings = index::LoadCollection(*writer.store, args.collection);
  const bool new_collection = settings.status().code() == absl::StatusCode::kNotFound;
  if (!new_collection) {
    RETURN_IF_ERROR(settings.status());
    RETURN_IF_ERROR(CheckSettings(context.config(), args.collection, *settings));
  }
  absl::StatusOr<index::IngestReport> report;
  {
    Progress progress(terminal, "read", 0, "KiB");
    options.on_progress = [&](const index::IngestProgress& p) {
      progress.SetLabel(internal::Concat("read ", p.records, " records"), /*restart=*/false);
      progress.Update(p.bytes >> 10, p.total_bytes >> 10);
    };
    options.on_commit = [&](uint64_t seq) { terminal.Json({{"durable_seq", seq}}); };
    report = index::Ingest(*writer.store, args.collection, args.inputs, options);
  }
  if (new_collection && index::LoadCollection(*writer.store, args.collection).ok()) terminal.Note("made the collection " + args.collection);
  if (WasStopped(report.status())) {
    return Resumable(report.status(), "stopped; what was committed stays. Go on with the same command and --resume");
  }
  RETURN_IF_ERROR(report.status());
  TellIngest(terminal, *report, args, options.rejects_path);
  if (!args.no_index) {
    Progress progress(terminal, "index", 0);
    auto indexed = service::UpdateIndexNow(*context.engine, writer, args.collection, Hooks(terminal, progress));
    if (WasStopped(indexed.status())) {
      return Resumable(indexed.status(), internal::Concat("stopped; every document is stored. `lectern index update ", args.collection, "` makes them searchable"));
    }
    RETURN_IF_ERROR(indexed.status());
    Tell(terminal, *indexed, "indexed");
  }
  return report->rejected > 0 ? kRejected : kOk;
}

absl::StatusOr<int> Build(Context& context, const Args& args, bool everything) {
  if (args.only.find("nci") != std::string::npos) return NotSupported("--only nci is not part of this build");
  if (!args.only.empty()) return NotSupported("--only: bm25 and dense are always built together, so that a segment is whole");
  ASSIGN_OR_RETURN(const std::string name, context.engine->ResolveAlias(args.collection));
  ASSIGN_OR_RETURN(service::Writer writer, context.engine->OpenWriter());
  Progress progress(*context.terminal, "index", 0);
  const service::IndexHooks hooks = Hooks(*context.terminal, progress);
  const auto report = everything ? service::BuildIndexNow(*context.engine, writer, name, args.ann, args.denoise, hooks)
                                 : service::UpdateIndexNow(*context.engine, writer, name, hooks);
  if (WasStopped(report.status())) {
    return Resumable(report.status(), "stopped; the published generation stays as it was. Run the same command again");
  }
  RETURN_IF_ERROR(report.status());
  Tell(*context.terminal, *report, everything ? "built" : "indexed");
  return kOk;
}

absl::StatusOr<int> Status(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const std::string name, context.engine->ResolveAlias(args.collection));
  ASSIGN_OR_RETURN(const auto store, context.engine->OpenFollower());
  RETURN_IF_ERROR(index::LoadCollection(*store, name).status());
  ASSIGN_OR_RETURN(const index::Manifest manifest, index::DataDirectory::ReadManifest(context.engine->data_dir()));
  ASSIGN_OR_RETURN(const int64_t documents, store->CountDocuments(name));
  index::CollectionState state;
  if (const auto it = manifest.collections.find(name); it != manifest.collections.end()) state = it->second;
  int64_t behind = 0, chunks = 0, indexed = 0, bytes = 0;
  RETURN_IF_ERROR(store->ScanChanges(name, state.indexed_seq, [&](const index::Change&) { ++behind; return absl::OkStatus(); }));
  Json segments = Json::array();
  for (const index::SegmentEntry& segment : state.segments) {
    int64_t size = 0;
    for (const index::FileEntry& file : segment.files) size += file.length;
    chunks += segment.num_chunks;
    indexed += segment.num_documents - segment.num_deleted;
    bytes += size;
    segments.push_back({{"folder", segment.folder}, {"documents", segment.num_documents}, {"deleted", segment.num_deleted},
                        {"chunks", segment.num_chunks}, {"bytes", size}});
  }
  const Json out = {{"collection", name}, {"documents", documents}, {"indexed_documents", indexed}, {"chunks", chunks},
                    {"generation", state.generation}, {"indexed_seq", state.indexed_seq}, {"last_seq", store->last_seq()},
                    {"changes_not_indexed", behind}, {"bytes", bytes}, {"segments", segments}, {"settings", *state.settings}};
  if (context.flags.json) {
    context.terminal->Json(out);
    return kOk;
  }
  context.terminal->Line(internal::Concat(name, ": ", documents, " documents, ", indexed, " in generation ", state.generation, " (", chunks,
                                          " chunks, ", state.segments.size(), " segments, ", service::FormatBytes(bytes), "), ", behind, " changes not indexed"));
  for (const std::string& line : service::DenoiseLines(state)) context.terminal->Line(line);
  return kOk;
}

absl::StatusOr<int> Verify(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const std::string name, context.engine->ResolveAlias(args.collection));
  ASSIGN_OR_RETURN(const auto store, context.engine->OpenFollower());
  RETURN_IF_ERROR(index::LoadCollection(*store, name).status());
  RETURN_IF_ERROR(store->VerifyChecksums());
  ASSIGN_OR_RETURN(const index::VerifyReport report, index::VerifyIndex(context.engine->data_dir(), *store, name));
  for (const std::string& problem : report.problems) context.terminal->Warn("! " + problem);
  if (context.flags.json) {
    context.terminal->Json({{"clean", report.problems.empty()}, {"problems", report.problems}, {"files", report.files},
                            {"documents", report.documents}, {"chunks", report.chunks}});
  } else {
    context.terminal->Line(internal::Concat(report.problems.empty() ? "clean: " : "damaged: ", report.files, " files, ", report.documents,
                                            " documents, ", report.chunks, " chunks"));
  }
  return report.problems.empty() ? kOk : kDamaged;
}

absl::StatusOr<int> Repair(Context& context, const Args& args) {
  std::vector<std::string> repaired;
  ASSIGN_OR_RETURN(service::Writer writer, context.engine->OpenForRepair(&repaired));
  for (const std::string& line : repaired) context.terminal->Warn(line);
  const std::string name = writer.directory->manifest().Resolve(args.collection);
  Progress progress(*context.terminal, "repair", 0);
  ASSIGN_OR_RETURN(const index::IndexReport report, service::RepairIndexNow(*context.engine, writer, name, Hooks(*context.terminal, progress)));
  Tell(*context.terminal, report, "repaired:");
  return kOk;
}

}  // namespace

void RegisterIngest(Registry& registry) {
  auto args = std::make_shared<Args>();
  CommandLine ingest = registry.Add("ingest", "read documents into a collection; makes the collection where it is missing",
                                  [args](Context& c) { return Ingest(c, *args); });
  ingest.Option("COLLECTION", args->collection, "collection or alias").Required();
  ingest.Option("INPUT", args->inputs, "files and folders; - is standard input").Required();
  ingest.Option("--format", args->format, "auto, jsonl, beir, msmarco, trectext, md, html, txt, csv, tsv or pdf").ShowDefault();
  ingest.Option("--id-field", args->options.id_field, "field that holds the id");
  ingest.Option("--text-field", args->options.text_field, "field that holds the text");
  registry.Setting(ingest, "--chunk-tokens", "index.chunk_tokens", "of a new collection: tokens of a chunk; 0: one chunk a document");
  registry.Setting(ingest, "--chunk-overlap", "index.chunk_overlap", "of a new collection: tokens that neighbours share");
  registry.Setting(ingest, "--analyzer", "index.analyzer", "of a new collection");
  registry.Setting(ingest, "--embed-model", "models.embed", "of a new collection: sentence encoder, or none");
  registry.Setting(ingest, "--memory", "index.memory_bytes", "memory to stay under: 2GiB");
  ingest.Flag("--no-index", args->no_index, "store only; `lectern index update` makes it searchable");
  ingest.Option("--on-conflict", args->on_conflict, "replace, skip or fail where an id is there with other content").ShowDefault();
  ingest.Option("--rejects", args->rejects, "where rejected records are listed; default COLLECTION.rejects.jsonl");
  ingest.Option("--max-rejects", args->options.max_rejects, "stop after this many rejects");
  ingest.Flag("--resume", args->resume, "go on behind what an interrupted run committed");
  ingest.Flag("--dry-run", args->dry_run, "read and check, store nothing");
  ingest.Option("--shard", args->shard, "I/N: keep only the ids of this shard");

  CommandLine index = registry.Add("index", "build and check what searching needs", nullptr);
  auto sub = [&](const char* name, const char* help, Command run) {
    CommandLine command = registry.Add(name, help, std::move(run), index);
    command.Option("COLLECTION", args->collection, "collection or alias").Required();
    return command;
  };
  auto build_flags = [&](CommandLine command) {
    command.Option("--only", args->only, "parts to build; this build makes all of them, always").Hidden();
    registry.Setting(command, "--device", "index.device", "where to index: cpu");
    registry.Setting(command, "--memory", "index.memory_bytes", "memory to stay under: 4GiB");
    registry.Setting(command, "--threads", "index.threads", "threads, 1..1024; 0: every core this process may use");
    command.Refuse("--resume", "a build that was stopped left the generation before it; the next one begins anew");
    command.Refuse("--shard", "`lectern ingest --shard I/N` makes collections of parts");
  };
  CommandLine build = sub("build", "fold everything into one generation of one segment", [args](Context& c) { return Build(c, *args, true); });
  build.Option("--ann", args->ann, "flat or hnsw");
  build.Option("--denoise", args->denoise, "off, auto or on: fitted vectors beside the raw ones, where they help");
  build_flags(build);
  build_flags(sub("update", "add what changed since the last generation", [args](Context& c) { return Build(c, *args, false); }));
  build_flags(sub("compact", "the same as build: fold every segment into one", [args](Context& c) { return Build(c, *args, true); }));
  sub("status", "generation, segments and what is not indexed yet", [args](Context& c) { return Status(c, *args); });
  sub("verify", "read everything and compare checksums, index and store", [args](Context& c) { return Verify(c, *args); });
  sub("repair", "quarantine what is damaged and rebuild it from the store", [args](Context& c) { return Repair(c, *args); });
}

}  // namespace lectern::cli
