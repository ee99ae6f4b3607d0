#include "index/dense_index.h"
#include "index/top_k.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <thread>

#include "base/cpu_target.h"
#include "base/file.h"
#include "base/rng.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

using ::testing::HasSubstr;
using lectern::testing::ReadBytes;
using lectern::testing::TempDir;
using lectern::testing::WriteBytes;

// Unit vectors; around `centres` points where that is not 0, as embeddings of texts lie.
std::vector<float> UnitVectors(int64_t n, int64_t dim, uint64_t seed, int64_t centres = 0, double spread = 0.7) {
  std::vector<float> x(static_cast<size_t>(n * dim));
  std::vector<double> row(static_cast<size_t>(dim));
  for (int64_t i = 0; i < n; ++i) {
    Rng rng(seed, 1000 + i);
    double squares = 0;
    if (centres > 0) {
      Rng at(99, rng.Below(centres));
      for (double& v : row) v = at.Normal() + spread * rng.Normal();
    } else {
      for (double& v : row) v = rng.Normal();
    }
    for (double v : row) squares += v * v;
    for (int64_t j = 0; j < dim; ++j) x[i * dim + j] = static_cast<float>(row[j] / std::sqrt(squares));
  }
  return x;
}

std::vector<int64_t> TrueBest(const std::vector<float>& x, int64_t dim, const float* query, int64_t k,
                              const std::function<bool(int64_t)>& allowed = nullptr) {
  std::vector<std::pair<double, int64_t>> all;
  for (int64_t i = 0; i < static_cast<int64_t>(x.size()) / dim; ++i) {
    if (allowed != nullptr && !allowed(i)) continue;
    double sum = 0;
    for (int64_t j = 0; j < dim; ++j) sum += double{x[i * dim + j]} * query[j];
    all.push_back({-sum, i});
  }
  std::sort(all.begin(), all.end());
  std::vector<int64_t> best;
  for (int64_t i = 0; i < std::min<int64_t>(k, all.size()); ++i) best.push_back(all[i].second);
  return best;
}

std::unique_ptr<DenseIndex> Build(std::vector<float> x, int64_t dim, DenseBuildOptions options = {}) {
  ThreadPool pool(2);
  auto index = DenseIndex::Build(std::move(x), dim, options, pool);
  EXPECT_TRUE(index.ok()) << index.status();
  return *std::move(index);
}

std::vector<int64_t> Chunks(const std::vector<DenseHit>& hits) {
  std::vector<int64_t> chunks;
  for (const DenseHit& hit : hits) chunks.push_back(hit.chunk);
  return chunks;
}

double Recall(const DenseIndex& index, const std::vector<float>& x, const std::vector<float>& queries, int64_t dim, int ef) {
  int64_t found = 0, wanted = 0;
  for (int64_t q = 0; q < static_cast<int64_t>(queries.size()) / dim; ++q) {
    const float* query = &queries[q * dim];
    const std::vector<int64_t> truth = TrueBest(x, dim, query, 10);
    auto hits = index.Search({query, static_cast<size_t>(dim)}, {.k = 10, .ef = ef});
    EXPECT_TRUE(hits.ok());
    for (const DenseHit& hit : *hits) found += std::count(truth.begin(), truth.end(), hit.chunk);
    wanted += static_cast<int64_t>(truth.size());
  }
  return static_cast<double>(found) / static_cast<double>(wanted);
}

struct RestoreTarget {
  CpuTarget before = ActiveCpuTarget();
  ~RestoreTarget() { SetCpuTargetForTest(before); }
};

absl::StatusOr<std::unique_ptr<DenseIndex>> OpenFiles(const std::string& path, const SegmentEntry& entry) {
  ASSIGN_OR_RETURN(SegmentFiles files, SegmentFiles::Map(path, entry));
  return DenseIndex::Open(files);
}

