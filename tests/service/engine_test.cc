#include "service/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "index/ingest.h"
#include "service/indexing.h"
#include "tests/support/temp_dir.h"

namespace lectern::service {
namespace {

// One engine, as a process has it: three threads search with the shared encoder and pool while a
// fourth ingests, publishes and folds. Run under ThreadSanitizer by the tsan preset.
TEST(Engine, ManyThreadsSearchWhileOneWritesAndPublishes) {
  testing::TempDir dir;
  const auto config =
      Config::Load({.overrides = {{"models.embed", testing::SourcePath("data/tiny/encoder")},
                                  {"index.threads", "2"}},
                    .read_environment = false});
  ASSERT_TRUE(config.ok()) << config.status();
  Engine engine(dir / "data", *config);
  auto writer = engine.OpenWriter();
  ASSERT_TRUE(writer.ok()) << writer.status();
  constexpr int kRounds = 6, kEach = 20;
  const auto write_round = [&](int round) -> absl::Status {
    std::string lines;
    for (int i = 0; i < kEach; ++i) {
      const std::string id = std::to_string(round * kEach + i);
      lines += "{\"id\":\"" + id + "\",\"text\":\"an old bridge of stone, number " + id +
               " of round r" + std::to_string(round) + "\"}\n";
    }
    if (round > 0)
      lines += "{\"op\":\"delete\",\"id\":\"" + std::to_string((round - 1) * kEach) + "\"}\n";
    testing::WriteBytes(dir / "in.jsonl", lines);
    index::IngestOptions options;
    ASSIGN_OR_RETURN(options.new_collection, NewCollectionSettings(engine.config(), ""));
    RETURN_IF_ERROR(index::Ingest(*writer->store, "bridges", {dir / "in.jsonl"}, options).status());
    return (round % 3 == 2 ? BuildIndexNow(engine, *writer, "bridges", "", "", {})
                           : UpdateIndexNow(engine, *writer, "bridges", {}))
        .status();
  };
  ASSERT_TRUE(write_round(0).ok()) << write_round(0);

  std::atomic<bool> stop{false};
  std::atomic<int> searches{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&, t] {
      uint64_t before = 0;
      while (!stop) {
        const auto corpus = engine.OpenCorpus("bridges");
        ASSERT_TRUE(corpus.ok()) << corpus.status();
        EXPECT_GE((*corpus)->generation(), before);
        before = (*corpus)->generation();
        std::string why;
        const auto encoder = engine.EncoderOf(**corpus, &why);
        ASSERT_TRUE(encoder.ok() && *encoder != nullptr) << encoder.status() << why;
        const auto found = (*corpus)->Search(
            {.query = t == 0 ? "old stone bridge" : "bridge number 7", .k = 5}, *encoder);
        ASSERT_TRUE(found.ok()) << found.status();
        EXPECT_EQ(found->hits.size(), 5u);
        EXPECT_EQ(found->generation, before);
        ++searches;
      }
    });
  }
  absl::Status written;
  for (int round = 1; round < kRounds && written.ok(); ++round) {
    written = write_round(round);
    for (const int wanted = searches + 3; written.ok() && searches < wanted && !HasFailure();)
      std::this_thread::yield();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  ASSERT_TRUE(written.ok()) << written;
  const auto corpus = engine.OpenCorpus("bridges");
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_EQ((*corpus)->num_documents(), kRounds * kEach - (kRounds - 1));
}

}  // namespace
}  // namespace lectern::service
