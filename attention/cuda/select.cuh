// attention/cuda/select.cuh: scores the blocks of a (sequence, KV head) row and keeps the best, in one launch.
//
// Dataflow  grid = kv_head * batch clusters of kCtas. Each CTA scores its share of the blocks: descriptors are in flight
//           before the query is known. The gate's projection is cut over the CTAs by rows of its weights, and the
//           pieces meet over distributed shared memory. Scores go to rank 0 as order-preserving integers, with their
//           extremes; rank 0 spreads them over 2,048 bins of equal width, ranks the few that share the bin of the K-th,
//           and lists what is not below it, ascending. Where many share that bin (ties), an 11-bit radix select does it.
// Shapes    descriptors: W (gate) or 2 D (minimum, maximum) two-byte elements a block; ids [row, capacity].
// Bytes     blocks * W * 2 (gate; 4.2 MB at 131072 keys, 8 heads, block 64), twice that for pairs; the gate's weights
//           group * D * W * 2 a KV head (0.26 MB at 8 x 128 x 128), once a batch from memory and then from L2.
// Heads     where each query head chooses (kQuestHeads), CTA h of the cluster gets the scores of head h and chooses beside the
//           others; their choices meet as bits in rank 0, which lists them.
// Ties      to the lower block. More blocks than `capacity`, or all of them: count kAllBlocks, which is dense.
#pragma once

#include "attention/cuda/ptx.cuh"
#include "attention/cuda/select_params.h"

