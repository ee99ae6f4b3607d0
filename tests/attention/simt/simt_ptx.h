// tests/attention/simt/simt_ptx.h: attention/cuda/ptx.cuh for the threads of simt.h, as far as selectors and decode use it: each instruction as
// its manual tells it.
//
//   #include "tests/attention/simt/simt_ptx.h"     // in place of simt.h and before the .cuh under test
//   #include "attention/cuda/select.cuh"
//
// Shapes:  an address of shared memory is 24 bits of offset below the CTA's rank plus one; 0 there is the CTA's own.
// Threads: as simt.h.
// Errors:  as simt.h, and a load, a copy or a row of a matrix that is not aligned, a prefetch outside all allocations. Sums of a matrix product are rounded once, which no device does:
//          where scores are not equal to the bit, compare with a tolerance.
// Cost:    as simt.h.
#pragma once

#include <map>
#include <type_traits>

#include "tests/attention/simt/late.h"
#include "tests/attention/simt/simt.h"

// The real ones stay, under other names; they are instructions.
#define Bf16 DeviceBf16
#define Fp16 DeviceFp16
#define SharedAddress DeviceSharedAddress
#define Exp2 DeviceExp2
#define EvictFirst DeviceEvictFirst
#define WaitForPredecessors DeviceWaitForPredecessors
#define LaunchDependents DeviceLaunchDependents
#define LoadOnce DeviceLoadOnce
#define ClusterRank DeviceClusterRank
#define MapToRank DeviceMapToRank
#define StoreCluster DeviceStoreCluster
#define OrCluster DeviceOrCluster
#define ClusterArriveRelaxed DeviceClusterArriveRelaxed
#define ClusterArrive DeviceClusterArrive
#define ClusterWait DeviceClusterWait
#define PrefetchL1 DevicePrefetchL1
#define PrefetchL2 DevicePrefetchL2
#define PrefetchL2Run DevicePrefetchL2Run
#define BarrierInit DeviceBarrierInit
#define BarriersBegin DeviceBarriersBegin
#define BarrierExpect DeviceBarrierExpect
#define BarrierWaitFirst DeviceBarrierWaitFirst
#define StoreAsync DeviceStoreAsync
#define ClusterSize DeviceClusterSize
#define LdMatrix4 DeviceLdMatrix4
#define LdMatrix4Trans DeviceLdMatrix4Trans
#define Transpose8x8 DeviceTranspose8x8
#define CpAsync16OrZero DeviceCpAsync16OrZero
#define CpAsyncCommit DeviceCpAsyncCommit
#define CpAsyncWait DeviceCpAsyncWait
#define AddAcqRel DeviceAddAcqRel
#define LoadL2 DeviceLoadL2
#include "attention/cuda/ptx.cuh"
#undef Bf16
#undef Fp16
#undef SharedAddress
#undef Exp2
#undef EvictFirst
#undef WaitForPredecessors
#undef LaunchDependents
#undef LoadOnce
#undef ClusterRank
#undef MapToRank
#undef StoreCluster
#undef OrCluster
#undef ClusterArriveRelaxed
#undef ClusterArrive
#undef ClusterWait
#undef PrefetchL1
#undef PrefetchL2
#undef PrefetchL2Run
#undef BarrierInit
#undef BarriersBegin
#undef BarrierExpect
#undef BarrierWaitFirst
#undef StoreAsync
#undef ClusterSize
#undef LdMatrix4
#undef LdMatrix4Trans
#undef Transpose8x8
#undef CpAsync16OrZero
#undef CpAsyncCommit
#undef CpAsyncWait
#undef AddAcqRel
#undef LoadL2

#include "base/dtype.h"

namespace simt {
bool IsMemory(const void* at, size_t bytes);  // within one allocation; host_device.cc
}

