#include "base/nn/matmul_plan.h"

#include <algorithm>
#include <atomic>
#include <functional>

#include "base/check.h"
#include "base/cpu_target.h"

namespace lectern::nn {
namespace {

enum class Form { kInt16, kBf16, kFloat };  // of the activations
constexpr int kForms = 3;

Form FormOf(const MatmulOperand& operand) {
  if (operand.packed == nullptr || operand.packed->format == PackFormat::kF32) return Form::kFloat;
  return operand.packed->format == PackFormat::kBf16 ? Form::kBf16 : Form::kInt16;
}

int64_t Align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// A block of up to `tile` tokens in one form; blocks are `block_bytes` apart.
struct Activations {
  bool used = false;
  int tile = 1;
  int64_t blocks = 0;
  int64_t token_bytes = 0;  // a block of T tokens takes T * token_bytes
  uint8_t* data = nullptr;
};

constexpr int64_t kDirectChunkBytes = 96 << 10;   // decode: 4 us of reading a core; the last chunk is the imbalance
constexpr int64_t kUnpackedBudget = 192 << 10;    // prefill: panels kept in L2 (1 MiB) beside the activations

struct Plan {
  const LinearKernels& kernels;
  std::span<const MatmulOperand> operands;
  const float* x;
  int64_t n, cols;
  Activations forms[kForms];
  int64_t panels_per_unit[kMaxOperands];
  int64_t first_unit[kMaxOperands + 1];
  uint8_t* thread_scratch = nullptr;
  int64_t thread_scratch_bytes = 0;
  std::atomic<int64_t> next_unit{0};
  std::atomic<int64_t> next_block{0};

  const Activations& Of(const MatmulOperand& operand) const { return forms[static_cast<int>(FormOf(operand))]; }
  int BlockTokens(const Activations& a, int64_t block) const {
    return static_cast<int>(std::min<int64_t>(a.tile, n - block * a.tile));
  }
  const uint8_t* Block(const Activations& a, int64_t block) const {
    return a.data + block * a.tile * a.token_bytes;
  }

  void RoundBlock(int form, int64_t block) {
    const Activations& a = forms[form];
    const float* from = x + block * a.tile * cols;
    uint8_t* to = a.data + block * a.tile * a.token_bytes;
    const int tokens = BlockTokens(a, block);
    switch (static_cast<Form>(form)) {
      case Form::kInt16: return kernels.quantize(from, cols, tokens, cols / 32, to);
      case Form::kBf16: return kernels.to_bf16(from, cols, tokens, cols, to);
      case Form::kFloat: return kernels.to_float(from, cols, tokens, cols, to);
    }
  }
  int64_t TotalBlocks() const {
    int64_t total = 0;
    for (const Activations& a : forms) total += a.used ? a.blocks : 0;
    return total;
  }
  void RoundNth(int64_t index) {
    for (int form = 0; form < kForms; ++form) {
      if (!forms[form].used) continue;
      if (index < forms[form].blocks) return RoundBlock(form, index);
      index -= forms[form].blocks;
    }
  }
  void RoundAll() {
    const int64_t total = TotalBlocks();
    for (int64_t i; (i = next_block.fetch_add(1, std::memory_order_relaxed)) < total;) RoundNth(i);
  }

  void ComputeAll(int thread) {
    const int64_t total = first_unit[operands.size()];
    uint8_t* own = thread_scratch + thread * thread_scratch_bytes;
    for (int64_t unit; (unit = next_unit.fetch_add(1, std::memory_order_relaxed)) < total;) {
      size_t i = 0;
      while (unit >= first_unit[i + 1]) ++i;
      const MatmulOperand& operand = operands[i];
      const int64_t panels = (operand.rows + kPanelRows - 1) / kPanelRows;
      const int64_t begin = (unit - first_unit[i]) * panels_per_unit[i];
      const int64_t end = std::min(begin + panels_per_unit[i], panels);
      if (FormOf(operand) != Form::kInt16) {
        ComputeFloat(operand, begin, end, own);
      } else if (n <= kMaxDirect) {
        ComputeDirect(operand, begin, end);
      } else {
        ComputeUnpacked(operand, begin, end, own);
      }
    }
  }

