#include "index/encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "base/cpu_target.h"
#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "index/bert.h"
#include "index/cpu/bert_kernels.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

using ::testing::HasSubstr;
using lectern::testing::ModelPath;
using lectern::testing::ReadBytes;
using lectern::testing::SharedPath;
using lectern::testing::SourcePath;
using lectern::testing::TempDir;
using lectern::testing::WriteBytes;

std::vector<std::string_view> Views(const std::vector<std::string>& texts) { return {texts.begin(), texts.end()}; }

double MaxDifference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(double{a[i]} - double{b[i]}));
  return most;
}
double Cosine(const float* a, const float* b, int64_t n) {
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < n; ++i) ab += double{a[i]} * b[i], aa += double{a[i]} * a[i], bb += double{b[i]} * b[i];
  return ab / std::sqrt(aa * bb);
}
std::string Words(int64_t n, uint64_t seed) {
  static const char* kWords[] = {"stone", "river", "bridge", "gold", "king", "the", "night", "xyz", "old", "ship", ",", "5"};
  Rng rng(seed);
  std::string text;
  for (int64_t i = 0; i < n; ++i) text += std::string(kWords[rng.Below(12)]) + " ";
  return text;
}

std::unique_ptr<Encoder> OpenTiny(ThreadPool& pool, EncoderOptions options = {.precision = Precision::kFloat32, .max_tokens = 64}) {
  auto encoder = Encoder::Open(SourcePath("data/tiny/encoder"), options, pool);
  EXPECT_TRUE(encoder.ok()) << encoder.status();
  return *std::move(encoder);
}

struct RestoreTarget {
  CpuTarget before = ActiveCpuTarget();
  ~RestoreTarget() { SetCpuTargetForTest(before); }
};