namespace lectern::ptx {

template <class Type>
struct Element16 {
  static float Widen(u16 x) { return ToFloat(Type{x}); }
  static float Low(u32 x) { return Widen(static_cast<u16>(x)); }
  static float High(u32 x) { return Widen(static_cast<u16>(x >> 16)); }
  template <class Join>
  static u32 Halves(u32 a, u32 b, const Join& join) {
    const auto of = [&](u16 x, u16 y) -> u32 { return join(Widen(x), Widen(y)) ? x : y; };
    return of(static_cast<u16>(a), static_cast<u16>(b)) | of(static_cast<u16>(a >> 16), static_cast<u16>(b >> 16)) << 16;
  }
  static u32 Min(u32 a, u32 b) { return Halves(a, b, [](float x, float y) { return x < y; }); }
  static u32 Max(u32 a, u32 b) { return Halves(a, b, [](float x, float y) { return x > y; }); }
  static u16 Bits(float x) {
    if constexpr (std::is_same_v<Type, bf16>) {
      return ToBf16(x).bits;
    } else {
      return ToFp16(x).bits;
    }
  }
  static u32 Pack(float low, float high) { return Bits(low) | static_cast<u32>(Bits(high)) << 16; }
  // Lane l has of a rows l / 4 and l / 4 + 8, columns 2 (l % 4) and the next, and the same eight further on; of b those rows of column
  // l / 4; of d rows l / 4 and l / 4 + 8, columns 2 (l % 4) and the next.
  static void Mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    struct Words {
      u32 a[4], b[2];
    };
    const simt::Cluster::Said* lanes = simt::Say("mma", Words{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    for (int i = 0; i < 4; ++i) {
      const int row = simt_lane() / 4, column = simt_lane() % 4 * 2 + i % 2, lower = i / 2;
      double sum = d[i];
      for (int k = 0; k < 4; ++k) {
        const Words left = simt::Value<Words>(lanes[row * 4 + k]), right = simt::Value<Words>(lanes[column * 4 + k]);
        for (int half = 0; half < 2; ++half) {
          const u32 x = left.a[lower + 2 * half], y = right.b[half];
          sum += static_cast<double>(Low(x)) * Low(y) + static_cast<double>(High(x)) * High(y);
        }
      }
      d[i] = static_cast<float>(sum);
    }
  }
};
using Bf16 = Element16<bf16>;
using Fp16 = Element16<fp16>;

inline float Exp2(float x) { return std::exp2(x); }
inline u64 EvictFirst() { return 0; }
// Where something is late, it is there when all threads of the cluster have come to wait, or sooner, as the seed draws.
inline void WaitForPredecessors() {
  if (simt::late.pieces.empty()) return;
  simt::Cluster& cluster = *simt::Cluster::current_cluster;
  const auto threads = static_cast<unsigned>(cluster.threads());
  if (!simt::late.landed && (++simt::late.waiting == threads || cluster.Draw() % (2 * threads) == 0)) simt::late.Land();
  for (int tries = 1; !simt::late.landed; ++tries) {
    if (tries > 1 << 20) simt::Fail("threads wait for predecessors, and others do not");
    cluster.Wait(simt::Cluster::kReady);
  }
}
inline void LaunchDependents() {}
inline void PrefetchL1(const void*) {}
inline void PrefetchL2(const void* p) {
  if (!simt::IsMemory(p, 1)) simt::Fail("a prefetch of what is no memory");
}
inline void PrefetchL2Run(const void* p, u32 bytes) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0 || bytes % 16 != 0) simt::Fail("a prefetch that is not aligned");
  if (!simt::IsMemory(p, bytes)) simt::Fail("a prefetch of what is no memory");
  ++simt::late.asked;
}
inline uint4 LoadOnce(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0) simt::Fail("a load of 16 bytes that are not aligned");
  uint4 x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}

inline u32 SharedAddress(const void* p) { return static_cast<u32>(static_cast<const char*>(p) - simt::Cluster::current_cluster->shared()); }
// Four matrices of 8 x 8 two-byte elements; lane l names row l % 8 of matrix l / 8.
inline u16 HalfAt(u32 address) {
  u16 x;
  std::memcpy(&x, simt::Cluster::current_cluster->shared() + address, sizeof(x));
  return x;
}
inline void LdMatrix4(u32 (&r)[4], u32 address) {
  if (address % 16 != 0) simt::Fail("a row of a matrix that is not aligned");
  const simt::Cluster::Said* lanes = simt::Say("ldmatrix", address);
  for (int i = 0; i < 4; ++i) {
    const u32 at = simt::Value<u32>(lanes[i * 8 + simt_lane() / 4]) + simt_lane() % 4 * 4;
    r[i] = HalfAt(at) | static_cast<u32>(HalfAt(at + 2)) << 16;
  }
}
inline void LdMatrix4Trans(u32 (&r)[4], u32 address) {
  if (address % 16 != 0) simt::Fail("a row of a matrix that is not aligned");
  const simt::Cluster::Said* lanes = simt::Say("ldmatrix.trans", address);
  for (int i = 0; i < 4; ++i) {
    const auto at = [&](int row) { return HalfAt(simt::Value<u32>(lanes[i * 8 + row]) + simt_lane() / 4 * 2); };
    r[i] = at(simt_lane() % 4 * 2) | static_cast<u32>(at(simt_lane() % 4 * 2 + 1)) << 16;
  }
}
inline u32 Transpose8x8(u32 x) {
  const simt::Cluster::Said* lanes = simt::Say("movmatrix", x);
  const auto at = [&](int row) { return simt::Value<u32>(lanes[row * 4 + simt_lane() / 8]) >> simt_lane() / 4 % 2 * 16 & 0xffff; };
  return at(simt_lane() % 4 * 2) | at(simt_lane() % 4 * 2 + 1) << 16;
}

