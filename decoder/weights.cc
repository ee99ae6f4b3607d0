#include "decoder/weights.h"

#include <string>
#include <unordered_set>

#include "base/file.h"

namespace lectern::decoder {
namespace {

using model_file::Container;
using model_file::ModelFile;
using model_file::TensorInfo;

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

// Finds tensors by their two names and remembers which were used.
class Loader {
 public:
  Loader(const ModelFile& file, const TransformerConfig& config, nn::Arithmetic arithmetic, ThreadPool& pool, const CancelToken* cancel)
      : file_(file), config_(config), arithmetic_(arithmetic), pool_(pool), cancel_(cancel) {}

  std::string Name(std::string_view gguf, std::string_view hugging_face) const {
    return std::string(config_.container == Container::kGguf ? gguf : hugging_face);
  }
  std::string LayerName(int64_t layer, std::string_view gguf, std::string_view hugging_face) const {
    return config_.container == Container::kGguf ? internal::Concat("blk.", layer, ".", gguf)
                                                 : internal::Concat("model.layers.", layer, ".", hugging_face);
  }

  absl::StatusOr<const TensorInfo*> Find(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorInfo* tensor = file_.Find(name);
    if (tensor == nullptr) return DataLoss("tensor ", name, " is missing");
    if (tensor->shape != shape) {
      return DataLoss("tensor ", name, " must be ", ShapeText(shape), ", it is ", ShapeText(tensor->shape));
    }
    used_.insert(name);
    return tensor;
  }

  absl::Status Matrix(const std::string& name, int64_t rows, int64_t cols, nn::Linear* out) {
    RETURN_IF_ERROR(CheckCancel(cancel_));
    ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(name, {rows, cols}));
    absl::StatusOr<nn::Linear> packed = nn::Linear::Pack(tensor->type, tensor->bytes, rows, cols, arithmetic_, pool_);
    if (!packed.ok()) return Annotate(packed.status(), "tensor " + name);
    *out = *std::move(packed);
    ReleasePages(tensor->bytes);  // the repacked copy is what runs
    packed_bytes_ += out->packed_bytes();
    return absl::OkStatus();
  }

  absl::Status Vector(const std::string& name, int64_t size, float add, std::vector<float>* out) {
    ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(name, {size}));
    out->resize(size);
    for (int64_t i = 0; i < size; ++i) {
      switch (tensor->type) {
        case DType::kF32: (*out)[i] = reinterpret_cast<const float*>(tensor->bytes.data())[i]; break;
        case DType::kF16: (*out)[i] = ToFloat(reinterpret_cast<const fp16*>(tensor->bytes.data())[i]); break;
        case DType::kBF16: (*out)[i] = ToFloat(reinterpret_cast<const bf16*>(tensor->bytes.data())[i]); break;
        default: return NotSupported("tensor ", name, " must be F32, F16 or BF16, it is ", DTypeName(tensor->type));
      }
      (*out)[i] += add;
    }
    return absl::OkStatus();
  }

  // A tensor nobody asked for would change the result if it were obeyed: refuse rather than guess.
  absl::Status CheckAllUsed() const {
    for (const TensorInfo& tensor : file_.tensors()) {
      if (used_.contains(tensor.name) || tensor.name == "rope_freqs.weight") continue;
      if (tensor.name == "lm_head.weight" && config_.tied_output) continue;  // a copy of the embedding table
      if (tensor.name.find("rotary_emb.inv_freq") != std::string::npos) continue;
      return NotSupported("tensor ", tensor.name, " is not part of architecture ", config_.architecture, " as supported here");
    }
    return absl::OkStatus();
  }
  int64_t packed_bytes() const { return packed_bytes_; }

 private:
  const ModelFile& file_;
  const TransformerConfig& config_;
  const nn::Arithmetic arithmetic_;
  ThreadPool& pool_;
  const CancelToken* const cancel_;
  std::unordered_set<std::string> used_;
  int64_t packed_bytes_ = 0;
};

