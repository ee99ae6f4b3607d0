// decoder/model.h: the forward pass of a decoder-only transformer, one function a box.
//
//   ASSIGN_OR_RETURN(auto model, Model::Load(*file, {.arithmetic = nn::Arithmetic::kFast}, pool));
//   ASSIGN_OR_RETURN(KvCache cache, model->NewCache(4096));
//   RETURN_IF_ERROR(model->Forward(tokens, cache, {.logit_rows = 1}));   // appends the tokens to the cache
//   std::span<const float> logits = model->logits();                     // of the last token
//
// Shapes:  x [token, model_dim]; q [token, q_head, head_dim]; logits [row, vocab]. A chunk has 1..kMaxChunk tokens,
//          logits are given for its last logit_rows tokens, at most kMaxLogitRows; the last layer runs for them alone.
// Threads: one Forward at a time: the model owns its scratch memory.
// Errors:  kInvalidArgument (chunk, token ids), kResourceExhausted (cache), kCancelled and kDeadlineExceeded (looked at
//          twice a layer; the cache then holds what it held before). Load: as config.h and weights.h.
// Cost:    one token streams the weights and the cache of the sequence once. Forward allocates nothing once the
//          first chunk of a size has run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "base/cancel.h"
#include "base/nn/linear.h"
#include "base/nn/rope.h"
#include "decoder/config.h"
#include "decoder/kv_cache.h"
#include "decoder/weights.h"

namespace lectern::decoder {

inline constexpr int64_t kMaxChunk = 512;     // gate and up of 512 tokens still fit the last-level cache beside a weight panel
inline constexpr int64_t kMaxLogitRows = 16;  // 10 MB of logits at a vocabulary of 150,000

struct ModelOptions {
  nn::Arithmetic arithmetic = nn::Arithmetic::kFast;
  int64_t max_context_tokens = 0;  // 0: what the model allows, at most 32768
  const CancelToken* cancel = nullptr;  // of loading
};

struct ForwardOptions {
  int64_t logit_rows = 1;
  const CancelToken* cancel = nullptr;
  std::span<float> key_mass = {};  // one token only: += attention weight of each key, summed over heads and layers
  // Sees x [token, model_dim] behind the embedding (-1), each layer, and the output norm (num_layers). Tests.
  const std::function<void(int64_t layer, std::span<const float> x)>* observe = nullptr;
};

class Model {
 public:
  static absl::StatusOr<std::unique_ptr<Model>> Load(const model_file::ModelFile& file, const ModelOptions& options,
                                                     ThreadPool& pool);
  const TransformerConfig& config() const { return config_; }
  int64_t max_context_tokens() const { return max_context_; }
  int64_t weight_bytes() const { return weights_.packed_bytes; }
  KvCacheShape CacheShape(int64_t max_tokens) const;
  absl::StatusOr<KvCache> NewCache(int64_t max_tokens) const { return KvCache::Create(CacheShape(max_tokens)); }
  std::string Explain() const;  // the attention plans and the bytes of the weights

  absl::Status Forward(std::span<const int32_t> tokens, KvCache& cache, const ForwardOptions& options);
  std::span<float> logits() { return {logits_.data(), static_cast<size_t>(logit_rows_ * config_.vocab_size)}; }

 private:
  Model(TransformerConfig config, ThreadPool& pool) : config_(std::move(config)), pool_(pool) {}
  absl::Status Plan();
  void Allocate(int64_t tokens);

  void Embed(std::span<const int32_t> tokens);
  void Angles(const nn::Rope& rope, int64_t start, int64_t tokens, std::vector<float>& angles);
  void ProjectQkv(const LayerWeights& w, int64_t tokens, int64_t rows);
  void NormAndRotate(const LayerWeights& w, bool local, int64_t tokens, int64_t rows);
  absl::Status Attention(int64_t layer, int64_t tokens, int64_t rows, KvCache& cache, const ForwardOptions& options);
  void FeedForward(const LayerWeights& w, int64_t tokens);
  void AddResidual(const std::vector<float>& norm, int64_t tokens);
  void Output(int64_t tokens, int64_t rows);
  template <class Body>
  void ForTokens(int64_t tokens, const Body& body);  // body(token), over the threads where it pays

  TransformerConfig config_;
  ThreadPool& pool_;
  Weights weights_;
  int64_t max_context_ = 0;
  DType kv_type_ = DType::kBF16;
  std::unique_ptr<nn::Rope> rope_, local_rope_;
  attention::AttentionPlan plan_, local_plan_;

  int64_t chunk_ = 0, logit_rows_ = 0;  // what the buffers below hold
  std::vector<float> x_, h_;             // [token, model_dim] the residual stream; the input or output of a box
  std::vector<float> q_, k_, v_, heads_;  // [token, head, head_dim]
  std::vector<float> gate_, up_;         // [token, ff_dim]
  std::vector<float> angles_, local_angles_;  // [token, 2, head_dim / 2] cos, sin
  std::vector<float> lse_;               // [q_head]
  std::vector<float> logits_;            // [row, vocab]
  std::vector<std::byte> workspace_;
  nn::LinearScratch scratch_;
};

}  // namespace lectern::decoder
