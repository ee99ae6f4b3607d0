// The forward pass against published outputs: tiny random checkpoints (float32, transformers) in shared/fixtures.
#include "decoder/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/cpu_target.h"
#include "base/nn/activations.h"
#include "tests/support/temp_dir.h"

namespace lectern::decoder {
namespace {

using model_file::ModelFile;
using model_file::TensorInfo;
using ::testing::HasSubstr;

constexpr const char* kTiny[] = {"tiny-qwen2", "tiny-qwen3", "tiny-llama3", "tiny-gemma3"};

// The unpacked fixtures, once a process; empty where shared is missing.
const std::string& TinyModels() {
  static const testing::TempDir dir;
  static const std::string root = [] {
    const std::string archive = testing::SharedPath("fixtures/tiny-models.tar.xz");
    if (archive.empty()) return std::string();
    CHECK(std::system(("tar -xJf '" + archive + "' -C '" + dir.path() + "'").c_str()) == 0);
    for (const char* name : kTiny) {  // reference.safetensors, as a folder that ModelFile opens
      const std::string from = dir / name, to = from + "-reference";
      std::filesystem::create_directories(to);
      std::filesystem::copy_file(from + "/config.json", to + "/config.json");
      std::filesystem::copy_file(from + "/reference.safetensors", to + "/model.safetensors");
    }
    return dir.path();
  }();
  return root;
}

struct Tensor {
  std::vector<int64_t> shape;
  std::vector<float> floats;
  std::vector<int32_t> ints;
};

Tensor Read(const ModelFile& file, const char* name) {
  const TensorInfo* info = file.Find(name);
  CHECK(info != nullptr);
  Tensor tensor{.shape = info->shape};
  const size_t count = info->bytes.size() / 4;
  if (info->type == DType::kF32) {
    tensor.floats.resize(count);
    std::memcpy(tensor.floats.data(), info->bytes.data(), info->bytes.size());
  } else {
    tensor.ints.resize(count);
    std::memcpy(tensor.ints.data(), info->bytes.data(), info->bytes.size());
  }
  return tensor;
}

// max |got - want| / max |want|
double RelativeError(std::span<const float> got, std::span<const float> want) {
  double error = 0, scale = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double e = std::abs(static_cast<double>(got[i]) - want[i]);
    error = std::isnan(e) ? INFINITY : std::max(error, e);
    scale = std::max(scale, std::abs(static_cast<double>(want[i])));
  }
  return error / scale;
}

struct Tiny {
  std::unique_ptr<ModelFile> file, reference;
  ThreadPool pool{2};
  std::unique_ptr<Model> model;

