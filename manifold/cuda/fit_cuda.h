// manifold/cuda/fit_cuda.h: the CUDA side of NeighbourTable and of the fit, in plain C++.
//
//   ASSIGN_OR_RETURN(std::shared_ptr<const DeviceTable> table, cuda::MakeTable(corpus, 384));
//   ASSIGN_OR_RETURN(Neighbours near, cuda::SearchTable(*table, queries, {.k = 64}));
//   ASSIGN_OR_RETURN(FitResult fit, cuda::Fit(request, /*residual2=*/{}, params));
//
// Shapes:  as neighbours.h, plane.h and fitter.h; what those check before is not checked again.
// Threads: any; the calling thread's current device. A call waits for its end.
// Errors:  kUnimplemented: no kernels in this build, no device, or a shape they do not serve; kResourceExhausted: memory of the
//          card; kInvalidArgument: a value beyond fp16's range.
// Cost:    copies to the card and back, and the launches.
#pragma once

#include <memory>
#include <span>

#include "manifold/fitter.h"
#include "manifold/plane.h"

namespace lectern::manifold::cuda {

absl::StatusOr<std::shared_ptr<const DeviceTable>> MakeTable(std::span<const float> corpus, int64_t dim);
absl::StatusOr<Neighbours> SearchTable(const DeviceTable& table, std::span<const float> queries, const NeighbourOptions& options);
// residual2: of the rows of request.planes; empty: the points are those rows, and their own residuals are pooled.
absl::StatusOr<FitResult> Fit(const PlaneRequest& request, std::span<const float> residual2, const FitParams& params);

}  // namespace lectern::manifold::cuda
