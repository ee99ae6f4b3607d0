// decoder/weights.h: the tensors of a model, found by name, checked for shape and packed for this CPU.
//
//   ASSIGN_OR_RETURN(Weights weights, LoadWeights(*file, config, nn::Arithmetic::kFast, pool));
//   weights.embedding_table().DequantizeRow(token, x);   // [model_dim] float
//
// Shapes:  matrices are [out, in]; norms and biases float vectors.
// Threads: immutable after loading; any thread.
// Errors:  kDataLoss (a tensor is missing or has another shape: name, expected, found), kUnimplemented (a tensor this
//          architecture does not have, or a type no kernel multiplies: by name), kCancelled and kDeadlineExceeded (looked for at each matrix).
// Cost:    loading reads every byte once; the mapped pages of what was repacked are released. An embedding table
//          that is not also the output matrix stays in the mapping, a row is dequantised when it is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/cancel.h"
#include "base/nn/linear.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "decoder/config.h"
#include "decoder/model_file/model_file.h"

namespace lectern::decoder {

struct LayerWeights {
  std::vector<float> attn_norm, ff_norm;
  std::vector<float> q_bias, k_bias, v_bias;      // Qwen2; else empty
  std::vector<float> q_norm, k_norm;              // Qwen3, Gemma 3; else empty
  std::vector<float> post_attn_norm, post_ff_norm;  // Gemma 3; else empty
  nn::Linear q, k, v, out, gate, up, down;
};

struct Weights {
  nn::Linear output;                    // [vocab, model_dim]
  std::optional<nn::Linear> embedding;  // [vocab, model_dim] in the mapping; none where it is the output matrix
  std::span<const std::byte> embedding_bytes;  // what `embedding` looks at; empty where there is none
  std::vector<LayerWeights> layers;
  std::vector<float> output_norm;
  int64_t packed_bytes = 0;

  const nn::Linear& embedding_table() const { return embedding ? *embedding : output; }
};

absl::StatusOr<Weights> LoadWeights(const model_file::ModelFile& file, const TransformerConfig& config,
                                    nn::Arithmetic arithmetic, ThreadPool& pool, const CancelToken* cancel = nullptr);

}  // namespace lectern::decoder
