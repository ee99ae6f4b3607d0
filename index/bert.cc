#include "index/bert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/dtype.h"
#include "base/file.h"
#include "base/nn/float_matmul.h"
#include "index/cpu/bert_kernels.h"

namespace lectern::index {
namespace {

using model_file::ModelFile;
using model_file::TensorInfo;

constexpr int64_t kQueryRows = 56;  // four register tiles of 14: their scores over 256 keys stay in L2

struct Linear {  // x W^T + b with the weight in panels
  int64_t in = 0, out = 0;
  std::vector<float> panels;
  std::vector<uint16_t> panels_half;
  std::vector<float> bias;
};

struct Norm {
  std::vector<float> weight, bias;
};

struct Layer {
  Linear qkv, output, wide, narrow;
  Norm attention_norm, output_norm;
};

absl::Status Decode(const TensorInfo& tensor, std::vector<float>* out) {
  const int64_t n = static_cast<int64_t>(tensor.bytes.size()) / BlockBytes(tensor.type);
  out->resize(static_cast<size_t>(n));
  switch (tensor.type) {
    case DType::kF32:
      if (n > 0) std::memcpy(out->data(), tensor.bytes.data(), tensor.bytes.size());
      return absl::OkStatus();
    case DType::kF16:
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) {
        uint16_t bits;
        std::memcpy(&bits, tensor.bytes.data() + 2 * i, 2);
        (*out)[i] = tensor.type == DType::kF16 ? ToFloat(fp16{bits}) : ToFloat(bf16{bits});
      }
      return absl::OkStatus();
    default:
      return NotSupported("tensor ", tensor.name, " must be F32, F16 or BF16, it is ", DTypeName(tensor.type));
  }
}

std::string ShapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

absl::StatusOr<int64_t> Count(const ModelFile& file, std::string_view key, int64_t most) {
  ASSIGN_OR_RETURN(const int64_t value, file.Int(key));
  if (value < 1 || value > most) return DataLoss("config.json: ", key, " must be in 1..", most, ", got ", value);
  return value;
}

absl::StatusOr<std::string> Text(const ModelFile& file, std::string_view key, std::string_view fallback) {
  if (!file.Has(key)) return std::string(fallback);
  return file.String(key);
}

absl::StatusOr<BertConfig> ReadConfig(const ModelFile& file) {
  ASSIGN_OR_RETURN(const std::string type, Text(file, "model_type", ""));
  if (type != "bert") return NotSupported("encoder model_type must be bert, config.json says '", type, "'");
  ASSIGN_OR_RETURN(const std::string activation, Text(file, "hidden_act", "gelu"));
  if (activation != "gelu") return NotSupported("encoder hidden_act must be gelu, config.json says '", activation, "'");
  ASSIGN_OR_RETURN(const std::string position, Text(file, "position_embedding_type", "absolute"));
  if (position != "absolute") {
    return NotSupported("encoder position_embedding_type must be absolute, config.json says '", position, "'");
  }
  for (const char* key : {"is_decoder", "add_cross_attention"}) {
    if (!file.Has(key)) continue;
    ASSIGN_OR_RETURN(const bool value, file.Bool(key));
    if (value) return NotSupported("encoder with ", key, " = true is not supported");
  }
  BertConfig config;
  ASSIGN_OR_RETURN(config.hidden, Count(file, "hidden_size", 1 << 14));
  ASSIGN_OR_RETURN(config.layers, Count(file, "num_hidden_layers", 256));
  ASSIGN_OR_RETURN(config.heads, Count(file, "num_attention_heads", 1 << 10));
  ASSIGN_OR_RETURN(config.intermediate, Count(file, "intermediate_size", 1 << 16));
  ASSIGN_OR_RETURN(config.vocab, Count(file, "vocab_size", 1 << 22));
  ASSIGN_OR_RETURN(config.positions, Count(file, "max_position_embeddings", 1 << 16));
  ASSIGN_OR_RETURN(config.types, Count(file, "type_vocab_size", 1 << 10));
  if (file.Has("layer_norm_eps")) {
    ASSIGN_OR_RETURN(const double eps, file.Number("layer_norm_eps"));
    if (!(eps >= 0 && eps < 1)) return DataLoss("config.json: layer_norm_eps must be in 0..1, got ", eps);
    config.eps = static_cast<float>(eps);
  }
  if (config.hidden % config.heads != 0 || config.hidden % 2 != 0 || config.hidden / config.heads % 2 != 0 ||
      config.intermediate % 2 != 0) {
    return NotSupported("encoder sizes must be even and hidden_size a multiple of the heads, got hidden_size ", config.hidden,
                        ", num_attention_heads ", config.heads, ", intermediate_size ", config.intermediate);
  }
  return config;
}

}  // namespace

