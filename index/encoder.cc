#include "index/encoder.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/file.h"
#include "base/json.h"
#include "decoder/model_file/model_file.h"
#include "index/bert.h"

namespace lectern::index {
namespace {

using model_file::ModelFile;
using tokenizer::Tokenizer;

enum class Pooling { kMean, kFirstToken };

absl::StatusOr<Pooling> ReadPooling(const std::string& folder) {
  const std::string path = folder + "/1_Pooling/config.json";
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return Annotate(text.status(), "a sentence encoder says how it pools in 1_Pooling/config.json");
  absl::StatusOr<Json> json = ParseJson(*text, {.max_depth = 4, .max_bytes = 1 << 16});
  if (!json.ok()) return Annotate(json.status(), path);
  if (!json->is_object()) return DataLoss(path, ": must be an object");
  std::string modes;
  for (const auto& [key, value] : json->items()) {
    if (key.rfind("pooling_mode", 0) != 0 || !value.is_boolean() || !value.get<bool>()) continue;
    modes += (modes.empty() ? "" : ", ") + key;
  }
  if (modes == "pooling_mode_mean_tokens") return Pooling::kMean;
  if (modes == "pooling_mode_cls_token") return Pooling::kFirstToken;
  return NotSupported("pooling must be pooling_mode_mean_tokens or pooling_mode_cls_token alone, ", path, " asks for ",
                      modes.empty() ? "none" : modes);
}

// Every module after the transformer and the pooling changes the vectors: only the one that makes their length one is known.
absl::Status CheckModules(const std::string& folder) {
  const absl::StatusOr<std::string> text = ReadFile(folder + "/modules.json");
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  absl::StatusOr<Json> json = ParseJson(*text, {.max_depth = 4, .max_bytes = 1 << 16});
  if (!json.ok()) return Annotate(json.status(), folder + "/modules.json");
  if (!json->is_array()) return DataLoss(folder, "/modules.json: must be an array");
  for (const Json& module : *json) {
    ASSIGN_OR_RETURN(const std::string type, JsonString(module, "type"));
    const std::string name = type.substr(type.rfind('.') + 1);
    if (name != "Transformer" && name != "Pooling" && name != "Normalize") {
      return NotSupported("sentence encoder module ", type, " in ", folder, "/modules.json is not supported");
    }
  }
  return absl::OkStatus();
}

// The network, the tokenizer and the limits that both kinds of encoder share.
struct Model {
  std::string folder;
  EncoderOptions options;
  ThreadPool* pool = nullptr;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Bert> bert;
  absl::Mutex mutex;   // one call at a time
  struct Workspace {
    std::unique_ptr<ThreadPool> single;   // a pool of one: batches run side by side
    BertScratch scratch;
    std::vector<float> hidden;
  };
  std::vector<Workspace> workspaces ABSL_GUARDED_BY(mutex);   // [thread]
  std::string vocabulary_sha256, fingerprint;

  static absl::StatusOr<std::unique_ptr<Model>> Open(const std::string& folder, EncoderOptions options,
                                                     int64_t usual_tokens, ThreadPool& pool) {
    auto model = std::make_unique<Model>();
    model->folder = folder;
    model->pool = &pool;
    ASSIGN_OR_RETURN(std::unique_ptr<ModelFile> file, ModelFile::Open(folder));
    if (file->container() != model_file::Container::kHuggingFace) {
      return NotSupported("an encoder must be a Hugging Face folder, got ", folder);
    }
    ASSIGN_OR_RETURN(const std::string json, file->ReadCompanion("tokenizer.json"));
    ASSIGN_OR_RETURN(model->tokenizer, Tokenizer::FromJson(json));
    model->vocabulary_sha256 = Sha256Hex(json);
    ASSIGN_OR_RETURN(model->bert, Bert::Load(std::move(file), options.precision, pool));
    const BertConfig& config = model->bert->config();
    if (model->tokenizer->vocab_size() > config.vocab) {
      return DataLoss("tokenizer.json has ", model->tokenizer->vocab_size(), " tokens, the network only ", config.vocab);
    }
    if (options.max_tokens == 0) options.max_tokens = std::min(usual_tokens, config.positions);
    if (options.max_tokens < 3 || options.max_tokens > config.positions) {
      return InvalidArgument("encoder max_tokens must be in 3..", config.positions, " for this model, got ",
                             options.max_tokens);
    }
    if (options.batch_tokens < 1 || options.batch_tokens > (1 << 20)) {
      return InvalidArgument("encoder batch_tokens must be in 1..", 1 << 20, ", got ", options.batch_tokens);
    }
    if (model->tokenizer->Encode("", {.add_special = true}).size() != 2) {
      return NotSupported("an encoder's tokenizer must frame a text by one token before and one after it ([CLS], [SEP])");
    }
    model->options = options;
    absl::MutexLock lock(&model->mutex);
    model->workspaces.resize(pool.num_threads());
    for (Workspace& workspace : model->workspaces) workspace.single = std::make_unique<ThreadPool>(1);
    return model;
  }

