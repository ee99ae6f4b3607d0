// manifold/decide.h: the whole of denoising for one corpus: noise from replicas, k and d, the fit, and whether it is kept.
//
//   DenoiseInput input{.raw = raw, .dim = 384, .first = e, .second = e2, .rows = rows};
//   ASSIGN_OR_RETURN(Denoised result, Denoise(input, {.mode = DenoiseMode::kAuto}, pool));
//   if (result.on) Store(result.vectors);          // else raw alone; result.reason says why
//
// Shapes:  raw [n, dim]; replicas [m, dim] of the documents `rows`; questions [q, dim]; vectors [n, dim].
// Threads: the pool's; the same bits on every run.
// Errors:  those of the parts. No replicas is no error: the result is off, and says so.
// Cost:    an exact neighbour search of n in n, one fit, tuning on the replicas, the check.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "manifold/fitter.h"
#include "manifold/harm_check.h"
#include "manifold/noise.h"
#include "manifold/tune.h"

namespace lectern::manifold {

enum class DenoiseMode { kOff, kAuto, kOn };

struct DenoiseInput {
  std::span<const float> raw;
  int64_t dim = 0;
  std::span<const float> first, second;  // independent replicas
  std::span<const int32_t> rows;         // whose
  std::span<const float> questions;      // each asks for the document answers[i]; where there are none the replicas ask
  std::span<const int32_t> answers;
};

struct DenoiseOptions {
  DenoiseMode mode = DenoiseMode::kAuto;
  float sigma2_factor = kDefaultSigma2Factor;
  TuneOptions grid = {.ks = {32, 64, 128}, .ds = {4, 8, 12, 16, 24, 32}};
  int64_t lists = 0;      // 0: one for every 2,000 vectors; they may only veto
  uint64_t seed = 1;
  const CancelToken* cancel = nullptr;   // looked at in the neighbour search, which is most of the time
};

struct Denoised {
  bool on = false;
  std::string reason;            // one sentence
  std::vector<float> vectors;    // the fit, also where it is off, for whoever compares; empty where nothing was fitted
  std::vector<FitInfo> info;
  NoiseLevel noise;
  Tuning tuning;
  HarmCheck check;
  FitParams params;
  double median_rho2 = 0, median_s = 1;
  int64_t replicas = 0, vetoed_lists = 0, vetoed_rows = 0, ambiguous = 0, unfitted = 0;
};

absl::StatusOr<Denoised> Denoise(const DenoiseInput& input, const DenoiseOptions& options, ThreadPool& pool);

}  // namespace lectern::manifold
