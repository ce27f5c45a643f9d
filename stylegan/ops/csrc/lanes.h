// Arithmetic in float on float32 and bfloat16 storage (uint16_t here), in double on float64; on one
// value or on several.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace fewshot_smis {

template <typename T>
using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Plain arithmetic on values, so that compilers turn the loops below into vector code.
inline double widen(double v) { return v; }
inline float widen(float v) { return v; }
inline float widen(uint16_t v) { return __builtin_bit_cast(float, uint32_t(v) << 16); }
inline void narrow(double& out, double v) { out = v; }
inline void narrow(float& out, float v) { out = v; }
inline void narrow(uint16_t& out, float v) {  // round to nearest even; NaN stays NaN
  const uint32_t bits = __builtin_bit_cast(uint32_t, v);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out = v != v ? 0x7fc0 : rounded;
}

// W neighbouring channels at once; the compiler maps these onto whatever registers there are.
template <typename T, int W>
struct Lanes {
  typedef T Values __attribute__((vector_size(sizeof(T) * W)));
};
template <typename T, int W>
using V = typename Lanes<T, W>::Values;

template <int W, typename T>
inline V<Real<T>, W> read(const T* p) {
  V<T, W> stored;
  std::memcpy(&stored, p, sizeof stored);
  if constexpr (std::is_same_v<T, uint16_t>) {
    const auto bits = __builtin_convertvector(stored, V<uint32_t, W>) << 16;
    V<float, W> v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
  } else {
    return stored;
  }
}
template <int W, typename T>
inline void write(T* p, V<Real<T>, W> v) {
  if constexpr (std::is_same_v<T, uint16_t>) {
    V<uint32_t, W> bits;
    std::memcpy(&bits, &v, sizeof v);
    const auto rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const V<uint32_t, W> nan = rounded * 0 + 0x7fc0u;
    const auto stored = __builtin_convertvector(v == v ? rounded : nan, V<uint16_t, W>);
    std::memcpy(p, &stored, sizeof stored);
  } else {
    std::memcpy(p, &v, sizeof v);
  }
}

// Calls f(width, first channel) for blocks of 16, 8, 4 and 1 channels that cover C.
template <typename F>
inline void over_channels(int64_t C, F f) {
  int64_t c = 0;
  for (; c + 16 <= C; c += 16) f(std::integral_constant<int, 16>{}, c);
  for (; c + 8 <= C; c += 8) f(std::integral_constant<int, 8>{}, c);
  for (; c + 4 <= C; c += 4) f(std::integral_constant<int, 4>{}, c);
  for (; c < C; ++c) f(std::integral_constant<int, 1>{}, c);
}

}  // namespace fewshot_smis