absl::Status LoadLayer(Loader& load, const TransformerConfig& c, int64_t layer, LayerWeights* w) {
  const float one = c.norm_plus_one ? 1.0f : 0.0f;
  const int64_t q_dim = c.q_heads * c.head_dim, kv_dim = c.kv_heads * c.head_dim;
  const auto name = [&](std::string_view gguf, std::string_view hugging_face) {
    return load.LayerName(layer, gguf, hugging_face);
  };
  RETURN_IF_ERROR(load.Vector(name("attn_norm.weight", "input_layernorm.weight"), c.model_dim, one, &w->attn_norm));
  RETURN_IF_ERROR(load.Matrix(name("attn_q.weight", "self_attn.q_proj.weight"), q_dim, c.model_dim, &w->q));
  RETURN_IF_ERROR(load.Matrix(name("attn_k.weight", "self_attn.k_proj.weight"), kv_dim, c.model_dim, &w->k));
  RETURN_IF_ERROR(load.Matrix(name("attn_v.weight", "self_attn.v_proj.weight"), kv_dim, c.model_dim, &w->v));
  RETURN_IF_ERROR(load.Matrix(name("attn_output.weight", "self_attn.o_proj.weight"), c.model_dim, q_dim, &w->out));
  if (c.qkv_bias) {
    RETURN_IF_ERROR(load.Vector(name("attn_q.bias", "self_attn.q_proj.bias"), q_dim, 0, &w->q_bias));
    RETURN_IF_ERROR(load.Vector(name("attn_k.bias", "self_attn.k_proj.bias"), kv_dim, 0, &w->k_bias));
    RETURN_IF_ERROR(load.Vector(name("attn_v.bias", "self_attn.v_proj.bias"), kv_dim, 0, &w->v_bias));
  }
  if (c.qk_norm) {
    RETURN_IF_ERROR(load.Vector(name("attn_q_norm.weight", "self_attn.q_norm.weight"), c.head_dim, one, &w->q_norm));
    RETURN_IF_ERROR(load.Vector(name("attn_k_norm.weight", "self_attn.k_norm.weight"), c.head_dim, one, &w->k_norm));
  }
  // Without sandwich norms Hugging Face calls the norm before the feed-forward the one after attention.
  const std::string ff_norm = name("ffn_norm.weight", c.sandwich_norms ? "pre_feedforward_layernorm.weight"
                                                                       : "post_attention_layernorm.weight");
  RETURN_IF_ERROR(load.Vector(ff_norm, c.model_dim, one, &w->ff_norm));
  if (c.sandwich_norms) {
    RETURN_IF_ERROR(load.Vector(name("post_attention_norm.weight", "post_attention_layernorm.weight"), c.model_dim, one,
                                &w->post_attn_norm));
    RETURN_IF_ERROR(load.Vector(name("post_ffw_norm.weight", "post_feedforward_layernorm.weight"), c.model_dim, one,
                                &w->post_ff_norm));
  }
  RETURN_IF_ERROR(load.Matrix(name("ffn_gate.weight", "mlp.gate_proj.weight"), c.ff_dim, c.model_dim, &w->gate));
  RETURN_IF_ERROR(load.Matrix(name("ffn_up.weight", "mlp.up_proj.weight"), c.ff_dim, c.model_dim, &w->up));
  return load.Matrix(name("ffn_down.weight", "mlp.down_proj.weight"), c.model_dim, c.ff_dim, &w->down);
}

}  // namespace

absl::StatusOr<Weights> LoadWeights(const model_file::ModelFile& file, const TransformerConfig& config,
                                    nn::Arithmetic arithmetic, ThreadPool& pool, const CancelToken* cancel) {
  Loader load(file, config, arithmetic, pool, cancel);
  Weights weights;
  const std::string embedding = load.Name("token_embd.weight", "model.embed_tokens.weight");
  ASSIGN_OR_RETURN(const TensorInfo* table, load.Find(embedding, {config.vocab_size, config.model_dim}));
  weights.layers.resize(config.num_layers);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    RETURN_IF_ERROR(LoadLayer(load, config, layer, &weights.layers[layer]));
  }
  RETURN_IF_ERROR(load.Vector(load.Name("output_norm.weight", "model.norm.weight"), config.model_dim,
                              config.norm_plus_one ? 1.0f : 0.0f, &weights.output_norm));
  const std::string output = config.tied_output ? embedding : load.Name("output.weight", "lm_head.weight");
  RETURN_IF_ERROR(load.Matrix(output, config.vocab_size, config.model_dim, &weights.output));
  if (!config.tied_output) {
    weights.embedding_bytes = table->bytes;
    ASSIGN_OR_RETURN(weights.embedding, nn::Linear::Refer(table->type, table->bytes, config.vocab_size, config.model_dim));
  }
  RETURN_IF_ERROR(load.CheckAllUsed());
  weights.packed_bytes = load.packed_bytes();
  return weights;
}

}  // namespace lectern::decoder