TEST(DenseIndex, FlatEqualsTheDoubleRankingOnEveryTargetAndOddSizes) {
  RestoreTarget restore;
  for (CpuTarget target : SupportedCpuTargets()) {
    SetCpuTargetForTest(target);
    for (int64_t dim : {1, 3, 64, 100, 384}) {
      for (int64_t n : {1, 5, 256, 700}) {
        const std::vector<float> x = UnitVectors(n, dim, 5), queries = UnitVectors(4, dim, 6);
        const auto index = Build(x, dim);
        for (int q = 0; q < 4; ++q) {
          for (int64_t k : {1, 10, 1000}) {
            auto hits = index->Search({&queries[q * dim], static_cast<size_t>(dim)}, {.k = k});
            ASSERT_TRUE(hits.ok());
            if (dim > 1) {  // in one dimension all scores are equal
              EXPECT_EQ(Chunks(*hits), TrueBest(x, dim, &queries[q * dim], k)) << CpuTargetName(target) << " " << n << "x" << dim;
            }
            EXPECT_EQ(static_cast<int64_t>(hits->size()), std::min(k, n));
          }
        }
      }
    }
  }
}

TEST(DenseIndex, FlatIsExactWhereManyVectorsAlmostTie) {
  const int64_t dim = 96, n = 3000;
  std::vector<float> x = UnitVectors(n, dim, 8, /*centres=*/1, /*spread=*/0.01);
  const auto index = Build(x, dim);
  for (int q = 0; q < 20; ++q) {
    const float* query = &x[q * 7 * dim];
    auto hits = index->Search({query, dim}, {.k = 25});
    ASSERT_TRUE(hits.ok());
    // Differences near float32's own rounding may swap neighbours: scores, not ids, are compared.
    const std::vector<int64_t> truth = TrueBest(x, dim, query, 25);
    for (int i = 0; i < 25; ++i) {
      double want = 0;
      for (int64_t j = 0; j < dim; ++j) want += double{x[truth[i] * dim + j]} * query[j];
      EXPECT_NEAR((*hits)[i].score, want, 5e-7);
    }
  }
}

TEST(DenseIndex, EqualVectorsRankByChunk) {
  const int64_t dim = 32;
  const std::vector<float> one = UnitVectors(1, dim, 3);
  for (DenseKind kind : {DenseKind::kFlat, DenseKind::kHnsw}) {
    std::vector<float> x = UnitVectors(5000, dim, 4);
    for (int64_t at : {4000, 17, 2500}) std::copy(one.begin(), one.end(), x.begin() + at * dim);
    const auto index = Build(x, dim, {.kind = kind, .ef_construction = 40});
    auto hits = index->Search(one, {.k = 3});
    ASSERT_TRUE(hits.ok());
    EXPECT_EQ(Chunks(*hits), (std::vector<int64_t>{17, 2500, 4000}));
    EXPECT_EQ((*hits)[0].score, (*hits)[2].score);
  }
}

TEST(DenseIndex, HnswFindsNineOfTenOfRandomAndNearlyAllOfClusteredVectors) {
  const int64_t dim = 64, n = 5000;
  {
    const std::vector<float> x = UnitVectors(n, dim, 1), queries = UnitVectors(60, dim, 2);
    EXPECT_GE(Recall(*Build(x, dim, {.kind = DenseKind::kHnsw}), x, queries, dim, 300), 0.90);
  }
  {
    const std::vector<float> x = UnitVectors(n, dim, 1, 60), queries = UnitVectors(60, dim, 2, 60);
    EXPECT_GE(Recall(*Build(x, dim, {.kind = DenseKind::kHnsw}), x, queries, dim, 128), 0.98);
  }
}

