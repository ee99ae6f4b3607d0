#include "decoder/reader.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/nn/activations.h"
#include "decoder/chat_prompt.h"
#include "decoder/load_tokenizer.h"
#include "decoder/model.h"
#include "decoder/model_file/model_file.h"
#include "decoder/sampler.h"
#include "decoder/text_stream.h"

namespace lectern::decoder {
namespace {

using Clock = std::chrono::steady_clock;

double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

struct Reader::Impl {
  std::unique_ptr<model_file::ModelFile> file;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  std::optional<tokenizer::ChatTemplate> chat;
  std::string chat_refusal;  // why there is no template
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Model> model;
  int64_t max_context_tokens = 0;   // of the model, and of the cache
  absl::Mutex mutex;                // one call at a time: guards the model's scratch memory, too
  std::optional<KvCache> cache ABSL_GUARDED_BY(mutex);

  absl::Status CheckLength(int64_t prompt, int64_t more, const char* what) const {
    if (prompt < 1) return InvalidArgument("a prompt needs at least 1 token");
    if (prompt + more <= max_context_tokens) return absl::OkStatus();
    return ResourceExhausted("the prompt's ", prompt, " tokens and ", more, " ", what, " need a context of ",
                             prompt + more, ", ", max_context_tokens, " are allowed (reader.max_context_tokens)");
  }

  // Brings all of `tokens` into the cache, keeping what is already there; logits of the last one are in the model.
  absl::Status Prefill(std::span<const int32_t> tokens, ForwardOptions options,
                       const std::function<void(int64_t, int64_t)>& progress) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const auto total = static_cast<int64_t>(tokens.size());
    while (cache->size() < total) {
      const int64_t chunk = std::min(kMaxChunk, total - cache->size());
      ForwardOptions step = options;
      if (cache->size() + chunk < total) step.logit_rows = 0;
      RETURN_IF_ERROR(model->Forward(tokens.subspan(cache->size(), chunk), *cache, step));
      if (progress) progress(cache->size(), total);
    }
    return absl::OkStatus();
  }

