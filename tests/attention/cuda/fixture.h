// tests/attention/cuda/fixture.h: device memory, and a random paged cache with the step over it.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "attention/attention.h"
#include "attention/select_reference.h"
#include "base/rng.h"
#include "tests/attention/cuda/naive.h"

namespace lectern::attention {

#define ASSERT_CUDA(expr) ASSERT_EQ(expr, cudaSuccess)

// Loops that do one thing again and again do it 1 / LECTERN_CUDA_SHARE of their rounds: for tools that slow a kernel down a hundredfold.
inline int Rounds(int n) {
  const char* share = std::getenv("LECTERN_CUDA_SHARE");
  return std::max(2, share == nullptr ? n : n / std::max(1, std::atoi(share)));
}

template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(size_t n) { Resize(n); }
  explicit DeviceArray(const std::vector<T>& host) { Upload(host); }
  DeviceArray(DeviceArray&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~DeviceArray() { cudaFree(data_); }
  void Resize(size_t n) {
    if (n == size_) return;
    cudaFree(data_);
    size_ = n;
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), std::max<size_t>(n, 1) * sizeof(T)), cudaSuccess);
  }
  void Upload(const std::vector<T>& host) {
    Resize(host.size());
    EXPECT_EQ(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<T> Download() const {
    std::vector<T> host(size_);
    EXPECT_EQ(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return host;
  }
  void Fill(int byte) { EXPECT_EQ(cudaMemset(data_, byte, size_ * sizeof(T)), cudaSuccess); }
  T* get() const { return data_; }
  size_t size() const { return size_; }
  std::byte* bytes() const { return reinterpret_cast<std::byte*>(data_); }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// Another stream with copies on it, which take turns with the kernels of the test.
struct Busy {
  cudaStream_t stream = nullptr;
  DeviceArray<std::byte> from{256 << 20}, to{256 << 20};
  Busy() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess); }
  Busy(const Busy&) = delete;
  ~Busy() { cudaStreamDestroy(stream); }
  void Copy(int times = 1) {
    for (int i = 0; i < times; ++i) EXPECT_EQ(cudaMemcpyAsync(to.get(), from.get(), from.size(), cudaMemcpyDeviceToDevice, stream), cudaSuccess);
  }
};

// What `work` puts on a stream, recorded once. Global mode: a call that waits for the device, or allocates, breaks the recording.
class Graph {
 public:
  template <class Work>
  explicit Graph(const Work& work) {
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamCreate(&stream_), cudaSuccess);  // which waits for uploads of the default stream
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
    work(stream_);
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&exec_, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
  }
  Graph(const Graph&) = delete;
  ~Graph() {
    cudaGraphExecDestroy(exec_);
    cudaStreamDestroy(stream_);
  }
  void Replay() {
    EXPECT_EQ(cudaGraphLaunch(exec_, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
};

inline uint16_t Narrow(DType type, double x) {
  return type == DType::kF16 ? ToFp16(static_cast<float>(x)).bits : ToBf16(static_cast<float>(x)).bits;
}
inline float Widen(DType type, uint16_t x) { return type == DType::kF16 ? ToFloat(fp16{x}) : ToFloat(bf16{x}); }

struct Shape {
  int64_t group, kv_heads, d;
  std::vector<int32_t> lengths;
  int64_t block_tokens = 0;      // 0: dense
  int64_t fixed_chunk_keys = 0;
  CudaForm form = CudaForm::kSm90;
  float soft_cap = 0;
  int64_t capacity_keys = 0;     // 0: the longest length
  DType type = DType::kBF16;
};

// Pages in shuffled order; what no key owns is NaN.
struct CudaCase {
  Shape shape;
  int64_t batch, max_keys, pages_a_row;
  Problem problem;
  AttentionPlan plan;
  std::vector<uint16_t> q, k, v;
  std::vector<int32_t> table, ids, counts;
  int64_t capacity = 1;
  DeviceArray<uint16_t> dq, dk, dv, dout;
  DeviceArray<float> dlse;
  DeviceArray<int32_t> dtable, dlengths, dids, dcounts;
  DeviceArray<std::byte> workspace;

  static constexpr uint16_t kNan = 0x7fff;  // of either type

  CudaCase(const Shape& s, uint64_t seed, bool poison_unselected = false) : shape(s), batch(static_cast<int64_t>(s.lengths.size())) {
    Rng rng(seed);
    max_keys = std::max<int64_t>(s.capacity_keys, std::max(1, *std::max_element(s.lengths.begin(), s.lengths.end())));
    pages_a_row = NumBlocks(max_keys, kPageSlots);
    problem = {.q_heads = s.group * s.kv_heads, .k_heads = s.kv_heads, .v_heads = s.kv_heads, .key_width = s.d, .value_width = s.d,
               .kv_type = s.type, .layout = BlockLayout::kRows, .max_keys = max_keys, .max_batch = batch};
    auto made = Plan(problem, {.mask = {MaskKind::kCausal}, .soft_cap = s.soft_cap},
                     {.kind = DeviceKind::kCuda, .fixed_chunk_keys = s.fixed_chunk_keys, .form = s.form});
    EXPECT_TRUE(made.ok()) << made.status();
    plan = *made;
    const int64_t pages = batch * pages_a_row + 3, page = s.kv_heads * 64 * s.d;
    std::vector<int32_t> order(pages);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t i = pages - 1; i > 0; --i) std::swap(order[i], order[rng.Below(i + 1)]);
    table.assign(order.begin(), order.begin() + batch * pages_a_row);
    Choose(rng);
    k.assign(pages * page, kNan);
    v.assign(pages * page, kNan);
    q.resize(batch * problem.q_heads * s.d);
    const auto normal = [&] { return Narrow(s.type, rng.Normal()); };
    for (uint16_t& x : q) x = normal();
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t key = 0; key < s.lengths[b]; ++key) {
        for (int64_t h = 0; h < s.kv_heads; ++h) {
          const bool poison = poison_unselected && !Listed(b, h, key);
          const int64_t at = ((table[b * pages_a_row + key / 64] * s.kv_heads + h) * 64 + key % 64) * s.d;
          for (int64_t c = 0; c < s.d; ++c) {
            const uint16_t x = normal(), y = normal();
            k[at + c] = poison ? kNan : x;
            v[at + c] = poison ? kNan : y;
          }
        }
      }
    }
    Upload();
  }

  void Choose(Rng& rng) {
    if (shape.block_tokens == 0) return;
    capacity = NumBlocks(max_keys, shape.block_tokens) + 2;
    ids.assign(batch * shape.kv_heads * capacity, -1);
    counts.assign(batch * shape.kv_heads, 0);
    for (int64_t row = 0; row < batch * shape.kv_heads; ++row) {
      const int64_t blocks = NumBlocks(shape.lengths[row / shape.kv_heads], shape.block_tokens);
      const double density = static_cast<double>(rng.Below(5)) / 4;  // none to all
      for (int64_t i = 0; i < blocks; ++i) {
        if (rng.Uniform() < density) ids[row * capacity + counts[row]++] = static_cast<int32_t>(i);
      }
      if (row % 5 == 3) counts[row] = kAllBlocks;
    }
  }
  bool Listed(int64_t b, int64_t h, int64_t key) const {
    if (shape.block_tokens == 0) return true;
    const int64_t row = b * shape.kv_heads + h;
    if (counts[row] < 0) return true;
    const int32_t* list = ids.data() + row * capacity;
    return std::binary_search(list, list + counts[row], static_cast<int32_t>(key / shape.block_tokens));
  }
  void Upload() {
    dq.Upload(q);
    dk.Upload(k);
    dv.Upload(v);
    dtable.Upload(table);
    dlengths.Upload(shape.lengths);
    dids.Upload(ids);
    dcounts.Upload(counts);
    dout.Resize(q.size());
    dlse.Resize(batch * problem.q_heads);
    dout.Fill(0xff);
    dlse.Fill(0xff);
    if (workspace.size() == 0) {
      workspace.Resize(plan.workspace_bytes);
      const absl::Status cleared = ClearWorkspace(plan, Run());
      EXPECT_TRUE(cleared.ok()) << cleared;
    }
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // copies of small memory may outlast their call, and some streams do not wait for them
  }
  KvView View(const DeviceArray<uint16_t>& pool) const {
    return {.base = pool.bytes(), .type = shape.type, .heads = shape.kv_heads, .width = shape.d,
            .page_stride = shape.kv_heads * 64 * shape.d, .head_stride = 64 * shape.d, .slot_stride = shape.d,
            .layout = BlockLayout::kRows, .num_pages = static_cast<int64_t>(pool.size()) / (shape.kv_heads * 64 * shape.d)};
  }
  Execution Run(cudaStream_t stream = nullptr) const {
    return {.stream = stream, .workspace = {workspace.get(), static_cast<size_t>(plan.workspace_bytes)}};
  }
  DecodeBatch Step() const {
    return {.q = dq.get(), .out = dout.get(), .lse = dlse.get(), .type = shape.type, .k = View(dk), .v = View(dv),
            .page_table = dtable.get(), .page_table_stride = pages_a_row, .lengths = dlengths.get(), .batch = batch};
  }
  BlockIds Blocks() const { return {dids.get(), dcounts.get(), capacity, shape.block_tokens}; }
  absl::Status Attend(cudaStream_t stream = nullptr) const {
    return shape.block_tokens == 0 ? Decode(plan, Step(), Run(stream)) : SparseDecode(plan, Step(), Blocks(), Run(stream));
  }
  std::vector<uint16_t> Output() const {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
    return dout.Download();
  }
  NaiveStep NaiveArgs(double* out, double* lse) const {
    return {dq.get(), dk.get(), dv.get(), out, lse, dtable.get(), dlengths.get(),
            shape.block_tokens == 0 ? nullptr : dids.get(), dcounts.get(), static_cast<int>(pages_a_row), static_cast<int>(batch),
            static_cast<int>(problem.q_heads), static_cast<int>(shape.kv_heads), static_cast<int>(shape.d),
            static_cast<int>(capacity), static_cast<int>(shape.block_tokens), 1 / std::sqrt(static_cast<double>(shape.d)),
            shape.soft_cap, shape.type == DType::kF16};
  }
  // The step again with host pointers, for the reference.
  DecodeBatch HostStep(std::vector<float>* qf, std::vector<float>* out, float* lse) const {
    const auto view = [&](const std::vector<uint16_t>& pool) {
      KvView host = View(dk);
      host.base = reinterpret_cast<std::byte*>(const_cast<uint16_t*>(pool.data()));
      return host;
    };
    qf->clear();
    for (const uint16_t x : q) qf->push_back(Widen(shape.type, x));
    out->assign(q.size(), NAN);
    return {.q = qf->data(), .out = out->data(), .lse = lse, .k = view(k), .v = view(v), .page_table = table.data(),
            .page_table_stride = pages_a_row, .lengths = shape.lengths.data(), .batch = batch};
  }
};

