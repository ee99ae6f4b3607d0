// attention/cuda/choose.cuh: the best of a row's block scores, exactly, by one CTA.
//
// Dataflow  The scores lie in shared memory as order-preserving integers, and the extremes of those that each warp sent. A warp
//           owns a run of blocks and says which of them are in, 32 to a word.
//           Up to 128 blocks every score is ranked against every other.
//           More, up to 256 a warp: keys are counted in 256 bins of equal width between the extremes; every warp looks for the
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
  return (u & 0x80000000u) != 0 ? ~u : u | 0x80000000u;
}
__device__ __forceinline__ float KeyValue(unsigned key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

template <int kWarps>
struct Chooser {
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kFew = 128, kBins = 256, kGather = 32, kRounds = 3, kHold = 8;  // kHold: words of a run that a warp has in registers
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

  // At most kFew blocks: those that fewer than `need` candidates surpass.
  template <class To>
  __device__ __forceinline__ void Few(int need, To& to) {
    constexpr int kParts = kThreads / kFew, kEach = kFew / kParts;
    const int i = threadIdx.x % kFew, from = threadIdx.x / kFew * kEach;
    const unsigned mine = Candidate(i) ? keys[i] : 0u;
    if (threadIdx.x < kFew) hist[kBins + i] = static_cast<int>(mine);
    __syncthreads();
    const uint4* others = reinterpret_cast<const uint4*>(hist + kBins + from);
    int better = 0;
#pragma unroll
    for (int j = 0; j < kEach; j += 4) {
      const uint4 four = others[j / 4];
      const unsigned other[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) better += other[k] > mine || (other[k] == mine && from + j + k < i) ? 1 : 0;
    }
    atomicAdd(hist + i, better);
    __syncthreads();
    unsigned bits = 0;
    int before = 0, total = 0;
#pragma unroll
    for (int w = 0; w < kFew / 32; ++w) {
      const int block = w * 32 + lane;
      const unsigned word = __ballot_sync(~0u, block < num_blocks && (Forced(block) || (Candidate(block) && hist[block] < need)));
      if (w < warp) before += __popc(word);
      if (w == warp) bits = word;
      total += __popc(word);
    }
    if (to.Begin(*this, before, total)) to.Word(warp, bits, lane);
  }

  // The `need` best candidates of at most kHold words a run. False, by all threads alike and with nothing written, where too
  // many share the bin of the last one.
  template <class To>
  __device__ __forceinline__ bool Spread(int need, To& to) {
    const int words = Words(), first = warp * words;
    uint2 end = make_uint2(~0u, 0u);
    for (int i = lane; i < num_ends; i += 32) end = make_uint2(min(end.x, ends[i].x), max(end.y, ends[i].y));
    float low = KeyValue(__reduce_min_sync(~0u, end.x));
    const float high = KeyValue(__reduce_max_sync(~0u, end.y));
    float scale = __fdividef(kBins - 1, high - low);
    if (!(high > low && scale < 3e38f)) return false;
    const auto from_top = [&](unsigned key) { return min(kBins - 1, max(0, kBins - 1 - static_cast<int>((KeyValue(key) - low) * scale))); };
    unsigned key[kHold];  // 0: no candidate, or decided
    unsigned in[kHold];
#pragma unroll
    for (int j = 0; j < kHold; ++j) {
      const int i = (first + j) * 32 + lane;
      key[j] = j < words && Candidate(i) ? keys[i] : 0u;
      in[j] = __ballot_sync(~0u, j < words && i < num_blocks && Forced(i));
    }
    int bin, count, rank = need;
#pragma unroll 1
    for (int round = 1;; ++round) {
#pragma unroll
      for (int j = 0; j < kHold; ++j) {  // eight bins of a lane lie as two vectors, a row of them after the other
        if (j >= words) break;
        const int t = from_top(key[j]);
        if (key[j] != 0) atomicAdd(hist + (t % 8 / 4 * 128 + t / 8 * 4 + t % 4), 1);
      }
      __syncthreads();
      const int4 left = *reinterpret_cast<const int4*>(hist + lane * 4), right = *reinterpret_cast<const int4*>(hist + 128 + lane * 4);
      const int bins[8] = {left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w};
      int upto = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) upto += bins[j];
      upto = SumUpTo(upto);
      const int from = __ffs(__ballot_sync(~0u, upto >= rank)) - 1;  // the lane whose bins hold the last one
      int within = 0;
      bin = count = 0;
#pragma unroll
      for (int j = 7; j >= 0; --j) {
        upto -= bins[j];  // what lies above bin j
        if (upto < rank && count == 0) bin = lane * 8 + j, count = bins[j], within = rank - upto;
      }
      bin = __shfl_sync(~0u, bin, from);
      count = __shfl_sync(~0u, count, from);
      rank = __shfl_sync(~0u, within, from);
      if (count <= kGather) break;
      if (round == kRounds) return false;
#pragma unroll
      for (int j = 0; j < kHold; ++j) {
        if (j >= words) break;
        const int t = from_top(key[j]);
        in[j] |= __ballot_sync(~0u, key[j] != 0 && t < bin);
        if (t != bin) key[j] = 0;
      }
      low += __fdividef(kBins - 1 - bin, scale);
      scale *= kBins;
      if (!(scale < 3e38f)) return false;
      __syncthreads();
      if (threadIdx.x < kBins) hist[threadIdx.x] = 0;
      __syncthreads();
    }
    uint2* list = reinterpret_cast<uint2*>(hist + kBins);
    int sure = 0;
#pragma unroll
    for (int j = 0; j < kHold; ++j) {
      if (j >= words) break;
      const int i = (first + j) * 32 + lane, t = key[j] == 0 ? kBins : from_top(key[j]);
      in[j] |= __ballot_sync(~0u, t < bin);
      sure += __popc(in[j]);
      if (t == bin) {
        list[atomicAdd(scratch + kGathered, 1)] = make_uint2(key[j], static_cast<unsigned>(i));
      } else {
        key[j] = 0;
      }
    }
    if (lane == 0) scratch[warp] = sure;
    __syncthreads();
    const bool real = lane < count;
    const uint2 mine = real ? list[lane] : make_uint2(0u, ~0u);
    int better = 0;
#pragma unroll 4
    for (int j = 0; j < count; ++j) {
      const uint2 other = list[j];
      better += other.x > mine.x || (other.x == mine.x && other.y < mine.y) ? 1 : 0;
    }
    const int of_warp = lane < kWarps ? scratch[lane] : 0, block = static_cast<int>(mine.y);
    const bool extra = real && better < rank && !Forced(block);
    const int before = (lane < warp ? of_warp : 0) + (extra && block < first * 32 ? 1 : 0), total = of_warp + (extra ? 1 : 0);
    const int at = __ffs(__ballot_sync(~0u, real && better == rank - 1)) - 1;  // the last one that is in
    const unsigned floor = __shfl_sync(~0u, mine.x, at);
    const int last = __shfl_sync(~0u, block, at);
    if (!to.Begin(*this, static_cast<int>(__reduce_add_sync(~0u, before)), static_cast<int>(__reduce_add_sync(~0u, total)))) return true;
#pragma unroll
    for (int j = 0; j < kHold; ++j) {
      if (j >= words) break;
      const bool more = key[j] > floor || (key[j] == floor && key[j] != 0 && (first + j) * 32 + lane <= last);
      to.Word(first + j, in[j] | __ballot_sync(~0u, more), lane);
    }
    return true;
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
      if (num_blocks <= kFew) return Few(need, to);
      if (need == 0) floor = ~0u;
      if (need > 0 && need < candidates) {
        if (Words() <= kHold && Spread(need, to)) return;
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
