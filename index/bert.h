// index/bert.h: the network of BERT-family encoders (post-layer-norm, learned positions, exact GELU).
//
//   ASSIGN_OR_RETURN(auto file, ModelFile::Open(folder));
//   ASSIGN_OR_RETURN(auto bert, Bert::Load(*file, Precision::kBf16, pool));
//   PackedTokens batch;  batch.Add(ids);  batch.Add(more_ids);
//   RETURN_IF_ERROR(bert->Forward(batch, pool, scratch, hidden));     // hidden [batch.size(), config.hidden]
//
// Shapes:  sequences lie one after the other without padding: starts[i]..starts[i+1] are the tokens of sequence i.
// Threads: immutable after Load; one BertScratch and one pool a concurrent caller.
// Errors:  kUnimplemented (model type, activation, positions: by name), kDataLoss (a tensor is missing or has another
//          shape than config.json says), kInvalidArgument (an id or a position the model does not have).
// Cost:    2 * weights operations a token, and 4 * hidden * length a token and layer for attention. The result of a
//          sequence has the same bits whatever stands beside it and however many threads work.
//          kBf16 keeps weights and the operands of products in bf16, sums and all else in float32. Without AVX-512 BF16
//          it computes in float32.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "decoder/model_file/model_file.h"
#include "index/encoder.h"

namespace lectern::index {

struct BertConfig {
  int64_t hidden = 0, layers = 0, heads = 0, intermediate = 0;
  int64_t vocab = 0, positions = 0, types = 0;
  float eps = 1e-12f;
};

struct PackedTokens {
  std::vector<int32_t> ids;
  std::vector<int32_t> types;         // token types (0: first text, 1: second)
  std::vector<int64_t> starts = {0};  // one more than sequences
  void Add(std::span<const int32_t> sequence, int64_t first_of_type_one = -1);
  void Clear();
  int64_t size() const { return static_cast<int64_t>(ids.size()); }
  int64_t sequences() const { return static_cast<int64_t>(starts.size()) - 1; }
};

struct BertScratch {  // grows on first use, never shrinks
  std::vector<float> x, y, qkv, wide;            // [tokens, hidden], [tokens, hidden], [tokens, 3 hidden], [tokens, intermediate]
  std::vector<uint16_t> half, qkv_half;          // operands in bf16
  struct Head {                                  // one a thread
    std::vector<float> scores, keys, values;
    std::vector<uint16_t> weights, keys_half, values_half;
  };
  std::vector<Head> heads;
};

class Bert {
 public:
  static absl::StatusOr<std::unique_ptr<Bert>> Load(std::unique_ptr<model_file::ModelFile> file, Precision precision,
                                                    ThreadPool& pool);
  ~Bert();

  const BertConfig& config() const;
  const model_file::ModelFile& file() const;
  // A named tensor as float32, checked against its shape; `name` as in the file less a leading "bert.".
  absl::StatusOr<std::vector<float>> Tensor(std::string_view name, std::span<const int64_t> shape) const;
  // The last hidden state of every token.
  absl::Status Forward(const PackedTokens& batch, ThreadPool& pool, BertScratch& scratch, float* hidden) const;

 private:
  Bert();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// out = the mean of a sequence's hidden states; then length one (a zero vector stays zero).
void MeanPool(const float* hidden, int64_t tokens, int64_t dim, float* out);
void Normalize(float* vector, int64_t dim);

}  // namespace lectern::index
