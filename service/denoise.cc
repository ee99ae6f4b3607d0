#include "service/denoise.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/json.h"
#include "manifold/decide.h"
#include "service/eval/manifold/collection.h"
#include "service/eval/text_noise.h"

namespace lectern::service {
namespace {

constexpr double kDroppedSentences = 0.2, kCutWords = 0.1;
constexpr size_t kBatch = 256;
constexpr int64_t kLeastChunks = 40;   // fewer have no neighbourhoods

std::string Replica(uint64_t seed, const std::string& text) {
  return eval::AddTextNoise(eval::TextNoise::kShift, kCutWords, seed, eval::AddTextNoise(eval::TextNoise::kDrop, kDroppedSentences, seed, text));
}

absl::StatusOr<std::vector<float>> Encode(const std::vector<std::string>& texts, index::Encoder& encoder, const IndexHooks& hooks,
                                          int64_t done, int64_t total) {
  std::vector<float> vectors;
  for (size_t begin = 0; begin < texts.size(); begin += kBatch) {
    const std::vector<std::string_view> views(texts.begin() + static_cast<std::ptrdiff_t>(begin),
                                              texts.begin() + static_cast<std::ptrdiff_t>(std::min(texts.size(), begin + kBatch)));
    ASSIGN_OR_RETURN(const std::vector<float> batch, encoder.Encode(views, /*cut=*/true, nullptr, hooks.cancel));
    vectors.insert(vectors.end(), batch.begin(), batch.end());
    if (hooks.progress) hooks.progress("denoise", done + static_cast<int64_t>(begin + views.size()), total);
  }
  return vectors;
}

Json Reports(const index::CollectionState& state) {  // none in a collection that was never indexed: it has no settings either
  return state.settings->contains("denoise") ? state.settings->at("denoise") : Json::array();
}

}  // namespace

std::string DenoiseModeOf(const index::CollectionState& state) {
  const Json reports = Reports(state);
  return reports.empty() ? "off" : reports[0].value("mode", std::string("off"));
}

absl::StatusOr<index::DenoiseHook> MakeDenoiseHook(const std::string& mode, index::Encoder* encoder, ThreadPool& pool,
                                                   const IndexHooks& hooks) {
  if (mode != "off" && mode != "auto" && mode != "on") return InvalidArgument("--denoise must be off, auto or on, got '", mode, "'");
  if (mode == "off") return index::DenoiseHook();
  if (mode == "on" && encoder == nullptr) return InvalidArgument("--denoise on needs vectors, and the collection has none");
  return index::DenoiseHook([mode, encoder, &pool, hooks](const index::DenoiseRequest& request) -> absl::StatusOr<index::DenoiseResult> {
    const int64_t chunks = static_cast<int64_t>(request.sample_chunks.size());
    index::DenoiseResult result;
    if (encoder == nullptr || chunks < kLeastChunks) {
      *result.report = {{"on", false}, {"reason", encoder == nullptr ? std::string("no vectors, so no replicas and nothing to fit")
                                                                    : internal::Concat("too few chunks to measure noise: ", chunks, " of ", kLeastChunks)}};
    } else {
      std::vector<std::string> one, other, questions;
      std::vector<int32_t> answers;
      for (size_t i = 0; i < request.sample_texts.size(); ++i) {
        one.push_back(Replica(101, request.sample_texts[i]));
        other.push_back(Replica(202, request.sample_texts[i]));
        std::string sentence = eval::PickSentence(303, request.sample_texts[i]);
        if (sentence.empty()) continue;
        questions.push_back(std::move(sentence));
        answers.push_back(request.sample_chunks[i]);
      }
      const int64_t total = 2 * chunks + static_cast<int64_t>(questions.size());
      ASSIGN_OR_RETURN(const std::vector<float> first, Encode(one, *encoder, hooks, 0, total));
      ASSIGN_OR_RETURN(const std::vector<float> second, Encode(other, *encoder, hooks, chunks, total));
      ASSIGN_OR_RETURN(const std::vector<float> asked, Encode(questions, *encoder, hooks, 2 * chunks, total));
      ASSIGN_OR_RETURN(manifold::Denoised denoised,
                       manifold::Denoise({.raw = request.vectors, .dim = request.dim, .first = first, .second = second, .rows = request.sample_chunks,
                                          .questions = asked, .answers = answers},
                                         {.mode = mode == "on" ? manifold::DenoiseMode::kOn : manifold::DenoiseMode::kAuto, .cancel = hooks.cancel}, pool));
      *result.report = eval::DenoisedJson(denoised);
      if (denoised.on) result.fitted = std::move(denoised.vectors);
    }
    (*result.report)["mode"] = mode;
    if (hooks.note) hooks.note(DenoiseLine(*result.report));
    return result;
  });
}

std::string DenoiseLine(const Json& report) {
  char numbers[320] = "";
  if (report.contains("check")) {
    const Json& check = report["check"];
    std::snprintf(numbers, sizeof(numbers), " (sigma %.4f, rho2/sigma2 %.2f, k %d, d %d; recall@10 of %d held-out chunks %.4f -> %.4f, gain in [%.4f, %.4f]; "
                  "nDCG@10 of %d questions %.4f -> %.4f, gain in [%.4f, %.4f])",
                  std::sqrt(report.value("sigma2", 0.0)), report.value("rho2_over_sigma2", 0.0), report.value("k", 0), report.value("d", 0),
                  check.value("documents", 0), check.value("recall_raw", 0.0), check.value("recall_fitted", 0.0), check.value("low", 0.0),
                  check.value("high", 0.0), check.value("questions", 0), check.value("found_raw", 0.0), check.value("found_fitted", 0.0),
                  check.value("found_low", 0.0), check.value("found_high", 0.0));
  }
  return internal::Concat("denoise ", report.value("mode", std::string("?")), ": ", report.value("on", false) ? "on" : "off", ", ", report.value("reason", std::string("?")), numbers);
}

std::vector<std::string> DenoiseLines(const index::CollectionState& state) {
  std::vector<std::string> lines;
  const Json reports = Reports(state);
  if (reports.empty()) return lines;
  bool any = false;
  int64_t added = 0;
  for (const index::SegmentEntry& segment : state.segments) {
    const auto report = std::find_if(reports.begin(), reports.end(), [&](const Json& one) { return one.value("segment", std::string()) == segment.folder; });
    if (report == reports.end()) {
      added += segment.num_chunks;
    } else {
      lines.push_back(DenoiseLine(*report));
      any |= report->value("on", false);
    }
  }
  if (any && added > 0) lines.push_back(internal::Concat(added, " chunks were added since; until the next build --denoise searches the encoder's own vectors"));
  return lines;
}

}  // namespace lectern::service
