// attention/cuda/rotation.cuh: the angles of rotary position embedding. No header is included.
#pragma once

namespace lectern::attention {

// cos and sin of position * frequency; the angle is reduced in double, so that it holds at any position.
__device__ __forceinline__ void Rotation(int position, float frequency, float scale, float* c, float* s) {
  double turns = static_cast<double>(position) * static_cast<double>(frequency) * 0.15915494309189535;
  turns -= rint(turns);
  sincospif(2.0f * static_cast<float>(turns), s, c);
  *c *= scale;
  *s *= scale;
}

}  // namespace lectern::attention