  // Of the weights as they lie in the file, the vocabulary, and what else decides a vector. Reads the weights once, through
  // a buffer where it can, so that the mapping does not come into memory.
  absl::Status SetFingerprint(std::string_view pooling) {
    const std::string one_file = folder + "/model.safetensors";
    ASSIGN_OR_RETURN(const std::string weights, FileSystem::Posix().Exists(one_file) ? Sha256HexOfFile(one_file)
                                                                                     : bert->file().Sha256());
    fingerprint = Sha256Hex(internal::Concat(weights, "\n", vocabulary_sha256, "\npooling=", pooling, "\nmax_tokens=",
                                             options.max_tokens, "\n"));
    return absl::OkStatus();
  }

  // Runs the sequences in batches of about batch_tokens, longest first, and hands each batch's hidden states to `take`
  // (from any thread). Few sequences share the threads inside a batch, many are spread over them; bits are the same.
  template <class TypeOf, class Take>
  absl::Status Run(const std::vector<std::vector<int32_t>>& ids, const TypeOf& first_of_type_one, const CancelToken* cancel,
                   const Take& take) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::vector<int64_t> order(ids.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return ids[a].size() != ids[b].size() ? ids[a].size() > ids[b].size() : a < b;
    });
    std::vector<size_t> cuts = {0};  // a batch is order[cuts[i]]..order[cuts[i + 1]]
    int64_t tokens = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      const int64_t length = static_cast<int64_t>(ids[order[i]].size());
      if (tokens > 0 && tokens + length > options.batch_tokens) {
        cuts.push_back(i);
        tokens = 0;
      }
      tokens += length;
    }
    if (!order.empty()) cuts.push_back(order.size());
    const size_t num_batches = cuts.size() - 1;
    const std::span<Workspace> mine(workspaces);
    const auto run_batch = [&](size_t b, ThreadPool& threads, Workspace& workspace) -> absl::Status {
      RETURN_IF_ERROR(CheckCancel(cancel));
      PackedTokens batch;
      for (size_t i = cuts[b]; i < cuts[b + 1]; ++i) batch.Add(ids[order[i]], first_of_type_one(order[i]));
      const size_t need = static_cast<size_t>(batch.size() * bert->config().hidden);
      if (workspace.hidden.size() < need) workspace.hidden.resize(need);
      RETURN_IF_ERROR(bert->Forward(batch, threads, workspace.scratch, workspace.hidden.data()));
      for (size_t i = cuts[b]; i < cuts[b + 1]; ++i) {
        const int64_t start = batch.starts[i - cuts[b]], tokens = batch.starts[i - cuts[b] + 1] - start;
        take(order[i], workspace.hidden.data() + start * bert->config().hidden, tokens);
      }
      return absl::OkStatus();
    };
    if (num_batches < static_cast<size_t>(pool->num_threads())) {
      for (size_t b = 0; b < num_batches; ++b) RETURN_IF_ERROR(run_batch(b, *pool, mine[0]));
      return absl::OkStatus();
    }
    std::atomic<size_t> next{0};
    std::vector<absl::Status> status(pool->num_threads());
    pool->RunOnAll([&](int thread) {
      for (size_t b; status[thread].ok() && (b = next.fetch_add(1)) < num_batches;) {
        status[thread] = run_batch(b, *mine[thread].single, mine[thread]);
      }
    });
    for (const absl::Status& s : status) RETURN_IF_ERROR(s);
    return absl::OkStatus();
  }

  // ids of each text, by all threads.
  std::vector<std::vector<int32_t>> Tokenize(std::span<const std::string_view> texts, bool add_special) {
    std::vector<std::vector<int32_t>> ids(texts.size());
    const auto one = [&](size_t i) { ids[i] = tokenizer->Encode(texts[i], {.add_special = add_special}); };
    if (texts.size() < 8) {
      for (size_t i = 0; i < texts.size(); ++i) one(i);
      return ids;
    }
    std::atomic<size_t> next{0};
    pool->RunOnAll([&](int) {
      for (size_t i; (i = next.fetch_add(1)) < texts.size();) one(i);
    });
    return ids;
  }
};