void PackedTokens::Add(std::span<const int32_t> sequence, int64_t first_of_type_one) {
  ids.insert(ids.end(), sequence.begin(), sequence.end());
  const int64_t n = static_cast<int64_t>(sequence.size());
  for (int64_t i = 0; i < n; ++i) types.push_back(first_of_type_one >= 0 && i >= first_of_type_one ? 1 : 0);
  starts.push_back(size());
}

void PackedTokens::Clear() {
  ids.clear();
  types.clear();
  starts.assign(1, 0);
}

struct Bert::Impl {
  std::unique_ptr<ModelFile> file;
  BertConfig config;
  const nn::FloatMatmul* matmul = nullptr;
  const BertKernels* kernels = nullptr;
  bool half = false;  // products in bf16
  std::vector<float> words_decoded;         // only where the table is not float32 in the file
  const float* words = nullptr;             // [vocab, hidden], in the mapping where it can stay there
  std::span<const std::byte> mapped_words;  // the table in the mapping; empty where it was decoded
  std::vector<float> positions, types;      // [positions, hidden], [types, hidden]
  Norm embedding_norm;
  std::vector<Layer> layers;

  absl::StatusOr<const TensorInfo*> FindTensor(std::string_view name, std::span<const int64_t> shape) const {
    const TensorInfo* tensor = file->Find(name);
    if (tensor == nullptr) tensor = file->Find("bert." + std::string(name));
    if (tensor == nullptr) return DataLoss("the model has no tensor ", name);
    if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
      return DataLoss("tensor ", name, " must be ", ShapeText(shape), " by config.json, it is ", ShapeText(tensor->shape));
    }
    return tensor;
  }
  absl::StatusOr<std::vector<float>> Floats(std::string_view name, std::span<const int64_t> shape) const {
    ASSIGN_OR_RETURN(const TensorInfo* tensor, FindTensor(name, shape));
    std::vector<float> values;
    RETURN_IF_ERROR(Decode(*tensor, &values));
    return values;
  }
  absl::StatusOr<std::vector<float>> Floats(const std::string& name, std::initializer_list<int64_t> shape) const {
    return Floats(name, std::span<const int64_t>(shape.begin(), shape.size()));
  }

  absl::Status LoadNorm(const std::string& prefix, Norm* norm) const {
    ASSIGN_OR_RETURN(norm->weight, Floats(prefix + ".weight", {config.hidden}));
    ASSIGN_OR_RETURN(norm->bias, Floats(prefix + ".bias", {config.hidden}));
    return absl::OkStatus();
  }

  // Several weights over the same input, one under the other.
  absl::Status LoadLinear(std::initializer_list<std::string> prefixes, int64_t in, int64_t out_each, Linear* linear) const {
    std::vector<float> weight;
    for (const std::string& prefix : prefixes) {
      ASSIGN_OR_RETURN(const std::vector<float> w, Floats(prefix + ".weight", {out_each, in}));
      ASSIGN_OR_RETURN(const std::vector<float> b, Floats(prefix + ".bias", {out_each}));
      weight.insert(weight.end(), w.begin(), w.end());
      linear->bias.insert(linear->bias.end(), b.begin(), b.end());
    }
    linear->in = in;
    linear->out = out_each * static_cast<int64_t>(prefixes.size());
    const size_t elements = static_cast<size_t>(matmul->PanelElements(in, linear->out));
    if (half) {
      std::vector<uint16_t> rounded(weight.size());
      matmul->round_bf16(weight.data(), static_cast<int64_t>(weight.size()), rounded.data());
      linear->panels_half.resize(elements);
      matmul->pack_bf16(rounded.data(), 1, in, in, linear->out, linear->panels_half.data());
    } else {
      linear->panels.resize(elements);
      matmul->pack_f32(weight.data(), 1, in, in, linear->out, linear->panels.data());
    }
    return absl::OkStatus();
  }

  absl::Status LoadLayer(int64_t index, Layer* layer) const {
    const std::string at = "encoder.layer." + std::to_string(index) + ".";
    const std::string self = at + "attention.self.";
    RETURN_IF_ERROR(LoadLinear({self + "query", self + "key", self + "value"}, config.hidden, config.hidden, &layer->qkv));
    RETURN_IF_ERROR(LoadLinear({at + "attention.output.dense"}, config.hidden, config.hidden, &layer->output));
    RETURN_IF_ERROR(LoadNorm(at + "attention.output.LayerNorm", &layer->attention_norm));
    RETURN_IF_ERROR(LoadLinear({at + "intermediate.dense"}, config.hidden, config.intermediate, &layer->wide));
    RETURN_IF_ERROR(LoadLinear({at + "output.dense"}, config.intermediate, config.hidden, &layer->narrow));
    return LoadNorm(at + "output.LayerNorm", &layer->output_norm);
  }

  absl::Status LoadEmbeddings() {
    const std::string at = "embeddings.";
    const int64_t shape[] = {config.vocab, config.hidden};
    ASSIGN_OR_RETURN(const TensorInfo* table, FindTensor(at + "word_embeddings.weight", shape));
    if (table->type == DType::kF32 && reinterpret_cast<uintptr_t>(table->bytes.data()) % alignof(float) == 0) {
      words = reinterpret_cast<const float*>(table->bytes.data());
      mapped_words = table->bytes;
    } else {
      RETURN_IF_ERROR(Decode(*table, &words_decoded));
      words = words_decoded.data();
    }
    ASSIGN_OR_RETURN(positions, Floats(at + "position_embeddings.weight", {config.positions, config.hidden}));
    ASSIGN_OR_RETURN(types, Floats(at + "token_type_embeddings.weight", {config.types, config.hidden}));
    return LoadNorm(at + "LayerNorm", &embedding_norm);
  }

  // Rounds x for a product where products are in bf16. REQUIRES: s.half holds n.
  void Round(const float* x, int64_t n, std::vector<uint16_t>& out) const {
    if (half) matmul->round_bf16(x, n, out.data());
  }

  // y = x W^T + b for the panels [begin, end).
  void Panels(const Linear& w, const float* x, const uint16_t* x_half, int64_t rows, int64_t begin, int64_t end,
              float* y) const {
    const int64_t col = begin * matmul->panel_cols, offset = col * w.in;
    const int64_t cols = std::min(w.out, end * matmul->panel_cols) - col;
    if (half) {
      matmul->bf16(x_half, w.in, rows, w.panels_half.data() + offset, w.in, cols, w.bias.data() + col, y + col, w.out);
    } else {
      matmul->f32(x, w.in, rows, w.panels.data() + offset, w.in, cols, w.bias.data() + col, y + col, w.out);
    }
  }
  void Apply(const Linear& w, const float* x, const uint16_t* x_half, int64_t rows, float* y, ThreadPool& pool) const {
    pool.ParallelFor(matmul->NumPanels(w.out), [&](int64_t begin, int64_t end, int) { Panels(w, x, x_half, rows, begin, end, y); });
  }

  // softmax(q k^T / sqrt(head_dim)) v of one head of one sequence; q points at its first token's query.
  void AttendHead(const float* q, const uint16_t* q_half, int64_t tokens, BertScratch::Head& s, float* out) const {
    const int64_t head_dim = config.hidden / config.heads, stride = 3 * config.hidden;
    const int64_t even = tokens + tokens % 2, padded = (tokens + 31) / 32 * 32;
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    s.scores.resize(std::max<size_t>(s.scores.size(), kQueryRows * padded));
    const size_t key_elements = matmul->PanelElements(head_dim, tokens), value_elements = matmul->PanelElements(even, head_dim);
    if (half) {
      s.keys_half.resize(std::max(s.keys_half.size(), key_elements));
      s.values_half.resize(std::max(s.values_half.size(), value_elements));
      s.weights.resize(std::max<size_t>(s.weights.size(), kQueryRows * padded));
      matmul->pack_bf16(q_half + config.hidden, 1, stride, head_dim, tokens, s.keys_half.data());
      matmul->pack_bf16(q_half + 2 * config.hidden, stride, 1, tokens, head_dim, s.values_half.data());
    } else {
      s.keys.resize(std::max(s.keys.size(), key_elements));
      s.values.resize(std::max(s.values.size(), value_elements));
      matmul->pack_f32(q + config.hidden, 1, stride, head_dim, tokens, s.keys.data());
      matmul->pack_f32(q + 2 * config.hidden, stride, 1, tokens, head_dim, s.values.data());
    }
    for (int64_t row = 0; row < tokens; row += kQueryRows) {
      const int64_t rows = std::min(kQueryRows, tokens - row);
      float* o = out + row * config.hidden;
      if (half) {
        matmul->bf16(q_half + row * stride, stride, rows, s.keys_half.data(), head_dim, tokens, nullptr, s.scores.data(), padded);
        kernels->softmax(s.scores.data(), rows, tokens, padded, scale);
        matmul->round_bf16(s.scores.data(), rows * padded, s.weights.data());
        matmul->bf16(s.weights.data(), padded, rows, s.values_half.data(), even, head_dim, nullptr, o, config.hidden);
      } else {
        matmul->f32(q + row * stride, stride, rows, s.keys.data(), head_dim, tokens, nullptr, s.scores.data(), padded);
        kernels->softmax(s.scores.data(), rows, tokens, padded, scale);
        matmul->f32(s.scores.data(), padded, rows, s.values.data(), tokens, head_dim, nullptr, o, config.hidden);
      }
    }
  }

  void Attention(const PackedTokens& batch, ThreadPool& pool, BertScratch& s, float* out) const {
    const int64_t head_dim = config.hidden / config.heads, stride = 3 * config.hidden;
    const auto heads = [&](int64_t begin, int64_t end, int thread) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t sequence = item / config.heads, head = item % config.heads;
        const int64_t start = batch.starts[sequence], at = start * stride + head * head_dim;
        AttendHead(s.qkv.data() + at, half ? s.qkv_half.data() + at : nullptr, batch.starts[sequence + 1] - start,
                   s.heads[thread], out + start * config.hidden + head * head_dim);
      }
    };
    const int64_t items = batch.sequences() * config.heads;
    if (batch.size() < 32) {
      heads(0, items, 0);  // a short query: less work than waking a thread
    } else {
      pool.ParallelFor(items, heads);
    }
  }

  void Embed(const PackedTokens& batch, float* x) const {
    for (int64_t sequence = 0; sequence < batch.sequences(); ++sequence) {
      for (int64_t i = batch.starts[sequence]; i < batch.starts[sequence + 1]; ++i) {
        kernels->add3(words + batch.ids[i] * config.hidden,
                      positions.data() + (i - batch.starts[sequence]) * config.hidden,
                      types.data() + batch.types[i] * config.hidden, config.hidden, x + i * config.hidden);
      }
    }
    ReleasePages(mapped_words);  // or memory would grow with every new word
    kernels->layer_norm(x, nullptr, batch.size(), config.hidden, embedding_norm.weight.data(), embedding_norm.bias.data(),
                        config.eps, x);
  }

  void RunLayer(const Layer& layer, const PackedTokens& batch, ThreadPool& pool, BertScratch& s, float* x) const {
    const int64_t tokens = batch.size(), hidden = config.hidden;
    Round(x, tokens * hidden, s.half);
    Apply(layer.qkv, x, s.half.data(), tokens, s.qkv.data(), pool);  // [tokens, 3 hidden]
    Round(s.qkv.data(), tokens * 3 * hidden, s.qkv_half);
    Attention(batch, pool, s, s.y.data());
    Round(s.y.data(), tokens * hidden, s.half);
    float* projected = s.qkv.data();                                 // q, k and v are done with
    Apply(layer.output, s.y.data(), s.half.data(), tokens, projected, pool);
    kernels->layer_norm(x, projected, tokens, hidden, layer.attention_norm.weight.data(), layer.attention_norm.bias.data(),
                        config.eps, x);
    Round(x, tokens * hidden, s.half);
    uint16_t* wide_half = half ? s.qkv_half.data() : nullptr;        // [tokens, intermediate]
    const int64_t wide = config.intermediate;
    pool.ParallelFor(matmul->NumPanels(wide), [&](int64_t begin, int64_t end, int) {
      Panels(layer.wide, x, s.half.data(), tokens, begin, end, s.wide.data());
      const int64_t col = begin * matmul->panel_cols, cols = std::min(wide, end * matmul->panel_cols) - col;
      for (int64_t row = 0; row < tokens; ++row) {
        float* part = s.wide.data() + row * wide + col;
        kernels->gelu(part, cols);
        if (half) matmul->round_bf16(part, cols, wide_half + row * wide + col);
      }
    });
    Apply(layer.narrow, s.wide.data(), wide_half, tokens, s.y.data(), pool);
    kernels->layer_norm(x, s.y.data(), tokens, hidden, layer.output_norm.weight.data(), layer.output_norm.bias.data(),
                        config.eps, x);
  }
};

