// Kernels compiled at run time from strings: no toolkit header, no device.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <string>

#include "attention/cuda/kernels.h"

namespace lectern::attention::cuda {
namespace {

double Seconds(const KernelId& id) {
  const auto begin = std::chrono::steady_clock::now();
  KernelImage image;
  EXPECT_TRUE(Compile(id, &image)) << image.log;
  EXPECT_EQ(image.log, "") << image.name;  // a spill is a warning
  EXPECT_GT(image.image.size(), 1000u);
  EXPECT_NE(image.name, "");
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%.2f s, %zu bytes, %s\n", seconds, image.image.size(), image.name.c_str());
  return seconds;
}

TEST(Nvrtc, CompilesASoftCappedDecodeKernelFromMemory) {
  const KernelId id{.family = KernelFamily::kDecode, .d = 128, .warps = 8, .row_tiles = 1, .stages = 2, .soft_cap = true};
  EXPECT_EQ(FindKernel(id), nullptr) << "in the closed list";
  double best = 1e9;
  for (int round = 0; round < 3; ++round) best = std::min(best, Seconds(id));
  RecordProperty("seconds", std::to_string(best));
}

// Every template in each of its uses: wide groups, lists, the form for older cards, both widths.
TEST(Nvrtc, CompilesWhatTheClosedListLeavesOut) {
  for (const int d : {64, 128}) {
    const int stages = 2 * 128 / d;
    Seconds({.family = KernelFamily::kDecode, .fp16 = true, .d = d, .warps = 8, .row_tiles = 1, .stages = stages, .sparse = true});
    Seconds({.family = KernelFamily::kDecode, .fp16 = true, .d = d, .warps = 8, .row_tiles = 2, .stages = stages, .soft_cap = true});
    Seconds({.family = KernelFamily::kAppend, .fp16 = true, .d = d});
    Seconds({.family = KernelFamily::kOracle, .d = d});
    Seconds({.family = KernelFamily::kSelect, .fp16 = true, .d = d, .warps = 16, .kind = ScoreKind::kQuestHeads, .ctas = 8});
  }
  Seconds({.family = KernelFamily::kDecode, .fp16 = true, .d = 128, .warps = 8, .row_tiles = 1, .stages = 2, .sparse = true, .cluster = true});
  Seconds({.family = KernelFamily::kDecode, .fp16 = true, .d = 128, .warps = 4, .row_tiles = 2, .stages = 3, .sparse = true, .ptx80 = true});
  Seconds({.family = KernelFamily::kOracle, .fp16 = true, .d = 128});
  Seconds({.family = KernelFamily::kSelect, .fp16 = true, .d = 128, .warps = 8, .kind = ScoreKind::kGateProject, .ctas = 8});
  Seconds({.family = KernelFamily::kSelect, .fp16 = true, .d = 128, .warps = 8, .kind = ScoreKind::kResa, .ctas = 4});
  for (const auto [d, ctas, warps] : {std::array{64, 4, 8}, {64, 2, 8}, {128, 4, 8}, {128, 8, 8}, {128, 8, 16}, {128, 2, 8}}) {  // few registers
    Seconds({.family = KernelFamily::kSelect, .fp16 = true, .d = d, .warps = warps, .kind = ScoreKind::kGateQuery, .ctas = ctas});
  }
}

TEST(Nvrtc, SaysWhatTheCompilerFound) {
  KernelImage image;
  EXPECT_FALSE(Compile({.family = KernelFamily::kSelect, .d = 128, .warps = 8, .kind = ScoreKind::kQuestHeads, .ctas = 2}, &image));
  EXPECT_NE(image.log.find("a CTA a head"), std::string::npos) << image.log;
}

}  // namespace
}  // namespace lectern::attention::cuda
