#include "base/nn/rope.h"

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace lectern::nn {

Rope::Rope(const RopeConfig& config) {
  CHECK(config.rotary_dim > 0 && config.rotary_dim % 2 == 0);
  const int64_t pairs = config.rotary_dim / 2;
  CHECK(config.divisors.empty() || static_cast<int64_t>(config.divisors.size()) == pairs);
  frequencies_.resize(static_cast<size_t>(pairs));
  for (int64_t i = 0; i < pairs; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.rotary_dim);
    double frequency = 1.0 / std::pow(static_cast<double>(config.theta), exponent);
    if (config.scaling == RopeScaling::kLinear) {
      frequency /= config.factor;
    } else if (config.scaling == RopeScaling::kLlama3) {
      // Long waves are slowed by the factor, short ones kept, those between blended.
      const double wave = 2.0 * std::numbers::pi / frequency;
      const double low = config.original_context / config.low_frequency_factor;
      const double high = config.original_context / config.high_frequency_factor;
      if (wave > low) {
        frequency /= config.factor;
      } else if (wave > high) {
        const double smooth = (config.original_context / wave - config.low_frequency_factor) /
                              (config.high_frequency_factor - config.low_frequency_factor);
        frequency = (1.0 - smooth) * frequency / config.factor + smooth * frequency;
      }
    }
    if (!config.divisors.empty()) frequency /= config.divisors[static_cast<size_t>(i)];
    frequencies_[static_cast<size_t>(i)] = static_cast<float>(frequency);
  }
}

void Rope::Angles(int64_t position, float* cos, float* sin) const {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const float angle = static_cast<float>(position) * frequencies_[i];
    cos[i] = std::cos(angle);
    sin[i] = std::sin(angle);
  }
}

void RotateHeads(float* x, int64_t heads, int64_t head_dim, int64_t rotary_dim, const float* cos, const float* sin,
                 RopeForm form) {
  DCHECK(rotary_dim <= head_dim);
  const int64_t pairs = rotary_dim / 2;
  for (int64_t head = 0; head < heads; ++head, x += head_dim) {
    if (form == RopeForm::kNeoX) {
      for (int64_t i = 0; i < pairs; ++i) {
        const float a = x[i], b = x[i + pairs];
        x[i] = a * cos[i] - b * sin[i];
        x[i + pairs] = b * cos[i] + a * sin[i];
      }
    } else {
      for (int64_t i = 0; i < pairs; ++i) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cos[i] - b * sin[i];
        x[2 * i + 1] = b * cos[i] + a * sin[i];
      }
    }
  }
}

}  // namespace lectern::nn
