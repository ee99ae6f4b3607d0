// Fitted vectors beside the raw ones: written by the hook of a build, searched where asked for and where every chunk has one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "index/collection.h"
#include "index/corpus.h"
#include "index/indexer.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class DenoiseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto encoder = Encoder::Open(std::string(LECTERN_SOURCE_DIR) + "/data/tiny/encoder", {.precision = Precision::kFloat32, .max_tokens = 64}, pool_);
    ASSERT_TRUE(encoder.ok()) << encoder.status();
    encoder_ = *std::move(encoder);
    directory_ = *DataDirectory::OpenForWriting(dir_.path());
    store_ = *DocumentStore::Open(DataDirectory::StorePath(dir_.path()), {});
    CollectionSettings settings;
    settings.chunking.tokens = 0;
    settings.chunking.overlap = 0;
    ASSERT_TRUE(SaveCollection(*store_, "c", settings).ok());
    Put("a", "the white whale swims");
    Put("b", "a blue bicycle stands in the rain");
    Put("c", "seven kinds of bread");
    options_.encoder = encoder_.get();
    options_.pool = &pool_;
  }

  void Put(const std::string& id, const std::string& text) {
    WriteBatch batch;
    Document document{.id = id, .text = text};
    document.source_sha256 = std::string(64, 'a');
    batch.Put("c", document);
    ASSERT_TRUE(store_->Commit(batch).ok());
  }

  // The best document for the text of b.
  std::string Best(bool denoise, std::vector<std::string>* degraded = nullptr, std::string query = "a blue bicycle stands in the rain") {
    auto corpus = Corpus::Open(dir_.path(), "c");
    EXPECT_TRUE(corpus.ok()) << corpus.status();
    SearchRequest request{.query = std::move(query), .k = 1};
    request.retrievers = {{.type = RetrieverSpec::Type::kDense, .denoise = denoise}};
    auto found = (*corpus)->Search(request, encoder_.get());
    EXPECT_TRUE(found.ok()) << found.status();
    if (degraded != nullptr) *degraded = found->degraded;
    settings_ = (*corpus)->settings();
    return found->hits.empty() ? "" : found->hits[0].doc_id;
  }

  testing::TempDir dir_;
  ThreadPool pool_{1};
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<DataDirectory> directory_;
  std::unique_ptr<DocumentStore> store_;
  IndexOptions options_;
  Json settings_;
};

// Each chunk gets the vector of the next one, so that a fitted search is told from a raw one.
absl::StatusOr<DenoiseResult> Shift(const DenoiseRequest& request) {
  DenoiseResult result;
  result.fitted.assign(request.vectors.begin() + request.dim, request.vectors.end());
  result.fitted.insert(result.fitted.end(), request.vectors.begin(), request.vectors.begin() + request.dim);
  *result.report = {{"on", true}, {"reason", "test"}};
  return result;
}

TEST_F(DenoiseTest, FittedVectorsAreSearchedOnlyWhereAskedFor) {
  int64_t sampled = 0;
  options_.denoise = [&](const DenoiseRequest& request) {
    sampled = static_cast<int64_t>(request.sample_texts.size());
    EXPECT_EQ(request.sample_chunks, (std::vector<int32_t>{0, 1, 2}));
    EXPECT_EQ(request.sample_texts[1], "a blue bicycle stands in the rain");
    return Shift(request);
  };
  ASSERT_TRUE(BuildIndex(*directory_, *store_, "c", options_).ok());
  EXPECT_EQ(sampled, 3);
  EXPECT_EQ(Best(false), "b");
  EXPECT_EQ(Best(true), "a");  // whose fitted vector is b's
  ASSERT_TRUE(settings_.contains("denoise"));
  EXPECT_EQ(settings_["denoise"][0]["reason"], "test");
  auto verified = VerifyIndex(dir_.path(), *store_, "c");
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_THAT(verified->problems, IsEmpty());
}