// What a case wrote, and what fp64 on the device makes of the same: outputs and log-sum-exps.
struct Written {
  std::vector<uint16_t> out;
  std::vector<float> lse;
  std::vector<double> true_out, true_lse;
};
inline Written BesideTruth(const CudaCase& c) {
  DeviceArray<double> out(c.q.size()), lse(c.batch * c.problem.q_heads);
  NaiveDecode(c.NaiveArgs(out.get(), lse.get()));
  return {c.Output(), c.dlse.Download(), out.Download(), lse.Download()};
}

// The largest errors against fp64 on the device, of outputs and of log-sum-exps.
struct Errors {
  double out = 0, lse = 0;
};
inline Errors ErrorsOf(const CudaCase& c) {
  const auto& [got, got_lse, want, want_lse] = BesideTruth(c);
  Errors worst;
  const auto larger = [](double x, double error) { return error <= x ? x : std::isnan(error) ? INFINITY : error; };
  for (size_t i = 0; i < got.size(); ++i) worst.out = larger(worst.out, std::abs(Widen(c.shape.type, got[i]) - want[i]));
  for (size_t i = 0; i < got_lse.size(); ++i) worst.lse = larger(worst.lse, std::abs(got_lse[i] - want_lse[i]));
  return worst;
}

// Against fp64 on the device: the share of elements is all of them. A plain kernel rounds the weights and the output to bf16:
// 2^-9 of the weights' size each, so a mean over values of unit variance errs by a few 2^-9 at most; fp16 an eighth of that.
inline void ExpectNearTruth(const CudaCase& c) {
  const auto& [got, got_lse, want, want_lse] = BesideTruth(c);
  for (size_t i = 0; i < got.size(); ++i) {
    const double x = Widen(c.shape.type, got[i]), tolerance = (2e-3 + 8e-3 * std::abs(want[i])) / (c.shape.type == DType::kF16 ? 8 : 1);
    ASSERT_NEAR(x, want[i], tolerance) << "element " << i;
  }
  for (size_t i = 0; i < got_lse.size(); ++i) {
    if (std::isinf(want_lse[i])) {
      ASSERT_EQ(got_lse[i], static_cast<float>(want_lse[i]));
    } else {
      ASSERT_NEAR(got_lse[i], want_lse[i], 1e-3);
    }
  }
}

}  // namespace lectern::attention
