// model, embed, rerank.
#include <algorithm>
#include <cstring>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/problem.h"
#include "index/readers/byte_source.h"
#include "index/readers/extract.h"
#include "index/readers/line_reader.h"
#include "service/cli/app.h"

namespace lectern::cli {
namespace {

struct ModelArgs { std::string name, id, sha256; };
struct EmbedArgs { std::string model, out = "jsonl", query; int64_t batch_tokens = 65536; std::optional<int64_t> top_n; bool cut = false; };

constexpr int64_t kMaxBatchTokens = int64_t{1} << 24;
constexpr int64_t kBytesPerToken = 4;   // about, in English
constexpr int64_t kMaxLineBytes = int64_t{64} << 20;

std::string Row(const service::ModelRecord& r) {
  return r.id + "\t" + r.kind + "\t" + r.architecture + "\t" + service::FormatBytes(r.bytes) + "\t" +
         (r.sha256.empty() ? "not added" : r.sha256.substr(0, 12)) + "\t" + r.path;
}

absl::StatusOr<int> Show(Context& context, const absl::StatusOr<service::ModelRecord>& record, std::string_view done) {
  RETURN_IF_ERROR(record.status());
  if (context.flags.json) context.terminal->Json(record->ToJson());
  else context.terminal->Line(internal::Concat(done, record->id, ": ", record->kind, ", ", record->architecture, ", ",
                                               service::FormatBytes(record->bytes),
                                               record->sha256.empty() ? "" : ", sha256 " + record->sha256, ", ", record->path));
  return kOk;
}

// The next lines of stdin, until they hold about `bytes`; empty at its end.
absl::StatusOr<std::vector<std::string>> ReadLines(index::ByteSource& source, size_t bytes) {
  std::vector<std::string> lines;
  index::ByteSource::Line line;
  for (size_t held = 0; held < bytes && source.ReadLine(kMaxLineBytes, &line);) {
    if (line.too_long) {
      return WithLimit(InvalidArgument("line ", line.number, " has ", line.length, " bytes; a line may have ", kMaxLineBytes), "line", kMaxLineBytes, line.length);
    }
    if (!line.text.empty() && line.text.back() == '\r') line.text.pop_back();
    if (const int64_t bad = index::FindInvalidUtf8(line.text); bad >= 0) {
      return InvalidArgument("line ", line.number, ": ", index::InvalidUtf8Reason(bad, static_cast<unsigned char>(line.text[static_cast<size_t>(bad)])));
    }
    held += line.text.size() + 1;
    lines.push_back(std::move(line.text));
  }
  RETURN_IF_ERROR(source.status());
  return lines;
}

// NumPy format 1.0, float32, C order.
std::string NpyHeader(int64_t rows, int64_t cols) {
  std::string dict = internal::Concat("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", cols, "), }");
  while ((10 + dict.size() + 1) % 64 != 0) dict += ' ';
  dict += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(dict.size() & 255);
  header += static_cast<char>(dict.size() >> 8);
  return header + dict;
}

// Lines are encoded as they come, a batch at a time; jsonl is printed as it is made, npy and fbin name their rows first.
absl::StatusOr<int> Embed(Context& context, const EmbedArgs& args) {
  if (args.out != "npy" && args.out != "fbin" && args.out != "jsonl") {
    return InvalidArgument("--out must be npy, fbin or jsonl, got '", args.out, "'");
  }
  RETURN_IF_ERROR(CheckRange("--batch-tokens", args.batch_tokens, 1, kMaxBatchTokens));
  std::string why;
  ASSIGN_OR_RETURN(index::Encoder * encoder, context.engine->EncoderNamed("", &why));
  if (encoder == nullptr) return FailedPrecondition(why);
  const int64_t dim = encoder->dim();
  int64_t rows = 0, cut = 0;
  std::string bytes;   // of npy and fbin
  ASSIGN_OR_RETURN(const auto source, index::ByteSource::Open("-", &InterruptToken()));
  for (;;) {
    ASSIGN_OR_RETURN(const std::vector<std::string> lines, ReadLines(*source, static_cast<size_t>(args.batch_tokens * kBytesPerToken)));
    if (lines.empty()) break;
    const std::vector<std::string_view> texts(lines.begin(), lines.end());
    index::EncodeStats stats;
    auto vectors = encoder->Encode(texts, args.cut, &stats, &InterruptToken());
    if (!vectors.ok()) return Annotate(vectors.status(), internal::Concat("lines ", rows + 1, " to ", rows + static_cast<int64_t>(lines.size())));
    cut += stats.cut_texts;
    if (args.out == "jsonl") {
      for (size_t r = 0; r < lines.size(); ++r) {
        const auto begin = vectors->begin() + static_cast<std::ptrdiff_t>(r) * dim;
        context.terminal->Line(DumpJson({{"index", rows + static_cast<int64_t>(r)}, {"embedding", std::vector<float>(begin, begin + dim)}}));
      }
    } else {
      bytes.append(reinterpret_cast<const char*>(vectors->data()), vectors->size() * sizeof(float));
    }
    rows += static_cast<int64_t>(lines.size());
  }
  if (cut > 0) context.terminal->Note(internal::Concat(cut, " texts were cut at ", encoder->max_tokens(), " tokens"));
  if (args.out == "jsonl") return kOk;
  std::string head = args.out == "npy" ? NpyHeader(rows, dim) : std::string(8, '\0');
  if (args.out == "fbin") {
    const uint32_t shape[2] = {static_cast<uint32_t>(rows), static_cast<uint32_t>(dim)};
    std::memcpy(head.data(), shape, 8);
  }
  context.terminal->Out(head);
  context.terminal->Out(bytes);
  return kOk;
}

absl::StatusOr<int> Rerank(Context& context, const EmbedArgs& args) {
  const std::string& model = context.config().String("models.rerank");
  if (model.empty()) return FailedPrecondition("no cross-encoder: give --model, or set models.rerank");
  if (args.top_n.has_value()) RETURN_IF_ERROR(CheckAtLeast("--top-n", *args.top_n, 1));
  if (const int64_t bad = index::FindInvalidUtf8(args.query); bad >= 0) return InvalidArgument("the query must be valid UTF-8, byte ", bad, " of it is not");
  ASSIGN_OR_RETURN(index::CrossEncoder * encoder, context.engine->Reranker(model));
  ASSIGN_OR_RETURN(const auto source, index::ByteSource::Open("-", &InterruptToken()));
  ASSIGN_OR_RETURN(const std::vector<std::string> lines, ReadLines(*source, ~size_t{0}));
  const std::vector<std::string_view> texts(lines.begin(), lines.end());
  index::EncodeStats stats;
  ASSIGN_OR_RETURN(const std::vector<float> scores, encoder->Score(args.query, texts, &stats, &InterruptToken()));
  if (stats.cut_texts > 0) context.terminal->Note(internal::Concat(stats.cut_texts, " passages were cut"));
  std::vector<size_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(order.size(), static_cast<size_t>(args.top_n.value_or(INT64_MAX))));
  for (size_t i : order) {
    if (context.flags.json) context.terminal->Json({{"index", i}, {"relevance_score", scores[i]}});
    else context.terminal->Line(internal::Concat(scores[i], "\t", i, "\t", lines[i]));
  }
  return kOk;
}

}  // namespace

