// decoder/config.h: what a model file says about its transformer, checked and in one form for GGUF and config.json.
//
//   ASSIGN_OR_RETURN(TransformerConfig config, TransformerConfig::FromModelFile(*file));
//
// Shapes:  head_dim is the width of query, key and value heads.
// Threads: a value.
// Errors:  kUnimplemented names an architecture, activation, scaling or feature that is not computed here;
//          kDataLoss a number out of range; kNotFound a missing key.
// Cost:    a few look-ups.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/nn/rope.h"
#include "base/status.h"
#include "decoder/model_file/model_file.h"

namespace lectern::decoder {

enum class Family { kQwen2, kQwen3, kLlama, kGemma3 };

struct TransformerConfig {
  Family family = Family::kQwen2;
  std::string architecture;  // as the file names it
  model_file::Container container = model_file::Container::kGguf;

  int64_t num_layers = 0, model_dim = 0, ff_dim = 0, vocab_size = 0, context_tokens = 0;
  int64_t q_heads = 0, kv_heads = 0, head_dim = 0;
  float norm_epsilon = 0;

  nn::RopeForm rope_form = nn::RopeForm::kNeoX;
  nn::RopeConfig rope;                 // of layers that see everything
  std::vector<float> rope_divisors;    // GGUF rope_freqs.weight; empty: none
  nn::RopeConfig local_rope;           // of layers with a sliding window
  int64_t window = 0;                  // 0: no layer has one
  std::vector<bool> local_layer;       // [layer]

  float attention_scale = 0;
  float attention_soft_cap = 0, final_soft_cap = 0;  // 0: none
  float embedding_scale = 1;
  bool gelu = false;                // GeGLU instead of SwiGLU
  bool qkv_bias = false;            // Qwen2
  bool qk_norm = false;             // Qwen3, Gemma 3
  bool sandwich_norms = false;      // Gemma 3: norms behind attention and feed-forward too
  bool norm_plus_one = false;       // stored norm weights lack the 1 they are applied with
  bool tied_output = false;         // the output matrix is the embedding table

  static absl::StatusOr<TransformerConfig> FromModelFile(const model_file::ModelFile& file);
};

}  // namespace lectern::decoder