class BertEncoder : public Encoder {
 public:
  BertEncoder(std::unique_ptr<Model> model, Pooling pooling) : model_(std::move(model)), pooling_(pooling) {}
  int64_t dim() const override { return model_->bert->config().hidden; }
  int64_t max_tokens() const override { return model_->options.max_tokens; }
  std::string fingerprint() const override { return model_->fingerprint; }
  const Tokenizer& tokenizer() const override { return *model_->tokenizer; }

  absl::StatusOr<std::vector<float>> Encode(std::span<const std::string_view> texts, bool cut, EncodeStats* stats,
                                            const CancelToken* cancel) override {
    absl::MutexLock lock(&model_->mutex);
    RETURN_IF_ERROR(CheckCancel(cancel));
    std::vector<std::vector<int32_t>> ids = model_->Tokenize(texts, true);
    const size_t limit = static_cast<size_t>(model_->options.max_tokens);
    EncodeStats counted;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i].size() > limit) {
        if (!cut) {
          return InvalidArgument("text ", i, " has ", ids[i].size(), " tokens, the encoder takes ", limit,
                                 " (encoder.max_tokens); chunk it, or ask for a cut");
        }
        const int32_t last = ids[i].back();  // [SEP] stays
        ids[i].resize(limit);
        ids[i].back() = last;
        ++counted.cut_texts;
      }
      counted.tokens += static_cast<int64_t>(ids[i].size());
    }
    std::vector<float> vectors(texts.size() * static_cast<size_t>(dim()));
    RETURN_IF_ERROR(model_->Run(ids, [](int64_t) { return int64_t{-1}; }, cancel,
                                [&](int64_t text, const float* hidden, int64_t tokens) {
                                  float* out = vectors.data() + text * dim();
                                  if (pooling_ == Pooling::kMean) MeanPool(hidden, tokens, dim(), out);
                                  else std::copy_n(hidden, dim(), out);
                                  Normalize(out, dim());
                                }));
    if (stats != nullptr) {
      stats->tokens += counted.tokens;
      stats->cut_texts += counted.cut_texts;
    }
    return vectors;
  }

 private:
  std::unique_ptr<Model> model_;
  Pooling pooling_;
};

class BertCrossEncoder : public CrossEncoder {
 public:
  static absl::StatusOr<std::unique_ptr<CrossEncoder>> Make(std::unique_ptr<Model> model) {
    auto encoder = std::make_unique<BertCrossEncoder>();
    const Bert& bert = *model->bert;
    const int64_t hidden = bert.config().hidden;
    if (bert.config().types < 2) {
      return NotSupported("a cross-encoder needs two token types, config.json says ", bert.config().types);
    }
    const model_file::TensorInfo* classifier = bert.file().Find("classifier.weight");
    if (classifier == nullptr) return NotSupported("a cross-encoder needs a classifier head, ", model->folder, " has none");
    if (classifier->shape.size() == 2 && classifier->shape[0] != 1) {
      return NotSupported("a cross-encoder must have one output, its classifier has ", classifier->shape[0]);
    }
    const int64_t square[] = {hidden, hidden}, row[] = {hidden}, one_row[] = {1, hidden}, one[] = {1};
    ASSIGN_OR_RETURN(encoder->pooler_, bert.Tensor("pooler.dense.weight", square));
    ASSIGN_OR_RETURN(encoder->pooler_bias_, bert.Tensor("pooler.dense.bias", row));
    ASSIGN_OR_RETURN(encoder->classifier_, bert.Tensor("classifier.weight", one_row));
    ASSIGN_OR_RETURN(const std::vector<float> bias, bert.Tensor("classifier.bias", one));
    encoder->classifier_bias_ = bias[0];
    const std::vector<int32_t> frame = model->tokenizer->Encode("", {.add_special = true});
    encoder->first_ = frame[0];
    encoder->separator_ = frame[1];
    RETURN_IF_ERROR(model->SetFingerprint("cross-encoder"));
    encoder->model_ = std::move(model);
    return encoder;
  }
  std::string fingerprint() const override { return model_->fingerprint; }