void RegisterModels(Registry& registry) {
  auto args = std::make_shared<ModelArgs>();
  CommandLine model = registry.Add("model", "the local model store", nullptr);
  CommandLine add = registry.Add("add", "check a model's structure, record its SHA-256 and path", [args](Context& c) -> absl::StatusOr<int> {
    std::string id = args->id;
    if (id.empty()) {
      id = args->name.substr(args->name.find_last_of('/') + 1);
      if (id.ends_with(".gguf")) id.resize(id.size() - 5);
    }
    return Show(c, c.engine->models().Add(args->name, id, args->sha256), "added ");
  }, model);
  add.Option("PATH", args->name, "a .gguf file or a Hugging Face folder").Required();
  add.Option("--as", args->id, "id of the model; default: the file's name");
  add.Option("--sha256", args->sha256, "refuse the model unless it has this SHA-256");
  registry.Add("list", "models added, and models in the models folder", [](Context& c) -> absl::StatusOr<int> {
    ASSIGN_OR_RETURN(const auto records, c.engine->models().List());
    for (const auto& record : records) {
      if (c.flags.json) c.terminal->Json(record.ToJson());
      else c.terminal->Line(Row(record));
    }
    if (records.empty()) c.terminal->Note("no model: scripts/fetch_models.py fetches those that the quickstart uses into " + c.engine->models().models_dir());
    return kOk;
  }, model);
  CommandLine inspect = registry.Add("inspect", "kind, architecture and size of a model", [args](Context& c) -> absl::StatusOr<int> {
    return Show(c, c.engine->models().Inspect(args->name), "");
  }, model);
  inspect.Option("MODEL", args->name, "id or path").Required();
  CommandLine verify = registry.Add("verify", "compare a model's SHA-256 with the one it was added with", [args](Context& c) -> absl::StatusOr<int> {
    return Show(c, c.engine->models().Verify(args->name), "unchanged: ");
  }, model);
  verify.Option("ID", args->name, "id").Required();
  CommandLine remove = registry.Add("rm", "forget a model; its file stays", [args](Context& c) -> absl::StatusOr<int> {
    RETURN_IF_ERROR(c.engine->models().Remove(args->name));
    c.terminal->Result({{"removed", args->name}}, "forgot model " + args->name);
    return kOk;
  }, model);
  remove.Option("ID", args->name, "id").Required();

  auto embed_args = std::make_shared<EmbedArgs>();
  CommandLine embed = registry.Add("embed", "vectors for the lines of stdin", [embed_args](Context& c) { return Embed(c, *embed_args); });
  registry.Setting(embed, "--model", "models.embed", "encoder: id or path");
  embed.Option("--out", embed_args->out, "npy, fbin or jsonl, on stdout");
  embed.Option("--batch-tokens", embed_args->batch_tokens, "about how many tokens are read before they are encoded").ShowDefault();
  embed.Flag("--cut", embed_args->cut, "cut longer lines at the encoder's limit instead of refusing them");
  CommandLine rerank = registry.Add("rerank", "scores of the lines of stdin for a query, best first", [embed_args](Context& c) { return Rerank(c, *embed_args); });
  rerank.Option("QUERY", embed_args->query, "the query").Required();
  registry.Setting(rerank, "--model", "models.rerank", "cross-encoder: id or path");
  rerank.Option("--top-n", embed_args->top_n, "only the best N; default all");
  rerank.Refuse("--out", "scores are lines of text, or JSON with --json");
  rerank.Refuse("--batch-tokens", "all lines are read before the first is scored");
}

}  // namespace lectern::cli
