// service/eval/manifold/simulation.h: random smooth manifolds in 128 dimensions: recall of clean neighbours by noise ratio.
//
//   RETURN_IF_ERROR(RunSimulation({.seeds = 10, .row = print}, pool));
//
// Shapes:  20,000 documents, 500 queries, recall@10 against the clean neighbours; ratio = sigma sqrt(D) / median 10-NN distance.
// Threads: the pool's.
// Errors:  those of the parts; kInvalidArgument (a row that is not one of the nine); kCancelled.
// Cost:    about five exact searches of 20,000 in 20,000 and as many fits a seed and row.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/json_fwd.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "manifold/harm_check.h"

namespace lectern::eval {

struct RecallPair {
  double clean = 0, noisy = 0;  // queries
};

struct SimulationRow {
  int64_t d = 0, k = 0, plane_d = 0;
  double ratio = 0;
  int64_t seeds = 0;
  RecallPair raw, pca, dba, ungated, gated, shipped;  // means; gated: factor 1 at plane_d; shipped: the defaults, d chosen
  RecallPair gain_error;                              // standard error of gated - raw over seeds
  std::vector<double> shipped_gain;                   // shipped - raw on clean queries, a seed each
  int64_t on = 0;                                     // seeds in which `auto` switched on
  std::vector<manifold::HarmCheck> checks;            // what `auto` saw, a seed each
  std::vector<int64_t> chosen_d, chosen_k;
  double published_raw = -1, published_gated = -1;    // of the specification, clean queries; below 0: none
};

struct SimulationOptions {
  int64_t seeds = 10;
  uint64_t first_seed = 1;
  std::string rows;                                   // "4:2,12:0.25": manifold dimension and ratio; empty: all nine
  int64_t documents = 20000, queries = 500, dim = 128;
  std::function<void(const SimulationRow&)> row;
  const CancelToken* cancel = nullptr;
};

absl::Status RunSimulation(const SimulationOptions& options, ThreadPool& pool);
std::string SimulationHead();
std::string SimulationLine(const SimulationRow& row);
Json SimulationJson(const SimulationRow& row);

}  // namespace lectern::eval
