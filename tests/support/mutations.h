// tests/support/mutations.h: damaged copies of a valid file, and a count of what became of them.
//
//   Mutations mutations("manifest");
//   while (mutations.Next()) mutations.Count(DecodeManifest(mutations.Of(valid), "m").status());
//   EXPECT_GT(mutations.refused(), 900);
//
// Shapes:  a thousand copies of one kind of file, with LECTERN_SOAK twenty thousand. Its end prints
//          "mutations of manifest: 1000, 3 read, 997 refused"; scripts/mutations.py makes a table
//          of such lines.
// Threads: one test.
// Errors:  a refusal that does not say what is wrong, tells it at length, or blames the program,
// fails the test. Cost:    a copy of the file each.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/rng.h"
#include "base/status.h"

namespace lectern::testing {

// `bytes` with one to four wounds: bits, bytes, numbers, cuts, repeats. The same seed gives the
// same wounds.
inline std::string Mutated(std::string bytes, uint64_t seed) {
  constexpr uint64_t kNumbers[] = {0,
                                   1,
                                   0x7f,
                                   0xff,
                                   0x7fffffff,
                                   0xffffffff,
                                   0x100000000,
                                   0x7fffffffffffffff,
                                   ~uint64_t{0},
                                   ~uint64_t{0} - 31};
  constexpr char kMarks[] = "{}[]\",:0918-e.\\tfn";  // what stands in text
  Rng rng(seed, /*stream=*/77);
  for (int64_t wounds = 1 + rng.Below(4); wounds > 0 && !bytes.empty(); --wounds) {
    const auto size = static_cast<int64_t>(bytes.size());
    const auto at = static_cast<size_t>(rng.Below(4) == 0 ? rng.Below(std::min<int64_t>(size, 64))
                                                          : rng.Below(size));
    switch (rng.Below(7)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng.Below(8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(rng.Below(256));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, static_cast<size_t>(1 + rng.Below(16)));
        break;
      case 4:
        bytes.insert(at, bytes.substr(at, static_cast<size_t>(1 + rng.Below(32))));
        break;
      case 5: {
        const uint64_t number = kNumbers[rng.Below(std::size(kNumbers))];
        std::memcpy(bytes.data() + at, &number,
                    std::min<size_t>(rng.Below(2) == 0 ? 4 : 8, bytes.size() - at));
        break;
      }
      default:
        bytes[at] = kMarks[rng.Below(sizeof(kMarks) - 1)];
    }
  }
  return bytes;
}

// Bytes on the heap at their exact size, so that a sanitizer sees a read past the end.
class Exact {
 public:
  explicit Exact(std::string_view text) : size_(text.size()), data_(new std::byte[text.size()]) {
    std::memcpy(data_.get(), text.data(), text.size());
  }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_.get()), size_}; }

 private:
  size_t size_;
  std::unique_ptr<std::byte[]> data_;
};

class Mutations {
 public:
  explicit Mutations(std::string kind)
      : kind_(std::move(kind)), wanted_(std::getenv("LECTERN_SOAK") != nullptr ? 20000 : 1000) {}
  Mutations(const Mutations&) = delete;
  Mutations& operator=(const Mutations&) = delete;
  ~Mutations() {
    EXPECT_EQ(counted_, wanted_) << kind_ << ": each mutation must be counted once";
    std::printf("mutations of %s: %d, %d read, %d refused\n", kind_.c_str(), counted_,
                counted_ - refused_, refused_);
  }

  bool Next() { return ++seed_ <= wanted_ && !::testing::Test::HasFatalFailure(); }
  int seed() const { return seed_; }
  // The valid file with this turn's wounds; never the file as it was.
  std::string Of(const std::string& valid) const {
    std::string bytes = Mutated(valid, static_cast<uint64_t>(seed_));
    for (uint64_t again = 1; bytes == valid; ++again)
      bytes = Mutated(valid, static_cast<uint64_t>(seed_) + (again << 32));
    return bytes;
  }
  void Count(const absl::Status& status) {
    ++counted_;
    if (status.ok()) return;
    ++refused_;
    EXPECT_FALSE(status.message().empty()) << kind_ << " mutation " << seed_;
    EXPECT_LT(status.message().size(), 1000u) << kind_ << " mutation " << seed_ << ": " << status;
    EXPECT_NE(status.code(), absl::StatusCode::kInternal)
        << kind_ << " mutation " << seed_ << ": " << status;
    EXPECT_NE(status.code(), absl::StatusCode::kUnknown)
        << kind_ << " mutation " << seed_ << ": " << status;
  }
  int read() const { return counted_ - refused_; }
  int refused() const { return refused_; }

 private:
  std::string kind_;
  int wanted_, seed_ = 0, counted_ = 0, refused_ = 0;
};

}  // namespace lectern::testing