Bert::Bert() : impl_(std::make_unique<Impl>()) {}
Bert::~Bert() = default;
const BertConfig& Bert::config() const { return impl_->config; }
const ModelFile& Bert::file() const { return *impl_->file; }

absl::StatusOr<std::vector<float>> Bert::Tensor(std::string_view name, std::span<const int64_t> shape) const {
  return impl_->Floats(name, shape);
}

absl::StatusOr<std::unique_ptr<Bert>> Bert::Load(std::unique_ptr<ModelFile> file, Precision precision, ThreadPool& pool) {
  std::unique_ptr<Bert> bert(new Bert());
  Impl& impl = *bert->impl_;
  impl.file = std::move(file);
  ASSIGN_OR_RETURN(impl.config, ReadConfig(*impl.file));
  impl.matmul = &nn::ActiveFloatMatmul();
  impl.kernels = &ActiveBertKernels();
  impl.half = precision == Precision::kBf16 && impl.matmul->bf16 != nullptr;
  if (impl.file->Find("encoder.layer." + std::to_string(impl.config.layers) + ".output.dense.weight") != nullptr) {
    return DataLoss("config.json says ", impl.config.layers, " layers, the file holds more");
  }
  // Every shape is checked before the layers are sized by config.json, so that a false count cannot ask for memory.
  RETURN_IF_ERROR(impl.LoadEmbeddings());
  impl.layers.resize(static_cast<size_t>(impl.config.layers));
  std::vector<absl::Status> done(impl.layers.size());
  pool.ParallelFor(impl.config.layers, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) done[i] = impl.LoadLayer(i, &impl.layers[i]);
  });
  for (const absl::Status& status : done) RETURN_IF_ERROR(status);
  // Mapped anew, the file holds no page in memory but the embedding rows that texts will use.
  const std::string path = impl.file->path();
  ASSIGN_OR_RETURN(impl.file, ModelFile::Open(path));
  RETURN_IF_ERROR(impl.LoadEmbeddings());
  return bert;
}

