// What a build without CUDA says.
#include "manifold/cuda/fit_cuda.h"

namespace lectern::manifold::cuda {
namespace {
absl::Status NoCuda() { return NotSupported("this build has no CUDA kernels: configure with -DLECTERN_CUDA=ON (preset cuda)"); }
}  // namespace

class DeviceTable {};

absl::StatusOr<std::shared_ptr<const DeviceTable>> MakeTable(std::span<const float>, int64_t) { return NoCuda(); }
absl::StatusOr<Neighbours> SearchTable(const DeviceTable&, std::span<const float>, const NeighbourOptions&) { return NoCuda(); }
absl::StatusOr<FitResult> Fit(const PlaneRequest&, std::span<const float>, const FitParams&) { return NoCuda(); }

}  // namespace lectern::manifold::cuda