  void ComputeDirect(const MatmulOperand& operand, int64_t begin, int64_t end) const {
    const PackedMatrix& m = *operand.packed;
    const QuantKernel kernel = kernels.direct[static_cast<int>(m.format)][n - 1];
    for (int64_t panel = begin; panel < end; ++panel) {
      const uint8_t* codes = m.Panel(panel);
      kernel({codes, codes + m.code_bytes, cols / 32, Of(operand).data, operand.y + panel * kPanelRows, operand.rows,
              m.PanelRows(panel), 0, m.panel_bytes});
    }
  }

  void ComputeUnpacked(const MatmulOperand& operand, int64_t begin, int64_t end, uint8_t* own) const {
    const PackedMatrix& m = *operand.packed;
    const Activations& a = Of(operand);
    const int format = static_cast<int>(m.format), kind = static_cast<int>(KindOf(m.format));
    const int64_t groups = cols / 32, step = groups * UnpackedBytes(KindOf(m.format));
    for (int64_t panel = begin; panel < end; ++panel) {
      const uint8_t* codes = m.Panel(panel);
      kernels.unpack[format](codes, codes + m.code_bytes, groups, own + (panel - begin) * step);
    }
    for (int64_t block = 0; block < a.blocks; ++block) {
      const QuantKernel kernel = kernels.gemm[kind][BlockTokens(a, block) - 1];
      for (int64_t panel = begin; panel < end; ++panel) {
        kernel({own + (panel - begin) * step, nullptr, groups, Block(a, block),
                operand.y + block * a.tile * operand.rows + panel * kPanelRows, operand.rows, m.PanelRows(panel),
                StartRow(m.format), 0});
      }
    }
  }

  // begin..end is a multiple of two panels but at the end of a matrix.
  void ComputeFloat(const MatmulOperand& operand, int64_t begin, int64_t end, uint8_t* own) const {
    const Activations& a = Of(operand);
    const bool is_bf16 = FormOf(operand) == Form::kBf16;
    int64_t panel_bytes = is_bf16 ? (cols + 1) / 2 * 64 : cols * 64;
    const uint8_t* w = nullptr;
    if (operand.packed != nullptr) {
      w = operand.packed->Panel(begin);
    } else {
      auto* row_buffer = reinterpret_cast<float*>(own + (end - begin) * panel_bytes);
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t row = panel * kPanelRows;
        DequantizePanel(operand.type, operand.source + row * RowBytes(operand.type, cols),
                        std::min<int64_t>(kPanelRows, operand.rows - row), cols, row_buffer,
                        reinterpret_cast<float*>(own + (panel - begin) * panel_bytes));
      }
      w = own;
    }
    for (int64_t block = 0; block < a.blocks; ++block) {
      const int tokens = BlockTokens(a, block);
      for (int64_t panel = begin; panel < end; panel += 2) {
        const int pair = panel + 1 < end ? 1 : 0;
        const FloatKernel kernel =
            is_bf16 ? kernels.bf16_gemm[pair][tokens - 1] : kernels.float_gemm[pair][tokens - 1];
        const int64_t row = panel * kPanelRows;
        kernel({w + (panel - begin) * panel_bytes, panel_bytes, is_bf16 ? (cols + 1) / 2 : cols, Block(a, block),
                operand.y + block * a.tile * operand.rows + row, operand.rows,
                static_cast<int>(std::min<int64_t>(operand.rows - row, 16 * (pair + 1))),
                operand.bias == nullptr ? nullptr : operand.bias + row});
      }
    }
  }
};

}  // namespace

const LinearKernels& ActiveLinearKernels() {
  static const LinearKernels with_bf16 = [] {  // AVX-512's table, the bf16 products of their own target
    LinearKernels table = avx512::kLinear;
    for (int panels = 0; panels < 2; ++panels) {
      for (int t = 0; t < kMaxTile; ++t) table.bf16_gemm[panels][t] = avx512bf16::kBf16Gemm[panels][t];
    }
    table.to_bf16 = avx512bf16::kToBf16;
    return table;
  }();
  switch (ActiveCpuTarget()) {
    case CpuTarget::kAvx512Bf16: return with_bf16;
    case CpuTarget::kAvx512: return avx512::kLinear;
    case CpuTarget::kAvx2: return avx2::kLinear;
    case CpuTarget::kScalar: break;
  }
  return scalar::kLinear;
}

