#include "decoder/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/nn/activations.h"
#include "base/rng.h"

namespace lectern::decoder {

absl::Status Sampler::Check(const SamplerOptions& options) {
  if (!(options.temperature >= 0 && options.temperature <= 100)) {
    return InvalidArgument("temperature must be in 0..100, got ", options.temperature);
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) return InvalidArgument("top_p must be in (0, 1], got ", options.top_p);
  return absl::OkStatus();
}

Sampler::Sampler(const SamplerOptions& options, int64_t vocab_size) : options_(options) {
  if (options.temperature == 0) return;
  weight_.resize(static_cast<size_t>(vocab_size));
  order_.resize(static_cast<size_t>(vocab_size));
}

absl::StatusOr<int32_t> Sampler::Next(std::span<const float> logits, int64_t step) {
  const int64_t best = nn::ArgMax(logits.data(), static_cast<int64_t>(logits.size()));
  if (best < 0 || !std::isfinite(logits[best])) return Internal("no token has a finite logit");
  if (options_.temperature == 0) return static_cast<int32_t>(best);

  double total = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    weight_[id] = std::exp((static_cast<double>(logits[id]) - logits[best]) / options_.temperature);
    if (!(weight_[id] > 0)) weight_[id] = 0;  // -inf and NaN
    total += weight_[id];
  }
  Rng rng(options_.seed, /*stream=*/static_cast<uint64_t>(step));
  if (options_.top_p >= 1) {
    double at = rng.Uniform() * total;
    for (size_t id = 0; id < logits.size(); ++id) {
      if (at < weight_[id]) return static_cast<int32_t>(id);
      at -= weight_[id];
    }
    return static_cast<int32_t>(best);  // rounding left a crumb
  }
  // The nucleus: likeliest first, ties to the lowest id, until top_p of the mass is in.
  std::iota(order_.begin(), order_.end(), 0);
  const auto less_likely = [&](int32_t a, int32_t b) {
    return weight_[a] != weight_[b] ? weight_[a] < weight_[b] : a > b;
  };
  std::make_heap(order_.begin(), order_.end(), less_likely);
  auto end = order_.end();
  double mass = 0;
  while (end != order_.begin() && mass < options_.top_p * total) {
    mass += weight_[order_.front()];
    std::pop_heap(order_.begin(), end--, less_likely);
  }
  double at = rng.Uniform() * mass;
  for (auto it = order_.end(); it != end;) {  // popped ones stand at the back, likeliest last
    --it;
    if (at < weight_[*it]) return *it;
    at -= weight_[*it];
  }
  return static_cast<int32_t>(best);
}

}  // namespace lectern::decoder
