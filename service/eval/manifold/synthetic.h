// service/eval/manifold/synthetic.h: circle, sphere and torus: our estimators beside the authors' published figures.
//
//   ASSIGN_OR_RETURN(std::vector<SyntheticRow> rows, RunSynthetic({.trials = 20, .plots = "plots"}, pool));
//
// Shapes:  a row a (shape, samples, sigma); a figure is the mean over trials of a trial's average and greatest distance.
// Threads: the pool's, a trial each.
// Errors:  those of the parts and of writing plots.
// Cost:    a trial of 1,000 samples on the sphere: under a tenth of a second for yx on one core (yx_seconds measures it).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/status.h"
#include "base/thread_pool.h"

namespace lectern::eval {

struct ErrorPair {
  double average = -1, maximum = -1;  // below 0: not measured, not published
};

struct SyntheticRow {
  std::string shape;
  int64_t samples = 0, starts = 0, trials = 0;
  double sigma = 0, radius = 0;
  ErrorPair start, noisy, yx, richardson, unguarded, cf18, mean, ysl23;
  ErrorPair authors_yx, authors_cf18, prototype_yx;   // published; of the specification's prototype
  double extrapolated = 0;   // mean share of the full step that was taken
  double gain = 0, gain_error = 0;   // paired: 1 - richardson / yx of the averages; its standard error over trials
  double yx_seconds = 0;     // of one trial on one core, median
};

struct SyntheticOptions {
  int64_t trials = 20;
  uint64_t first_seed = 1;
  bool dense = false;        // 10,000 to 40,000 samples instead of the published table
  std::string plots;         // folder; empty: none
  std::function<void(int64_t done, int64_t total)> progress;
};

absl::StatusOr<std::vector<SyntheticRow>> RunSynthetic(const SyntheticOptions& options, ThreadPool& pool);
std::string SyntheticTable(const std::vector<SyntheticRow>& rows);
Json SyntheticJson(const SyntheticRow& row);
// Average error by sigma for one shape, as SVG.
std::string SyntheticPlot(const std::vector<SyntheticRow>& rows, const std::string& shape, int64_t samples);

}  // namespace lectern::eval
