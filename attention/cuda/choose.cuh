// attention/cuda/choose.cuh: the best of a row's block scores, exactly, by one CTA.
//
// Dataflow  The scores lie in shared memory as order-preserving integers, and the extremes of those that each warp sent. A warp
//           owns a run of blocks and says which of them are in, 32 to a word.
//           Up to kMostWords words a warp: keys are counted in 256 bins of equal width between the extremes; every warp looks for the
//           bin of the K-th by itself; what is above it is in, the few that share it are gathered and ranked, again by every
//           warp: two barriers. Where more than 32 share it (one score far from the rest), it is cut into 256 again, twice at most.
//           Where that does not part them (ties) and for longer rows, a radix select of 11-bit digits finds the K-th key.
// Ties      to the lower block. More blocks than `capacity`, or all of them: count -1, which is dense.
// Cost      8 KiB of shared memory for counts and 4 bytes a block. One CTA runs this alone, a step after the other, and what it
//           waits for is its own instructions: few of them matter more than anything else.
#pragma once

#include "attention/cuda/ptx.cuh"
#include "attention/cuda/select_params.h"

namespace lectern::attention {

__device__ __forceinline__ unsigned OrderedKey(float x) {
  const unsigned u = __float_as_uint(x);
  return u ^ (0x80000000u | static_cast<unsigned>(static_cast<int>(u) >> 31));
}
__device__ __forceinline__ float KeyValue(unsigned key) { return __uint_as_float(key ^ (0x80000000u | ~static_cast<unsigned>(static_cast<int>(key) >> 31))); }

template <int kWarps, int kMostWords = 8>
struct Chooser {
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kBins = 256, kGather = 32, kRounds = 3;
  static constexpr int kFound = 16, kGathered = 31;                       // words of the scratch
  const SelectParams& p;
  unsigned* keys;      // [num_blocks]
  uint2* ends;         // [num_ends] least and largest keys
  int num_ends;
  int* hist;           // [kDigits], the first kBins cleared ahead
  int* scratch;        // [kSelectScratch], cleared ahead
  int num_blocks, scored;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  // A barrier must follow before the choice.
  __device__ __forceinline__ static void Clear(int* hist, int* scratch) {
    if (threadIdx.x < kBins / 4) *reinterpret_cast<int4*>(hist + threadIdx.x * 4) = make_int4(0, 0, 0, 0);
    if (threadIdx.x == 0) scratch[kGathered] = 0;
  }

  __device__ __forceinline__ bool Forced(int i) const { return i < p.first_blocks || i >= num_blocks - p.last_blocks; }
  __device__ __forceinline__ bool Candidate(int i) const { return i < scored && !(p.count_forced && Forced(i)); }
  __device__ __forceinline__ int Words() const { return (num_blocks + kThreads - 1) / kThreads; }  // of a run
  __device__ __forceinline__ int Keep() const {
    if (p.mode == 0) return p.budget_blocks;
    return max(min(p.min_blocks, num_blocks), (p.ratio_per_mille * num_blocks + 999) / 1000);
  }
  // Of x over the lanes up to this one.
  __device__ __forceinline__ int SumUpTo(int x) const {
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int y = __shfl_up_sync(~0u, x, step);
      if (lane >= step) x += y;
    }
    return x;
  }

  // Where the words of a run go. To a list of one row, ascending:
  struct ToList {
    const SelectParams& p;
    int* ids;
    int* count;
    int at;
    __device__ __forceinline__ bool Begin(const Chooser& c, int before, int total) {
      at = before;
      const bool dense = total > p.capacity || total == c.num_blocks;
      if (threadIdx.x == 0) *count = dense ? -1 : total;
      if (dense) return false;
#pragma unroll 1
      for (int i = total + threadIdx.x; i < p.capacity; i += kThreads) ids[i] = -1;
      return true;
    }
    __device__ __forceinline__ void Word(int word, unsigned bits, int lane) {
      if ((bits >> lane & 1) != 0) ids[at + __popc(bits & ((1u << lane) - 1))] = word * 32 + lane;
      at += __popc(bits);
    }
  };
  // Or to bits in some CTA of the cluster.
  struct ToBits {
    ptx::u32 words;
    __device__ __forceinline__ bool Begin(const Chooser&, int, int) { return true; }
    __device__ __forceinline__ void Word(int word, unsigned bits, int lane) {
      if (lane == 0 && bits != 0) ptx::OrCluster(words + word * 4, bits);
    }
  };