namespace lectern::attention {

__device__ __forceinline__ unsigned OrderedKey(float x) {
  const unsigned u = __float_as_uint(x);
  return (u & 0x80000000u) != 0 ? ~u : u | 0x80000000u;
}
__device__ __forceinline__ float KeyValue(unsigned key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

// cos and sin of position * frequency; the angle is reduced in double, so that it holds at any position.
__device__ __forceinline__ void Rotation(int position, float frequency, float scale, float* c, float* s) {
  double turns = static_cast<double>(position) * static_cast<double>(frequency) * 0.15915494309189535;
  turns -= rint(turns);
  sincospif(2.0f * static_cast<float>(turns), s, c);
  *c *= scale;
  *s *= scale;
}

// The choice among `keys` by one CTA.
template <int kWarps>
struct Chooser {
  static constexpr int kThreads = kWarps * 32;
  const SelectParams& p;
  unsigned* keys;      // [num_blocks]
  int* hist;           // [kDigits], cleared ahead
  int* scratch;        // [64]
  int num_blocks, scored;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  __device__ __forceinline__ bool Forced(int i) const { return i < p.first_blocks || i >= num_blocks - p.last_blocks; }
  __device__ __forceinline__ bool Candidate(int i) const { return i < scored && !(p.count_forced && Forced(i)); }

  // Sums x over the CTA; *before gets what lower threads hold.
  __device__ __forceinline__ int Scan(int x, int* before) {
    int inclusive = x;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int y = __shfl_up_sync(~0u, inclusive, step);
      if (lane >= step) inclusive += y;
    }
    if (lane == 31) scratch[warp] = inclusive;
    __syncthreads();
    int all = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) inclusive += scratch[w];
      all += scratch[w];
    }
    *before = inclusive - x;
    return all;  // the barrier after the caller's next step keeps the scratch apart
  }

  static constexpr int kEach = kDigits / kThreads;  // bins of a thread: high, high - 1, ...
  __device__ __forceinline__ static int High() { return kDigits - 1 - static_cast<int>(threadIdx.x) * kEach; }
  __device__ __forceinline__ int OwnBins(int (&bins)[kEach]) const {
    int sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; i += 4) {
      const int4 four = *reinterpret_cast<const int4*>(hist + High() - i - 3);
      bins[i] = four.w, bins[i + 1] = four.z, bins[i + 2] = four.y, bins[i + 3] = four.x;
      sum += four.x + four.y + four.z + four.w;
    }
    return sum;
  }
  // The thread whose bins hold rank `need` leaves: the bin, the rank within it, how many it holds.
  __device__ __forceinline__ void FindBin(int need, int above, int sum, const int (&bins)[kEach], int* found) const {
    if (above >= need || need > above + sum) return;
    bool open = true;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      if (open && need <= above + bins[j]) {
        found[0] = High() - j;
        found[1] = need - above;
        found[2] = bins[j];
        open = false;
      }
      above += bins[j];
    }
  }

  // The key and block of rank `need` among the candidates: in is what has a larger key, or that key and at most that block.
  // False where too many share its bin.
  __device__ __forceinline__ bool SpreadSelect(int need, unsigned* floor, int* last) {
    const float low = KeyValue(static_cast<unsigned>(scratch[60])), high = KeyValue(static_cast<unsigned>(scratch[61]));
    const float scale = (kDigits - 1) / (high - low);
    const bool usable = high > low && scale < 3e38f;
    const auto bin_of = [&](unsigned key) { return usable ? min(kDigits - 1, static_cast<int>((KeyValue(key) - low) * scale)) : 0; };
    for (int i = threadIdx.x; i < scored; i += kThreads) {
      if (Candidate(i)) atomicAdd(hist + bin_of(keys[i]), 1);
    }
    __syncthreads();
    int bins[kEach], above;
    const int sum = OwnBins(bins);
    Scan(sum, &above);
    FindBin(need, above, sum, bins, scratch + 16);
    __syncthreads();
    const int bin = scratch[16], rank = scratch[17], count = scratch[18];
    if (count > 256) return false;
    // Candidates of the bin gather where the histogram was: every thread has read its bins.
    uint2* list = reinterpret_cast<uint2*>(hist);
    for (int i = threadIdx.x; i < scored; i += kThreads) {
      const unsigned key = keys[i];
      if (Candidate(i) && bin_of(key) == bin) list[atomicAdd(scratch + 20, 1)] = make_uint2(key, static_cast<unsigned>(i));
    }
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < count) {
      const uint2 mine = list[threadIdx.x];
      int better = 0;
#pragma unroll 4
      for (int j = 0; j < count; ++j) {
        const uint2 other = list[j];
        better += other.x > mine.x || (other.x == mine.x && other.y < mine.y) ? 1 : 0;
      }
      if (better == rank - 1) scratch[21] = static_cast<int>(mine.x), scratch[22] = static_cast<int>(mine.y);
    }
    __syncthreads();
    *floor = static_cast<unsigned>(scratch[21]);
    *last = scratch[22];
    return true;
  }

  // The key of rank `need` among the candidates: all above `*floor` are in, and the first `*ties` that equal it.
  __device__ __forceinline__ void RadixSelect(int need, unsigned* floor, int* ties) {
    unsigned mask = 0, value = 0;
    constexpr int kShift[3] = {21, 10, 0}, kBits[3] = {11, 11, 10};
#pragma unroll
    for (int pass = 0; pass < 3; ++pass) {
      int* bins_of = hist;
      __syncthreads();
      for (int i = threadIdx.x; i < kDigits; i += kThreads) hist[i] = 0;
      __syncthreads();
      for (int i = threadIdx.x; i < scored; i += kThreads) {
        const unsigned key = keys[i];
        if ((key & mask) == value && Candidate(i)) atomicAdd(bins_of + (key >> kShift[pass]) % (1u << kBits[pass]), 1);
      }
      __syncthreads();
      int bins[kEach];
      const int sum = OwnBins(bins);
      int above;
      Scan(sum, &above);
      FindBin(need, above, sum, bins, scratch + 16 + 4 * pass);
      __syncthreads();
      const int* found = scratch + 16 + 4 * pass;
      const unsigned digit = found[0];
      need = found[1];
      const bool whole = found[2] == need;
      value |= digit << kShift[pass];
      mask |= ((1u << kBits[pass]) - 1) << kShift[pass];
      if (whole) {  // every key of this prefix is in: the floor lies just below it
        *floor = value - 1;
        *ties = 0;
        return;
      }
    }
    *floor = value;
    *ties = need;
  }

  __device__ __forceinline__ float SumExp(float peak) {
    float sum = 0;
    for (int i = threadIdx.x; i < scored; i += kThreads) sum += ptx::Exp2((KeyValue(keys[i]) - peak) * 1.4426950408889634f);
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
    float* parts = reinterpret_cast<float*>(scratch);
    if (lane == 0) parts[warp] = sum;
    __syncthreads();
    sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += parts[w];
    __syncthreads();
    return sum;
  }
  __device__ __forceinline__ float Peak() {
    float peak = ptx::kNegInf;
    for (int i = threadIdx.x; i < scored; i += kThreads) peak = fmaxf(peak, KeyValue(keys[i]));
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, lanes));
    float* parts = reinterpret_cast<float*>(scratch);
    if (lane == 0) parts[warp] = peak;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kWarps; ++w) peak = fmaxf(peak, parts[w]);
    __syncthreads();
    return peak;
  }

  // Which blocks are in: above `floor`, or equal to it up to block `last` or among the first `ties`, or forced.
  __device__ __forceinline__ void Threshold(unsigned* floor, int* ties, int* last) {
    *ties = 0;
    *last = -1;
    if (p.mode == 2) {  // softmax probability above the threshold: z > peak + ln(threshold * sum)
      const float peak = Peak(), sum = SumExp(peak);
      *floor = p.threshold <= 0.0f ? 0u : OrderedKey(peak + 0.69314718055994531f * log2f(p.threshold * sum));
      return;
    }
    int forced = 0;
    if (p.count_forced) forced = min(num_blocks, p.first_blocks + p.last_blocks);
    int candidates = scored;
    if (p.count_forced) candidates = max(0, min(scored, num_blocks - p.last_blocks) - p.first_blocks);
    const int need = max(0, Keep() - forced);
    *floor = need >= candidates ? 0u : ~0u;
    if (need > 0 && need < candidates && !SpreadSelect(need, floor, last)) RadixSelect(need, floor, ties);
  }
  __device__ __forceinline__ int Keep() const {
    if (p.mode == 0) return p.budget_blocks;
    return max(min(p.min_blocks, num_blocks), (p.ratio_per_mille * num_blocks + 999) / 1000);
  }

  // What a block is: 1: in; 2: ties with the floor; 0: neither. Each warp owns a run of blocks.
  struct ByKey {
    const Chooser& c;
    unsigned floor;
    int ties, last;
    __device__ __forceinline__ int operator()(int i) const {
      if (i >= c.num_blocks) return 0;
      const unsigned key = i < c.scored ? c.keys[i] : 0u;
      if (c.Forced(i) || (i < c.scored && (key > floor || (key == floor && i <= last)))) return 1;
      return ties > 0 && i < c.scored && key == floor ? 2 : 0;
    }
  };
  struct ByBit {
    const unsigned* words;
    int num_blocks;
    __device__ __forceinline__ int operator()(int i) const { return i < num_blocks ? static_cast<int>(words[i / 32] >> i % 32 & 1u) : 0; }
  };

  // Blocks that are in and that tie before this warp's run; returns how many are in.
  template <class State>
  __device__ __forceinline__ int Count(const State& state, int ties, int run, int* in, int* equal) {
    const int begin = warp * run;
    int here = 0, here_equal = 0;
    for (int at = 0; at < run; at += 32) {
      const int s = state(begin + at + lane);
      here += __popc(__ballot_sync(~0u, s == 1));
      here_equal += __popc(__ballot_sync(~0u, s == 2));
    }
    if (lane == 0) scratch[warp] = here, scratch[32 + warp] = here_equal;
    __syncthreads();
    int total = 0, total_equal = 0;
    *in = *equal = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w == warp) *in = total, *equal = total_equal;
      total += scratch[w];
      total_equal += scratch[32 + w];
    }
    return total + min(total_equal, ties);
  }
  __device__ __forceinline__ int Run() const { return (num_blocks + kThreads - 1) / kThreads * 32; }

  // Writes the list of one row, ascending.
  template <class State>
  __device__ __forceinline__ void List(const State& state, int ties, int* ids, int* count) {
    const int run = Run(), begin = warp * run;
    int in, equal;
    const int total = Count(state, ties, run, &in, &equal);
    if (total > p.capacity || total == num_blocks) {
      if (threadIdx.x == 0) *count = -1;
      return;
    }
    const unsigned below = (1u << lane) - 1;
    for (int at = 0; at < run; at += 32) {
      const int i = begin + at + lane, s = state(i);
      const unsigned ins = __ballot_sync(~0u, s == 1), equals = __ballot_sync(~0u, s == 2);
      const int my_equal = equal + __popc(equals & below);
      if (s == 1 || (s == 2 && my_equal < ties)) ids[in + __popc(ins & below) + min(my_equal, ties)] = i;
      in += __popc(ins);
      equal += __popc(equals);
    }
    for (int i = total + threadIdx.x; i < p.capacity; i += kThreads) ids[i] = -1;
    if (threadIdx.x == 0) *count = total;
  }

  // Sets the bits of what is in, at `words` of some CTA of the cluster.
  template <class State>
  __device__ __forceinline__ void Mark(const State& state, int ties, ptx::u32 words) {
    const int run = Run(), begin = warp * run;
    int in, equal;
    Count(state, ties, run, &in, &equal);
    const unsigned below = (1u << lane) - 1;
    for (int at = 0; at < run; at += 32) {
      const int s = state(begin + at + lane);
      const unsigned equals = __ballot_sync(~0u, s == 2);
      const unsigned bits = __ballot_sync(~0u, s == 1 || (s == 2 && equal + __popc(equals & below) < ties));
      if (lane == 0 && bits != 0) ptx::OrCluster(words + (begin + at) / 8, bits);
      equal += __popc(equals);
    }
  }
};

