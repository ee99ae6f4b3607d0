#include "decoder/model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "base/file.h"
#include "base/nn/activations.h"
#include "base/nn/norm.h"
#include "base/problem.h"

namespace lectern::decoder {
namespace {

constexpr int64_t kDefaultContext = 32768;
constexpr int64_t kForkTokens = 8;  // below this the element-wise boxes cost less than a fork and join

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Model::Load(const model_file::ModelFile& file, const ModelOptions& options,
                                                   ThreadPool& pool) {
  ASSIGN_OR_RETURN(TransformerConfig config, TransformerConfig::FromModelFile(file));
  std::unique_ptr<Model> model(new Model(std::move(config), pool));
  const TransformerConfig& c = model->config_;
  if (options.max_context_tokens > c.context_tokens) {
    return WithLimit(InvalidArgument("reader.max_context_tokens must be at most ", c.context_tokens, ", what the model allows, got ",
                                     options.max_context_tokens), "reader.max_context_tokens", c.context_tokens, options.max_context_tokens);
  }
  if (options.max_context_tokens < 0) {
    return InvalidArgument("reader.max_context_tokens must not be negative, got ", options.max_context_tokens);
  }
  model->max_context_ =
      options.max_context_tokens > 0 ? options.max_context_tokens : std::min(c.context_tokens, kDefaultContext);
  model->kv_type_ = options.arithmetic == nn::Arithmetic::kExact ? DType::kF32 : DType::kBF16;
  RETURN_IF_ERROR(model->Plan());
  absl::StatusOr<Weights> weights = LoadWeights(file, c, options.arithmetic, pool, options.cancel);
  if (!weights.ok()) return Annotate(weights.status(), file.path());
  model->weights_ = *std::move(weights);
  nn::RopeConfig rope = c.rope;
  rope.divisors = c.rope_divisors;
  model->rope_ = std::make_unique<nn::Rope>(rope);
  model->local_rope_ = std::make_unique<nn::Rope>(c.local_rope);
  model->Allocate(1);
  return model;
}

KvCacheShape Model::CacheShape(int64_t max_tokens) const {
  return {.num_layers = config_.num_layers,
          .kv_heads = config_.kv_heads,
          .head_dim = config_.head_dim,
          .max_tokens = max_tokens,
          .type = kv_type_};
}

absl::Status Model::Plan() {
  const TransformerConfig& c = config_;
  const attention::Problem problem{.q_heads = c.q_heads,
                                   .k_heads = c.kv_heads,
                                   .v_heads = c.kv_heads,
                                   .key_width = c.head_dim,
                                   .value_width = c.head_dim,
                                   .kv_type = kv_type_,
                                   .max_keys = max_context_};
  attention::Variant variant{.mask = {attention::MaskKind::kCausal},
                             .scale = c.attention_scale,
                             .soft_cap = c.attention_soft_cap};
  const attention::Device device{.target = ActiveCpuTarget(), .num_threads = pool_.num_threads()};
  ASSIGN_OR_RETURN(plan_, attention::Plan(problem, variant, device));
  if (c.window > 0) variant.mask = {attention::MaskKind::kSlidingWindow, c.window};
  ASSIGN_OR_RETURN(local_plan_, attention::Plan(problem, variant, device));
  workspace_.resize(static_cast<size_t>(std::max(plan_.workspace_bytes, local_plan_.workspace_bytes)));
  return absl::OkStatus();
}

std::string Model::Explain() const {
  return internal::Concat(config_.architecture, ": weights ", weights_.packed_bytes, " bytes; attention ",
                          plan_.Explain(), config_.window > 0 ? ", windows of " + std::to_string(config_.window) : "");
}

void Model::Allocate(int64_t tokens) {
  if (tokens <= chunk_) return;
  const TransformerConfig& c = config_;
  chunk_ = tokens;
  const auto size = [&](std::vector<float>& v, int64_t row) { v.resize(static_cast<size_t>(tokens * row)); };
  size(x_, c.model_dim);
  size(h_, std::max(c.model_dim, c.q_heads * c.head_dim));
  size(q_, c.q_heads * c.head_dim);
  size(k_, c.kv_heads * c.head_dim);
  size(v_, c.kv_heads * c.head_dim);
  size(heads_, c.q_heads * c.head_dim);
  size(gate_, c.ff_dim);
  size(up_, c.ff_dim);
  size(angles_, c.head_dim);
  size(local_angles_, c.head_dim);
  lse_.resize(static_cast<size_t>(c.q_heads));
}

template <class Body>
void Model::ForTokens(int64_t tokens, const Body& body) {
  const auto range = [&](int64_t begin, int64_t end, int) {
    for (int64_t token = begin; token < end; ++token) body(token);
  };
  if (tokens < kForkTokens) return range(0, tokens, 0);
  pool_.ParallelFor(tokens, std::ref(range));
}

absl::Status Model::Forward(std::span<const int32_t> tokens, KvCache& cache, const ForwardOptions& options) {
  const auto n = static_cast<int64_t>(tokens.size());
  if (n < 1 || n > kMaxChunk) return InvalidArgument("a chunk must have 1..", kMaxChunk, " tokens, got ", n);
  if (options.logit_rows < 0 || options.logit_rows > std::min(n, kMaxLogitRows)) {
    return InvalidArgument("logit rows must be in 0..", std::min(n, kMaxLogitRows), ", got ", options.logit_rows);
  }
  for (int32_t token : tokens) {
    if (token < 0 || token >= config_.vocab_size) {
      return InvalidArgument("a token id must be in 0..", config_.vocab_size - 1, ", got ", token);
    }
  }
  RETURN_IF_ERROR(CheckCancel(options.cancel));
  RETURN_IF_ERROR(cache.Reserve(n));
  Allocate(n);
  const auto observe = [&](int64_t layer, const std::vector<float>& x) {
    if (options.observe != nullptr) (*options.observe)(layer, {x.data(), static_cast<size_t>(n * config_.model_dim)});
  };

  Embed(tokens);
  observe(-1, x_);
  Angles(*rope_, cache.size(), n, angles_);
  if (config_.window > 0) Angles(*local_rope_, cache.size(), n, local_angles_);
  int64_t rows = n;   // the last of the chunk that a layer's boxes run for
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    const LayerWeights& w = weights_.layers[layer];
    RETURN_IF_ERROR(CheckCancel(options.cancel));
    // Behind the last layer's keys and values only the rows that give logits are of use.
    if (layer + 1 == config_.num_layers && options.observe == nullptr && options.key_mass.empty()) rows = options.logit_rows;
    ProjectQkv(w, n, rows);
    NormAndRotate(w, config_.local_layer[layer], n, rows);
    RETURN_IF_ERROR(Attention(layer, n, rows, cache, options));
    if (rows == 0) break;
    if (rows < n) std::copy(x_.begin() + (n - rows) * config_.model_dim, x_.begin() + n * config_.model_dim, x_.begin());
    w.out.Apply(heads_.data(), rows, h_.data(), pool_, scratch_);
    AddResidual(w.post_attn_norm, rows);
    RETURN_IF_ERROR(CheckCancel(options.cancel));
    FeedForward(w, rows);
    AddResidual(w.post_ff_norm, rows);
    observe(layer, x_);
  }
  cache.Commit(tokens);
  logit_rows_ = options.logit_rows;
  if (options.logit_rows > 0 || options.observe != nullptr) Output(rows, options.logit_rows);
  observe(config_.num_layers, h_);
  return absl::OkStatus();
}

void Model::Embed(std::span<const int32_t> tokens) {
  ForTokens(static_cast<int64_t>(tokens.size()), [&](int64_t i) {
    float* x = x_.data() + i * config_.model_dim;  // [model_dim]
    weights_.embedding_table().DequantizeRow(tokens[i], x);
    if (config_.embedding_scale == 1) return;
    for (int64_t c = 0; c < config_.model_dim; ++c) x[c] *= config_.embedding_scale;
  });
  // Each new word of a prompt maps pages of the table: given back at once, memory does not grow from prompt to prompt.
  if (tokens.size() > 1) ReleasePages(weights_.embedding_bytes);
}

// cos and sin of each token's position, shared by all layers and heads.
void Model::Angles(const nn::Rope& rope, int64_t start, int64_t tokens, std::vector<float>& angles) {
  ForTokens(tokens, [&](int64_t i) {
    float* cos = angles.data() + i * config_.head_dim;  // [head_dim / 2], then sin
    rope.Angles(start + i, cos, cos + config_.head_dim / 2);
  });
}

// q, k, v = norm(x) W + b; q of the last `rows`.
void Model::ProjectQkv(const LayerWeights& w, int64_t tokens, int64_t rows) {
  const TransformerConfig& c = config_;
  ForTokens(tokens, [&](int64_t i) {
    nn::RmsNorm(x_.data() + i * c.model_dim, 1, c.model_dim, w.attn_norm.data(), c.norm_epsilon,
                h_.data() + i * c.model_dim);
  });
  if (rows == tokens) {
    nn::Linear::ApplyMany(std::array{&w.q, &w.k, &w.v}, h_.data(), tokens, std::array{q_.data(), k_.data(), v_.data()},
                          pool_, scratch_);
    return;
  }
  nn::Linear::ApplyMany(std::array{&w.k, &w.v}, h_.data(), tokens, std::array{k_.data(), v_.data()}, pool_, scratch_);
  if (rows > 0) w.q.Apply(h_.data() + (tokens - rows) * c.model_dim, rows, q_.data(), pool_, scratch_);
}

// Biases (Qwen2), norms of each query and key head (Qwen3, Gemma 3), rotary position.
void Model::NormAndRotate(const LayerWeights& w, bool local, int64_t tokens, int64_t rows) {
  const TransformerConfig& c = config_;
  const int64_t q_dim = c.q_heads * c.head_dim, kv_dim = c.kv_heads * c.head_dim;
  ForTokens(tokens, [&](int64_t i) {
    const float* cos = (local ? local_angles_ : angles_).data() + i * c.head_dim;
    const float* sin = cos + c.head_dim / 2;
    float* k = k_.data() + i * kv_dim;  // [kv_head, head_dim]
    float* v = v_.data() + i * kv_dim;
    if (!w.q_bias.empty()) {
      nn::Add(k, w.k_bias.data(), kv_dim, k);
      nn::Add(v, w.v_bias.data(), kv_dim, v);
    }
    if (!w.q_norm.empty()) nn::RmsNorm(k, c.kv_heads, c.head_dim, w.k_norm.data(), c.norm_epsilon, k);
    nn::RotateHeads(k, c.kv_heads, c.head_dim, c.head_dim, cos, sin, c.rope_form);
    if (i < tokens - rows) return;
    float* q = q_.data() + (i - (tokens - rows)) * q_dim;   // [q_head, head_dim]
    if (!w.q_bias.empty()) nn::Add(q, w.q_bias.data(), q_dim, q);
    if (!w.q_norm.empty()) nn::RmsNorm(q, c.q_heads, c.head_dim, w.q_norm.data(), c.norm_epsilon, q);
    nn::RotateHeads(q, c.q_heads, c.head_dim, c.head_dim, cos, sin, c.rope_form);
  });
}

// heads = softmax(q K^T) V of the last `rows` over the cache and the new keys, which are stored first.
absl::Status Model::Attention(int64_t layer, int64_t tokens, int64_t rows, KvCache& cache, const ForwardOptions& options) {
  const TransformerConfig& c = config_;
  const int64_t start = cache.size();
  const attention::PagedKv kv = cache.Layer(layer, start + tokens);
  const int64_t kv_dim = c.kv_heads * c.head_dim;
  ForTokens(tokens, [&](int64_t i) {
    attention::StoreKeys(kv.k, kv.pages, start + i, k_.data() + i * kv_dim, 1);
    attention::StoreValues(kv.v, kv.pages, start + i, v_.data() + i * kv_dim, 1);
  });
  if (rows == 0) return absl::OkStatus();
  const attention::AttentionPlan& plan = config_.local_layer[layer] ? local_plan_ : plan_;
  attention::Queries queries{.q = {q_.data(), {rows, c.q_heads, c.head_dim}},
                             .out = {heads_.data(), {rows, c.q_heads, c.head_dim}}};
  if (rows > 1) return attention::Prefill(plan, queries, kv, pool_, workspace_);
  if (!options.key_mass.empty()) queries.lse = {lse_.data(), {1, c.q_heads}};
  RETURN_IF_ERROR(attention::Decode(plan, queries, kv, pool_, workspace_));
  if (options.key_mass.empty()) return absl::OkStatus();
  return attention::AddKeyMass(plan, queries, kv, pool_, workspace_, options.key_mass);
}

// h = (act(norm(x) Wgate) * norm(x) Wup) Wdown.
void Model::FeedForward(const LayerWeights& w, int64_t tokens) {
  const TransformerConfig& c = config_;
  ForTokens(tokens, [&](int64_t i) {
    nn::RmsNorm(x_.data() + i * c.model_dim, 1, c.model_dim, w.ff_norm.data(), c.norm_epsilon,
                h_.data() + i * c.model_dim);
  });
  nn::Linear::ApplyMany(std::array{&w.gate, &w.up}, h_.data(), tokens, std::array{gate_.data(), up_.data()}, pool_,
                        scratch_);
  ForTokens(tokens, [&](int64_t i) {
    float* gate = gate_.data() + i * c.ff_dim;
    const float* up = up_.data() + i * c.ff_dim;
    c.gelu ? nn::GeluTanhMul(gate, up, c.ff_dim, gate) : nn::SiluMul(gate, up, c.ff_dim, gate);
  });
  w.down.Apply(gate_.data(), tokens, h_.data(), pool_, scratch_);
}

// x += norm(h), or x += h where the family has no norm behind its boxes.
void Model::AddResidual(const std::vector<float>& norm, int64_t tokens) {
  const int64_t dim = config_.model_dim;
  ForTokens(tokens, [&](int64_t i) {
    float* h = h_.data() + i * dim;
    if (!norm.empty()) nn::RmsNorm(h, 1, dim, norm.data(), config_.norm_epsilon, h);
    nn::Add(x_.data() + i * dim, h, dim, x_.data() + i * dim);
  });
}

// logits = norm(x) Wout of the last rows.
void Model::Output(int64_t tokens, int64_t rows) {
  const TransformerConfig& c = config_;
  nn::RmsNorm(x_.data(), tokens, c.model_dim, weights_.output_norm.data(), c.norm_epsilon, h_.data());
  if (rows == 0) return;
  if (static_cast<int64_t>(logits_.size()) < rows * c.vocab_size) logits_.resize(static_cast<size_t>(rows * c.vocab_size));
  weights_.output.Apply(h_.data() + (tokens - rows) * c.model_dim, rows, logits_.data(), pool_, scratch_);
  if (c.final_soft_cap == 0) return;
  for (int64_t i = 0; i < rows * c.vocab_size; ++i) logits_[i] = c.final_soft_cap * std::tanh(logits_[i] / c.final_soft_cap);
}

}  // namespace lectern::decoder
