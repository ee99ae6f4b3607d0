#include "manifold/cuda/fit_cuda.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "manifold/cuda/launch.h"

namespace lectern::manifold::cuda {
namespace {

static_assert(sizeof(GateInfo) == sizeof(FitInfo) && offsetof(GateInfo, rho2) == offsetof(FitInfo, rho2) &&
              offsetof(GateInfo, step) == offsetof(FitInfo, step) && offsetof(GateInfo, gap) == offsetof(FitInfo, gap) &&
              offsetof(GateInfo, flag) == offsetof(FitInfo, flag));

constexpr float kGreatestHalf = 65504;

absl::Status FromCuda(int error, const char* what) {
  if (error == 0) return absl::OkStatus();
  return Internal(what, ": ", ErrorName(error));
}

// Owned memory of the card.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { Release(data_); }
  static absl::StatusOr<Buffer> Make(size_t size) {
    Buffer buffer;
    void* at = nullptr;
    const int error = Allocate(size * sizeof(T), &at);
    if (error != 0) return ResourceExhausted("the card has no ", size * sizeof(T), " bytes: ", ErrorName(error));
    buffer.data_ = static_cast<T*>(at);
    buffer.size_ = size;
    return buffer;
  }
  static absl::StatusOr<Buffer> Of(std::span<const T> values) {
    ASSIGN_OR_RETURN(Buffer buffer, Make(values.size()));
    RETURN_IF_ERROR(FromCuda(Upload(buffer.data_, values.data(), values.size_bytes()), "copy to the card"));
    return buffer;
  }
  absl::Status To(T* values) const { return FromCuda(Download(values, data_, size_ * sizeof(T)), "copy from the card"); }
  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

absl::Status CheckHalf(std::span<const float> vectors, int64_t dim, const char* what) {
  for (size_t i = 0; i < vectors.size(); ++i) {
    if (std::abs(vectors[i]) <= kGreatestHalf) continue;
    return InvalidArgument(what, " must be within fp16's ", kGreatestHalf, " for the CUDA search, row ", i / static_cast<size_t>(dim), " has ",
                           vectors[i], " at ", i % static_cast<size_t>(dim));
  }
  return absl::OkStatus();
}

}  // namespace

class DeviceTable {
 public:
  static absl::StatusOr<DeviceTable> Make(std::span<const float> vectors, int64_t dim) {
    DeviceTable table;
    const int64_t rows = static_cast<int64_t>(vectors.size()) / dim;
    table.table_ = {.rows = rows, .blocks = TableBlocks(rows), .dim = static_cast<int>(dim), .pieces = TablePieces(static_cast<int>(dim))};
    ASSIGN_OR_RETURN(table.elements_, Buffer<uint16_t>::Make(static_cast<size_t>(TableElements(rows, table.table_.dim))));
    ASSIGN_OR_RETURN(table.bias_, Buffer<float>::Make(static_cast<size_t>(table.table_.blocks * kTableRows)));
    ASSIGN_OR_RETURN(table.longest_, Buffer<float>::Make(1));
    table.table_.elements = table.elements_.get();
    table.table_.bias = table.bias_.get();
    table.table_.longest = table.longest_.get();
    RETURN_IF_ERROR(FromCuda(Clear(table.longest_.get(), sizeof(float)), "clear"));
    ASSIGN_OR_RETURN(const Buffer<float> plain, Buffer<float>::Of(vectors));
    RETURN_IF_ERROR(FromCuda(LaunchPack(plain.get(), table.table_, nullptr), "table"));
    RETURN_IF_ERROR(FromCuda(Finish(), "table"));
    return table;
  }
  const Table& view() const { return table_; }