// Sums each of n values over kLanes lanes: afterwards lane `part` of a row holds value part / (kLanes / n) in v[0].
template <int kLanes, int n>
__device__ __forceinline__ void ReduceAcross(float (&v)[n], int part) {
  int left = n;
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    if (left > 1) {
      left /= 2;
#pragma unroll
      for (int i = 0; i < n / 2; ++i) {
        if (i < left) {
          const bool upper = (part & step) != 0;
          const float keep = upper ? v[i + left] : v[i], send = upper ? v[i] : v[i + left];
          v[i] = keep + __shfl_xor_sync(~0u, send, step);
        }
      }
    } else {
      v[0] += __shfl_xor_sync(~0u, v[0], step);
    }
  }
}

template <ScoreKind kKind, int kD, int kCtas, int kWarps>
inline constexpr int kSelectPieces = SelectPieces(kKind, kD, kCtas, kWarps);

// Of a thread. The gate from its query leaves room for the decode kernel that reads its list.
template <ScoreKind kKind, int kWarps>
inline constexpr int kSelectRegisters = kKind == ScoreKind::kGateQuery ? (kWarps == 16 ? 48 : 64) : kKind == ScoreKind::kResa ? 64 : kWarps == 16 ? 128 : 168;

// W = D: the gate's width is the head's, as its rotation demands.
template <class Element, int kD, ScoreKind kKind, int kCtas, int kWarps>
__global__ void __maxnreg__((kSelectRegisters<kKind, kWarps>)) SelectKernel(const __grid_constant__ SelectParams p) {
  constexpr bool kPerHead = kKind == ScoreKind::kQuestHeads, kQuest = kPerHead || kKind == ScoreKind::kQuest;
  constexpr bool kPairs = kKind == ScoreKind::kResa || kQuest;
  constexpr int kLanes = kD / 8;                     // that share a row, 16 bytes each
  constexpr int kRowsAWarp = 32 / kLanes;
  constexpr int kRowsAPass = kRowsAWarp * kWarps;
  constexpr int kThreads = kWarps * 32;
  constexpr int kAhead = kQuest ? 2 : kPairs || (kKind == ScoreKind::kGateQuery && kWarps == 16) ? 4 : 8;  // passes in flight
  constexpr int kShare = kLanes / kAhead > 0 ? kLanes / kAhead : 1;
  constexpr int kHeads = kQuest ? 8 : 1;
  static_assert(!kPerHead || kHeads <= kCtas, "a CTA a head");
  extern __shared__ __align__(16) char shared[];
  int* hist = reinterpret_cast<int*>(shared);
  int* scratch = hist + kDigits;
  float2* rotation = reinterpret_cast<float2*>(scratch + 64);  // [D / 2]: cosine, sine
  float* pieces = reinterpret_cast<float*>(rotation + kD / 2);
  unsigned* keys = reinterpret_cast<unsigned*>(pieces + kSelectPieces<kKind, kD, kCtas, kWarps>);
  unsigned* marks = keys + p.max_blocks;  // kPerHead, of rank 0

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, part = lane % kLanes;
  const int row = blockIdx.x / kCtas, b = ptx::Divide(row, p.heads_magic), head = row - b * p.kv_heads;
  const int rank = static_cast<int>(ptx::ClusterRank());
  ptx::LaunchDependents();
  const ptx::u64 policy = ptx::EvictFirst();
  if (kPerHead) {
    for (int i = threadIdx.x; i < (p.max_blocks + 31) / 32; i += kThreads) marks[i] = 0;
  }
  if (rank == 0 || kPerHead) {
    for (int i = threadIdx.x * 4; i < kDigits; i += 4 * kThreads) *reinterpret_cast<int4*>(hist + i) = make_int4(0, 0, 0, 0);
    if (threadIdx.x == 0) scratch[20] = 0, scratch[60] = -1, scratch[61] = 0;
  }
  ptx::ClusterArrive();  // who writes into a neighbour waits for it to have begun
  ptx::WaitForPredecessors();
  // Passes go round the CTAs: which pages this thread needs first does not wait for the length.
  constexpr int kStride = kCtas * kRowsAPass;
  const int begin = rank * kRowsAPass, mine_at = begin + warp * kRowsAWarp + lane / kLanes;
  const int length = p.lengths[b];
  const int* pages = p.page_table + static_cast<ptx::i64>(b) * p.page_table_stride;
  int page[kAhead];
  const auto load_pages = [&](int base) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int at = ptx::Divide((base + i * kStride + mine_at - begin) * p.block_units, p.page_magic);
      page[i] = at < p.page_table_stride ? pages[at] : 0;
    }
  };
  load_pages(begin);
  const int num_blocks = (length + p.block_tokens - 1) / p.block_tokens;
  Chooser<kWarps> chooser{p, keys, hist, scratch, num_blocks, kPairs ? num_blocks : length / p.block_tokens};
  if (length <= p.dense_below || num_blocks > p.max_blocks || (p.mode != 2 && num_blocks <= chooser.Keep())) {
    if (rank == 0 && threadIdx.x == 0) p.counts[row] = -1;
    ptx::ClusterWait();
    return;  // the whole cluster
  }
  const int scored = chooser.scored;
  const int end = scored;

  uint4 low[kAhead], high[kPairs ? kAhead : 1];
  const auto load = [&](int base) {
    if (base != begin) load_pages(base);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int block = base - begin + i * kStride + mine_at;
      const char* at = p.descriptors + page[i] * p.page_bytes + head * p.head_bytes +
                       (block & p.in_page_mask) * p.block_bytes + part * 16;
      low[i] = high[kPairs ? i : 0] = make_uint4(0, 0, 0, 0);
      if (block < end) {
        low[i] = ptx::LoadOnce(at, policy);
        if (kPairs) high[kPairs ? i : 0] = ptx::LoadOnce(at + kD * 2, policy);
      }
    }
  };
  const auto unpack = [](const uint4& from, float (&to)[8]) {
    const ptx::u32 words[4] = {from.x, from.y, from.z, from.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) to[2 * i] = Element::Low(words[i]), to[2 * i + 1] = Element::High(words[i]);
  };

  float query[kHeads][8];
  const char* q = static_cast<const char*>(p.q);
  if constexpr (kKind == ScoreKind::kGateQuery) {
    const uint4 packed = *reinterpret_cast<const uint4*>(q + (static_cast<ptx::i64>(row) * kD + part * 8) * 2);
    load(begin);
    unpack(packed, query[0]);
  } else if constexpr (kPairs) {
    load(begin);
    const char* at = q + (static_cast<ptx::i64>(row) * p.group * kD + part * 8) * 2;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
#pragma unroll
      for (int i = 0; i < 8; ++i) query[h][i] = 0.0f;
    }
