#include "manifold/decide.h"

#include <algorithm>

#include "manifold/growth.h"
#include "manifold/neighbours.h"

namespace lectern::manifold {
namespace {

constexpr int64_t kRowsOfAList = 2000;

template <class Get>
double Median(const std::vector<FitInfo>& info, const Get& get) {
  std::vector<float> values;
  for (const FitInfo& one : info) values.push_back(get(one));
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

absl::StatusOr<Denoised> Denoise(const DenoiseInput& input, const DenoiseOptions& options, ThreadPool& pool) {
  Denoised result;
  const int64_t dim = input.dim;
  if (options.mode == DenoiseMode::kOff) {
    result.reason = "off by request";
    return result;
  }
  RETURN_IF_ERROR(CheckFinite(input.raw, dim, "vectors"));
  result.replicas = static_cast<int64_t>(input.rows.size());
  if (result.replicas == 0) {
    result.reason = "no replicas, so the noise is unknown and nothing is moved";
    return result;
  }
  ASSIGN_OR_RETURN(result.noise, NoiseFromReplicas(input.first, input.second, dim));
  if (!(result.noise.sigma2 > 0)) {
    result.reason = "the replicas are equal: no noise, nothing to remove";
    return result;
  }
  const int64_t n = static_cast<int64_t>(input.raw.size()) / dim;
  if (n < 4 * options.grid.ks.front()) {
    result.reason = internal::Concat("too few vectors for neighbourhoods: ", n);
    return result;
  }
  ASSIGN_OR_RETURN(result.tuning, TuneByReplicas(input.raw, dim, input.first, input.second, input.rows, options.grid, pool));
  result.params = {.k = result.tuning.k, .d = result.tuning.d, .sigma2 = static_cast<float>(result.noise.sigma2),
                   .sigma2_factor = options.sigma2_factor};
  Neighbours near;
  {
    ASSIGN_OR_RETURN(const NeighbourTable table, NeighbourTable::Make(input.raw, dim));   // its copy is gone before the check's
    ASSIGN_OR_RETURN(near, table.Search(input.raw, {.k = result.params.k, .self = AllRows(n), .collapse = true, .cancel = options.cancel}, pool));
  }
  ASSIGN_OR_RETURN(FitResult fit, FitBatch(input.raw, dim, near, result.params, pool));
  for (const FitInfo& info : fit.info) {
    result.ambiguous += info.flag == FitFlag::kAmbiguous;
    result.unfitted += info.flag == FitFlag::kTooFew || info.flag == FitFlag::kNotLocal;
  }
  result.median_rho2 = Median(fit.info, [](const FitInfo& i) { return i.rho2; });
  result.median_s = Median(fit.info, [](const FitInfo& i) { return i.s; });
  std::vector<float> centroids;
  const int64_t lists = options.lists > 0 ? options.lists : std::max<int64_t>(1, n / kRowsOfAList);
  const std::vector<int32_t> list = MakeLists(input.raw, dim, lists, /*rounds=*/8, centroids, pool);
  std::vector<int32_t> held_list;
  for (const int32_t row : input.rows) held_list.push_back(list[row]);
  HarmCheckRequest request{.first = input.first, .second = input.second, .rows = input.rows, .raw = input.raw, .fitted = fit.vectors,
                           .dim = dim, .list = held_list, .questions = input.questions, .answers = input.answers, .seed = options.seed};
  ASSIGN_OR_RETURN(result.check, CheckHarm(request, pool));
  std::vector<uint8_t> veto(static_cast<size_t>(lists), 0);
  for (const ListVerdict& verdict : result.check.lists) {
    if (!verdict.vetoed) continue;
    veto[verdict.list] = 1;
    ++result.vetoed_lists;
  }
  for (int64_t i = 0; i < n && result.vetoed_lists > 0; ++i) {
    if (veto[list[i]] == 0) continue;
    std::copy_n(input.raw.begin() + i * dim, dim, fit.vectors.begin() + i * dim);
    ++result.vetoed_rows;
  }
  if (result.vetoed_rows > 0) {   // raw rows among fitted ones are another corpus: what is kept is what was checked
    std::vector<ListVerdict> verdicts = std::move(result.check.lists);
    request.list = {};
    ASSIGN_OR_RETURN(result.check, CheckHarm(request, pool));
    result.check.lists = std::move(verdicts);
  }
  result.on = options.mode == DenoiseMode::kOn || result.check.helps;
  result.reason = options.mode == DenoiseMode::kOn    ? "on by request"
                  : !result.check.finds_neighbours    ? "no certain gain in recall of held-out documents worth having"
                  : !result.check.keeps_answers       ? "documents might be found less well by what they say"
                                                      : "recall of held-out documents rises for certain";
  result.vectors = std::move(fit.vectors);
  result.info = std::move(fit.info);
  return result;
}

}  // namespace lectern::manifold