  // The `need` best candidates, where a warp's run is kWords words at most. False, by all threads alike and with nothing written, where too
  // many share the bin of the last one. There is no branch that parts a warp: it would cost more than what it spares.
  template <int kWords, class To>
  __device__ __forceinline__ bool Spread(int need, To& to) {
    const int first = warp * kWords;
    uint2 end = ends[min(lane, num_ends - 1)];
    for (int i = 32; i < num_ends; i += 32) {
      const uint2 other = ends[min(i + lane, num_ends - 1)];
      end = make_uint2(min(end.x, other.x), max(end.y, other.y));
    }
    // Of candidates: [lowest, lowest + span).
    const int lowest = p.count_forced ? p.first_blocks : 0, upper = p.count_forced ? min(scored, num_blocks - p.last_blocks) : scored;
    const unsigned span = static_cast<unsigned>(max(0, upper - lowest));
    unsigned key[kWords], in[kWords];
    bool open[kWords];
#pragma unroll
    for (int j = 0; j < kWords; ++j) {
      const int i = (first + j) * 32 + lane;
      open[j] = static_cast<unsigned>(i - lowest) < span;
      key[j] = keys[open[j] ? i : 0];
      in[j] = 0;
    }
    float low = KeyValue(__reduce_min_sync(~0u, end.x));
    const float high = KeyValue(__reduce_max_sync(~0u, end.y));
    float scale = __fdividef(kBins - 1, high - low);
    if (!(high > low && scale < 3e38f)) return false;
    // From the top; kBins, which nobody looks at, for what is no candidate or decided.
    const auto bin_for = [&](unsigned of, bool counts) {
      const int from_top = kBins - 1 - static_cast<int>(fminf(fmaxf((KeyValue(of) - low) * scale, 0.0f), kBins - 1));
      return counts ? from_top : kBins;
    };
    int bin_of[kWords];
#pragma unroll
    for (int j = 0; j < kWords; ++j) bin_of[j] = bin_for(key[j], open[j]);
#pragma unroll
    for (int j = 0; j < kWords; ++j) atomicAdd(hist + bin_of[j], 1);
    int bin, count, rank = need;
#pragma unroll 1
    for (int round = 1;; ++round) {
      __syncthreads();
      // A lane has eight bins. Those with which, and with all before them, fewer than `rank` are counted stand before the one that is looked for.
      const int4 left = *reinterpret_cast<const int4*>(hist + lane * 8), right = *reinterpret_cast<const int4*>(hist + lane * 8 + 4);
      const int bins[8] = {left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w};
      int upto[8], sum = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) upto[j] = sum += bins[j];
      const int before = SumUpTo(sum) - sum, wanted = rank - before;
      int passed = 0, passed_bins = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        passed = upto[j] < wanted ? upto[j] : passed;
        passed_bins += upto[j] < wanted ? 1 : 0;
      }
      bin = static_cast<int>(__reduce_add_sync(~0u, static_cast<unsigned>(passed_bins)));
      count = hist[bin];
      rank -= static_cast<int>(__reduce_max_sync(~0u, static_cast<unsigned>(wanted > 0 ? before + passed : 0)));
      if (count <= kGather) break;
      if (round == kRounds) return false;
      low += __fdividef(kBins - 1 - bin, scale);
      scale *= kBins;
      if (!(scale < 3e38f)) return false;
      __syncthreads();
      if (threadIdx.x < kBins) hist[threadIdx.x] = 0;
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kWords; ++j) {
        in[j] |= __ballot_sync(~0u, bin_of[j] < bin);
        bin_of[j] = bin_for(key[j], bin_of[j] == bin);
      }
#pragma unroll
      for (int j = 0; j < kWords; ++j) atomicAdd(hist + bin_of[j], 1);
    }
    // Those of the bin of the last one are gathered and ranked by every warp.
    uint2* list = reinterpret_cast<uint2*>(hist + 2 * kBins);
    int sure = 0, gathered = 0;
    unsigned shares[kWords];
#pragma unroll
    for (int j = 0; j < kWords; ++j) {
      const int i = (first + j) * 32 + lane;
      shares[j] = __ballot_sync(~0u, bin_of[j] == bin);
      in[j] |= __ballot_sync(~0u, bin_of[j] < bin || (i < num_blocks && Forced(i)));
      sure += __popc(in[j]);
      gathered += __popc(shares[j]);
    }
    int to_list = 0;
    if (lane == 0) {
      scratch[warp] = sure;
      to_list = atomicAdd(scratch + kGathered, gathered);
    }
    to_list = __shfl_sync(~0u, to_list, 0);
