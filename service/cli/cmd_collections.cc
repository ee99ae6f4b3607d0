// init, collection, document.
#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "base/json.h"
#include "base/problem.h"
#include "index/collection.h"
#include "service/answer/text_units.h"
#include "service/cli/app.h"
#include "service/indexing.h"

namespace lectern::cli {
namespace answer = service::answer;
namespace {

struct Args {
  std::string name, target, dir, id, span, offset_unit = "utf8", cursor, schema_file;
  int64_t limit = 100;
  bool source = false, dry_run = false, remove = false;
};

absl::StatusOr<int> Init(Context& context, const Args& args) {
  service::Engine engine(args.dir, context.config());
  const bool existed = index::DataDirectory::LooksLikeOne(args.dir);
  RETURN_IF_ERROR(engine.OpenWriter().status());
  context.terminal->Result({{"data_dir", args.dir}, {"created", !existed}},
                           existed ? args.dir + " is a data directory already" : "made the data directory " + args.dir);
  return kOk;
}

absl::StatusOr<int> Create(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(service::Writer writer, context.engine->OpenWriter());
  if (index::LoadCollection(*writer.store, args.name).ok()) return AlreadyExists("collection '", args.name, "' is there already");
  if (const std::string meant = writer.directory->manifest().Resolve(args.name); meant != args.name) {
    return AlreadyExists("'", args.name, "' is an alias of '", meant, "'; a collection needs a name of its own");
  }
  ASSIGN_OR_RETURN(const auto settings, service::NewCollectionSettings(context.config(), args.schema_file));
  RETURN_IF_ERROR(index::SaveCollection(*writer.store, args.name, settings));
  context.terminal->Result({{"name", args.name}, {"settings", settings.ToJson()}}, "created collection " + args.name);
  return kOk;
}

absl::StatusOr<int> List(Context& context) {
  ASSIGN_OR_RETURN(const auto store, context.engine->OpenFollower());
  ASSIGN_OR_RETURN(const index::Manifest manifest, index::DataDirectory::ReadManifest(context.engine->data_dir()));
  ASSIGN_OR_RETURN(const auto names, index::ListCollections(*store));
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const int64_t documents, store->CountDocuments(name));
    const auto it = manifest.collections.find(name);
    const uint64_t generation = it == manifest.collections.end() ? 0 : it->second.generation;
    std::vector<std::string> aliases;
    for (const auto& [alias, target] : manifest.aliases) {
      if (target == name) aliases.push_back(alias);
    }
    if (context.flags.json) context.terminal->Json({{"name", name}, {"documents", documents}, {"generation", generation}, {"aliases", aliases}});
    else context.terminal->Line(internal::Concat(name, "\t", documents, " documents\tgeneration ", generation));
    if (!context.flags.json) {
      for (const std::string& alias : aliases) context.terminal->Line(alias + "\talias of " + name);
    }
  }
  if (names.empty()) context.terminal->Note("no collection yet; `lectern ingest NAME FILE` makes one");
  return kOk;
}

absl::StatusOr<int> Show(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const std::string name, context.engine->ResolveAlias(args.name));
  ASSIGN_OR_RETURN(const auto store, context.engine->OpenFollower());
  ASSIGN_OR_RETURN(const auto settings, index::LoadCollection(*store, name));
  ASSIGN_OR_RETURN(const int64_t documents, store->CountDocuments(name));
  Json out = {{"name", name}, {"documents", documents}, {"last_seq", store->last_seq()}, {"settings", settings.ToJson()}};
  ASSIGN_OR_RETURN(const index::Manifest manifest, index::DataDirectory::ReadManifest(context.engine->data_dir()));
  if (const auto it = manifest.collections.find(name); it != manifest.collections.end()) {
    out["generation"] = it->second.generation;
    out["indexed_seq"] = it->second.indexed_seq;
  }
  context.terminal->Line(DumpJson(out, context.flags.json ? -1 : 2));
  return kOk;
}

