// Calls whose lengths, lists, page table and queries the kernel ahead of them writes only when they have begun: until then there are those of
// the step before, or what no step may say. Results are the bits of calls that found everything in place. Also run without a device, over
// tests/attention/simt, where a page that is asked for and does not exist ends the program.
#include <gmock/gmock.h>

#include "tests/attention/cuda/late.h"
#include "tests/attention/cuda/select_fixture.h"

namespace lectern::attention {
namespace {

enum class Before { kLastStep, kLastLists, kNothing, kHuge, kNegative, kAnything };  // kLastLists: but for the lists all is there
constexpr Before kBefores[] = {Before::kLastStep, Before::kLastLists, Before::kNothing, Before::kHuge, Before::kNegative, Before::kAnything};

// What an array of lengths, counts, ids or pages holds first, given what it will hold.
std::vector<int32_t> Early(Before before, const std::vector<int32_t>& then, Rng& rng, bool of_list = false) {
  std::vector<int32_t> x;
  for (const int32_t e : then) {
    switch (before) {
      case Before::kLastStep: x.push_back(std::max(0, e - 1)); break;
      case Before::kLastLists: x.push_back(of_list ? std::max(0, e - 1) : e); break;
      case Before::kNothing: x.push_back(0); break;
      case Before::kHuge: x.push_back(std::numeric_limits<int32_t>::max() - static_cast<int32_t>(rng.Below(2))); break;
      case Before::kNegative: x.push_back(rng.Below(2) == 0 ? -2 : std::numeric_limits<int32_t>::min()); break;
      case Before::kAnything: x.push_back(static_cast<int32_t>(static_cast<uint32_t>(rng.Below(int64_t{1} << 32)))); break;
    }
  }
  return x;
}

class Late {
 public:
  Late() = default;
  Late(const Late&) = delete;
  ~Late() { EndLate(); }
  // What the array holds now comes late.
  template <class T>
  void Piece(const DeviceArray<T>& array, const std::vector<T>& before) {
    ASSERT_EQ(before.size(), array.size());
    ASSERT_EQ(array.size() * sizeof(T) % 4, 0u);
    ASSERT_LT(copies_.count, kMostLate);
    const auto keep = [&](const std::vector<T>& host) {
      kept_.emplace_back(host.size() * sizeof(T));
      EXPECT_EQ(cudaMemcpy(kept_.back().get(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
      return kept_.back().get();
    };
    before_.push_back(keep(before));
    copies_.copy[copies_.count++] = {array.get(), keep(array.Download()), static_cast<int>(array.size() * sizeof(T) / 4)};
  }
  void Begin(cudaStream_t stream) const {
    for (int i = 0; i < copies_.count; ++i) {
      EXPECT_EQ(cudaMemcpyAsync(copies_.copy[i].to, before_[i], copies_.copy[i].words * size_t{4}, cudaMemcpyDeviceToDevice, stream), cudaSuccess);
    }
    LaunchLate(copies_, stream);
  }

 private:
  LateCopies copies_;
  std::vector<DeviceArray<std::byte>> kept_;
  std::vector<const void*> before_;
};

class CudaLate : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  void TearDown() override { cudaStreamDestroy(stream_); }

  // pieces(late, before, rng): what is late, and what is there until then. round(late): begins, calls, compares.
  template <class Pieces, class Round>
  static void OverWhatIsThereBefore(uint64_t seed, const Pieces& pieces, const Round& round) {
    Rng rng(seed);
    for (const Before before : kBefores) {
      Late late;
      ASSERT_NO_FATAL_FAILURE(pieces(late, before, rng));
      for (int i = 0; i < std::min(LateRounds(), Rounds(LateRounds())); ++i) {
        SCOPED_TRACE(::testing::Message() << "before " << static_cast<int>(before) << " round " << i);
        ASSERT_NO_FATAL_FAILURE(round(late));
      }
    }
  }

  // The same bits with everything in place and late.
  void ExpectSameAttention(CudaCase& c, uint64_t seed) {
    ASSERT_TRUE(c.Attend(stream_).ok());
    ASSERT_NO_FATAL_FAILURE(ExpectNearTruth(c));
    const std::vector<uint16_t> out = c.Output();
    const std::vector<float> lse = c.dlse.Download();
    OverWhatIsThereBefore(
        seed,
        [&](Late& late, Before before, Rng& rng) {
          AddInputs(late, before, rng, c);
          if (c.shape.block_tokens > 0) {
            late.Piece(c.dcounts, Early(before, c.counts, rng, /*of_list=*/true));
            late.Piece(c.dids, Early(before, c.ids, rng, /*of_list=*/true));
          }
        },
        [&](const Late& late) {
          c.dout.Fill(0xff), c.dlse.Fill(0xff);
          ASSERT_CUDA(cudaDeviceSynchronize());
          late.Begin(stream_);
          const absl::Status status = c.Attend(stream_);
          ASSERT_TRUE(status.ok()) << status;
          ASSERT_EQ(c.Output(), out);
          ASSERT_EQ(c.dlse.Download(), lse);
        });
  }
  static void AddInputs(Late& late, Before before, Rng& rng, const CudaCase& c) {
    late.Piece(c.dlengths, Early(before, c.shape.lengths, rng));
    late.Piece(c.dtable, Early(before, c.table, rng));
    late.Piece(c.dq, std::vector<uint16_t>(c.q.size(), CudaCase::kNan));
  }
  static void AddInputs(Late& late, Before before, Rng& rng, const SelectCase& c, const DeviceSelect& on) {
    late.Piece(on.lengths, Early(before, c.lengths, rng));
    late.Piece(on.table, Early(before, c.table, rng));
    late.Piece(on.q, std::vector<uint16_t>(c.q.size(), CudaCase::kNan));
  }

  cudaStream_t stream_ = nullptr;
};

TEST_F(CudaLate, DenseDecode) {
  for (const Shape& shape : {Shape{4, 2, 128, {1500}}, Shape{7, 2, 64, {1000, 1000}}, Shape{4, 3, 128, {0, 1, 515}}}) {
    CudaCase c(shape, 211);
    ASSERT_NO_FATAL_FAILURE(ExpectSameAttention(c, 212));
  }
}

TEST_F(CudaLate, ManyRows) {
  Shape shape{2, 4, 64, {}};
  for (int i = 0; i < 10; ++i) shape.lengths.push_back(i == 3 ? 0 : 1 + 97 * (i % 5));
  CudaCase c(shape, 213);
  ASSERT_NO_FATAL_FAILURE(ExpectSameAttention(c, 214));
}

// One sequence, whose parts meet within clusters where its lists are equally long, and more.
TEST_F(CudaLate, ListedBlocks) {
  for (const bool alike : {true, false}) {
    CudaCase c({6, 8, 128, {1990}, 64}, 215, /*poison_unselected=*/false);
    for (int64_t row = 0; alike && row < 8; ++row) {
      c.counts[row] = 9;
      for (int32_t i = 0; i < 9; ++i) c.ids[row * c.capacity + i] = 3 * i + static_cast<int32_t>(row % 3);
    }
    c.Upload();
    ASSERT_NO_FATAL_FAILURE(ExpectSameAttention(c, 216));
  }
  CudaCase c({5, 2, 64, {333, 16, 200}, 16}, 217, /*poison_unselected=*/true);
  ASSERT_NO_FATAL_FAILURE(ExpectSameAttention(c, 218));
}

struct LateKind {
  const char* name;
  SelectorKind kind;
  bool other;  // the gate with its projection; Quest for each head
  friend void PrintTo(const LateKind& kind, std::ostream* os) { *os << kind.name; }
};
class CudaLateSelect : public CudaLate, public ::testing::WithParamInterface<LateKind> {};
INSTANTIATE_TEST_SUITE_P(Selectors, CudaLateSelect,
                         ::testing::Values(LateKind{"Gate", SelectorKind::kGate, false}, LateKind{"GateProject", SelectorKind::kGate, true},
                                           LateKind{"Resa", SelectorKind::kResa, false}, LateKind{"Quest", SelectorKind::kQuest, false},
                                           LateKind{"QuestOfEachHead", SelectorKind::kQuest, true}, LateKind{"Oracle", SelectorKind::kOracle, false}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(CudaLateSelect, ListsAreTheSame) {
  Selector s = Of(GetParam().kind, SelectMode::kTokens, 16);
  s.per_head = GetParam().other && GetParam().kind == SelectorKind::kQuest;
  const SelectCase c(s, 4, 2, 128, {3000, 700, 5}, GetParam().other && GetParam().kind == SelectorKind::kGate, false, 219);
  DeviceSelect on(c);
  const auto lists = [&] { return c.Lists(on.ids.Download(), on.counts.Download()); };
  on.Forget();
  on.Select(stream_);
  ASSERT_CUDA(cudaDeviceSynchronize());
  const auto want = lists();
  OverWhatIsThereBefore(
      220, [&](Late& late, Before before, Rng& rng) { AddInputs(late, before, rng, c, on); },
      [&](const Late& late) {
        on.Forget();
        ASSERT_CUDA(cudaDeviceSynchronize());
        late.Begin(stream_);
        ASSERT_NO_FATAL_FAILURE(on.Select(stream_));
        ASSERT_CUDA(cudaDeviceSynchronize());
        ASSERT_EQ(lists(), want);
      });
}

// Select and attend behind it, over what is late for both.
TEST_F(CudaLate, SelectAndThenItsList) {
  const SelectCase s(Of(SelectorKind::kGate, SelectMode::kTokens, 64), 6, 8, 128, {3800}, false, false, 221);
  CudaCase c({6, 8, 128, {3800}, 64}, 222);
  DeviceSelect on(s);
  c.capacity = s.capacity;
  c.ids.assign(8 * c.capacity, -1), c.counts.assign(8, 0);
  c.Upload();
  const auto both = [&] {
    on.Forget(), c.dids.Fill(0x7f), c.dcounts.Fill(0x7f), c.dout.Fill(0xff), c.dlse.Fill(0xff);
    ASSERT_CUDA(cudaDeviceSynchronize());
  };
  const auto call = [&] {
    DescriptorView view = s.View();
    view.base = on.descriptors.bytes();
    absl::Status status = Select(s.plan, s.selector, {.q = on.q.get(), .type = s.type, .query_projected = true, .descriptors = view, .gate = &on.gate,
                                                      .page_table = on.table.get(), .page_table_stride = s.pages_a_row, .lengths = on.lengths.get(), .batch = 1},
                                 c.Blocks(), {.stream = stream_});
    ASSERT_TRUE(status.ok()) << status;
    status = c.Attend(stream_);
    ASSERT_TRUE(status.ok()) << status;
  };
  ASSERT_NO_FATAL_FAILURE(both());
  ASSERT_NO_FATAL_FAILURE(call());
  const std::vector<uint16_t> out = c.Output();
  const std::vector<int32_t> ids = c.dids.Download();
  c.ids = ids;
  ASSERT_NO_FATAL_FAILURE(ExpectNearTruth(c));
  OverWhatIsThereBefore(
      223,
      [&](Late& late, Before before, Rng& rng) {
        AddInputs(late, before, rng, s, on);
        AddInputs(late, before, rng, c);
      },
      [&](const Late& late) {
        ASSERT_NO_FATAL_FAILURE(both());
        late.Begin(stream_);
        ASSERT_NO_FATAL_FAILURE(call());
        ASSERT_EQ(c.Output(), out);
        ASSERT_EQ(c.dids.Download(), ids);
      });
}

}  // namespace
}  // namespace lectern::attention