#pragma unroll
    for (int j = 0; j < kWords; ++j) {
      const int to = (shares[j] >> lane & 1) != 0 ? to_list + __popc(shares[j] & ((1u << lane) - 1)) : kBins + static_cast<int>(threadIdx.x);  // where nobody looks
      list[to] = make_uint2(key[j], static_cast<unsigned>((first + j) * 32 + lane));
      to_list += __popc(shares[j]);
    }
    __syncthreads();
    const bool real = lane < count;
    const uint2 mine = real ? list[lane] : make_uint2(0u, ~0u);
    const int of_warp = lane < kWarps ? scratch[lane] : 0, block = static_cast<int>(mine.y);
    int better = 0;
#pragma unroll 1
    for (int base = 0; base < count; base += 8) {
      uint4 two[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) two[j] = *reinterpret_cast<const uint4*>(list + base + 2 * j);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const unsigned other = j % 2 == 0 ? two[j / 2].x : two[j / 2].z, at = j % 2 == 0 ? two[j / 2].y : two[j / 2].w;
        better += base + j < count && (other > mine.x || (other == mine.x && at < mine.y)) ? 1 : 0;
      }
    }
    const bool extra = real && better < rank && !Forced(block);
    const int before = (lane < warp ? of_warp : 0) + (extra && block < first * 32 ? 1 : 0), total = of_warp + (extra ? 1 : 0);
    const int at = __ffs(__ballot_sync(~0u, real && better == rank - 1)) - 1;  // the last one that is in
    const unsigned floor = __shfl_sync(~0u, mine.x, at);
    const int last = __shfl_sync(~0u, block, at);
    if (!to.Begin(*this, static_cast<int>(__reduce_add_sync(~0u, static_cast<unsigned>(before))), static_cast<int>(__reduce_add_sync(~0u, static_cast<unsigned>(total))))) return true;
#pragma unroll
    for (int j = 0; j < kWords; ++j) {
      const bool more = key[j] > floor || (key[j] == floor && (first + j) * 32 + lane <= last);
      in[j] |= __ballot_sync(~0u, more) & shares[j];
    }
