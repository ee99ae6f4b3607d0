// base/tensor_view.h: pointer + extents + strides; owns nothing.
//
//   TensorView<float, 2> logits(data, {tokens, vocab});   // row-major, last axis contiguous
//   float x = logits(row, col);
//
// Shapes:  extents and strides in elements, int64_t; any strides may be given.
// Threads: as the memory behind it.
// Errors:  an index out of bounds is a bug: checked in debug builds.
// Cost:    one multiply-add per axis.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/check.h"

namespace lectern {

template <class T, int kRank>
class TensorView {
 public:
  TensorView() = default;
  TensorView(T* data, std::array<int64_t, kRank> extents) : data_(data), extents_(extents) {
    int64_t stride = 1;
    for (int axis = kRank - 1; axis >= 0; --axis) {
      strides_[axis] = stride;
      stride *= extents_[axis];
    }
  }
  TensorView(T* data, std::array<int64_t, kRank> extents, std::array<int64_t, kRank> strides)
      : data_(data), extents_(extents), strides_(strides) {}
  operator TensorView<const T, kRank>() const { return {data_, extents_, strides_}; }

  template <class... Index>
  T& operator()(Index... index) const {
    static_assert(sizeof...(Index) == kRank);
    const int64_t at[] = {static_cast<int64_t>(index)...};
    int64_t offset = 0;
    for (int axis = 0; axis < kRank; ++axis) {
      DCHECK(at[axis] >= 0 && at[axis] < extents_[axis]);
      offset += at[axis] * strides_[axis];
    }
    return data_[offset];
  }
  // The last axis at the given leading indices. REQUIRES: last stride 1.
  template <class... Index>
  std::span<T> Row(Index... index) const {
    static_assert(sizeof...(Index) == kRank - 1);
    DCHECK(strides_[kRank - 1] == 1);
    return {&(*this)(index..., 0), static_cast<size_t>(extents_[kRank - 1])};
  }
  T* data() const { return data_; }
  int64_t extent(int axis) const { return extents_[axis]; }
  int64_t stride(int axis) const { return strides_[axis]; }

 private:
  T* data_ = nullptr;
  std::array<int64_t, kRank> extents_{};
  std::array<int64_t, kRank> strides_{};
};

}  // namespace lectern