#pragma unroll
    for (int h = 0; h < (kKind == ScoreKind::kResa ? 16 : kHeads); ++h) {
      if (h < p.group) {
        float x[8];
        unpack(*reinterpret_cast<const uint4*>(at + h * kD * 2), x);
#pragma unroll
        for (int i = 0; i < 8; ++i) query[h % kHeads][i] += x[i];
      }
    }
    if (kKind == ScoreKind::kResa) {
#pragma unroll
      for (int i = 0; i < 8; ++i) query[0][i] /= static_cast<float>(p.group);
    }
  } else {
    // This CTA's rows of the projection; a row of W elements is read by kLanes lanes.
    const int rows = p.group * kD, each = (rows + kCtas - 1) / kCtas, first = rank * each, last = min(rows, first + each);
    const char* weights = static_cast<const char*>(p.gate_weights) + static_cast<ptx::i64>(head) * rows * kD * 2 + part * 16;
    const ptx::u16* u = reinterpret_cast<const ptx::u16*>(q) + static_cast<ptx::i64>(row) * rows;
    constexpr int kRowsAhead = kWarps == 8 ? 16 : 8;
    float sum[8] = {};
    bool loaded = false;
    if (p.frequencies != nullptr && threadIdx.x < kD / 2) {
      float cosine, sine;
      Rotation(length - 1, p.frequencies[threadIdx.x], p.rope_scale, &cosine, &sine);
      rotation[threadIdx.x] = make_float2(cosine, sine);
    }
    for (int i = first + warp * kRowsAWarp + lane / kLanes; i < last || !loaded; i += kRowsAhead * kRowsAPass) {
      uint4 w[kRowsAhead];
      ptx::u16 x[kRowsAhead];
#pragma unroll
      for (int j = 0; j < kRowsAhead; ++j) {
        const int at = i + j * kRowsAPass;
        w[j] = make_uint4(0, 0, 0, 0);
        x[j] = 0;
        if (at < last) {
          w[j] = *reinterpret_cast<const uint4*>(weights + static_cast<ptx::i64>(at) * kD * 2);
          x[j] = u[at];
        }
      }
      if (!loaded) load(begin);  // behind the weights, which are needed first
      loaded = true;
#pragma unroll
      for (int j = 0; j < kRowsAhead; ++j) {
        float y[8];
        unpack(w[j], y);
        const float input = Element::Widen(x[j]);
#pragma unroll
        for (int c = 0; c < 8; ++c) sum[c] += input * y[c];
      }
    }
    float* warps = pieces + kCtas * kD;
#pragma unroll
    for (int c = 0; c < 8; ++c) {
#pragma unroll
      for (int lanes = kLanes; lanes < 32; lanes *= 2) sum[c] += __shfl_xor_sync(~0u, sum[c], lanes);
    }
    if (lane < kLanes) {
      *reinterpret_cast<float4*>(warps + warp * kD + part * 8) = make_float4(sum[0], sum[1], sum[2], sum[3]);
      *reinterpret_cast<float4*>(warps + warp * kD + part * 8 + 4) = make_float4(sum[4], sum[5], sum[6], sum[7]);
    }
    __syncthreads();
    ptx::ClusterWait();
    // Every CTA of the cluster gets every piece.
    if (threadIdx.x < kD) {
      const int column = threadIdx.x;
      float x = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) x += warps[w * kD + column];
      const ptx::u32 mine = ptx::SharedAddress(pieces + rank * kD + column);
#pragma unroll
      for (int to = 0; to < kCtas; ++to) ptx::StoreCluster(ptx::MapToRank(mine, to), __float_as_uint(x));
    }
    ptx::ClusterArrive();
    ptx::ClusterWait();