TEST(DenseIndex, HnswScoresHaveTheBitsOfFlatScores) {
  const int64_t dim = 48;
  const std::vector<float> x = UnitVectors(5000, dim, 1, 40), queries = UnitVectors(20, dim, 2, 40);
  const auto flat = Build(x, dim), hnsw = Build(x, dim, {.kind = DenseKind::kHnsw, .ef_construction = 60});
  for (int q = 0; q < 20; ++q) {
    auto a = flat->Search({&queries[q * dim], dim}, {.k = 50}), b = hnsw->Search({&queries[q * dim], dim}, {.k = 10, .ef = 200});
    std::map<int64_t, float> scores;
    for (const DenseHit& hit : *a) scores[hit.chunk] = hit.score;
    for (const DenseHit& hit : *b) {
      if (scores.contains(hit.chunk)) {
        EXPECT_EQ(scores[hit.chunk], hit.score);
      }
    }
  }
}

TEST(DenseIndex, FiltersGiveExactlyKAllowedChunksHoweverNarrow) {
  const int64_t dim = 32, n = 6000;
  const std::vector<float> x = UnitVectors(n, dim, 1), queries = UnitVectors(10, dim, 2);
  for (DenseKind kind : {DenseKind::kFlat, DenseKind::kHnsw}) {
    const auto index = Build(x, dim, {.kind = kind, .ef_construction = 40});
    for (int64_t every : {2, 10, 500, 3000}) {
      const auto allowed = [&](int64_t chunk) { return chunk % every == 0; };
      for (int q = 0; q < 10; ++q) {
        auto hits = index->Search({&queries[q * dim], dim}, {.k = 10, .ef = 100, .allowed = allowed});
        ASSERT_TRUE(hits.ok());
        ASSERT_EQ(static_cast<int64_t>(hits->size()), std::min<int64_t>(10, n / every));
        for (const DenseHit& hit : *hits) EXPECT_EQ(hit.chunk % every, 0);
        const std::vector<int64_t> truth = TrueBest(x, dim, &queries[q * dim], 10, allowed);
        if (kind == DenseKind::kFlat || every >= 500) {
          EXPECT_EQ(Chunks(*hits), truth);
        }
      }
    }
    auto none = index->Search({queries.data(), dim}, {.k = 10, .allowed = [](int64_t) { return false; }});
    ASSERT_TRUE(none.ok());
    EXPECT_TRUE(none->empty());
  }
}

TEST(DenseIndex, TheSameVectorsGiveTheSameFiles) {
  const int64_t dim = 24;
  std::string first[2];
  for (int threads : {1, 3}) {
    TempDir dir;
    ThreadPool pool(threads);
    auto index = DenseIndex::Build(UnitVectors(3000, dim, 1), dim, {.kind = DenseKind::kHnsw, .ef_construction = 40}, pool);
    SegmentFolder folder(FileSystem::Posix(), dir.path(), "segment-000001");
    ASSERT_TRUE((*index)->Write(folder).ok());
    for (int i = 0; i < 2; ++i) {
      const std::string bytes = ReadBytes(dir / (i == 0 ? "vectors.bin" : "hnsw.bin"));
      EXPECT_GT(bytes.size(), 1000u);
      if (first[i].empty()) first[i] = bytes;
      EXPECT_TRUE(bytes == first[i]);
    }
  }
}

