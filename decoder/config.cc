#include "decoder/config.h"

#include <cmath>

namespace lectern::decoder {
namespace {

using model_file::ModelFile;

absl::StatusOr<int64_t> IntOr(const ModelFile& file, std::string_view key, int64_t otherwise) {
  if (!file.Has(key)) return otherwise;
  return file.Int(key);
}
absl::StatusOr<double> NumberOr(const ModelFile& file, std::string_view key, double otherwise) {
  if (!file.Has(key)) return otherwise;
  return file.Number(key);
}

absl::StatusOr<Family> FamilyOf(std::string_view architecture) {
  if (architecture == "qwen2") return Family::kQwen2;
  if (architecture == "qwen3") return Family::kQwen3;
  if (architecture == "llama") return Family::kLlama;
  if (architecture == "gemma3" || architecture == "gemma3_text") return Family::kGemma3;
  return NotSupported("model architecture '", architecture, "' is not supported; qwen2, qwen3, llama and gemma3 are");
}

// What the family fixes, whatever the file says.
void ApplyFamily(TransformerConfig& c) {
  c.qkv_bias = c.family == Family::kQwen2;
  c.qk_norm = c.family == Family::kQwen3 || c.family == Family::kGemma3;
  const bool gemma = c.family == Family::kGemma3;
  c.gelu = c.sandwich_norms = gemma;
  c.embedding_scale = gemma ? std::sqrt(static_cast<float>(c.model_dim)) : 1.0f;
  const bool gguf = c.container == model_file::Container::kGguf;
  c.norm_plus_one = gemma && !gguf;  // the conversion to GGUF adds it
  c.rope_form = c.family == Family::kLlama && gguf ? nn::RopeForm::kInterleaved  // the conversion permutes rows
                                                   : nn::RopeForm::kNeoX;
  c.attention_scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
}

absl::Status CheckRanges(const TransformerConfig& c) {
  const auto in_range = [](const char* name, int64_t value, int64_t low, int64_t high) -> absl::Status {
    if (value >= low && value <= high) return absl::OkStatus();
    return DataLoss(name, " must be in ", low, "..", high, ", the model file says ", value);
  };
  RETURN_IF_ERROR(in_range("the number of layers", c.num_layers, 1, 1024));
  RETURN_IF_ERROR(in_range("the model width", c.model_dim, 1, 1 << 17));
  RETURN_IF_ERROR(in_range("the feed-forward width", c.ff_dim, 1, 1 << 20));
  RETURN_IF_ERROR(in_range("the vocabulary size", c.vocab_size, 1, 1 << 24));
  RETURN_IF_ERROR(in_range("the context length", c.context_tokens, 1, int64_t{1} << 31));
  RETURN_IF_ERROR(in_range("the number of query heads", c.q_heads, 1, 1024));
  RETURN_IF_ERROR(in_range("the number of KV heads", c.kv_heads, 1, c.q_heads));
  RETURN_IF_ERROR(in_range("the head width", c.head_dim, 2, 1024));
  RETURN_IF_ERROR(in_range("the sliding window", c.window, 0, int64_t{1} << 31));
  if (c.q_heads % c.kv_heads != 0) {
    return DataLoss("query heads must be a multiple of KV heads, the model file says ", c.q_heads, " and ", c.kv_heads);
  }
  if (!(c.norm_epsilon > 0 && c.norm_epsilon < 1)) return DataLoss("norm epsilon out of range: ", c.norm_epsilon);
  for (const nn::RopeConfig* rope : {&c.rope, &c.local_rope}) {
    if (rope->rotary_dim != c.head_dim || rope->rotary_dim % 2 != 0) {
      return NotSupported("rotary embedding of ", rope->rotary_dim, " of ", c.head_dim, " columns is not supported");
    }
    if (!(rope->theta > 0) || !(rope->factor > 0) || !std::isfinite(rope->theta)) {
      return DataLoss("rope base and factor must be above 0, the model file says ", rope->theta, " and ", rope->factor);
    }
  }
  return absl::OkStatus();
}

absl::Status GgufRopeScaling(const ModelFile& file, const std::string& prefix, nn::RopeConfig& rope) {
  const std::string key = prefix + "rope.scaling.type";
  if (!file.Has(key)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string type, file.String(key));
  if (type == "none") return absl::OkStatus();
  if (type != "linear") return NotSupported("rope scaling '", type, "' is not supported; none, linear and llama3 are");
  ASSIGN_OR_RETURN(const double factor, file.Number(prefix + "rope.scaling.factor"));
  rope.scaling = nn::RopeScaling::kLinear;
  rope.factor = static_cast<float>(factor);
  return absl::OkStatus();
}

// Layers with a sliding window: all but every `period`-th.
void MarkLocalLayers(TransformerConfig& c, int64_t period) {
  for (int64_t layer = 0; layer < c.num_layers; ++layer) c.local_layer[layer] = c.window > 0 && (layer + 1) % period != 0;
}

absl::StatusOr<TransformerConfig> FromGguf(const ModelFile& file) {
  TransformerConfig c;
  ASSIGN_OR_RETURN(c.architecture, file.String("general.architecture"));
  ASSIGN_OR_RETURN(c.family, FamilyOf(c.architecture));
  const std::string p = c.architecture + ".";
  ASSIGN_OR_RETURN(const int64_t experts, IntOr(file, p + "expert_count", 0));
  if (experts > 0) return NotSupported("mixtures of experts are not supported (", p, "expert_count = ", experts, ")");
  ASSIGN_OR_RETURN(c.num_layers, file.Int(p + "block_count"));
  ASSIGN_OR_RETURN(c.model_dim, file.Int(p + "embedding_length"));
  ASSIGN_OR_RETURN(c.ff_dim, file.Int(p + "feed_forward_length"));
  ASSIGN_OR_RETURN(c.context_tokens, file.Int(p + "context_length"));
  ASSIGN_OR_RETURN(c.q_heads, file.Int(p + "attention.head_count"));
  ASSIGN_OR_RETURN(c.kv_heads, IntOr(file, p + "attention.head_count_kv", c.q_heads));
  if (c.q_heads < 1 || c.num_layers < 1 || c.num_layers > 1024) return absl::StatusOr<TransformerConfig>(CheckRanges(c));
  ASSIGN_OR_RETURN(c.head_dim, IntOr(file, p + "attention.key_length", c.model_dim / c.q_heads));
  ASSIGN_OR_RETURN(const int64_t value_dim, IntOr(file, p + "attention.value_length", c.head_dim));
  if (value_dim != c.head_dim) {
    return NotSupported("value heads of another width than key heads: ", value_dim, " and ", c.head_dim);
  }
  ASSIGN_OR_RETURN(const double epsilon, file.Number(p + "attention.layer_norm_rms_epsilon"));
  c.norm_epsilon = static_cast<float>(epsilon);
  ApplyFamily(c);

  ASSIGN_OR_RETURN(c.rope.rotary_dim, IntOr(file, p + "rope.dimension_count", c.head_dim));
  ASSIGN_OR_RETURN(const double theta, NumberOr(file, p + "rope.freq_base", 10000.0));
  c.rope.theta = static_cast<float>(theta);
  c.local_rope.rotary_dim = c.rope.rotary_dim;
  RETURN_IF_ERROR(GgufRopeScaling(file, p, c.rope));
  if (const model_file::TensorInfo* divisors = file.Find("rope_freqs.weight"); divisors != nullptr) {
    if (divisors->type != DType::kF32 || divisors->shape != std::vector<int64_t>{c.rope.rotary_dim / 2}) {
      return DataLoss("rope_freqs.weight must be F32 [", c.rope.rotary_dim / 2, "]");
    }
    const auto* values = reinterpret_cast<const float*>(divisors->bytes.data());
    c.rope_divisors.assign(values, values + c.rope.rotary_dim / 2);
  }

  c.local_layer.assign(c.num_layers, false);
  ASSIGN_OR_RETURN(const int64_t window, IntOr(file, p + "attention.sliding_window", 0));
  if (c.family == Family::kGemma3) {
    c.window = window;
    ASSIGN_OR_RETURN(const int64_t period, IntOr(file, p + "attention.sliding_window_pattern", 6));
    if (period < 1) return DataLoss("the sliding window pattern must be at least 1, the model file says ", period);
    MarkLocalLayers(c, period);
    ASSIGN_OR_RETURN(const double local_theta, NumberOr(file, p + "rope.freq_base_swa", 10000.0));
    c.local_rope.theta = static_cast<float>(local_theta);
    // The 27B model, known by its 62 layers, scales by the width a head would have without its wider heads.
    if (c.num_layers == 62) c.attention_scale = 1 / std::sqrt(static_cast<float>(c.model_dim) / static_cast<float>(c.q_heads));
    ASSIGN_OR_RETURN(const double cap, NumberOr(file, p + "final_logit_softcapping", 0));
    c.final_soft_cap = static_cast<float>(cap);
  } else if (window > 0) {
    return NotSupported("a sliding window in architecture ", c.architecture, " is not supported (window ", window, ")");
  }
  const model_file::TensorInfo* embedding = file.Find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) return DataLoss("token_embd.weight [vocab, width] is missing");
  c.vocab_size = embedding->shape[0];
  c.tied_output = file.Find("output.weight") == nullptr;
  return c;
}

// One rope_parameters object (transformers 5), or rope_theta and rope_scaling (before).
absl::Status HfRope(const ModelFile& file, const std::string& object, double default_theta, nn::RopeConfig& rope) {
  ASSIGN_OR_RETURN(const double theta, NumberOr(file, object + ".rope_theta", default_theta));
  rope.theta = static_cast<float>(theta);
  std::string type = "default";
  for (const char* key : {".type", ".rope_type"}) {
    if (!file.Has(object + key)) continue;
    ASSIGN_OR_RETURN(type, file.String(object + key));
  }
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3") {
    return NotSupported("rope scaling '", type, "' is not supported; default, linear and llama3 are");
  }
  ASSIGN_OR_RETURN(const double factor, file.Number(object + ".factor"));
  rope.factor = static_cast<float>(factor);
  rope.scaling = nn::RopeScaling::kLinear;
  if (type == "linear") return absl::OkStatus();
  rope.scaling = nn::RopeScaling::kLlama3;
  ASSIGN_OR_RETURN(const double low, file.Number(object + ".low_freq_factor"));
  ASSIGN_OR_RETURN(const double high, file.Number(object + ".high_freq_factor"));
  ASSIGN_OR_RETURN(const double original, file.Number(object + ".original_max_position_embeddings"));
  if (!(low > 0 && high > low && original > 0)) return DataLoss("llama3 rope scaling factors contradict each other");
  rope.low_frequency_factor = static_cast<float>(low);
  rope.high_frequency_factor = static_cast<float>(high);
  rope.original_context = static_cast<float>(original);
  return absl::OkStatus();
}

