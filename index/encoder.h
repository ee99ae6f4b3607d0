// index/encoder.h: text to unit vectors (BERT-family sentence encoders), and pairs to scores (cross-encoders).
//
//   ASSIGN_OR_RETURN(auto encoder, Encoder::Open(folder, {.precision = Precision::kBf16}, pool));
//   ASSIGN_OR_RETURN(std::vector<float> vectors, encoder->Encode(texts));   // [texts, dim], unit length
//
// Shapes:  vectors row-major [n, dim] float32.
// Threads: one Encode at a time (it locks), over the pool it was given.
// Errors:  kUnimplemented (architecture, pooling, modules: by name), kDataLoss (tensors that contradict config.json),
//          kInvalidArgument (a text over the limit, unless cut is asked for; max_tokens), kCancelled, kDeadlineExceeded.
// Cost:    2 * weights operations a token (MiniLM: 24 M at 256); batches are sorted by length and hold no padding. A
//          text's vector has the same bits in any batch and on any number of threads. Opening reads the weights twice.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "decoder/tokenizer/tokenizer.h"

namespace lectern::index {

enum class Precision { kFloat32, kBf16 };  // kBf16 computes in float32 where the CPU target is not avx512bf16

struct EncoderOptions {
  Precision precision = Precision::kBf16;
  int64_t max_tokens = 0;      // specials included; 0: 256 (MiniLM was trained at that), a cross-encoder's 512, or all positions
                               // of a network that has fewer
  int64_t batch_tokens = 512;  // of one thread's batch: its activations (6 KiB a token) stay near the cores
};

struct EncodeStats {
  int64_t tokens = 0;
  int64_t cut_texts = 0;      // texts longer than max_tokens, cut because the caller asked
};

class Encoder {
 public:
  static absl::StatusOr<std::unique_ptr<Encoder>> Open(const std::string& folder, const EncoderOptions& options,
                                                       ThreadPool& pool);
  virtual ~Encoder() = default;
  virtual int64_t dim() const = 0;
  virtual int64_t max_tokens() const = 0;
  virtual std::string fingerprint() const = 0;   // SHA-256 of the weights, pooling and max_tokens; goes into manifests
  virtual const tokenizer::Tokenizer& tokenizer() const = 0;
  // cut = false: a longer text is kInvalidArgument. cut = true: it is cut and counted in stats.
  virtual absl::StatusOr<std::vector<float>> Encode(std::span<const std::string_view> texts, bool cut,
                                                    EncodeStats* stats = nullptr,
                                                    const CancelToken* cancel = nullptr) = 0;
};

class CrossEncoder {
 public:
  static absl::StatusOr<std::unique_ptr<CrossEncoder>> Open(const std::string& folder, const EncoderOptions& options,
                                                            ThreadPool& pool);
  virtual ~CrossEncoder() = default;
  virtual std::string fingerprint() const = 0;
  // One raw logit a passage, higher is more relevant. A pair over max_tokens is cut at the longer of the two first (the
  // passage where they are level), and counted.
  virtual absl::StatusOr<std::vector<float>> Score(std::string_view query, std::span<const std::string_view> passages,
                                                   EncodeStats* stats = nullptr,
                                                   const CancelToken* cancel = nullptr) = 0;
};

}  // namespace lectern::index