absl::StatusOr<int> Drop(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(service::Writer writer, context.engine->OpenWriter());
  RETURN_IF_ERROR(index::LoadCollection(*writer.store, args.name).status());
  ASSIGN_OR_RETURN(const int64_t documents, writer.store->CountDocuments(args.name));
  if (args.dry_run) {
    context.terminal->Result({{"name", args.name}, {"documents", documents}, {"dry_run", true}},
                             internal::Concat("would drop collection ", args.name, " with ", documents, " documents"));
    return kOk;
  }
  if (!context.flags.yes) return InvalidArgument("dropping ", args.name, " with ", documents, " documents cannot be undone: say --yes, or look first with --dry-run");
  // The published state goes first: a search never sees an index whose documents are gone.
  // It may have none: nothing was indexed yet, or an earlier drop stopped behind this step.
  if (const absl::Status unpublished = writer.directory->PublishDrop(args.name); !absl::IsNotFound(unpublished)) RETURN_IF_ERROR(unpublished);
  RETURN_IF_ERROR(index::RemoveCollection(*writer.store, args.name));
  context.terminal->Result({{"name", args.name}, {"documents", documents}, {"dry_run", false}},
                           internal::Concat("dropped collection ", args.name, " with ", documents, " documents"));
  return kOk;
}

absl::StatusOr<int> Alias(Context& context, const Args& args) {
  if (args.remove == !args.target.empty()) return InvalidArgument("an alias needs a COLLECTION to mean, or --remove");
  ASSIGN_OR_RETURN(service::Writer writer, context.engine->OpenWriter());
  if (args.remove) {
    RETURN_IF_ERROR(writer.directory->PublishAlias(args.name, ""));
    context.terminal->Result({{"alias", args.name}, {"removed", true}}, "removed alias " + args.name);
    return kOk;
  }
  RETURN_IF_ERROR(index::LoadCollection(*writer.store, args.target).status());
  if (index::LoadCollection(*writer.store, args.name).ok()) return AlreadyExists("'", args.name, "' is a collection; an alias needs a name of its own");
  RETURN_IF_ERROR(writer.directory->PublishAlias(args.name, args.target));
  context.terminal->Result({{"alias", args.name}, {"collection", args.target}}, args.name + " now means " + args.target);
  return kOk;
}

// Bytes of BEGIN:END in units of the text; an end inside a character is refused, as half a character is no text.
absl::StatusOr<index::Span> ParseSpan(const std::string& span, const std::string& text, const std::string& unit_name) {
  ASSIGN_OR_RETURN(const answer::OffsetUnit unit, answer::ParseOffsetUnit(unit_name));
  int64_t begin = 0, end = 0;
  const char* const stop = span.data() + span.size();
  const auto first = std::from_chars(span.data(), stop, begin);
  const bool colon = first.ec == std::errc() && first.ptr != stop && *first.ptr == ':';
  const auto second = colon ? std::from_chars(first.ptr + 1, stop, end) : first;
  ASSIGN_OR_RETURN(const int64_t size, answer::ConvertOffset(text, static_cast<int64_t>(text.size()), unit));
  if (!colon || second.ec != std::errc() || second.ptr != stop || begin < 0 || begin > end || end > size) {
    return InvalidArgument("--span must be BEGIN:END in ", unit == answer::OffsetUnit::kUtf8 ? "bytes" : unit_name + " units", " within 0..", size, ", got '", span, "'");
  }
  index::Span bytes;
  const auto at = [&](int64_t offset) { return answer::ByteOffset(text, offset, unit); };
  for (const auto& [offset, byte] : {std::pair(begin, &bytes.begin), std::pair(end, &bytes.end)}) {
    auto found = at(offset);
    if (!found.ok()) return Annotate(found.status(), internal::Concat("--span ", span, " in ", unit_name, " units (--offset-unit utf8, codepoint or utf16)"));
    *byte = *found;
  }
  return bytes;
}

