#include "decoder/model_file/model_file.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/temp_dir.h"

namespace lectern::model_file {
namespace {

using ::lectern::testing::ModelPath;
using ::lectern::testing::SharedPath;
using ::lectern::testing::TempDir;

TEST(ModelFile, OpensRealGgufFilesWithTheTensorsTheyDocument) {
  const std::string path = ModelPath("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
  LECTERN_NEED(path);
  auto file = ModelFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->container(), Container::kGguf);
  EXPECT_EQ((*file)->tensors().size(), 291u);
  EXPECT_EQ(*(*file)->Int("qwen2.block_count"), 24);
  EXPECT_DOUBLE_EQ(*(*file)->Number("qwen2.rope.freq_base"), 1e6);
  EXPECT_EQ((*file)->Strings("tokenizer.ggml.tokens")->size(), 151936u);
  const TensorInfo* embedding = (*file)->Find("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->shape, (std::vector<int64_t>{151936, 896}));
  EXPECT_EQ((*file)->Find("output.weight")->type, DType::kQ8_0);
  EXPECT_EQ((*file)->total_bytes(), 491400064);
}

TEST(ModelFile, OpensAHuggingFaceFolder) {
  const std::string path = ModelPath("all-minilm-l6-v2");
  LECTERN_NEED(path);
  auto file = ModelFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*(*file)->Int("hidden_size"), 384);
  EXPECT_EQ((*file)->Find("embeddings.word_embeddings.weight")->shape, (std::vector<int64_t>{30522, 384}));
  EXPECT_TRUE((*file)->ReadCompanion("tokenizer.json").ok());
  EXPECT_EQ((*file)->ReadCompanion("../x").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(*(*file)->Sha256(), "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db");
}

TEST(ModelFile, OpensEveryTinyModel) {
  const std::string archive = SharedPath("fixtures/tiny-models.tar.xz");
  LECTERN_NEED(archive);
  TempDir dir;
  ASSERT_EQ(std::system(("tar -C '" + dir.path() + "' -xf '" + archive + "'").c_str()), 0);
  for (const char* name : {"tiny-llama3", "tiny-qwen2", "tiny-qwen3", "tiny-gemma3", "tiny-bert"}) {
    auto file = ModelFile::Open(dir / name);
    ASSERT_TRUE(file.ok()) << name << ": " << file.status();
    EXPECT_GT((*file)->tensors().size(), 10u) << name;
    auto reference = ModelFile::Open(dir / name + "/reference.safetensors");
    ASSERT_TRUE(reference.ok()) << name << ": " << reference.status();
  }
}

}  // namespace
}  // namespace lectern::model_file