  Tiny(const std::string& name, nn::Arithmetic arithmetic) {
    file = *ModelFile::Open(TinyModels() + "/" + name);
    reference = *ModelFile::Open(TinyModels() + "/" + name + "-reference");
    auto loaded = Model::Load(*file, {.arithmetic = arithmetic, .max_context_tokens = 256}, pool);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    model = *std::move(loaded);
  }
  // Logits of every position of `ids`, in chunks.
  std::vector<float> Logits(std::span<const int32_t> ids, KvCache& cache, int64_t chunk) {
    std::vector<float> all;
    for (size_t at = 0; at < ids.size(); at += chunk) {
      const auto n = std::min<int64_t>(chunk, ids.size() - at);
      EXPECT_TRUE(model->Forward(ids.subspan(at, n), cache, {.logit_rows = n}).ok());
      all.insert(all.end(), model->logits().begin(), model->logits().end());
    }
    return all;
  }
};

TEST(ModelGolden, ExactLogitsAndHiddenStatesMatchTransformers) {
  LECTERN_NEED(TinyModels());
  for (const char* name : kTiny) {
    SCOPED_TRACE(name);
    Tiny tiny(name, nn::Arithmetic::kExact);
    const Tensor ids = Read(*tiny.reference, "input_ids"), logits = Read(*tiny.reference, "logits");
    const Tensor first = Read(*tiny.reference, "hidden_first"), last = Read(*tiny.reference, "hidden_last");
    const int64_t length = ids.shape[1], vocab = logits.shape[2], dim = first.shape[2];
    for (int64_t row = 0; row < ids.shape[0]; ++row) {
      const std::span<const int32_t> tokens(ids.ints.data() + row * length, length);
      KvCache cache = *tiny.model->NewCache(256);
      EXPECT_LE(RelativeError(tiny.Logits(tokens, cache, 13), {logits.floats.data() + row * length * vocab, static_cast<size_t>(length * vocab)}), 1e-4);
      KvCache whole = *tiny.model->NewCache(256);
      std::vector<float> seen_first, seen_last;
      const std::function<void(int64_t, std::span<const float>)> observe = [&](int64_t layer, std::span<const float> x) {
        if (layer == 0) seen_first.assign(x.begin(), x.end());
        if (layer == tiny.model->config().num_layers) seen_last.assign(x.begin(), x.end());
      };
      ASSERT_TRUE(tiny.model->Forward(tokens, whole, {.observe = &observe}).ok());
      const auto count = static_cast<size_t>(length * dim);
      EXPECT_LE(RelativeError(seen_first, {first.floats.data() + row * length * dim, count}), 1e-4);
      EXPECT_LE(RelativeError(seen_last, {last.floats.data() + row * length * dim, count}), 1e-4);
    }
  }
}

TEST(ModelGolden, GreedyContinuationIsThatOfTransformers) {
  LECTERN_NEED(TinyModels());
  for (const char* name : kTiny) {
    SCOPED_TRACE(name);
    Tiny tiny(name, nn::Arithmetic::kExact);
    const Tensor ids = Read(*tiny.reference, "input_ids"), greedy = Read(*tiny.reference, "greedy_ids");
    const Tensor greedy_logits = Read(*tiny.reference, "greedy_logits");
    const int64_t length = ids.shape[1], steps = greedy.shape[1], vocab = greedy_logits.shape[2];
    for (int64_t row = 0; row < ids.shape[0]; ++row) {
      KvCache cache = *tiny.model->NewCache(256);
      ASSERT_TRUE(tiny.model->Forward({ids.ints.data() + row * length, static_cast<size_t>(length)}, cache, {}).ok());
      for (int64_t step = 0; step < steps; ++step) {
        const std::span<const float> want(greedy_logits.floats.data() + (row * steps + step) * vocab, vocab);
        EXPECT_LE(RelativeError(tiny.model->logits(), want), 1e-4);
        const auto token = static_cast<int32_t>(nn::ArgMax(tiny.model->logits().data(), vocab));
        ASSERT_EQ(token, greedy.ints[row * steps + step]) << "step " << step;
        ASSERT_TRUE(tiny.model->Forward({&token, 1}, cache, {}).ok());
      }
    }
  }
}

TEST(ModelGolden, EveryCpuTargetGivesTheSameExactLogits) {
  LECTERN_NEED(TinyModels());
  const CpuTarget before = ActiveCpuTarget();
  for (CpuTarget target : SupportedCpuTargets()) {
    SetCpuTargetForTest(target);
    for (const char* name : kTiny) {
      SCOPED_TRACE(internal::Concat(name, " on ", CpuTargetName(target)));
      Tiny tiny(name, nn::Arithmetic::kExact);
      const Tensor ids = Read(*tiny.reference, "input_ids"), logits = Read(*tiny.reference, "logits");
      KvCache cache = *tiny.model->NewCache(256);
      const size_t length = ids.shape[1];
      EXPECT_LE(RelativeError(tiny.Logits({ids.ints.data(), length}, cache, 16), {logits.floats.data(), length * logits.shape[2]}), 1e-4);
    }
  }
  SetCpuTargetForTest(before);
}

// The error that the same pass makes when each weight, and each input of a matrix, is rounded to bf16 is measured by
// rounding only the weights: a lower bound, so the limit is the stricter one.
TEST(ModelGolden, FastLogitsStayNearTheTruthAndKeepTheArgmaxWhereTheMarginIsWide) {
  LECTERN_NEED(TinyModels());
  for (const char* name : kTiny) {
    SCOPED_TRACE(name);
    Tiny tiny(name, nn::Arithmetic::kFast);
    const Tensor ids = Read(*tiny.reference, "input_ids"), logits = Read(*tiny.reference, "logits");
    const int64_t length = ids.shape[1], vocab = logits.shape[2];
    KvCache cache = *tiny.model->NewCache(256);
    const std::span<const float> want(logits.floats.data(), length * vocab);
    const std::vector<float> got = tiny.Logits({ids.ints.data(), static_cast<size_t>(length)}, cache, 16);
    const double error = RelativeError(got, want);
    EXPECT_LE(error, 0.03);  // bf16 has 8 bits: 0.4 % a rounding, some dozens of them on the way
    double scale = 0;
    for (float x : want) scale = std::max(scale, std::abs(static_cast<double>(x)));
    int64_t compared = 0;
    for (int64_t i = 0; i < length; ++i) {
      std::vector<float> sorted(want.begin() + i * vocab, want.begin() + (i + 1) * vocab);
      std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
      if (sorted[0] - sorted[1] <= 2 * error * scale) continue;
      ++compared;
      EXPECT_EQ(nn::ArgMax(got.data() + i * vocab, vocab), nn::ArgMax(want.data() + i * vocab, vocab));
    }
    EXPECT_GT(compared, 0);
  }
}

TEST(Model, AChunkedPrefillEqualsAWholeOne) {
  LECTERN_NEED(TinyModels());
  for (const char* name : kTiny) {
    for (nn::Arithmetic arithmetic : {nn::Arithmetic::kExact, nn::Arithmetic::kFast}) {
      SCOPED_TRACE(name);
      Tiny tiny(name, arithmetic);
      const Tensor ids = Read(*tiny.reference, "input_ids");
      const std::span<const int32_t> tokens(ids.ints.data(), 70);
      KvCache whole = *tiny.model->NewCache(128), parts = *tiny.model->NewCache(128);
      ASSERT_TRUE(tiny.model->Forward(tokens, whole, {}).ok());
      const std::vector<float> want(tiny.model->logits().begin(), tiny.model->logits().end());
      for (auto [begin, end] : {std::pair{0, 1}, {1, 20}, {20, 33}, {33, 70}}) {
        ASSERT_TRUE(tiny.model->Forward(tokens.subspan(begin, end - begin), parts, {}).ok());
      }
      EXPECT_LE(RelativeError(tiny.model->logits(), want), arithmetic == nn::Arithmetic::kExact ? 2e-6 : 2e-2);
    }
  }
}

TEST(Model, TheLastLayerRunsForTheAskedRowsAloneAndGivesTheSame) {
  LECTERN_NEED(TinyModels());
  const std::function<void(int64_t, std::span<const float>)> all_rows = [](int64_t, std::span<const float>) {};   // an observer wants every row
  for (const char* name : kTiny) {
    for (nn::Arithmetic arithmetic : {nn::Arithmetic::kExact, nn::Arithmetic::kFast}) {
      SCOPED_TRACE(name);
      Tiny tiny(name, arithmetic);
      const double bound = arithmetic == nn::Arithmetic::kExact ? 2e-6 : 2e-2;
      const Tensor ids = Read(*tiny.reference, "input_ids");
      const std::span<const int32_t> tokens(ids.ints.data(), 40);
      for (const int64_t rows : {0, 1, 3}) {
        KvCache full = *tiny.model->NewCache(128), some = *tiny.model->NewCache(128);
        ASSERT_TRUE(tiny.model->Forward(tokens, full, {.logit_rows = rows, .observe = &all_rows}).ok());
        const std::vector<float> want(tiny.model->logits().begin(), tiny.model->logits().end());
        ASSERT_TRUE(tiny.model->Forward(tokens, some, {.logit_rows = rows}).ok());
        ASSERT_EQ(tiny.model->logits().size(), want.size());
        EXPECT_TRUE(rows == 0 || RelativeError(tiny.model->logits(), want) <= bound);
        ASSERT_TRUE(tiny.model->Forward(tokens.first(1), full, {.observe = &all_rows}).ok());   // what both left in their caches
        const std::vector<float> next(tiny.model->logits().begin(), tiny.model->logits().end());
        ASSERT_TRUE(tiny.model->Forward(tokens.first(1), some, {}).ok());
        EXPECT_LE(RelativeError(tiny.model->logits(), next), bound);
      }
    }
  }
}

TEST(Model, AReusedPrefixGivesIdenticalLogits) {
  LECTERN_NEED(TinyModels());
  for (nn::Arithmetic arithmetic : {nn::Arithmetic::kExact, nn::Arithmetic::kFast}) {
    Tiny tiny("tiny-gemma3", arithmetic);
    const Tensor ids = Read(*tiny.reference, "input_ids");
    const std::span<const int32_t> first(ids.ints.data(), 70);
    std::vector<int32_t> second(first.begin(), first.begin() + 41);
    second.insert(second.end(), ids.ints.begin() + 70, ids.ints.begin() + 100);
    ASSERT_NE(second[41], first[41]);
    KvCache reused = *tiny.model->NewCache(128), fresh = *tiny.model->NewCache(128);
    ASSERT_TRUE(tiny.model->Forward(first, reused, {}).ok());
    ASSERT_EQ(reused.KeepPrefixOf(second), 41);
    ASSERT_TRUE(tiny.model->Forward(std::span(second).subspan(41), reused, {}).ok());
    const std::vector<float> got(tiny.model->logits().begin(), tiny.model->logits().end());
    ASSERT_TRUE(tiny.model->Forward(second, fresh, {}).ok());
    EXPECT_EQ(got, std::vector<float>(tiny.model->logits().begin(), tiny.model->logits().end()));
  }
}

TEST(Model, ForksGiveTheLogitsOfCachesOfTheirOwn) {
  LECTERN_NEED(TinyModels());
  Tiny tiny("tiny-qwen3", nn::Arithmetic::kFast);
  const Tensor ids = Read(*tiny.reference, "input_ids");
  const std::span<const int32_t> prefix(ids.ints.data(), 70);
  KvCacheShape shape = tiny.model->CacheShape(128);
  shape.pool_tokens = 256;
  KvCache first = *KvCache::Create(shape);
  ASSERT_TRUE(tiny.model->Forward(prefix, first, {}).ok());
  KvCache second = first.Fork();
  const std::vector<int32_t> one(ids.ints.begin() + 70, ids.ints.begin() + 90), other(ids.ints.begin() + 80, ids.ints.begin() + 100);
  for (auto [cache, more] : {std::pair{&first, &one}, {&second, &other}, {&first, &other}, {&second, &one}}) {
    std::vector<int32_t> all(cache->tokens().begin(), cache->tokens().end());
    ASSERT_TRUE(tiny.model->Forward(*more, *cache, {}).ok());
    const std::vector<float> got(tiny.model->logits().begin(), tiny.model->logits().end());
    KvCache fresh = *tiny.model->NewCache(128);
    ASSERT_TRUE(tiny.model->Forward(all, fresh, {}).ok());
    ASSERT_TRUE(tiny.model->Forward(*more, fresh, {}).ok());
    EXPECT_LE(RelativeError(got, std::vector<float>(tiny.model->logits().begin(), tiny.model->logits().end())), 2e-2);
  }
}

TEST(Model, KeyMassSumsToOneAHeadAndLayer) {
  LECTERN_NEED(TinyModels());
  Tiny tiny("tiny-qwen3", nn::Arithmetic::kExact);
  const Tensor ids = Read(*tiny.reference, "input_ids");
  KvCache cache = *tiny.model->NewCache(128);
  ASSERT_TRUE(tiny.model->Forward({ids.ints.data(), 69}, cache, {}).ok());
  std::vector<float> mass(70);
  ASSERT_TRUE(tiny.model->Forward({ids.ints.data() + 69, 1}, cache, {.key_mass = mass}).ok());
  double total = 0;
  for (float m : mass) total += m;
  EXPECT_NEAR(total, 3 * 4, 1e-4);
}

TEST(Model, ACancelledForwardLeavesTheCacheAsItWas) {
  LECTERN_NEED(TinyModels());
  Tiny tiny("tiny-qwen2", nn::Arithmetic::kExact);
  KvCache cache = *tiny.model->NewCache(128);
  const int32_t tokens[] = {5, 6, 7};
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(tiny.model->Forward(tokens, cache, {.cancel = &cancel}).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(cache.size(), 0);
}

TEST(Model, BadTokensAndChunksAreRefusedByValue) {
  LECTERN_NEED(TinyModels());
  Tiny tiny("tiny-qwen2", nn::Arithmetic::kExact);
  KvCache cache = *tiny.model->NewCache(8);
  const int32_t high[] = {320};
  EXPECT_THAT(std::string(tiny.model->Forward(high, cache, {}).message()), HasSubstr("0..319, got 320"));
  EXPECT_THAT(std::string(tiny.model->Forward({}, cache, {}).message()), HasSubstr("1..512 tokens, got 0"));
  const std::vector<int32_t> nine(9, 1);
  EXPECT_THAT(std::string(tiny.model->Forward(nine, cache, {}).message()), HasSubstr("needs 9 tokens, the KV cache holds 8"));
}

TEST(Model, UnknownArchitecturesAndFeaturesAreRefusedByName) {
  LECTERN_NEED(TinyModels());
  const std::string from = TinyModels() + "/tiny-qwen2";
  const std::string config = testing::ReadBytes(from + "/config.json");
  const auto refusal = [&](const std::string& what, const std::string& with) {
    testing::TempDir dir;
    std::string changed = config;
    const size_t at = changed.find(what);
    CHECK(at != std::string::npos);
    changed.replace(at, what.size(), with);
    testing::WriteBytes(dir / "config.json", changed);
    std::filesystem::copy_file(from + "/model.safetensors", dir / "model.safetensors");
    ThreadPool pool(1);
    const auto file = ModelFile::Open(dir.path());
    CHECK(file.ok());
    const auto model = Model::Load(**file, {}, pool);
    EXPECT_FALSE(model.ok());
    return std::string(model.status().message());
  };
  EXPECT_THAT(refusal("\"model_type\": \"qwen2\"", "\"model_type\": \"mistral\""), HasSubstr("'mistral' is not supported"));
  EXPECT_THAT(refusal("\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\""), HasSubstr("activation 'relu'"));
  EXPECT_THAT(refusal("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\", \"factor\": 4"), HasSubstr("rope scaling 'yarn'"));
  EXPECT_THAT(refusal("\"use_sliding_window\": false", "\"use_sliding_window\": true"), HasSubstr("use_sliding_window"));
  EXPECT_THAT(refusal("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"), HasSubstr("tensor model.layers.2"));
  EXPECT_THAT(refusal("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"), HasSubstr("tensor model.layers.3.input_layernorm.weight is missing"));
  EXPECT_THAT(refusal("\"intermediate_size\": 192", "\"intermediate_size\": 160"), HasSubstr("must be [160, 128], it is [192, 128]"));
  EXPECT_THAT(refusal("\"num_attention_heads\": 2", "\"num_attention_heads\": 3"), HasSubstr("multiple of 16, got 42"));
}

}  // namespace
}  // namespace lectern::decoder