TEST_F(DenoiseTest, TheFusionScoresOtherCandidatesByFittedVectorsToo) {
  options_.denoise = Shift;
  ASSERT_TRUE(BuildIndex(*directory_, *store_, "c", options_).ok());
  auto corpus = Corpus::Open(dir_.path(), "c");
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  // BM25 finds b alone; the dense retriever keeps one candidate, a, whose fitted vector is b's raw one.
  const auto dense_score_of_b = [&](bool denoise) {
    SearchRequest request{.query = "a blue bicycle stands in the rain", .k = 3, .explain = true};
    request.retrievers = {{.type = RetrieverSpec::Type::kBm25}, {.type = RetrieverSpec::Type::kDense, .k = 1, .denoise = denoise}};
    auto found = (*corpus)->Search(request, encoder_.get());
    EXPECT_TRUE(found.ok()) << found.status();
    for (const SearchHit& hit : found->hits) {
      for (const auto& source : hit.sources) {
        if (hit.doc_id == "b" && source.retriever == "dense") return source.score;
      }
    }
    return -9.0;
  };
  EXPECT_NEAR(dense_score_of_b(false), 1, 1e-4);
  EXPECT_LT(dense_score_of_b(true), .99);   // the fitted vector of b is c's
}

TEST_F(DenoiseTest, WithoutAnEncoderTheHookIsAskedAndItsReportKept) {
  options_.encoder = nullptr;
  options_.denoise = [](const DenoiseRequest& request) -> absl::StatusOr<DenoiseResult> {
    EXPECT_EQ(request.dim, 0);
    EXPECT_TRUE(request.vectors.empty() && request.sample_chunks.empty());
    return DenoiseResult{.report = Json{{"on", false}, {"reason", "nothing to fit"}}};
  };
  ASSERT_TRUE(BuildIndex(*directory_, *store_, "c", options_).ok());
  auto corpus = Corpus::Open(dir_.path(), "c");
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_EQ((*corpus)->settings()["denoise"][0]["reason"], "nothing to fit");
}

TEST_F(DenoiseTest, AHookOfAnotherShapeIsRefused) {
  options_.denoise = [](const DenoiseRequest&) -> absl::StatusOr<DenoiseResult> { return DenoiseResult{.fitted = {1, 0}}; };
  EXPECT_EQ(BuildIndex(*directory_, *store_, "c", options_).status().code(), absl::StatusCode::kInternal);
}

TEST_F(DenoiseTest, AfterAnUpdateAllAreSearchedByRawVectorsUntilABuild) {
  options_.denoise = Shift;
  ASSERT_TRUE(BuildIndex(*directory_, *store_, "c", options_).ok());
  Put("d", "an engine made of brass");
  ASSERT_TRUE(UpdateIndex(*directory_, *store_, "c", options_).ok());
  std::vector<std::string> degraded;
  EXPECT_EQ(Best(true, &degraded), "b");
  EXPECT_THAT(degraded, ElementsAre("not-denoised"));
  EXPECT_EQ(Best(true, nullptr, "an engine made of brass"), "d");
  EXPECT_TRUE(settings_.contains("denoise"));
  ASSERT_TRUE(BuildIndex(*directory_, *store_, "c", options_).ok());
  EXPECT_EQ(Best(true, &degraded), "a");
  EXPECT_THAT(degraded, IsEmpty());
}

TEST_F(DenoiseTest, WithoutFittedVectorsTheRawOnesAnswerAndTheResponseSaysSo) {
  ASSERT_TRUE(BuildIndex(*directory_, *store_, "c", options_).ok());
  std::vector<std::string> degraded;
  EXPECT_EQ(Best(true, &degraded), "b");
  EXPECT_THAT(degraded, ElementsAre("not-denoised"));
  EXPECT_EQ(Best(false, &degraded), "b");
  EXPECT_THAT(degraded, IsEmpty());
}

TEST_F(DenoiseTest, AHookThatFailsPublishesNothing) {
  options_.denoise = [](const DenoiseRequest&) -> absl::StatusOr<DenoiseResult> { return Internal("no luck"); };
  EXPECT_EQ(BuildIndex(*directory_, *store_, "c", options_).status().message(), "no luck");
  EXPECT_FALSE(Corpus::Open(dir_.path(), "c").ok());
}

}  // namespace
}  // namespace lectern::index
