// decoder/sampler.h: one token out of a row of logits.
//
//   Sampler sampler({.temperature = 0.7, .top_p = 0.9, .seed = 1}, vocab);
//   ASSIGN_OR_RETURN(int32_t token, sampler.Next(logits, step));
//
// Shapes:  logits [vocab]; -inf is never chosen.
// Threads: one sampler a thread.
// Errors:  kInvalidArgument (temperature, top_p out of range), kInternal (no finite logit is left).
// Cost:    greedy is one pass; sampling adds an exponential and a heap over the vocabulary. Next does not allocate.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace lectern::decoder {

struct SamplerOptions {
  double temperature = 0;  // 0: the greatest logit, ties to the lowest id
  double top_p = 1;        // keeps the likeliest tokens that together reach this probability
  uint64_t seed = 0;
};

class Sampler {
 public:
  static absl::Status Check(const SamplerOptions& options);
  Sampler(const SamplerOptions& options, int64_t vocab_size);  // REQUIRES: Check(options).ok()
  absl::StatusOr<int32_t> Next(std::span<const float> logits, int64_t step);

 private:
  SamplerOptions options_;
  std::vector<double> weight_;  // [vocab]
  std::vector<int32_t> order_;  // [vocab]
};

}  // namespace lectern::decoder