TEST(BertKernels, GeluIsExactToASingleRoundingOfErf) {
  RestoreTarget restore;
  for (CpuTarget target : SupportedCpuTargets()) {
    SetCpuTargetForTest(target);
    std::vector<float> x;
    for (int i = -90000; i <= 90003; ++i) x.push_back(static_cast<float>(i) * 1e-4f);
    x.push_back(-100);
    x.push_back(100);
    std::vector<float> y = x;
    ActiveBertKernels().gelu(y.data(), static_cast<int64_t>(y.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const double truth = 0.5 * double{x[i]} * std::erfc(-double{x[i]} / std::sqrt(2.0));
      ASSERT_NEAR(y[i], truth, 1e-7 * std::max(1.0, std::abs(double{x[i]}))) << "at " << x[i];
    }
  }
}

TEST(BertKernels, SoftmaxAndLayerNormEqualTheirDoubleForms) {
  RestoreTarget restore;
  for (CpuTarget target : SupportedCpuTargets()) {
    SetCpuTargetForTest(target);
    for (int64_t cols : {1, 2, 15, 16, 33, 100}) {
      Rng rng(9, cols);
      const int64_t stride = (cols + 31) / 32 * 32;
      std::vector<float> x(stride, 5.0f), y(cols), weight(cols), bias(cols), out(cols);
      for (int64_t i = 0; i < cols; ++i) {
        x[i] = static_cast<float>(rng.Normal() * 10);
        y[i] = static_cast<float>(rng.Normal());
        weight[i] = static_cast<float>(rng.Normal());
        bias[i] = static_cast<float>(rng.Normal());
      }
      const std::vector<float> scores = x;
      ActiveBertKernels().softmax(x.data(), 1, cols, stride, 0.5f);
      double peak = -1e30, sum = 0, mean = 0, variance = 0;
      for (int64_t i = 0; i < cols; ++i) peak = std::max(peak, double{scores[i]});
      for (int64_t i = 0; i < cols; ++i) sum += std::exp(0.5 * (scores[i] - peak));
      for (int64_t i = 0; i < cols; ++i) ASSERT_NEAR(x[i], std::exp(0.5 * (scores[i] - peak)) / sum, 4e-7);
      for (int64_t i = cols; i < stride; ++i) ASSERT_EQ(x[i], 0);
      ActiveBertKernels().layer_norm(scores.data(), y.data(), 1, cols, weight.data(), bias.data(), 1e-6f, out.data());
      for (int64_t i = 0; i < cols; ++i) mean += double{scores[i]} + y[i];
      mean /= static_cast<double>(cols);
      for (int64_t i = 0; i < cols; ++i) variance += std::pow(double{scores[i]} + y[i] - mean, 2) / static_cast<double>(cols);
      for (int64_t i = 0; i < cols; ++i) {
        const double truth = (double{scores[i]} + y[i] - mean) / std::sqrt(variance + 1e-6) * weight[i] + bias[i];
        ASSERT_NEAR(out[i], truth, cols == 1 ? 1e-3 : 5e-6);
      }
    }
  }
}

TEST(Encoder, TinyModelEqualsItsDoubleReferenceOnEveryTarget) {
  RestoreTarget restore;
  auto reference = ParseJson(ReadBytes(SourcePath("data/tiny/encoder/reference.json")));
  ASSERT_TRUE(reference.ok());
  const auto texts = (*reference)["texts"].get<std::vector<std::string>>();
  for (CpuTarget target : SupportedCpuTargets()) {
    SetCpuTargetForTest(target);
    for (Precision precision : {Precision::kFloat32, Precision::kBf16}) {
      ThreadPool pool(2);
      auto encoder = OpenTiny(pool, {.precision = precision, .max_tokens = 64});
      EncodeStats stats;
      auto vectors = encoder->Encode(Views(texts), false, &stats);
      ASSERT_TRUE(vectors.ok()) << vectors.status();
      int64_t tokens = 0;
      for (size_t i = 0; i < texts.size(); ++i) {
        const auto ids = (*reference)["ids"][i].get<std::vector<int32_t>>();
        EXPECT_EQ(encoder->tokenizer().Encode(texts[i], {.add_special = true}), ids);
        tokens += static_cast<int64_t>(ids.size());
        const auto want = (*reference)["embeddings"][i].get<std::vector<float>>();
        const std::span<const float> got(vectors->data() + i * 32, 32);
        if (precision == Precision::kFloat32) {
          EXPECT_LE(MaxDifference(got, want), 2e-6) << CpuTargetName(target);
        } else {
          EXPECT_GE(Cosine(got.data(), want.data(), 32), 0.9999) << CpuTargetName(target);
        }
      }
      EXPECT_EQ(stats.tokens, tokens);
      EXPECT_EQ(stats.cut_texts, 0);
    }
  }
}

TEST(Encoder, ATextHasTheSameBitsInAnyBatchAndOnAnyNumberOfThreads) {
  std::vector<std::string> texts;
  for (int i = 0; i < 60; ++i) texts.push_back(Words(i % 13 == 0 ? 0 : 1 + (i * 7) % 40, i));
  for (Precision precision : {Precision::kFloat32, Precision::kBf16}) {
    std::vector<float> alone;
    {
      ThreadPool one(1);
      auto encoder = OpenTiny(one, {.precision = precision, .max_tokens = 64});
      for (const std::string& text : texts) {
        auto vector = encoder->Encode(std::vector<std::string_view>{text}, false);
        ASSERT_TRUE(vector.ok());
        alone.insert(alone.end(), vector->begin(), vector->end());
      }
    }
    for (int threads : {1, 2, 3}) {
      for (int64_t batch_tokens : {1, 50, 333, 100000}) {
        ThreadPool pool(threads);
        auto encoder = OpenTiny(pool, {.precision = precision, .max_tokens = 64, .batch_tokens = batch_tokens});
        auto all = encoder->Encode(Views(texts), false);
        ASSERT_TRUE(all.ok());
        ASSERT_EQ(0, std::memcmp(all->data(), alone.data(), alone.size() * sizeof(float)))
            << threads << " threads, batches of " << batch_tokens;
      }
    }
  }
}

TEST(Encoder, RefusesATextOverTheLimitAndCutsItOnlyWhenAsked) {
  ThreadPool pool(1);
  auto encoder = OpenTiny(pool, {.precision = Precision::kFloat32, .max_tokens = 8});
  const std::vector<std::string_view> texts = {"gold", "the the the the the the the", "the the the the the the"};
  const absl::Status refused = encoder->Encode(texts, false).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("text 1 has 9 tokens, the encoder takes 8 (encoder.max_tokens)"));
  EncodeStats stats;
  auto vectors = encoder->Encode(texts, true, &stats);
  ASSERT_TRUE(vectors.ok());
  EXPECT_EQ(stats.cut_texts, 1);
  EXPECT_EQ(stats.tokens, 3 + 8 + 8);
  EXPECT_EQ(0, std::memcmp(vectors->data() + 32, vectors->data() + 64, 32 * sizeof(float))) << "[SEP] must stay";
}