#pragma unroll
    for (int j = 0; j < kWords; ++j) to.Word(first + j, in[j], lane);
    return true;
  }
  template <class To>
  __device__ __forceinline__ bool Spread(int need, To& to) {
    const int words = Words();
    if (words <= 1) return Spread<1>(need, to);
    if (words == 2) return Spread<2>(need, to);
    if (words <= 4) return Spread<4>(need, to);
    if (words <= 8) return Spread<8>(need, to);
    if constexpr (kMostWords > 8) {
      if (words <= kMostWords) return Spread<kMostWords>(need, to);
    }
    return false;
  }

  static constexpr int kEach = kDigits / kThreads;  // radix bins of a thread: high, high - 1, ...
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
  // What lower threads of the CTA hold of x.
  __device__ __forceinline__ int SumBefore(int x) {
    int inclusive = SumUpTo(x);
    if (lane == 31) scratch[warp] = inclusive;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) inclusive += scratch[w];
    }
    return inclusive - x;  // the barrier after the caller's next step keeps the scratch apart
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

  // In is a key above *floor, and the first *ties that equal it.
  __device__ __forceinline__ void RadixSelect(int need, unsigned* floor, int* ties) {
    unsigned value = 0;
#pragma unroll 1
    for (int shift = 21, bits = 11; bits > 0; bits = min(bits, shift), shift -= bits) {
      __syncthreads();
#pragma unroll 1
      for (int i = threadIdx.x; i < kDigits; i += kThreads) hist[i] = 0;
      __syncthreads();
#pragma unroll 1
      for (int i = threadIdx.x; i < scored; i += kThreads) {
        const unsigned key = keys[i];
        if ((static_cast<ptx::u64>(key ^ value) >> (shift + bits)) == 0 && Candidate(i)) atomicAdd(hist + (key >> shift) % (1u << bits), 1);
      }
      __syncthreads();
      int bins[kEach];
      const int sum = OwnBins(bins);
      FindBin(need, SumBefore(sum), sum, bins, scratch + kFound);
      __syncthreads();
      need = scratch[kFound + 1];
      value |= static_cast<unsigned>(scratch[kFound]) << shift;
      if (scratch[kFound + 2] == need) {  // every key of this prefix is in: the floor lies just below it
        *floor = value - 1;
        return;
      }
    }
    *floor = value;
    *ties = need;
  }

  // Of x of each warp: what those before this one hold, and all of them. `at`: [kWarps], of nobody else's until the next barrier.
  __device__ __forceinline__ int2 BeforeThisWarp(int x, int* at) {
    if (lane == 0) at[warp] = x;
    __syncthreads();
    int2 sum{0, 0};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w == warp) sum.x = sum.y;
      sum.y += at[w];
    }
    return sum;
  }

  // Of a value of each thread, over the CTA.
  template <class Join>
  __device__ __forceinline__ float Over(float x, const Join& join) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) x = join(x, __shfl_xor_sync(~0u, x, lanes));
    float* parts = reinterpret_cast<float*>(scratch);
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    x = parts[0];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) x = join(x, parts[w]);
    __syncthreads();
    return x;
  }
  // The key of the softmax probability `threshold`: z > peak + ln(threshold * sum).
  __device__ __forceinline__ unsigned ThresholdKey() {
    float peak = ptx::kNegInf, sum = 0;
    for (int i = threadIdx.x; i < scored; i += kThreads) peak = fmaxf(peak, KeyValue(keys[i]));
    peak = Over(peak, [](float a, float b) { return fmaxf(a, b); });
    for (int i = threadIdx.x; i < scored; i += kThreads) sum += exp2f((KeyValue(keys[i]) - peak) * 1.4426950408889634f);
    sum = Over(sum, [](float a, float b) { return a + b; });
    return p.threshold <= 0.0f ? 0u : OrderedKey(peak + 0.69314718055994531f * log2f(p.threshold * sum));
  }

  // What is forced, and of the candidates what is above `floor` or among the first `ties` that equal it.
  template <class To>
  __device__ __forceinline__ void Above(unsigned floor, int ties, To& to) {
    const int words = Words(), first = warp * words;
    const auto equals = [&](int i) { return ties > 0 && Candidate(i) && keys[i] == floor; };
    const auto bits = [&](int word, int* equal) {  // of a word of the run; *equal: those that tie before it
      const int i = word * 32 + lane;
      const bool tie = equals(i);
      const unsigned ties_here = __ballot_sync(~0u, tie);
      const bool best = (Candidate(i) && keys[i] > floor) || (tie && *equal + __popc(ties_here & ((1u << lane) - 1)) < ties);
      *equal += __popc(ties_here);
      return __ballot_sync(~0u, i < num_blocks && (Forced(i) || best));
    };
    int equal = 0;
    if (ties > 0) {
#pragma unroll 1
      for (int j = 0; j < words; ++j) equal += __popc(__ballot_sync(~0u, equals((first + j) * 32 + lane)));
      equal = BeforeThisWarp(equal, scratch + 32).x;
    }
    int here = 0, behind = equal;
#pragma unroll 1
    for (int j = 0; j < words; ++j) here += __popc(bits(first + j, &behind));
    const int2 in = BeforeThisWarp(here, scratch);
    if (!to.Begin(*this, in.x, in.y)) return;
#pragma unroll 1
    for (int j = 0; j < words; ++j) to.Word(first + j, bits(first + j, &equal), lane);
  }

  template <class To>
  __device__ __forceinline__ void Best(To to) {
    unsigned floor = 0;
    int ties = 0;
    if (p.mode == 2) {
      floor = ThresholdKey();
    } else {
      int forced = 0, candidates = scored;
      if (p.count_forced) {
        forced = min(num_blocks, p.first_blocks + p.last_blocks);
        candidates = max(0, min(scored, num_blocks - p.last_blocks) - p.first_blocks);
      }
      const int need = max(0, Keep() - forced);
      if (need == 0) floor = ~0u;
      if (need > 0 && need < candidates) {
        if (Spread(need, to)) return;
        RadixSelect(need, &floor, &ties);
      }
    }
    Above(floor, ties, to);
  }
  __device__ __forceinline__ void List(int* ids, int* count) { Best(ToList{p, ids, count}); }
  __device__ __forceinline__ void Mark(ptx::u32 words) { Best(ToBits{words}); }

  // The list of the bits that are set.
  __device__ __forceinline__ void ListBits(const unsigned* bits, int* ids, int* count) {
    const int words = Words(), first = warp * words, all = (num_blocks + 31) / 32;
    int before = 0, total = 0;
    for (int w = lane; w < all; w += 32) {
      const int here = __popc(bits[w]);
      total += here;
      if (w < first) before += here;
    }
    ToList to{p, ids, count};
    if (!to.Begin(*this, static_cast<int>(__reduce_add_sync(~0u, before)), static_cast<int>(__reduce_add_sync(~0u, total)))) return;
#pragma unroll 1
    for (int j = 0; j < words && first + j < all; ++j) to.Word(first + j, bits[first + j], lane);
  }
};

}  // namespace lectern::attention