#pragma unroll
    for (int c = 0; c < 8; ++c) query[0][c] = 0.0f;
#pragma unroll
    for (int r = 0; r < kCtas; ++r) {
      const float4 a = *reinterpret_cast<const float4*>(pieces + r * kD + part * 8), z = *reinterpret_cast<const float4*>(pieces + r * kD + part * 8 + 4);
      query[0][0] += a.x, query[0][1] += a.y, query[0][2] += a.z, query[0][3] += a.w;
      query[0][4] += z.x, query[0][5] += z.y, query[0][6] += z.z, query[0][7] += z.w;
    }
    if (p.gate_norm != nullptr) {
      float squares = 0;
#pragma unroll
      for (int c = 0; c < 8; ++c) squares += query[0][c] * query[0][c];
#pragma unroll
      for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) squares += __shfl_xor_sync(~0u, squares, lanes);
      const float inverse = rsqrtf(squares / kD + p.norm_eps);
#pragma unroll
      for (int c = 0; c < 8; ++c) query[0][c] *= inverse * p.gate_norm[part * 8 + c];
    }
    if (p.frequencies != nullptr) {
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const float other = __shfl_xor_sync(~0u, query[0][c], kLanes / 2);
        const float2 turn = rotation[(part * 8 + c) % (kD / 2)];
        query[0][c] = query[0][c] * turn.x + (part < kLanes / 2 ? -other : other) * turn.y;
      }
    }
  }
  if constexpr (kKind != ScoreKind::kGateProject) ptx::ClusterWait();

  const ptx::u32 target = ptx::MapToRank(ptx::SharedAddress(keys), 0), extremes = ptx::MapToRank(ptx::SharedAddress(scratch + 60), 0);
  for (int base = begin; base < end; base += kAhead * kStride) {
    if (base != begin) load(base);
    float best = ptx::kNegInf;
    const int block = base - begin + part / kShare * kStride + mine_at;
    const bool mine = part % kShare == 0 && block < end;
    const auto send = [&](float x, ptx::u32 to, ptx::u32 ends) {
      const unsigned key = OrderedKey(x * p.score_scale);
      if (mine) ptx::StoreCluster(to + block * 4, key);
      const unsigned lowest = __reduce_min_sync(~0u, mine ? key : ~0u), highest = __reduce_max_sync(~0u, mine ? key : 0u);
      if (lane == 0) {
        ptx::MinCluster(ends, lowest);
        ptx::MaxCluster(ends + 4, highest);
      }
    };
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (h > 0 && h >= p.group) break;
      float score[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        float a[8], z[8];
        unpack(low[i], a);
        if (kPairs) unpack(high[kPairs ? i : 0], z);
        score[i] = 0;
#pragma unroll
        for (int c = 0; c < 8; ++c) score[i] += kPairs ? fmaxf(query[h][c] * a[c], query[h][c] * z[c]) : query[h][c] * a[c];
      }
      ReduceAcross<kLanes, kAhead>(score, part);
      if constexpr (kPerHead) {
        send(score[0], ptx::MapToRank(ptx::SharedAddress(keys), h), ptx::MapToRank(ptx::SharedAddress(scratch + 60), h));
      } else {
        best = fmaxf(best, score[0]);
      }
    }
    if constexpr (!kPerHead) send(best, target, extremes);
  }
  ptx::ClusterArrive();
  ptx::ClusterWait();
  int* ids = p.ids + static_cast<ptx::i64>(row) * p.capacity;
  unsigned floor;
  int ties, last;
  if constexpr (kPerHead) {
    if (rank < p.group) {
      chooser.Threshold(&floor, &ties, &last);
      chooser.Mark(typename Chooser<kWarps>::ByKey{chooser, floor, ties, last}, ties, ptx::MapToRank(ptx::SharedAddress(marks), 0));
    }
    ptx::ClusterArrive();
    ptx::ClusterWait();
    if (rank == 0) chooser.List(typename Chooser<kWarps>::ByBit{marks, num_blocks}, 0, ids, p.counts + row);
    return;
  }
  if (rank != 0) return;
  if (p.zero_placeholder && scored < num_blocks) {  // the open block takes part with score 0
    if (threadIdx.x == 0) {
      keys[scored] = OrderedKey(0.0f);
      scratch[60] = static_cast<int>(min(static_cast<unsigned>(scratch[60]), OrderedKey(0.0f)));
      scratch[61] = static_cast<int>(max(static_cast<unsigned>(scratch[61]), OrderedKey(0.0f)));
    }
    ++chooser.scored;
    __syncthreads();
  }
  chooser.Threshold(&floor, &ties, &last);
  chooser.List(typename Chooser<kWarps>::ByKey{chooser, floor, ties, last}, ties, ids, p.counts + row);
}

}  // namespace lectern::attention