  bool IsEnd(int32_t token) const {
    const std::span<const int32_t> ends = tokenizer->end_ids();
    return std::find(ends.begin(), ends.end(), token) != ends.end();
  }
};

Reader::Reader() : impl_(std::make_unique<Impl>()) {}
Reader::~Reader() = default;

absl::StatusOr<std::unique_ptr<Reader>> Reader::Open(const std::string& path, const ReaderOptions& options) {
  if (options.num_threads < 0) return InvalidArgument("reader threads must not be negative, got ", options.num_threads);
  std::unique_ptr<Reader> reader(new Reader());
  Impl& impl = *reader->impl_;
  ASSIGN_OR_RETURN(impl.file, model_file::ModelFile::Open(path));
  ASSIGN_OR_RETURN(impl.tokenizer, LoadTokenizer(*impl.file));
  absl::StatusOr<tokenizer::ChatTemplate> chat = LoadChatTemplate(*impl.file, options.chat_template);
  if (chat.ok()) {
    impl.chat = *std::move(chat);
  } else if (!options.chat_template.empty()) {
    return chat.status();  // asked for by name
  } else {
    impl.chat_refusal = std::string(chat.status().message().data(), chat.status().message().size());
  }
  impl.pool = std::make_unique<ThreadPool>(options.num_threads > 0 ? options.num_threads : ThreadPool::HardwareThreads());
  ASSIGN_OR_RETURN(impl.model, Model::Load(*impl.file, {.arithmetic = options.arithmetic,
                                                        .max_context_tokens = options.max_context_tokens,
                                                        .cancel = options.cancel}, *impl.pool));
  const Model& model = *impl.model;
  if (impl.tokenizer->vocab_size() > model.config().vocab_size) {
    return DataLoss(path, ": the tokenizer has ", impl.tokenizer->vocab_size(), " tokens, the model ",
                    model.config().vocab_size);
  }
  int64_t tokens = model.max_context_tokens();
  if (options.kv_bytes > 0) {
    const int64_t page = KvCache::BytesPerPage(model.CacheShape(1));
    const int64_t fit = options.kv_bytes / page * attention::kPageSlots;
    if (fit < 1) return InvalidArgument("reader KV memory must hold a page of ", page, " bytes, got ", options.kv_bytes);
    tokens = std::min(tokens, fit);
  }
  absl::MutexLock lock(&impl.mutex);
  ASSIGN_OR_RETURN(impl.cache, model.NewCache(tokens));
  impl.max_context_tokens = std::min(model.max_context_tokens(), impl.cache->max_tokens());
  return reader;
}

const tokenizer::Tokenizer& Reader::tokenizer() const { return *impl_->tokenizer; }
bool Reader::has_chat_template() const { return impl_->chat.has_value(); }
std::string Reader::architecture() const { return impl_->model->config().architecture; }
int64_t Reader::max_context_tokens() const { return impl_->max_context_tokens; }
int64_t Reader::vocab_size() const { return impl_->model->config().vocab_size; }
absl::StatusOr<std::string> Reader::Sha256() const { return impl_->file->Sha256(); }

absl::StatusOr<std::vector<int32_t>> Reader::EncodeChat(std::span<const tokenizer::ChatMessage> messages) const {
  if (!impl_->chat) return NotSupported(impl_->chat_refusal, " (--chat-template names one)");
  ASSIGN_OR_RETURN(const std::vector<tokenizer::PromptPiece> pieces, impl_->chat->Render(messages));
  return EncodePieces(*impl_->tokenizer, pieces);
}

absl::StatusOr<Generation> Reader::Generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                                            const std::function<void(std::string_view)>& on_text) {
  Impl& impl = *impl_;
  const SamplerOptions sampling{.temperature = options.temperature, .top_p = options.top_p, .seed = options.seed};
  RETURN_IF_ERROR(Sampler::Check(sampling));
  if (options.max_tokens < 1) return InvalidArgument("max_tokens must be at least 1, got ", options.max_tokens);
  absl::MutexLock lock(&impl.mutex);
  Model& model = *impl.model;
  RETURN_IF_ERROR(impl.CheckLength(static_cast<int64_t>(prompt.size()), options.max_tokens, "new ones"));

  Generation out;
  out.prompt_tokens = static_cast<int64_t>(prompt.size());
  const Clock::time_point start = Clock::now();
  out.cached_tokens = impl.cache->KeepPrefixOf(prompt);
  ForwardOptions forward{.cancel = options.cancel};
  std::vector<float> mass;
  if (options.capture_attention) {
    // The last prompt token is the query that chooses the first token: it runs alone, so that its weights can be read.
    mass.assign(prompt.size() + static_cast<size_t>(options.max_tokens), 0.0f);
    ForwardOptions silent = forward;
    silent.logit_rows = 0;
    RETURN_IF_ERROR(impl.Prefill(prompt.first(prompt.size() - 1), silent, options.on_prefill));
    forward.key_mass = mass;
  }
  RETURN_IF_ERROR(impl.Prefill(prompt, forward, options.on_prefill));
  out.prefill_ms = MsSince(start);

  const Clock::time_point decode_start = Clock::now();
  Sampler sampler(sampling, vocab_size());
  TextStream stream(options.stop);
  stream.Reserve(static_cast<size_t>(options.max_tokens) * 8);
  out.tokens.reserve(static_cast<size_t>(options.max_tokens));
  out.logprobs.reserve(static_cast<size_t>(options.max_tokens));
  const auto emit = [&] {
    if (const std::string_view ready = stream.TakeReady(); on_text && !ready.empty()) on_text(ready);
  };
  for (int64_t step = 0;; ++step) {
    const std::span<float> logits = model.logits();
    const double lse = nn::LogSumExp(logits.data(), vocab_size());
    if (options.constraint != nullptr) options.constraint->Mask(logits);
    ASSIGN_OR_RETURN(const int32_t token, sampler.Next(logits, step));
    if (impl.IsEnd(token)) {
      out.stop = Generation::Stop::kEnd;
      break;
    }
    out.tokens.push_back(token);
    out.logprobs.push_back(static_cast<float>(logits[token] - lse));
    if (options.constraint != nullptr) options.constraint->Accept(token);
    const bool stopped = stream.Append(impl.tokenizer->Piece(token));
    emit();
    if (stopped) {
      out.stop = Generation::Stop::kStopString;
      break;
    }
    if (step + 1 == options.max_tokens) {
      out.stop = Generation::Stop::kLength;
      break;
    }
    RETURN_IF_ERROR(model.Forward({&token, 1}, *impl.cache, forward));
  }
  stream.Finish();
  emit();
  out.text = stream.text();
  out.decode_ms = MsSince(decode_start);
  if (options.capture_attention) {
    const int64_t queries = std::max<int64_t>(1, impl.cache->size() - out.prompt_tokens + 1);
    const auto rows = static_cast<float>(queries * model.config().num_layers * model.config().q_heads);
    mass.resize(prompt.size());
    for (float& m : mass) m /= rows;
    out.prompt_attention = std::move(mass);
  }
  return out;
}

