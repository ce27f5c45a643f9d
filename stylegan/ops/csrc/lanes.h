// Arithmetic in float on float32 and bfloat16 storage (uint16_t here), on one value or several.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace fewshot_smis {

// Plain arithmetic on values, so that compilers turn the loops below into vector code.
inline float widen(float v) { return v; }
inline float widen(uint16_t v) { return __builtin_bit_cast(float, uint32_t(v) << 16); }
inline void narrow(float& out, float v) { out = v; }
inline void narrow(uint16_t& out, float v) {  // round to nearest even; NaN stays NaN
  const uint32_t bits = __builtin_bit_cast(uint32_t, v);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out = v != v ? 0x7fc0 : rounded;
}

// W neighbouring channels at once; the compiler maps these onto whatever registers there are.
template <int W>
struct Lanes {
  typedef float Float __attribute__((vector_size(4 * W)));
  typedef uint32_t Bits __attribute__((vector_size(4 * W)));
  typedef uint16_t Half __attribute__((vector_size(2 * W)));
};
template <int W>
using V = typename Lanes<W>::Float;

template <int W>
inline V<W> read(const float* p) {
  V<W> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <int W>
inline V<W> read(const uint16_t* p) {
  typename Lanes<W>::Half h;
  std::memcpy(&h, p, sizeof h);
  const auto bits = __builtin_convertvector(h, typename Lanes<W>::Bits) << 16;
  V<W> v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
template <int W>
inline void write(float* p, V<W> v) {
  std::memcpy(p, &v, sizeof v);
}
template <int W>
inline void write(uint16_t* p, V<W> v) {
  typename Lanes<W>::Bits bits;
  std::memcpy(&bits, &v, sizeof v);
  const auto rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const typename Lanes<W>::Bits nan = rounded * 0 + 0x7fc0u;
  const auto h = __builtin_convertvector(v == v ? rounded : nan, typename Lanes<W>::Half);
  std::memcpy(p, &h, sizeof h);
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