// Copies are there at once or when their thread has waited for them, as the seed draws.
struct Copy {
  u32 to;
  const void* from;  // null: zeros
  void Do() const {
    char* at = simt::Cluster::current_cluster->shared() + to;
    from == nullptr ? std::memset(at, 0, 16) : std::memcpy(at, from, 16);
  }
};
struct Copies {
  std::vector<std::vector<Copy>> groups{1};
};
inline std::map<size_t, Copies> pending_copies;  // by thread; cleared before a cluster runs
inline Copies& OfThisThread() { return pending_copies[simt::Cluster::current_cluster->current()]; }
inline void CpAsync16OrZero(u32 to, const void* from, bool keep, u64) {
  if (to % 16 != 0 || (keep && reinterpret_cast<uintptr_t>(from) % 16 != 0)) simt::Fail("a copy that is not aligned");
  const Copy copy{to, keep ? from : nullptr};
  if (simt::Cluster::current_cluster->Draw() % 2 == 0) {
    copy.Do();
  } else {
    OfThisThread().groups.back().push_back(copy);
  }
}
inline void CpAsyncCommit() { OfThisThread().groups.emplace_back(); }
template <int kPending>
void CpAsyncWait() {
  std::vector<std::vector<Copy>>& groups = OfThisThread().groups;  // the last is open
  while (groups.size() > kPending + 1) {
    for (const Copy& copy : groups.front()) copy.Do();
    groups.erase(groups.begin());
  }
}
inline u32 AddAcqRel(u32* counter, u32 value) {
  const u32 before = *counter;
  *counter += value;
  return before;
}
template <class T>
T LoadL2(const T* p) {
  if (reinterpret_cast<uintptr_t>(p) % sizeof(T) != 0) simt::Fail("a load that is not aligned");
  return *p;
}

inline u32 ClusterSize() { return static_cast<u32>(simt::Cluster::current_cluster->cluster_ctas()); }
inline u32 ClusterRank() { return static_cast<u32>(simt::Cluster::current_cluster->rank()); }
inline u32 MapToRank(u32 address, u32 rank) { return address | (rank + 1) << 24; }
inline unsigned* ClusterWord(u32 address) { return simt::Cluster::current_cluster->Remote(static_cast<int>(address >> 24) - 1, address & 0xffffff); }
inline void StoreCluster(u32 address, u32 value) { *ClusterWord(address) = value; }
inline void OrCluster(u32 address, u32 value) { *ClusterWord(address) |= value; }
inline void ClusterArriveRelaxed() { simt::Cluster::current_cluster->Arrive(); }
inline void ClusterArrive() { simt::Cluster::current_cluster->Arrive(); }
// A barrier that counts bytes: arrivals and bytes to come, a word each.
inline unsigned* OwnWord(u32 address) { return reinterpret_cast<unsigned*>(simt::Cluster::current_cluster->shared() + address); }
inline void BarrierInit(u32 barrier) { *OwnWord(barrier) = 1, *OwnWord(barrier + 4) = 0; }
inline void BarriersBegin() {}
inline void BarrierExpect(u32 barrier, u32 bytes) { --*OwnWord(barrier), *OwnWord(barrier + 4) += bytes; }
inline void BarrierWaitFirst(u32 barrier) {
  for (int tries = 1; *OwnWord(barrier) != 0 || *OwnWord(barrier + 4) != 0; ++tries) {
    if (tries > 1 << 20) simt::Fail("a barrier waits for bytes that nobody stores");
    simt::Cluster::current_cluster->Wait(simt::Cluster::kReady);
  }
}
inline void StoreAsync(u32 address, u32 x, u32 barrier) {
  if (address >> 24 != barrier >> 24) simt::Fail("an asynchronous store and its barrier in different CTAs");
  *ClusterWord(address) = x, *ClusterWord(barrier + 4) -= 4;
}
template <int n>
void StoreAsync(u32 address, const Vector<n>& x, u32 barrier) {
  for (int i = 0; i < n; ++i) StoreAsync(address + i * 4, std::bit_cast<u32>(x.v[i]), barrier);
}
inline void StoreAsync(u32 address, uint2 x, u32 barrier) { StoreAsync(address, x.x, barrier), StoreAsync(address + 4, x.y, barrier); }
inline void ClusterWait() { simt::Cluster::current_cluster->WaitForCluster(); }

}  // namespace lectern::ptx