  absl::StatusOr<std::vector<float>> Score(std::string_view query, std::span<const std::string_view> passages,
                                           EncodeStats* stats, const CancelToken* cancel) override {
    absl::MutexLock lock(&model_->mutex);
    RETURN_IF_ERROR(CheckCancel(cancel));
    const std::vector<int32_t> asked = model_->tokenizer->Encode(query, {.add_special = false});
    std::vector<std::vector<int32_t>> ids = model_->Tokenize(passages, false);
    std::vector<int64_t> second(ids.size());  // where the passage's token type begins
    EncodeStats counted;
    for (size_t i = 0; i < ids.size(); ++i) {
      size_t query_tokens = asked.size(), passage_tokens = ids[i].size();
      const size_t room = static_cast<size_t>(model_->options.max_tokens) - 3;  // [CLS] query [SEP] passage [SEP]
      if (query_tokens + passage_tokens > room) {  // the longer of the two is cut first, the passage where they are level
        ++counted.cut_texts;
        const size_t half = room / 2;
        if (passage_tokens <= half) {
          query_tokens = room - passage_tokens;
        } else if (query_tokens <= room - half) {
          passage_tokens = room - query_tokens;
        } else {
          passage_tokens = half;
          query_tokens = room - half;
        }
      }
      std::vector<int32_t> pair = {first_};
      pair.insert(pair.end(), asked.begin(), asked.begin() + query_tokens);
      pair.push_back(separator_);
      second[i] = static_cast<int64_t>(pair.size());
      pair.insert(pair.end(), ids[i].begin(), ids[i].begin() + passage_tokens);
      pair.push_back(separator_);
      counted.tokens += static_cast<int64_t>(pair.size());
      ids[i] = std::move(pair);
    }
    std::vector<float> scores(ids.size());
    RETURN_IF_ERROR(model_->Run(ids, [&](int64_t i) { return second[i]; }, cancel,
                                [&](int64_t i, const float* hidden, int64_t) { scores[i] = Head(hidden); }));
    if (stats != nullptr) {
      stats->tokens += counted.tokens;
      stats->cut_texts += counted.cut_texts;
    }
    return scores;
  }

 private:
  // The classifier over tanh of the pooled first token; a few hundred thousand operations, so plain double sums.
  float Head(const float* hidden) const {
    const int64_t dim = model_->bert->config().hidden;
    double logit = classifier_bias_;
    for (int64_t i = 0; i < dim; ++i) {
      double sum = pooler_bias_[i];
      for (int64_t k = 0; k < dim; ++k) sum += double{pooler_[i * dim + k]} * double{hidden[k]};
      logit += double{classifier_[i]} * std::tanh(sum);
    }
    return static_cast<float>(logit);
  }

  std::unique_ptr<Model> model_;
  std::vector<float> pooler_, pooler_bias_, classifier_;  // [dim, dim], [dim], [dim]
  float classifier_bias_ = 0;
  int32_t first_ = 0, separator_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Open(const std::string& folder, const EncoderOptions& options,
                                                       ThreadPool& pool) {
  ASSIGN_OR_RETURN(std::unique_ptr<Model> model, Model::Open(folder, options, /*usual_tokens=*/256, pool));
  RETURN_IF_ERROR(CheckModules(folder));
  ASSIGN_OR_RETURN(const Pooling pooling, ReadPooling(folder));
  RETURN_IF_ERROR(model->SetFingerprint(pooling == Pooling::kMean ? "mean" : "cls"));
  return std::unique_ptr<Encoder>(new BertEncoder(std::move(model), pooling));
}

absl::StatusOr<std::unique_ptr<CrossEncoder>> CrossEncoder::Open(const std::string& folder, const EncoderOptions& options,
                                                                 ThreadPool& pool) {
  ASSIGN_OR_RETURN(std::unique_ptr<Model> model, Model::Open(folder, options, /*usual_tokens=*/512, pool));
  return BertCrossEncoder::Make(std::move(model));
}

}  // namespace lectern::index
