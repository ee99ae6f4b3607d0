#include "service/answer/calibration.h"

#include <cmath>
#include <utility>

namespace lectern::service::answer {
namespace {

struct Weight {
  std::string_view name;   // as in evidence.h, in its order (checked below)
  double weight;
};

// Before the reader is asked again: chooses of which candidates it is asked.
constexpr Weight kRankFirst[] = {
    {"logprob", 0.3858},      {"tokens", -0.0572},     {"log_tokens", 0.4733}, {"end_logprob", -0.2164},
    {"coverage", 3.8723},     {"in_question", -0.6619}, {"fits", 0.0697},      {"misfits", -0.2829},
    {"punctuation", 0.3576},  {"empty", -0.8471},      {"question_logprob", 0.0}, {"yes", 0.0},
};

constexpr Weight kRankSecond[] = {
    {"logprob", 0.3721},      {"tokens", -0.0726},     {"log_tokens", 0.4467}, {"end_logprob", -0.2025},
    {"coverage", 2.2377},     {"in_question", -1.5108}, {"fits", 0.0579},      {"misfits", -0.2350},
    {"punctuation", 0.3290},  {"empty", -0.7862},      {"question_logprob", 0.0587}, {"yes", 0.0},
};

constexpr double kTrustBias = -0.1677;
constexpr Weight kTrust[] = {
    {"logprob", 0.1780},       {"not_found", -0.0810},    {"tokens", -0.0502},
    {"coverage", 0.5828},      {"gap", -1.8145},          {"missing_names", -0.8440},
    {"in_question", -0.7590},  {"negated", -0.9746},      {"negation_differs", -1.7061},
    {"question_words", 0.1144}, {"question_logprob", 0.2714}, {"worst_question_word", 0.0560},
    {"worst_gain", 0.1462},    {"refusal", 0.0},         {"yes", 0.0},
    {"gain", 0.0},             {"worst_word_gain", 0.0},  {"unexplained", 0.0},
};

template <size_t n>
constexpr bool InOrder(const Weight (&weights)[n], const std::array<std::string_view, n>& names) {
  for (size_t i = 0; i < n; ++i) {
    if (weights[i].name != names[i]) return false;
  }
  return true;
}
static_assert(InOrder(kRankFirst, kRankNames) && InOrder(kRankSecond, kRankNames) && InOrder(kTrust, kTrustNames));

template <size_t n>
double Dot(const Weight (&weights)[n], const std::array<double, n>& features) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += weights[i].weight * features[i];
  return sum;
}

template <size_t n>
constexpr bool Uses(const Weight (&weights)[n], std::string_view name) {
  for (const Weight& w : weights) {
    if (w.name == name && w.weight != 0) return true;
  }
  return false;
}

}  // namespace

// Keeps 91 % of the exact answers of half 0 (90 % and one standard error): scripts/fit_calibrator.py trust, its line "on file".
const double kDefaultTrust = 0.169;

bool AsksOutright() { return Uses(kTrust, "refusal") || Uses(kTrust, "yes") || Uses(kRankSecond, "yes"); }

double RankScore(const RankFeatures& features, bool asked) {
  return asked ? Dot(kRankSecond, features) : Dot(kRankFirst, features);
}

double TrustProbability(const TrustFeatures& features) { return 1 / (1 + std::exp(-(kTrustBias + Dot(kTrust, features)))); }

}  // namespace lectern::service::answer