absl::Status HfGemma(const ModelFile& file, TransformerConfig& c) {
  ASSIGN_OR_RETURN(const double scalar, NumberOr(file, "query_pre_attn_scalar", 256));
  if (!(scalar > 0)) return DataLoss("query_pre_attn_scalar must be above 0, the model file says ", scalar);
  c.attention_scale = static_cast<float>(1 / std::sqrt(scalar));
  ASSIGN_OR_RETURN(const double attention_cap, NumberOr(file, "attn_logit_softcapping", 0));
  ASSIGN_OR_RETURN(const double final_cap, NumberOr(file, "final_logit_softcapping", 0));
  c.attention_soft_cap = static_cast<float>(attention_cap);
  c.final_soft_cap = static_cast<float>(final_cap);
  ASSIGN_OR_RETURN(c.window, file.Int("sliding_window"));
  if (file.Has("layer_types")) {
    ASSIGN_OR_RETURN(const std::vector<std::string> types, file.Strings("layer_types"));
    if (static_cast<int64_t>(types.size()) != c.num_layers) return DataLoss("layer_types needs one entry a layer");
    for (int64_t layer = 0; layer < c.num_layers; ++layer) c.local_layer[layer] = types[layer] == "sliding_attention";
  } else {
    ASSIGN_OR_RETURN(const int64_t period, IntOr(file, "sliding_window_pattern", 6));
    if (period < 1) return DataLoss("sliding_window_pattern must be at least 1, the model file says ", period);
    MarkLocalLayers(c, period);
  }
  if (file.Has("rope_parameters.full_attention.rope_theta")) {
    RETURN_IF_ERROR(HfRope(file, "rope_parameters.full_attention", 1e6, c.rope));
    return HfRope(file, "rope_parameters.sliding_attention", 10000.0, c.local_rope);
  }
  ASSIGN_OR_RETURN(const double local_theta, NumberOr(file, "rope_local_base_freq", 10000.0));
  c.local_rope.theta = static_cast<float>(local_theta);
  ASSIGN_OR_RETURN(const double theta, NumberOr(file, "rope_theta", 1e6));
  return HfRope(file, "rope_scaling", theta, c.rope);
}

