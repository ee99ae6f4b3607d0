// The decode kernels without a device: each way that work is dealt over CTAs and parts meet, against fp64. Copies arrive at once or when they
// are waited for, and CTAs run in any order.
#include <gmock/gmock.h>

#include "tests/attention/cuda/fixture.h"
#include "tests/attention/simt/late.h"

namespace lectern::attention {
namespace {

// Twice: the same bits, and counters as the first call found them.
void ExpectTrue(const CudaCase& c) {
  std::vector<uint16_t> first;
  for (int round = 0; round < 2; ++round) {
    const absl::Status status = c.Attend();
    ASSERT_TRUE(status.ok()) << status;
    if (round == 0) {
      ExpectNearTruth(c);
      first = c.Output();
    }
    ASSERT_EQ(c.Output(), first);
  }
}

TEST(SimtDecode, FewRowsRaggedAndAlike) {
  for (const Shape& shape : {Shape{4, 2, 128, {130}}, Shape{7, 2, 64, {1000, 1000}}, Shape{1, 3, 128, {0, 1, 515}}, Shape{8, 1, 64, {2049}}}) {
    const CudaCase c(shape, 201);
    ExpectTrue(c);
    if (HasFatalFailure()) return;
  }
}

// More than 32 parts of a row meet in groups.
TEST(SimtDecode, ManyPartsOfALongRow) {
  const CudaCase c({2, 1, 64, {65600}}, 202);
  ExpectTrue(c);
}

TEST(SimtDecode, ManyRowsInALineAndOneEach) {
  Shape line{2, 4, 128, {}}, each{2, 4, 64, {}};
  for (int i = 0; i < 10; ++i) line.lengths.push_back(i == 3 ? 0 : 1 + 97 * (i % 5)), each.lengths.push_back(200);
  for (const Shape& shape : {line, each}) {
    const CudaCase c(shape, 203);
    ExpectTrue(c);
    if (HasFatalFailure()) return;
  }
}

TEST(SimtDecode, FixedChunks) {
  const CudaCase c({4, 2, 64, {700, 0, 33}, 0, 256}, 204);
  ExpectTrue(c);
}

// None, some or all of the blocks, and all by name (-1); what is not listed is NaN. Above 32768 keys in the form of fewer registers.
TEST(SimtDecode, ListedBlocks) {
  for (const Shape& shape : {Shape{8, 2, 128, {1500, 70}, 64}, Shape{5, 2, 64, {333, 16, 200}, 16}, Shape{6, 2, 128, {900}, 128, 0, CudaForm::kSm90, 0, 40000}}) {
    const CudaCase c(shape, 205, /*poison_unselected=*/true);
    ExpectTrue(c);
    if (HasFatalFailure()) return;
  }
}

// Ahead of the wait a warp's first keys and values are asked for, where the size of both pools is said; each page that is asked for is there.
TEST(SimtDecode, AsksAheadForPagesOfPoolsWhoseSizeIsSaid) {
  const CudaCase c({4, 2, 128, {3000}}, 206);
  const auto asked = [&](int64_t k_pages, int64_t v_pages) {
    DecodeBatch step = c.Step();
    step.k.num_pages = k_pages, step.v.num_pages = v_pages;
    simt::late.asked = 0;
    const absl::Status status = Decode(c.plan, step, c.Run());
    EXPECT_TRUE(status.ok()) << status;
    ExpectNearTruth(c);
    return simt::late.asked;
  };
  const int64_t units = 2 * NumBlocks(3000, 16), pages = c.Step().k.num_pages;
  EXPECT_EQ(asked(pages, 0), 0);
  EXPECT_EQ(asked(0, pages), 0);
  EXPECT_EQ(asked(pages, pages), 2 * units) << "a unit a warp, and half of the stages at least";
  const int64_t some = asked(pages / 2, int64_t{1} << 40);
  EXPECT_GT(some, 0);
  EXPECT_LT(some, 2 * units);
}

}  // namespace
}  // namespace lectern::attention
