// Real GGUF files against float32 reference logits: no further from them than llama.cpp is.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "base/json.h"
#include "base/nn/activations.h"
#include "decoder/model.h"
#include "tests/support/temp_dir.h"

namespace lectern::decoder {
namespace {

struct RealModel {
  const char* fixture;
  const char* file;
};
constexpr RealModel kModels[] = {
    {"qwen2.5-coder-0.5b", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"},
    {"smollm2-135m", "smollm2-135m-instruct-q4_1.gguf"},
    {"gemma3-270m", "gemma3-270m-q4_k_m.gguf"},
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

class RealModelGolden : public ::testing::TestWithParam<std::tuple<RealModel, nn::Arithmetic>> {};

TEST_P(RealModelGolden, LogitsAreNoFurtherFromFloat32ThanThoseOfLlamaCpp) {
  const auto& [real, arithmetic] = GetParam();
  const std::string folder = testing::SharedPath("fixtures/real-models"), path = testing::ModelPath(real.file);
  LECTERN_NEED(folder);
  LECTERN_NEED(path);
  const Json reference = *ParseJson(testing::ReadBytes(folder + "/" + real.fixture + ".reference.json"));
  const Json truth = *ParseJson(testing::ReadBytes(folder + "/" + real.fixture + ".float32.json"));
  const auto file = model_file::ModelFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  ThreadPool pool(ThreadPool::HardwareThreads());
  auto model = Model::Load(**file, {.arithmetic = arithmetic, .max_context_tokens = 4096}, pool);
  ASSERT_TRUE(model.ok()) << model.status();
  const int64_t vocab = (*model)->config().vocab_size;

  std::vector<double> ours, theirs;
  int64_t compared = 0;
  for (size_t p = 0; p < truth["prompts"].size(); ++p) {
    const Json& want = truth["prompts"][p];
    std::vector<int32_t> ids = reference["prompts"][p]["prompt_ids"].get<std::vector<int32_t>>();
    const size_t prompt_tokens = ids.size();
    const auto greedy = reference["prompts"][p]["greedy_ids"].get<std::vector<int32_t>>();
    ids.insert(ids.end(), greedy.begin(), greedy.end());
    KvCache cache = *(*model)->NewCache(4096);
    for (size_t at = 0; at < prompt_tokens; at += kMaxChunk) {
      const size_t n = std::min<size_t>(kMaxChunk, prompt_tokens - at);
      ASSERT_TRUE((*model)->Forward({ids.data() + at, n}, cache, {}).ok());
    }
    const double allowed = want["max_abs_llama_cpp"].get<double>();
    double worst = 0;
    for (size_t step = 0; step < want["top"].size(); ++step) {
      if (step > 0) {
        ASSERT_TRUE((*model)->Forward({ids.data() + prompt_tokens + step - 1, 1}, cache, {}).ok());
      }
      const std::span<const float> logits = (*model)->logits();
      const Json& top = want["top"][step];
      for (size_t i = 0; i < top["ids"].size(); ++i) {
        worst = std::max(worst, std::abs(logits[top["ids"][i].get<int64_t>()] - top["logits"][i].get<double>()));
      }
      if (top["margin"].get<double>() > 2 * allowed) {
        ++compared;
        EXPECT_EQ(nn::ArgMax(logits.data(), vocab), top["ids"][0].get<int64_t>())
            << want["id"] << " step " << step << " margin " << top["margin"];
      }
    }
    ours.push_back(worst);
    theirs.push_back(allowed);
  }
  EXPECT_GT(compared, 0);
  EXPECT_LE(Median(ours), Median(theirs));
  EXPECT_LE(*std::max_element(ours.begin(), ours.end()), *std::max_element(theirs.begin(), theirs.end()));
  RecordProperty("median", std::to_string(Median(ours)));
  RecordProperty("worst", std::to_string(*std::max_element(ours.begin(), ours.end())));
  std::cerr << real.fixture << (arithmetic == nn::Arithmetic::kExact ? " exact" : " fast") << ": median "
            << Median(ours) << " worst " << *std::max_element(ours.begin(), ours.end()) << "; llama.cpp "
            << Median(theirs) << " " << *std::max_element(theirs.begin(), theirs.end()) << "; " << compared
            << " argmaxes compared\n";
}

INSTANTIATE_TEST_SUITE_P(Gguf, RealModelGolden,
                         ::testing::Combine(::testing::ValuesIn(kModels),
                                            ::testing::Values(nn::Arithmetic::kExact, nn::Arithmetic::kFast)),
                         [](const auto& info) {
                           std::string name = std::get<0>(info.param).fixture;
                           std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
                           return name + (std::get<1>(info.param) == nn::Arithmetic::kExact ? "Exact" : "Fast");
                         });

}  // namespace
}  // namespace lectern::decoder