absl::StatusOr<TransformerConfig> FromHuggingFace(const ModelFile& file) {
  TransformerConfig c;
  c.container = model_file::Container::kHuggingFace;
  ASSIGN_OR_RETURN(c.architecture, file.String("model_type"));
  ASSIGN_OR_RETURN(c.family, FamilyOf(c.architecture));
  if (c.architecture == "gemma3") {
    return NotSupported("model_type 'gemma3' holds images too and is not supported; gemma3_text is");
  }
  ASSIGN_OR_RETURN(c.num_layers, file.Int("num_hidden_layers"));
  ASSIGN_OR_RETURN(c.model_dim, file.Int("hidden_size"));
  ASSIGN_OR_RETURN(c.ff_dim, file.Int("intermediate_size"));
  ASSIGN_OR_RETURN(c.vocab_size, file.Int("vocab_size"));
  ASSIGN_OR_RETURN(c.context_tokens, file.Int("max_position_embeddings"));
  ASSIGN_OR_RETURN(c.q_heads, file.Int("num_attention_heads"));
  ASSIGN_OR_RETURN(c.kv_heads, IntOr(file, "num_key_value_heads", c.q_heads));
  if (c.q_heads < 1 || c.num_layers < 1 || c.num_layers > 1024) return absl::StatusOr<TransformerConfig>(CheckRanges(c));
  ASSIGN_OR_RETURN(c.head_dim, IntOr(file, "head_dim", c.model_dim / c.q_heads));
  ASSIGN_OR_RETURN(const double epsilon, file.Number("rms_norm_eps"));
  c.norm_epsilon = static_cast<float>(epsilon);
  ApplyFamily(c);
  c.rope.rotary_dim = c.local_rope.rotary_dim = c.head_dim;
  c.local_layer.assign(c.num_layers, false);

  const char* activation_key = file.Has("hidden_activation") ? "hidden_activation" : "hidden_act";
  ASSIGN_OR_RETURN(const std::string activation, file.String(activation_key));
  const char* expected = c.gelu ? "gelu_pytorch_tanh" : "silu";
  if (activation != expected) {
    return NotSupported("activation '", activation, "' in ", c.architecture, " is not supported; ", expected, " is");
  }
  if (file.Has("use_sliding_window")) {
    ASSIGN_OR_RETURN(const bool sliding, file.Bool("use_sliding_window"));
    if (sliding) return NotSupported("use_sliding_window in ", c.architecture, " is not supported");
  }
  c.tied_output = c.family == Family::kGemma3;  // the default of transformers
  if (file.Has("tie_word_embeddings")) {
    ASSIGN_OR_RETURN(c.tied_output, file.Bool("tie_word_embeddings"));
  }
  if (c.family == Family::kGemma3) {
    RETURN_IF_ERROR(HfGemma(file, c));
    return c;
  }
  if (file.Has("rope_parameters.rope_theta")) {
    RETURN_IF_ERROR(HfRope(file, "rope_parameters", 10000.0, c.rope));
  } else {
    ASSIGN_OR_RETURN(const double theta, NumberOr(file, "rope_theta", 10000.0));
    RETURN_IF_ERROR(HfRope(file, "rope_scaling", theta, c.rope));
  }
  return c;
}

}  // namespace

absl::StatusOr<TransformerConfig> TransformerConfig::FromModelFile(const model_file::ModelFile& file) {
  absl::StatusOr<TransformerConfig> config =
      file.container() == model_file::Container::kGguf ? FromGguf(file) : FromHuggingFace(file);
  if (!config.ok()) return Annotate(config.status(), file.path());
  if (absl::Status status = CheckRanges(*config); !status.ok()) return Annotate(status, file.path());
  return config;
}

}  // namespace lectern::decoder
