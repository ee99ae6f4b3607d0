// base/nn/rope.h: rotary position embedding, both pairings, with Llama 3 and linear frequency scaling.
//
//   const Rope rope({.rotary_dim = 64, .theta = 1e6f});
//   rope.Angles(position, cos, sin);                            // once a token, for all layers and heads
//   RotateHeads(q, heads, head_dim, 64, cos, sin, RopeForm::kNeoX);
//
// Shapes:  cos, sin [rotary_dim / 2]; x [head, head_dim] float in place; the tail past rotary_dim is left alone.
// Threads: immutable after construction.
// Errors:  CHECKs an even rotary_dim > 0; the loader validates the numbers of a model file.
// Cost:    Angles is rotary_dim / 2 sines and cosines; RotateHeads one pass.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lectern::nn {

enum class RopeForm {
  kNeoX,         // pairs (i, i + rotary_dim / 2): Qwen, Gemma, Hugging Face checkpoints
  kInterleaved,  // pairs (2i, 2i + 1): GGUF files of the Llama family
};

enum class RopeScaling { kNone, kLinear, kLlama3 };

struct RopeConfig {
  int64_t rotary_dim = 0;
  float theta = 10000.0f;
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.0f;                // kLinear, kLlama3: frequencies are divided by it
  float low_frequency_factor = 1.0f;  // kLlama3
  float high_frequency_factor = 4.0f;
  float original_context = 8192.0f;
  std::span<const float> divisors;    // [rotary_dim / 2] or empty: a GGUF file's rope_freqs tensor
};

class Rope {
 public:
  explicit Rope(const RopeConfig& config);
  int64_t rotary_dim() const { return 2 * static_cast<int64_t>(frequencies_.size()); }
  const std::vector<float>& frequencies() const { return frequencies_; }
  void Angles(int64_t position, float* cos, float* sin) const;

 private:
  std::vector<float> frequencies_;
};

void RotateHeads(float* x, int64_t heads, int64_t head_dim, int64_t rotary_dim, const float* cos, const float* sin,
                 RopeForm form);

}  // namespace lectern::nn