TEST(DenseIndex, WhatIsWrittenOpensAndAnswersAlike) {
  for (DenseKind kind : {DenseKind::kFlat, DenseKind::kHnsw}) {
    for (int64_t n : {0, 1, 77, 5000}) {
      const int64_t dim = 40;
      TempDir dir;
      const std::vector<float> x = UnitVectors(n, dim, 1, 30), queries = UnitVectors(8, dim, 2, 30);
      const auto built = Build(x, dim, {.kind = kind, .ef_construction = 40});
      SegmentFolder folder(FileSystem::Posix(), dir.path(), "segment-000001");
      auto files = built->Write(folder);
      ASSERT_TRUE(files.ok()) << files.status();
      auto opened = OpenFiles(dir.path(), {.folder = "segment-000001", .files = *files});
      ASSERT_TRUE(opened.ok()) << opened.status();
      EXPECT_EQ((*opened)->kind(), kind);
      EXPECT_EQ((*opened)->size(), n);
      EXPECT_EQ((*opened)->dim(), dim);
      if (n > 0) {
        EXPECT_TRUE(std::ranges::equal((*opened)->Vector(n - 1), built->Vector(n - 1)));
      }
      for (int q = 0; q < 8; ++q) {
        auto a = built->Search({&queries[q * dim], dim}, {.k = 9}), b = (*opened)->Search({&queries[q * dim], dim}, {.k = 9});
        ASSERT_TRUE(a.ok() && b.ok());
        EXPECT_EQ(Chunks(*a), Chunks(*b));
      }
    }
  }
}