absl::StatusOr<ContinuationScore> Reader::Score(std::span<const int32_t> prompt, std::span<const int32_t> continuation,
                                                const CancelToken* cancel) {
  Impl& impl = *impl_;
  absl::MutexLock lock(&impl.mutex);
  Model& model = *impl.model;
  const auto count = static_cast<int64_t>(continuation.size());
  RETURN_IF_ERROR(impl.CheckLength(static_cast<int64_t>(prompt.size()), count, "of the continuation"));
  for (int32_t token : continuation) {
    if (token < 0 || token >= vocab_size()) {
      return InvalidArgument("a token id must be in 0..", vocab_size() - 1, ", got ", token);
    }
  }
  ContinuationScore score;
  if (count == 0) return score;
  // Position i of what follows predicts continuation[i]: the last prompt token, then all but the last continuation token.
  impl.cache->KeepPrefixOf(prompt);
  RETURN_IF_ERROR(impl.Prefill(prompt.first(prompt.size() - 1), {.logit_rows = 0, .cancel = cancel}, nullptr));
  std::vector<int32_t> rows = {prompt.back()};
  rows.insert(rows.end(), continuation.begin(), continuation.end() - 1);
  score.token_logprobs.reserve(static_cast<size_t>(count));
  for (int64_t begin = 0; begin < count; begin += kMaxLogitRows) {
    const int64_t n = std::min(kMaxLogitRows, count - begin);
    RETURN_IF_ERROR(model.Forward({rows.data() + begin, static_cast<size_t>(n)}, *impl.cache,
                                  {.logit_rows = n, .cancel = cancel}));
    for (int64_t i = 0; i < n; ++i) {
      const std::span<const float> logits = model.logits().subspan(i * vocab_size(), vocab_size());
      const double logprob = logits[continuation[begin + i]] - nn::LogSumExp(logits.data(), vocab_size());
      score.token_logprobs.push_back(static_cast<float>(logprob));
      score.logprob += logprob;
    }
  }
  return score;
}

absl::StatusOr<std::vector<float>> Reader::NextLogits(std::span<const int32_t> tokens, const CancelToken* cancel) {
  Impl& impl = *impl_;
  absl::MutexLock lock(&impl.mutex);
  RETURN_IF_ERROR(impl.CheckLength(static_cast<int64_t>(tokens.size()), 0, "new ones"));
  impl.cache->KeepPrefixOf(tokens);
  RETURN_IF_ERROR(impl.Prefill(tokens, {.cancel = cancel}, nullptr));
  const std::span<const float> logits = impl.model->logits();
  return std::vector<float>(logits.begin(), logits.end());
}

}  // namespace lectern::decoder