absl::Status Bert::Forward(const PackedTokens& batch, ThreadPool& pool, BertScratch& s, float* hidden) const {
  const BertConfig& config = impl_->config;
  for (int64_t sequence = 0; sequence < batch.sequences(); ++sequence) {
    const int64_t length = batch.starts[sequence + 1] - batch.starts[sequence];
    if (length < 1 || length > config.positions) {
      return InvalidArgument("a sequence must have 1..", config.positions, " tokens, got ", length);
    }
  }
  for (int64_t i = 0; i < batch.size(); ++i) {
    if (batch.ids[i] < 0 || batch.ids[i] >= config.vocab || batch.types[i] < 0 || batch.types[i] >= config.types) {
      return InvalidArgument("token ids must be in 0..", config.vocab - 1, " and types in 0..", config.types - 1, ", got id ",
                             batch.ids[i], " of type ", batch.types[i]);
    }
  }
  const size_t tokens = static_cast<size_t>(batch.size());
  const size_t widest = static_cast<size_t>(std::max(3 * config.hidden, config.intermediate));
  const auto grow = [](auto& buffer, size_t n) { if (buffer.size() < n) buffer.resize(n); };
  grow(s.y, tokens * config.hidden);
  grow(s.qkv, tokens * 3 * config.hidden);
  grow(s.wide, tokens * config.intermediate);
  if (impl_->half) {
    grow(s.half, tokens * config.hidden);
    grow(s.qkv_half, tokens * widest);
  }
  if (s.heads.size() < static_cast<size_t>(pool.num_threads())) s.heads.resize(pool.num_threads());
  impl_->Embed(batch, hidden);
  for (const Layer& layer : impl_->layers) impl_->RunLayer(layer, batch, pool, s, hidden);
  return absl::OkStatus();
}

void MeanPool(const float* hidden, int64_t tokens, int64_t dim, float* out) {
  ActiveBertKernels().mean(hidden, tokens, dim, out);
}

void Normalize(float* vector, int64_t dim) {
  double squares = 0;
  for (int64_t i = 0; i < dim; ++i) squares += double{vector[i]} * double{vector[i]};
  if (squares == 0) return;
  const double scale = 1.0 / std::sqrt(squares);
  for (int64_t i = 0; i < dim; ++i) vector[i] = static_cast<float>(vector[i] * scale);
}

const BertKernels& ActiveBertKernels() {
  static const BertKernels kScalar = scalar::BertTable(), kAvx2 = avx2::BertTable(), kAvx512 = avx512::BertTable();
  const CpuTarget active = ActiveCpuTarget();
  return active >= CpuTarget::kAvx512 ? kAvx512 : active >= CpuTarget::kAvx2 ? kAvx2 : kScalar;
}

}  // namespace lectern::index