// As they came in: a date in RFC 3339, a list where the field may hold several.
Json FieldsJson(const index::Fields& fields, const index::Schema& schema) {
  Json out = Json::object();
  for (const auto& [name, values] : fields) {
    const index::FieldSpec* spec = schema.Find(name);
    const bool date = spec != nullptr && spec->type == index::FieldType::kDate;
    Json list = Json::array();
    for (const index::FieldValue& value : values) {
      const auto* micros = date ? std::get_if<int64_t>(&value) : nullptr;
      list.push_back(micros != nullptr ? Json(index::FormatDate(*micros)) : std::visit([](const auto& v) { return Json(v); }, value));
    }
    out[name] = list.size() == 1 && !(spec != nullptr && spec->multi) ? list[0] : list;
  }
  return out;
}

// A file gets every byte and no other; a terminal gets text that ends its line.
void PrintText(const Terminal& terminal, const std::string& text) {
  if (!terminal.out_is_terminal()) terminal.Out(text);
  else terminal.Out(Printable(text) + (text.ends_with('\n') ? "" : "\n"));
}

absl::StatusOr<int> Get(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const std::string name, context.engine->ResolveAlias(args.name));
  ASSIGN_OR_RETURN(const auto store, context.engine->OpenFollower());
  ASSIGN_OR_RETURN(const index::StoredDocument stored, store->Get(name, args.id));
  const index::Document& doc = stored.document;
  if (args.source) {
    if (context.flags.json) return InvalidArgument("--source prints the bytes that came in, whatever they are; --json has no form for them");
    context.terminal->Out(doc.source.empty() ? doc.text : doc.source);
    return kOk;
  }
  std::string text = doc.text;
  if (!args.span.empty()) {
    ASSIGN_OR_RETURN(const index::Span span, ParseSpan(args.span, doc.text, args.offset_unit));
    text = doc.text.substr(static_cast<size_t>(span.begin), static_cast<size_t>(span.end - span.begin));
  }
  if (!context.flags.json) {
    PrintText(*context.terminal, text);
    return kOk;
  }
  ASSIGN_OR_RETURN(const index::CollectionSettings settings, index::LoadCollection(*store, name));
  Json out = {{"id", doc.id}, {"title", doc.title}, {"uri", doc.uri}, {"text", text}, {"fields", FieldsJson(doc.fields, settings.schema)}, {"seq", stored.seq},
              {"extractor", doc.extractor}, {"source_sha256", doc.source_sha256}};
  if (!args.span.empty()) out.update({{"span", args.span}, {"offset_unit", args.offset_unit}});
  context.terminal->Json(out);
  return kOk;
}

absl::StatusOr<int> Delete(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const std::string name, context.engine->ResolveAlias(args.name));
  ASSIGN_OR_RETURN(service::Writer writer, context.engine->OpenWriter());
  RETURN_IF_ERROR(writer.store->Get(name, args.id).status());
  if (args.dry_run) {
    context.terminal->Result({{"id", args.id}, {"dry_run", true}}, "would delete " + args.id);
    return kOk;
  }
  index::WriteBatch batch;
  batch.Delete(name, args.id);
  ASSIGN_OR_RETURN(const uint64_t seq, writer.store->Commit(batch));
  // Published at once: a deleted document never surfaces again.
  RETURN_IF_ERROR(service::UpdateIndexNow(*context.engine, writer, name, {}).status());
  context.terminal->Result({{"durable_seq", seq}, {"deleted", args.id}}, "deleted " + args.id);
  return kOk;
}

absl::StatusOr<int> ListDocuments(Context& context, const Args& args) {
  RETURN_IF_ERROR(CheckAtLeast("--limit", args.limit, 1));
  ASSIGN_OR_RETURN(const std::string name, context.engine->ResolveAlias(args.name));
  ASSIGN_OR_RETURN(const auto store, context.engine->OpenFollower());
  RETURN_IF_ERROR(index::LoadCollection(*store, name).status());
  int64_t shown = 0;
  std::string last;
  bool more = false;
  RETURN_IF_ERROR(store->Scan(name, args.cursor, [&](index::StoredDocument&& stored) {
    if (shown == args.limit) {
      more = true;
      return false;
    }
    ++shown;
    last = stored.document.id;
    if (context.flags.json) {
      context.terminal->Json({{"id", stored.document.id}, {"title", stored.document.title}, {"bytes", stored.document.text.size()}, {"seq", stored.seq}});
    } else {
      context.terminal->Line(internal::Concat(PrintableLine(stored.document.id), "\t", stored.document.text.size(), " bytes\t", PrintableLine(stored.document.title)));
    }
    return true;
  }));
  if (more) {
    context.terminal->Json({{"next_cursor", last}});
    context.terminal->Warn("more follow: --cursor=" + ShellQuoted(last));
  }
  return kOk;
}

}  // namespace

