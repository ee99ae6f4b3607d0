// What a model file must not say, and how it is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "decoder/model_file/gguf.h"
#include "decoder/model_file/metadata.h"
#include "decoder/model_file/model_file.h"
#include "decoder/model_file/safetensors.h"
#include "tests/decoder/small_models.h"
#include "tests/support/temp_dir.h"

namespace lectern::model_file {
namespace {

using ::testing::HasSubstr;
using testing::GgufBuilder;
using testing::SafetensorsOf;
using testing::TempDir;
using testing::WriteBytes;

std::span<const std::byte> BytesOf(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

void ExpectGguf(const std::string& bytes, absl::StatusCode code, const std::string& part) {
  const auto status = ParseGguf(BytesOf(bytes)).status();
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(part));
}

void ExpectSafetensors(const std::string& bytes, absl::StatusCode code, const std::string& part) {
  std::vector<TensorInfo> tensors;
  const auto status = ParseSafetensors(BytesOf(bytes), &tensors);
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  EXPECT_TRUE(tensors.empty());
}

constexpr auto kDamaged = absl::StatusCode::kDataLoss;
constexpr auto kUnknown = absl::StatusCode::kUnimplemented;

TEST(Gguf, RefusesEveryCutOfAValidFile) {
  const std::string valid = testing::SmallGguf();
  ASSERT_TRUE(ParseGguf(BytesOf(valid)).ok());
  for (size_t size = 0; size < valid.size(); size += size < 256 ? 1 : 7) {
    const auto status = ParseGguf(BytesOf(valid.substr(0, size))).status();
    EXPECT_EQ(status.code(), kDamaged) << "cut to " << size << ": " << status;
  }
}

TEST(Gguf, NamesVersionsAndTypesItDoesNotKnow) {
  const std::string data(64, 'x');
  ExpectGguf("GGML" + testing::SmallGguf().substr(4), kDamaged, "does not begin with 'GGUF'");
  ExpectGguf(GgufBuilder().Build(1), kUnknown, "GGUF version 1");
  ExpectGguf(GgufBuilder().Build(4), kUnknown, "GGUF version 4");
  ExpectGguf(GgufBuilder().Build(0x03000000), kUnknown, "big-endian");
  ExpectGguf(GgufBuilder().Tensor("w", 10, {256}, data).Build(), kUnknown, "'w' has type Q2_K");
  ExpectGguf(GgufBuilder().Tensor("w", 4, {32}, data).Build(), kUnknown, "'w' has the unknown type number 4");
  ExpectGguf(GgufBuilder().U32("split.count", 3).Build(), kUnknown, "one of 3 parts");
}

TEST(Gguf, ChecksOffsetsProductsOverlapAndAlignment) {
  const std::string data(64, 'x');
  ExpectGguf(GgufBuilder().Record("a", 0, {16}, 0, data).Record("b", 0, {8}, 32, "").Build(), kDamaged, "overlap");
  ExpectGguf(GgufBuilder().Record("a", 0, {4}, 8, data).Build(), kDamaged, "no multiple of the alignment 32");
  ExpectGguf(GgufBuilder().Record("a", 0, {4}, uint64_t{1} << 63, data).Build(), kDamaged, "the file has 64");
  ExpectGguf(GgufBuilder().Record("a", 0, {17}, 0, data).Build(), kDamaged, "takes 68 bytes");
  ExpectGguf(GgufBuilder().Record("a", 0, {uint64_t{1} << 62, 4}, 0, data).Build(), kDamaged, "passes 64 bits");
  ExpectGguf(GgufBuilder().Record("a", 0, {1, uint64_t{1} << 40, uint64_t{1} << 40}, 0, data).Build(), kDamaged, "past 64 bits");
  ExpectGguf(GgufBuilder().Record("a", 0, {~uint64_t{0}}, 0, data).Build(), kDamaged, "an axis of 18446744073709551615");
  ExpectGguf(GgufBuilder().Record("a", 0, {0}, 0, data).Build(), kDamaged, "an axis of 0");
  ExpectGguf(GgufBuilder().Record("a", 0, {}, 0, data).Build(), kDamaged, "must have 1..4 axes, it has 0");
  ExpectGguf(GgufBuilder().Record("a", 8, {33}, 0, data).Build(), kDamaged, "32-element blocks of Q8_0");
  ExpectGguf(GgufBuilder().Tensor("a", 0, {4}, data).Tensor("a", 0, {4}, data).Build(), kDamaged, "'a' twice");
  ExpectGguf(GgufBuilder().U32("k", 1).U32("k", 2).Build(), kDamaged, "'k' twice");
  ExpectGguf(GgufBuilder().U32("general.alignment", 48).Build(), kDamaged, "a power of two");
}

TEST(Gguf, ReadsScalarsAndArraysAndKeepsTypesApart) {
  const std::string bytes = GgufBuilder()
                                .U32("u", 7).F32("f", 0.5f).Bool("b", true).String("s", "text")
                                .Strings("ss", {"a", "", "c"}).Ints("is", {-1, 2}).Floats("fs", {1.5f}).Build();
  const auto contents = ParseGguf(BytesOf(bytes));
  ASSERT_TRUE(contents.ok()) << contents.status();
  const Metadata& m = contents->metadata;
  EXPECT_EQ(*m.Int("u"), 7);
  EXPECT_EQ(*m.Number("u"), 7.0);
  EXPECT_EQ(*m.Number("f"), 0.5);
  EXPECT_TRUE(*m.Bool("b"));
  EXPECT_EQ(*m.String("s"), "text");
  EXPECT_THAT(*m.Strings("ss"), ::testing::ElementsAre("a", "", "c"));
  EXPECT_THAT(*m.Ints("is"), ::testing::ElementsAre(-1, 2));
  EXPECT_THAT(*m.Numbers("is"), ::testing::ElementsAre(-1, 2));
  EXPECT_THAT(*m.Numbers("fs"), ::testing::ElementsAre(1.5));
  EXPECT_EQ(m.Int("s").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(m.Int("f").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(m.Strings("is").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(m.Ints("fs").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(m.Int("none").status().code(), absl::StatusCode::kNotFound);
}

TEST(Safetensors, ChecksOffsetsProductsOverlapAlignmentAndHoles) {
  const auto header = [](const char* type, const char* shape, const char* offsets) {
    return internal::Concat(R"({"a":{"dtype":")", type, R"(","shape":)", shape, R"(,"data_offsets":)", offsets, "}}");
  };
  const std::string data(16, 'x');
  ExpectSafetensors("short", kDamaged, "at least 8 bytes");
  ExpectSafetensors(std::string(8, '\xff') + "{}", kDamaged, "the file has 2");
  ExpectSafetensors(SafetensorsOf("[]", ""), kDamaged, "must be a JSON object");
  ExpectSafetensors(SafetensorsOf("{", ""), kDamaged, "not valid JSON");
  ExpectSafetensors(SafetensorsOf(header("F64", "[2]", "[0,16]"), data), kUnknown, "'a' has type 'F64'");
  ExpectSafetensors(SafetensorsOf(header("F32", "[5]", "[0,20]"), data), kDamaged, "end <= 16");
  ExpectSafetensors(SafetensorsOf(header("F32", "[4]", "[16,0]"), data), kDamaged, "begin <= end");
  ExpectSafetensors(SafetensorsOf(header("F32", "[3]", "[0,16]"), data), kDamaged, "ask for 12");
  ExpectSafetensors(SafetensorsOf(header("F32", "[-4]", "[0,16]"), data), kDamaged, "from 0 to 2^63");
  ExpectSafetensors(SafetensorsOf(header("F32", "[4611686018427387904,4]", "[0,16]"), data), kDamaged, "passes 64 bits");
  ExpectSafetensors(SafetensorsOf(header("F32", "[2]", "[8,16]"), data), kDamaged, "its header places 8");
  ExpectSafetensors(SafetensorsOf(header("U8", "[1,1,1,1,1,1,1,1,16]", "[0,16]"), data), kDamaged, "more than 8");
  ExpectSafetensors(SafetensorsOf(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
                                  std::string(5, 'x')), kDamaged, "not aligned for F32");
  ExpectSafetensors(SafetensorsOf(R"({"b":{"dtype":"U8","shape":[9],"data_offsets":[0,9]},"a":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}})", data),
                    kDamaged, "overlap");
}

TEST(HuggingFaceFolder, FollowsItsIndexAndRefusesWhatContradictsIt) {
  TempDir dir;
  WriteBytes(dir / "config.json", testing::SmallConfig());
  EXPECT_EQ(ModelFile::Open(dir.path()).status().code(), absl::StatusCode::kNotFound);
  WriteBytes(dir / "pytorch_model.bin", "x");
  EXPECT_THAT(std::string(ModelFile::Open(dir.path()).status().message()), HasSubstr("pytorch_model.bin"));
  WriteBytes(dir / "one.safetensors", SafetensorsOf(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"));
  WriteBytes(dir / "two.safetensors", SafetensorsOf(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "yz"));
  const auto open = [&](const std::string& weight_map) {
    WriteBytes(dir / "model.safetensors.index.json", "{\"weight_map\":" + weight_map + "}");
    return ModelFile::Open(dir.path());
  };
  auto file = open(R"({"b":"two.safetensors","a":"one.safetensors"})");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->tensors().size(), 2u);
  EXPECT_EQ((*file)->Find("b")->bytes.size(), 2u);
  EXPECT_EQ((*file)->Find("c"), nullptr);
  EXPECT_EQ(*(*file)->Int("hidden_size"), 64);
  EXPECT_EQ(*(*file)->Number("rope_scaling.factor"), 8.0);
  EXPECT_EQ((*file)->Sha256()->size(), 64u);
  EXPECT_THAT(std::string(open(R"({"a":"two.safetensors"})").status().message()), HasSubstr("does not hold it"));
  EXPECT_THAT(std::string(open(R"({"a":"../one.safetensors"})").status().message()), HasSubstr("no file name"));
  EXPECT_EQ(open(R"({"a":"gone.safetensors"})").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(open("7").status().code(), kDamaged);
}

TEST(ModelFile, SaysWhatAPathIsNot) {
  TempDir dir;
  EXPECT_EQ(ModelFile::Open(dir / "none.gguf").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ModelFile::Open(dir.path()).status().code(), absl::StatusCode::kNotFound);
  WriteBytes(dir / "empty.gguf", "");
  EXPECT_EQ(ModelFile::Open(dir / "empty.gguf").status().code(), kDamaged);
}

}  // namespace
}  // namespace lectern::model_file