void Matmul(const LinearKernels& kernels, std::span<const MatmulOperand> operands, const float* x, int64_t n,
            ThreadPool& pool, std::vector<std::byte>& scratch) {
  CHECK(!operands.empty() && operands.size() <= kMaxOperands);
  Plan plan{.kernels = kernels, .operands = operands, .x = x, .n = n, .cols = operands[0].cols};
  const int64_t cols = plan.cols;
  for (const MatmulOperand& operand : operands) plan.forms[static_cast<int>(FormOf(operand))].used = true;
  int64_t bytes = 0;
  for (int form = 0; form < kForms; ++form) {
    Activations& a = plan.forms[form];
    if (!a.used) continue;
    switch (static_cast<Form>(form)) {
      case Form::kInt16:
        a.tile = n <= kMaxDirect ? kMaxDirect : kernels.quant_tile;
        a.token_bytes = cols / 32 * kActivationBytes;
        break;
      case Form::kBf16:
        a.tile = kernels.float_tile;
        a.token_bytes = (cols + 1) / 2 * 4;
        break;
      case Form::kFloat:
        a.tile = kernels.float_tile;
        a.token_bytes = cols * 4;
        break;
    }
    a.blocks = (n + a.tile - 1) / a.tile;
    bytes += Align(n * a.token_bytes);
  }

  const int threads = pool.num_threads();
  plan.first_unit[0] = 0;
  for (size_t i = 0; i < operands.size(); ++i) {
    const MatmulOperand& operand = operands[i];
    const int64_t panels = (operand.rows + kPanelRows - 1) / kPanelRows;
    int64_t per_unit;
    if (FormOf(operand) == Form::kInt16 && n <= kMaxDirect) {
      per_unit = std::max<int64_t>(1, kDirectChunkBytes / operand.packed->panel_bytes);
    } else {
      const int64_t unpacked = FormOf(operand) == Form::kInt16
                                   ? cols / 32 * UnpackedBytes(KindOf(operand.packed->format))
                                   : cols * (FormOf(operand) == Form::kBf16 ? 32 : 64);
      per_unit = std::clamp<int64_t>(kUnpackedBudget / unpacked, 1, 8);
      // Enough units for the threads to finish together, where the matrix is small.
      per_unit = std::min(per_unit, std::max<int64_t>(1, panels / (8 * threads)));
      if (FormOf(operand) != Form::kInt16) per_unit = std::max<int64_t>(2, per_unit / 2 * 2);
      int64_t own = 0;
      if (FormOf(operand) == Form::kInt16) own = per_unit * unpacked;
      else if (operand.packed == nullptr) own = per_unit * unpacked + Align(cols * 4);
      plan.thread_scratch_bytes = std::max(plan.thread_scratch_bytes, Align(own));
    }
    plan.panels_per_unit[i] = per_unit;
    plan.first_unit[i + 1] = plan.first_unit[i] + (panels + per_unit - 1) / per_unit;
  }
  const int64_t needed = bytes + threads * plan.thread_scratch_bytes + 64;
  if (static_cast<int64_t>(scratch.size()) < needed) scratch.resize(static_cast<size_t>(needed));
  auto* base = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
  for (Activations& a : plan.forms) {
    if (!a.used) continue;
    a.data = base;
    base += Align(n * a.token_bytes);
  }
  plan.thread_scratch = base;

  // std::ref keeps std::function from allocating.
  if (plan.TotalBlocks() <= 2 || threads == 1) {
    plan.RoundAll();
  } else {
    auto round = [&plan](int) { plan.RoundAll(); };
    pool.RunOnAll(std::ref(round));
  }
  auto compute = [&plan](int thread) { plan.ComputeAll(thread); };
  if (plan.first_unit[operands.size()] == 1) return compute(0);
  pool.RunOnAll(std::ref(compute));
}

}  // namespace lectern::nn