void RegisterCollections(Registry& registry) {
  auto args = std::make_shared<Args>();
  CommandLine init = registry.Add("init", "make a data directory", [args](Context& c) { return Init(c, *args); });
  init.Option("DIR", args->dir, "where").Required();
  registry.Setting(init, "--durability", "storage.durability", "wal: a write is acknowledged once it is on disk");

  CommandLine collection = registry.Add("collection", "make, list, show, drop and rename collections", nullptr);
  auto named = [&](const char* name, const char* help, Command run) {
    CommandLine command = registry.Add(name, help, std::move(run), collection);
    command.Option("NAME", args->name, "collection").Required();
    return command;
  };
  CommandLine create = named("create", "make a collection", [args](Context& c) { return Create(c, *args); });
  create.Option("--schema", args->schema_file, "TOML file of fields; default: inferred at the first ingest");
  registry.Setting(create, "--embed-model", "models.embed", "sentence encoder, or none");
  create.Refuse("--denoise", "vectors are fitted by `lectern index build --denoise`");
  registry.Setting(create, "--analyzer", "index.analyzer", "en, en-stop (en without stop words), icu, or a Snowball language");
  registry.Setting(create, "--chunk-tokens", "index.chunk_tokens", "tokens of a chunk; 0: one chunk a document");
  registry.Setting(create, "--chunk-overlap", "index.chunk_overlap", "tokens that neighbouring chunks share");
  registry.Add("list", "every collection", [](Context& c) { return List(c); }, collection);
  named("show", "settings and sizes of a collection", [args](Context& c) { return Show(c, *args); });
  CommandLine drop = named("drop", "remove a collection and its documents", [args](Context& c) { return Drop(c, *args); });
  drop.Flag("--dry-run", args->dry_run, "say what would go");
  CommandLine alias = named("alias", "let NAME mean a collection, or another one, at once", [args](Context& c) { return Alias(c, *args); });
  alias.Option("COLLECTION", args->target, "the collection it means");
  alias.Flag("--remove", args->remove, "let it mean nothing");

  CommandLine document = registry.Add("document", "show, remove and page through documents", nullptr);
  auto of_collection = [&](const char* name, const char* help, Command run, bool with_id) {
    CommandLine command = registry.Add(name, help, std::move(run), document);
    command.Option("COLLECTION", args->name, "collection or alias").Required();
    if (with_id) command.Option("ID", args->id, "document").Required();
    return command;
  };
  CommandLine get = of_collection("get", "print a document's text", [args](Context& c) { return Get(c, *args); }, true);
  get.Option("--span", args->span, "BEGIN:END of the extracted text: opens a citation");
  get.Option("--offset-unit", args->offset_unit, "of --span: utf8 (bytes), codepoint or utf16").ShowDefault();
  get.Flag("--source", args->source, "the source bytes instead of the extracted text");
  CommandLine remove = of_collection("delete", "remove a document; it is not found again", [args](Context& c) { return Delete(c, *args); }, true);
  remove.Flag("--dry-run", args->dry_run, "say what would go");
  CommandLine list = of_collection("list", "documents in order of their ids", [args](Context& c) { return ListDocuments(c, *args); }, false);
  list.Option("--cursor", args->cursor, "start after this id");
  list.Option("--limit", args->limit, "this many at most; where more follow, the cursor to go on with is printed last").ShowDefault();
}

}  // namespace lectern::cli