 private:
  Table table_{};
  Buffer<uint16_t> elements_;
  Buffer<float> bias_, longest_;
};

absl::StatusOr<std::shared_ptr<const DeviceTable>> MakeTable(std::span<const float> corpus, int64_t dim) {
  if (const char* why = WhyNoDevice()) return NotSupported(why);
  SearchPlan plan;
  if (const char* why = PlanSearch(static_cast<int>(std::min<int64_t>(dim, 1 << 20)), 1, &plan)) return NotSupported(why, ", got ", dim);
  RETURN_IF_ERROR(CheckHalf(corpus, dim, "vectors"));
  ASSIGN_OR_RETURN(DeviceTable table, DeviceTable::Make(corpus, dim));
  return std::make_shared<const DeviceTable>(std::move(table));
}

absl::StatusOr<Neighbours> SearchTable(const DeviceTable& device_table, std::span<const float> queries, const NeighbourOptions& options) {
  const Table& table = device_table.view();
  const int keep = static_cast<int>(options.k + (options.collapse ? kSpareNeighbours : 0));
  SearchPlan plan;
  if (const char* why = PlanSearch(table.dim, keep, &plan)) return NotSupported(why, ", got k ", options.k);
  const int64_t n = static_cast<int64_t>(queries.size()) / table.dim;
  RETURN_IF_ERROR(CheckHalf(queries, table.dim, "queries"));
  ASSIGN_OR_RETURN(const DeviceTable query_table, DeviceTable::Make(queries, table.dim));
  ASSIGN_OR_RETURN(const Buffer<int32_t> self, Buffer<int32_t>::Of(options.self));
  const size_t rows = static_cast<size_t>(std::min<int64_t>(n, plan.rows_a_launch));
  ASSIGN_OR_RETURN(const Buffer<std::byte> lists, Buffer<std::byte>::Make(plan.list_bytes));
  ASSIGN_OR_RETURN(const Buffer<int32_t> candidates, Buffer<int32_t>::Make(rows * kListKept));
  ASSIGN_OR_RETURN(const Buffer<int32_t> counts, Buffer<int32_t>::Make(rows));
  ASSIGN_OR_RETURN(const Buffer<int32_t> ids, Buffer<int32_t>::Make(static_cast<size_t>(n * options.k)));
  ASSIGN_OR_RETURN(const Buffer<float> distances, Buffer<float>::Make(static_cast<size_t>(n * options.k)));
  ASSIGN_OR_RETURN(const Buffer<unsigned long long> collapsed, Buffer<unsigned long long>::Make(1));
  RETURN_IF_ERROR(FromCuda(Clear(collapsed.get(), sizeof(unsigned long long)), "clear"));
  const int32_t* left_out = options.self.empty() ? nullptr : self.get();
  for (int64_t begin = 0; begin < n; begin += plan.rows_a_launch) {
    RETURN_IF_ERROR(CheckCancel(options.cancel));
    const int64_t end = std::min<int64_t>(n, begin + plan.rows_a_launch);
    RETURN_IF_ERROR(FromCuda(LaunchSearch(plan, {.table = table, .queries = query_table.view(), .self = left_out, .begin = begin, .end = end,
                                                 .keep = keep, .lists = reinterpret_cast<Candidate*>(lists.get()),
                                                 .candidates = candidates.get(), .counts = counts.get()}, nullptr), "search"));
    RETURN_IF_ERROR(FromCuda(LaunchRank({.table = table, .queries = query_table.view(), .self = left_out, .candidates = candidates.get(),
                                         .counts = counts.get(), .begin = begin, .end = end, .k = static_cast<int>(options.k), .keep = keep,
                                         .collapse = options.collapse, .ids = ids.get(), .distances = distances.get(),
                                         .collapsed = collapsed.get()}, nullptr), "rank"));
    RETURN_IF_ERROR(FromCuda(Finish(), "search"));
  }
  Neighbours out;
  out.k = options.k;
  out.ids.resize(static_cast<size_t>(n * options.k));
  out.distances.resize(out.ids.size());
  RETURN_IF_ERROR(ids.To(out.ids.data()));
  RETURN_IF_ERROR(distances.To(out.distances.data()));
  unsigned long long dropped = 0;
  RETURN_IF_ERROR(collapsed.To(&dropped));
  out.collapsed = static_cast<int64_t>(dropped);
  return out;
}

absl::StatusOr<FitResult> Fit(const PlaneRequest& request, std::span<const float> residual2, const FitParams& params) {
  if (const char* why = WhyNoDevice()) return NotSupported(why);
  if (params.tangent_average) return NotSupported("tangent averaging has no CUDA form");
  RETURN_IF_ERROR(CheckPlanes(request).status());
  const int k = static_cast<int>(request.k), d = static_cast<int>(request.d), dim = static_cast<int>(request.dim);
  if (const char* why = WhyNoPlanes(k, d)) return NotSupported(why, ", got k ", k, " and d ", d);
  const size_t n = request.points.size() / static_cast<size_t>(dim);
  ASSIGN_OR_RETURN(const Buffer<float> points, Buffer<float>::Of(request.points));
  const auto of = [&](std::span<const float> vectors, Buffer<float>& own) -> absl::StatusOr<const float*> {
    if (vectors.data() == request.points.data() && vectors.size() == request.points.size()) return points.get();
    ASSIGN_OR_RETURN(own, Buffer<float>::Of(vectors));
    return own.get();
  };
  Buffer<float> own_planes, own_means;
  ASSIGN_OR_RETURN(const float* const planes, of(request.planes, own_planes));
  const float* means = planes;
  if (request.means.data() != request.planes.data()) {
    ASSIGN_OR_RETURN(means, of(request.means, own_means));
  }
  ASSIGN_OR_RETURN(const Buffer<int32_t> ids, Buffer<int32_t>::Of(request.neighbours));
  const std::vector<float> block = StartBlock(k, PlaneRows(k), PlaneBlock(d), PlaneBlock(d));
  ASSIGN_OR_RETURN(const Buffer<float> start, Buffer<float>::Of(block));
  ASSIGN_OR_RETURN(const Buffer<float> vectors, Buffer<float>::Make(request.points.size()));
  ASSIGN_OR_RETURN(const Buffer<float> own_residual2, Buffer<float>::Make(n));
  ASSIGN_OR_RETURN(const Buffer<float> gap, Buffer<float>::Make(n));
  ASSIGN_OR_RETURN(const Buffer<int32_t> count, Buffer<int32_t>::Make(n));
  ASSIGN_OR_RETURN(const Buffer<float> pool, Buffer<float>::Of(residual2));
  ASSIGN_OR_RETURN(const Buffer<GateInfo> info, Buffer<GateInfo>::Make(n));
  RETURN_IF_ERROR(FromCuda(LaunchPlanes({.points = points.get(), .planes = planes, .means = means, .ids = ids.get(), .n = static_cast<long long>(n),
                                         .k = k, .dim = dim, .d = d, .start = start.get(), .offset = vectors.get(),
                                         .residual2 = own_residual2.get(), .gap = gap.get(), .count = count.get()}, nullptr), "planes"));
  RETURN_IF_ERROR(FromCuda(LaunchGate({.points = points.get(), .ids = ids.get(), .residual2 = own_residual2.get(), .gap = gap.get(),
                                       .count = count.get(), .pool_residual2 = residual2.empty() ? own_residual2.get() : pool.get(),
                                       .pool_count = residual2.empty() ? count.get() : nullptr, .n = static_cast<long long>(n), .k = k,
                                       .dim = dim, .d = d, .sigma2 = params.sigma2 * params.sigma2_factor, .noise2 = params.sigma2,
                                       .gate = params.gate, .normalise = params.normalise, .vectors = vectors.get(), .info = info.get()}, nullptr), "gate"));
  RETURN_IF_ERROR(FromCuda(Finish(), "fit"));
  FitResult result;
  result.vectors.resize(request.points.size());
  result.info.resize(n);
  result.residual2.resize(n);
  RETURN_IF_ERROR(vectors.To(result.vectors.data()));
  RETURN_IF_ERROR(info.To(reinterpret_cast<GateInfo*>(result.info.data())));
  RETURN_IF_ERROR(own_residual2.To(result.residual2.data()));
  return result;
}

}  // namespace lectern::manifold::cuda
