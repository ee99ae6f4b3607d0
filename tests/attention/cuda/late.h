// tests/attention/cuda/late.h: a kernel that lets the next one begin at once, waits for 20 us and writes what that one is to read.
#pragma once

namespace lectern::attention {

constexpr int kMostLate = 8;

struct LateCopies {
  struct {
    void* to;
    const void* from;
    int words;  // of four bytes
  } copy[kMostLate];
  int count = 0;
};

// `stream`: a cudaStream_t. Without a device (tests/attention/simt/late_host.cc) each cluster of the launches to come, until EndLate(),
// finds memory as it is now until its threads have come to wait.
void LaunchLate(const LateCopies& copies, void* stream);
void EndLate();
int LateRounds();  // how often to try: each has a chance of its own

}  // namespace lectern::attention