TEST(Encoder, TakesEmptyBlankAndInvalidTexts) {
  ThreadPool pool(2);
  auto encoder = OpenTiny(pool);
  EXPECT_TRUE(encoder->Encode({}, false)->empty());
  auto vectors = encoder->Encode(std::vector<std::string_view>{"", " \n\t ", "\xff\xfe", std::string_view("\0", 1)}, false);
  ASSERT_TRUE(vectors.ok());
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(Cosine(vectors->data() + 32 * i, vectors->data() + 32 * i, 32), 1, 1e-6);
  EXPECT_EQ(0, std::memcmp(vectors->data(), vectors->data() + 32, 32 * sizeof(float)));
}

TEST(Encoder, StopsWhenTheCallerCancels) {
  ThreadPool pool(2);
  auto encoder = OpenTiny(pool);
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(encoder->Encode(std::vector<std::string_view>{"gold"}, false, nullptr, &cancel).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(Encoder, FingerprintChangesWithWhatChangesVectorsOnly) {
  ThreadPool one(1), two(2);
  const std::string base = OpenTiny(one)->fingerprint();
  EXPECT_EQ(base.size(), 64u);
  EXPECT_EQ(base, OpenTiny(two)->fingerprint());
  EXPECT_EQ(base, OpenTiny(two, {.precision = Precision::kBf16, .max_tokens = 64, .batch_tokens = 9})->fingerprint());
  EXPECT_NE(base, OpenTiny(two, {.max_tokens = 32})->fingerprint());
}

// A copy of the tiny encoder with one file changed.
class ChangedModel : public ::testing::Test {
 protected:
  ChangedModel() {
    std::filesystem::copy(SourcePath("data/tiny/encoder"), dir_ / "m", std::filesystem::copy_options::recursive);
  }
  void Replace(const std::string& file, const std::string& from, const std::string& to) {
    std::string text = ReadBytes(dir_ / "m/" + file);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    WriteBytes(dir_ / "m/" + file, text.replace(at, from.size(), to));
  }
  absl::Status Open(EncoderOptions options = {.max_tokens = 64}) {
    ThreadPool pool(1);
    return Encoder::Open(dir_ / "m", options, pool).status();
  }
  TempDir dir_;
};

TEST_F(ChangedModel, AnUnknownArchitectureIsRefusedByName) {
  Replace("config.json", "\"model_type\":\"bert\"", "\"model_type\":\"roberta\"");
  EXPECT_EQ(Open().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(Open().message()), HasSubstr("roberta"));
}
TEST_F(ChangedModel, AnUnknownActivationIsRefusedByName) {
  Replace("config.json", "\"hidden_act\":\"gelu\"", "\"hidden_act\":\"swish\"");
  EXPECT_THAT(std::string(Open().message()), HasSubstr("swish"));
}
TEST_F(ChangedModel, AnUnknownPoolingIsRefusedByName) {
  Replace("1_Pooling/config.json", "\"pooling_mode_max_tokens\":false", "\"pooling_mode_max_tokens\":true");
  EXPECT_EQ(Open().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(Open().message()), HasSubstr("pooling_mode_max_tokens"));
}
TEST_F(ChangedModel, APoolingThatIsNotSaidIsNotGuessed) {
  std::filesystem::remove_all(dir_ / "m/1_Pooling");
  EXPECT_EQ(Open().code(), absl::StatusCode::kNotFound);
}
TEST_F(ChangedModel, AnUnknownModuleIsRefusedByName) {
  WriteBytes(dir_ / "m/modules.json", R"([{"type":"sentence_transformers.models.Dense"}])");
  EXPECT_THAT(std::string(Open().message()), HasSubstr("models.Dense"));
}
TEST_F(ChangedModel, FirstTokenPoolingTakesTheFirstToken) {
  Replace("1_Pooling/config.json", "\"pooling_mode_mean_tokens\":true", "\"pooling_mode_mean_tokens\":false");
  Replace("1_Pooling/config.json", "\"pooling_mode_cls_token\":false", "\"pooling_mode_cls_token\":true");
  ThreadPool pool(1);
  auto encoder = Encoder::Open(dir_ / "m", {.precision = Precision::kFloat32, .max_tokens = 64}, pool);
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  const std::vector<std::string_view> text = {"old bridge"};
  auto first = (*encoder)->Encode(text, false), mean = OpenTiny(pool)->Encode(text, false);
  EXPECT_GT(MaxDifference(*first, *mean), 0.01);
  auto file = model_file::ModelFile::Open(dir_ / "m");
  auto bert = Bert::Load(*std::move(file), Precision::kFloat32, pool);
  PackedTokens batch;
  batch.Add((*encoder)->tokenizer().Encode("old bridge", {.add_special = true}));
  BertScratch scratch;
  std::vector<float> hidden(batch.size() * 32);
  ASSERT_TRUE((*bert)->Forward(batch, pool, scratch, hidden.data()).ok());
  EXPECT_GT(Cosine(first->data(), hidden.data(), 32), 0.999999);
}
TEST_F(ChangedModel, AConfigThatContradictsTheTensorsIsDataLoss) {
  Replace("config.json", "\"intermediate_size\":64", "\"intermediate_size\":66");
  EXPECT_EQ(Open().code(), absl::StatusCode::kDataLoss);
  Replace("config.json", "\"intermediate_size\":66", "\"intermediate_size\":64");
  Replace("config.json", "\"num_hidden_layers\":2", "\"num_hidden_layers\":1");
  EXPECT_EQ(Open().code(), absl::StatusCode::kDataLoss) << "a layer left unused would give other vectors in silence";
}
TEST_F(ChangedModel, LimitsOutsideTheModelAreRefused) {
  EXPECT_EQ(Open({.max_tokens = 65}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Open({.max_tokens = 65}).message()), HasSubstr("3..64"));
  EXPECT_TRUE(Open({}).ok());   // 256 were asked for by nobody: the network's 64 positions will do
  EXPECT_EQ(Open({.max_tokens = 2}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Open({.max_tokens = 64, .batch_tokens = 0}).code(), absl::StatusCode::kInvalidArgument);
}
TEST_F(ChangedModel, EveryMutationOpensOrFailsCleanly) {
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"}) {
    const std::string path = dir_ / "m/" + name;
    const std::string whole = ReadBytes(SourcePath(std::string("data/tiny/encoder/") + name));
    testing::Mutations mutations(std::string("encoder's ") + name);
    while (mutations.Next()) {
      WriteBytes(path, mutations.Of(whole));
      ThreadPool pool(1);
      auto encoder = Encoder::Open(dir_ / "m", {.max_tokens = 64}, pool);
      mutations.Count(encoder.status());
      if (encoder.ok()) (void)(*encoder)->Encode(std::vector<std::string_view>{"old bridge of stone"}, true);
    }
    WriteBytes(path, whole);
    EXPECT_GT(mutations.refused(), 100);
  }
}

TEST(CrossEncoder, ScoresEqualTheDoubleReferenceAndCutsAreCounted) {
  auto reference = ParseJson(ReadBytes(SourcePath("data/tiny/cross-encoder/reference.json")));
  ASSERT_TRUE(reference.ok());
  ThreadPool pool(2);
  for (Precision precision : {Precision::kFloat32, Precision::kBf16}) {
    auto encoder = CrossEncoder::Open(SourcePath("data/tiny/cross-encoder"), {.precision = precision, .max_tokens = 64}, pool);
    ASSERT_TRUE(encoder.ok()) << encoder.status();
    for (size_t i = 0; i < (*reference)["pairs"].size(); ++i) {
      const std::string query = (*reference)["pairs"][i][0], passage = (*reference)["pairs"][i][1];
      EncodeStats stats;
      auto scores = (*encoder)->Score(query, std::vector<std::string_view>{passage, "other"}, &stats);
      ASSERT_TRUE(scores.ok()) << scores.status();
      EXPECT_NEAR((*scores)[0], (*reference)["scores"][i].get<double>(), precision == Precision::kFloat32 ? 1e-5 : 0.05);
      EXPECT_EQ(stats.cut_texts, passage.size() > 400 ? 1 : 0);
      EncodeStats alone;
      auto again = (*encoder)->Score(query, std::vector<std::string_view>{passage}, &alone);
      EXPECT_EQ((*again)[0], (*scores)[0]) << "a score must not depend on the other passages";
      EXPECT_EQ(alone.tokens, (*reference)["tokens"][i].get<int64_t>());
    }
  }
}

TEST(CrossEncoder, RefusesAModelWithoutAHead) {
  ThreadPool pool(1);
  const absl::Status status = CrossEncoder::Open(SourcePath("data/tiny/encoder"), {.max_tokens = 64}, pool).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("classifier head"));
}

TEST(Bert, EqualsTransformersOnTheTinyCheckpoint) {
  const std::string archive = SharedPath("fixtures/tiny-models.tar.xz");
  LECTERN_NEED(archive);
  TempDir dir;
  ASSERT_EQ(0, std::system(("tar -xJf '" + archive + "' -C '" + dir.path() + "' --wildcards '*tiny-bert*'").c_str()));
  std::filesystem::create_directory(dir / "reference");
  std::filesystem::copy(dir / "tiny-bert/reference.safetensors", dir / "reference/model.safetensors");
  std::filesystem::copy(dir / "tiny-bert/config.json", dir / "reference/config.json");
  auto reference = model_file::ModelFile::Open(dir / "reference");
  ASSERT_TRUE(reference.ok()) << reference.status();
  const auto floats = [&](const char* name) {
    const auto bytes = (*reference)->Find(name)->bytes;
    std::vector<float> values(bytes.size() / 4);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  };
  const std::vector<float> want = floats("last_hidden_state"), pooled = floats("mean_pooled_normalized");  // [3, 40, 64], [3, 64]
  const auto* ids = reinterpret_cast<const int32_t*>((*reference)->Find("input_ids")->bytes.data());
  const auto* mask = reinterpret_cast<const int32_t*>((*reference)->Find("attention_mask")->bytes.data());
  const auto id_type = (*reference)->Find("input_ids")->type;
  ASSERT_EQ(id_type, DType::kI32);
  RestoreTarget restore;
  for (CpuTarget target : SupportedCpuTargets()) {
    SetCpuTargetForTest(target);
    for (Precision precision : {Precision::kFloat32, Precision::kBf16}) {
      ThreadPool pool(2);
      auto file = model_file::ModelFile::Open(dir / "tiny-bert");
      auto bert = Bert::Load(*std::move(file), precision, pool);
      ASSERT_TRUE(bert.ok()) << bert.status();
      PackedTokens batch;
      for (int i = 0; i < 3; ++i) {
        int64_t length = 0;
        while (length < 40 && mask[i * 40 + length] == 1) ++length;
        batch.Add({ids + i * 40, static_cast<size_t>(length)});
      }
      BertScratch scratch;
      std::vector<float> hidden(batch.size() * 64);
      ASSERT_TRUE((*bert)->Forward(batch, pool, scratch, hidden.data()).ok());
      for (int i = 0; i < 3; ++i) {
        const int64_t start = batch.starts[i], length = batch.starts[i + 1] - start;
        std::vector<float> mean(64);
        MeanPool(hidden.data() + start * 64, length, 64, mean.data());
        Normalize(mean.data(), 64);
        if (precision == Precision::kFloat32) {
          double scale = 0;
          for (float x : want) scale = std::max(scale, std::abs(double{x}));
          EXPECT_LE(MaxDifference({hidden.data() + start * 64, static_cast<size_t>(length * 64)},
                                  {want.data() + i * 40 * 64, static_cast<size_t>(length * 64)}), 1e-5 * scale);
          EXPECT_LE(MaxDifference(mean, {pooled.data() + i * 64, 64}), 1e-5);
        } else {
          EXPECT_GE(Cosine(mean.data(), pooled.data() + i * 64, 64), 0.9999);
        }
      }
    }
  }
}

TEST(Encoder, MiniLmEqualsItsFloat32Embeddings) {
  const std::string model = ModelPath("all-minilm-l6-v2"), texts_path = SharedPath("fixtures/real-models/minilm_texts.jsonl"),
                    vectors_path = SharedPath("fixtures/real-models/minilm_embeddings.npy");
  LECTERN_NEED(model);
  LECTERN_NEED(texts_path);
  std::vector<std::string> texts;
  std::vector<std::vector<int32_t>> ids;
  std::istringstream lines(ReadBytes(texts_path));
  for (std::string line; std::getline(lines, line);) {
    auto json = ParseJson(line);
    ASSERT_TRUE(json.ok());
    texts.push_back((*json)["text"].get<std::string>());
    ids.push_back((*json)["ids"].get<std::vector<int32_t>>());
  }
  ASSERT_EQ(texts.size(), 64u);
  const std::string npy = ReadBytes(vectors_path);  // magic 6, version 2, header length 2, header, data
  const size_t data = 10 + static_cast<uint8_t>(npy[8]) + 256u * static_cast<uint8_t>(npy[9]);
  ASSERT_EQ(npy.size() - data, 64u * 384 * 4);
  std::vector<float> want(64 * 384);
  std::memcpy(want.data(), npy.data() + data, want.size() * 4);
  RestoreTarget restore;
  for (CpuTarget target : SupportedCpuTargets()) {
    if (target == CpuTarget::kScalar || target == CpuTarget::kAvx512) continue;  // seconds; the tiny models cover them
    SetCpuTargetForTest(target);
    for (Precision precision : {Precision::kFloat32, Precision::kBf16}) {
      if (precision == Precision::kBf16 && target != CpuTarget::kAvx512Bf16) continue;  // the same as float32
      ThreadPool pool(2);
      auto encoder = Encoder::Open(model, {.precision = precision}, pool);
      ASSERT_TRUE(encoder.ok()) << encoder.status();
      EncodeStats stats;
      auto got = (*encoder)->Encode(Views(texts), true, &stats);
      ASSERT_TRUE(got.ok());
      EXPECT_EQ(stats.cut_texts, 4);
      std::vector<int> apart;
      double worst = 0, least = 1;
      for (int i = 0; i < 64; ++i) {
        const bool names_control = texts[i].find("[MASK]") != std::string::npos;
        std::vector<int32_t> mine = (*encoder)->tokenizer().Encode(texts[i], {.parse_special = names_control, .add_special = true});
        if (mine.size() > 256) {
          mine[255] = mine.back();
          mine.resize(256);
        }
        EXPECT_EQ(mine, ids[i]);
        if (names_control) {  // control tokens written in a text stay text for us, the reference took them for its own
          EXPECT_GT(MaxDifference({got->data() + i * 384, 384}, {want.data() + i * 384, 384}), 0.01);
          apart.push_back(i);
          continue;
        }
        worst = std::max(worst, MaxDifference({got->data() + i * 384, 384}, {want.data() + i * 384, 384}));
        least = std::min(least, Cosine(got->data() + i * 384, want.data() + i * 384, 384));
      }
      EXPECT_EQ(apart.size(), 1u);
      // That text through the network alone, on the reference's own ids.
      auto file = model_file::ModelFile::Open(model);
      auto bert = Bert::Load(*std::move(file), precision, pool);
      ASSERT_TRUE(bert.ok());
      PackedTokens batch;
      for (int i : apart) batch.Add(ids[i]);
      BertScratch scratch;
      std::vector<float> hidden(batch.size() * 384), mean(384);
      ASSERT_TRUE((*bert)->Forward(batch, pool, scratch, hidden.data()).ok());
      for (int i : apart) {
        MeanPool(hidden.data(), batch.starts[1], 384, mean.data());
        Normalize(mean.data(), 384);
        worst = std::max(worst, MaxDifference(mean, {want.data() + i * 384, 384}));
        least = std::min(least, Cosine(mean.data(), want.data() + i * 384, 384));
      }
      if (precision == Precision::kFloat32) {
        EXPECT_LE(worst, 1e-5) << CpuTargetName(target);
      }
      EXPECT_GE(least, 0.9999) << CpuTargetName(target);
      RecordProperty(std::string(CpuTargetName(target)) + (precision == Precision::kBf16 ? "_bf16" : "_f32"),
                     std::to_string(worst * 1e6) + "e-6, cosine " + std::to_string(least));
      std::printf("[   note   ] %s %s: max difference %.2e, least cosine %.7f\n", CpuTargetName(target),
                  precision == Precision::kBf16 ? "bf16" : "float32", worst, least);
    }
  }
}

}  // namespace
}  // namespace lectern::index