TEST(DenseIndex, RefusesWhatIsNotVectors) {
  ThreadPool pool(2);
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (float bad : {nan, inf, -inf, 1e30f}) {
    std::vector<float> x = UnitVectors(20, 8, 1);
    x[83] = bad;
    x[91] = bad;
    const absl::Status status = DenseIndex::Build(x, 8, {}, pool).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("row 10 has"));
    const auto index = Build(UnitVectors(20, 8, 1), 8);
    std::vector<float> query(8, 0.5f);
    query[3] = bad;
    EXPECT_EQ(index->Search(query, {}).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(DenseIndex::Build({1, 2, 3}, 2, {}, pool).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DenseIndex::Build({1, 2}, 0, {}, pool).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DenseIndex::Build({1, 2}, 2, {.kind = DenseKind::kHnsw, .m = 1}, pool).status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto index = Build(UnitVectors(20, 8, 1), 8);
  const std::vector<float> query(8, 0.5f);
  for (int64_t k : {int64_t{0}, int64_t{-1}, kMaxCandidates + 1}) {
    const absl::Status status = index->Search(query, {.k = k}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("k must be in 1..100000"));
  }
  EXPECT_EQ(index->Search({query.data(), 7}, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index->Search(query, {.ef = 0}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(DenseIndex, ZeroVectorsAreOrdinary) {
  std::vector<float> x = UnitVectors(10, 16, 1);
  std::fill(x.begin(), x.begin() + 16, 0.0f);
  const auto index = Build(x, 16);
  auto hits = index->Search(std::vector<float>(16, 0.0f), {.k = 3});
  ASSERT_TRUE(hits.ok());
  EXPECT_EQ(Chunks(*hits), (std::vector<int64_t>{0, 1, 2}));
}

class DamagedFiles : public ::testing::Test {
 protected:
  DamagedFiles() {
    const auto built = Build(UnitVectors(300, 16, 1), 16, {.kind = DenseKind::kHnsw, .m = 4});
    SegmentFolder folder(FileSystem::Posix(), dir_.path(), "segment-000001");
    entry_.files = *built->Write(folder);
    ThreadPool pool(1);
    entry_.files.push_back(*DenseIndex::WriteFitted(UnitVectors(300, 16, 2), 16, folder, pool));
  }
  // Opens and searches both kinds of vectors.
  absl::Status OpenAll() const {
    ASSIGN_OR_RETURN(SegmentFiles files, SegmentFiles::Map(dir_.path(), entry_));
    ASSIGN_OR_RETURN(const std::unique_ptr<DenseIndex> vectors, DenseIndex::Open(files));
    ASSIGN_OR_RETURN(const std::unique_ptr<DenseIndex> fitted, DenseIndex::OpenFitted(files));
    for (const DenseIndex* index : {vectors.get(), fitted.get()}) {
      const std::vector<float> query(static_cast<size_t>(index->dim()), 0.25f);
      for (const int64_t k : {3, 1000}) {
        ASSIGN_OR_RETURN(const std::vector<DenseHit> hits, index->Search(query, {.k = k, .ef = 8}));
        for (const DenseHit& hit : hits) EXPECT_LT(hit.chunk, index->size());
      }
    }
    return absl::OkStatus();
  }
  TempDir dir_;
  SegmentEntry entry_;
};

TEST_F(DamagedFiles, EveryMutationIsDataLossByItsChecksum) {
  for (const FileEntry& file : entry_.files) {
    const std::string whole = ReadBytes(dir_ / file.name);
    testing::Mutations mutations(file.name);
    while (mutations.Next()) {
      WriteBytes(dir_ / file.name, mutations.Of(whole));
      const absl::Status opened = OpenAll();
      ASSERT_EQ(opened.code(), absl::StatusCode::kDataLoss) << file.name << " mutation " << mutations.seed();
      mutations.Count(opened);
    }
    WriteBytes(dir_ / file.name, whole);
  }
  EXPECT_TRUE(OpenAll().ok());
}

// The parsers must also stand on their own: a writer's bug would carry a right checksum.
TEST_F(DamagedFiles, EveryMutationWithARightChecksumIsRefusedOrReadWithinTheFile) {
  for (FileEntry& file : entry_.files) {
    const std::string whole = ReadBytes(dir_ / file.name);
    const FileEntry right = file;
    testing::Mutations mutations(file.name + ", its checksum made right");
    while (mutations.Next()) {
      const std::string bytes = mutations.Of(whole);
      WriteBytes(dir_ / file.name, bytes);
      file.length = static_cast<int64_t>(bytes.size());
      file.xxh3 = Hash64(bytes);
      mutations.Count(OpenAll());
    }
    WriteBytes(dir_ / file.name, whole);
    file = right;
    EXPECT_GT(mutations.refused(), 200);
  }
}

// A damage among twenty thousand, once met: FAISS finds it itself, and its exception is no fault of the program.
// FAISS throws where its storage's rows and vectors differ, and leaks: it must never see such a file.
TEST_F(DamagedFiles, AGraphWhoseEmptyStorageClaimsARowOrAVectorIsDataLoss) {
  for (FileEntry& file : entry_.files) {
    if (file.name != "hnsw.bin") continue;
    const std::string sound = ReadBytes(dir_ / file.name);
    const size_t storage = sound.rfind("IxFI");   // kind, dimensions, rows; its last eight bytes count the vectors' bytes
    ASSERT_NE(storage, std::string::npos);
    std::string row = sound, vector = sound;
    row[storage + 8] = 1;
    vector[sound.size() - 8] = 4;
    vector.append(16, '\0');
    for (const std::string& bytes : {row, vector}) {
      WriteBytes(dir_ / file.name, bytes);
      file.length = static_cast<int64_t>(bytes.size());
      file.xxh3 = Hash64(bytes);
      const absl::Status status = OpenAll();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      EXPECT_THAT(status.message(), ::testing::HasSubstr("hnsw.bin"));
      EXPECT_THAT(status.message(), ::testing::HasSubstr("a flat index of no vectors"));
    }
    return;
  }
  FAIL() << "no hnsw.bin";
}

TEST(DenseIndex, SearchesFromSeveralThreadsAgree) {
  const int64_t dim = 32;
  const std::vector<float> x = UnitVectors(5000, dim, 1, 20), queries = UnitVectors(50, dim, 2, 20);
  const auto index = Build(x, dim, {.kind = DenseKind::kHnsw, .ef_construction = 40});
  std::vector<std::vector<int64_t>> want(50);
  for (int q = 0; q < 50; ++q) want[q] = Chunks(*index->Search({&queries[q * dim], dim}, {.k = 5, .ef = 32}));
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int q = 0; q < 50; ++q) {
        const int at = (q * 7 + t) % 50;
        EXPECT_EQ(Chunks(*index->Search({&queries[at * dim], dim}, {.k = 5, .ef = 32})), want[at]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace lectern::index
