// The linear maps of Winograd's convolution F(4x4, 3x3), from pixels to values and back. See tiles.py.
//
// A tile is S x S pixels at every fourth row and column, 6 x 6 of them one pixel up and to the left,
// and becomes 36 values a channel: v = M p M^T. The way back is the transpose: p = M^T v M.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "lanes.h"
#include "tensors.h"

#include <algorithm>

namespace {

using namespace fewshot_smis;
using at::Tensor;

constexpr float kPixels[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                 {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
constexpr float kResult[4][6] = {
    {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};

template <int S>
constexpr float entry(int i, int j) {  // of M, [6, S]
  return S == 6 ? kPixels[i][j] : kResult[j][i];
}

// out[i * step] = the sum over k of M[i,k] in[k * step], or of M[k,i] the other way.
template <int S, bool back, typename L>
inline void map_line(const L* in, L* out, int step_in, int step_out) {
  constexpr int from = back ? 6 : S, to = back ? S : 6;
#pragma GCC unroll 6
  for (int i = 0; i < to; ++i) {
    L sum = in[0] * 0.f;
#pragma GCC unroll 6
    for (int k = 0; k < from; ++k) {
      const float m = back ? entry<S>(k, i) : entry<S>(i, k);
      if (m != 0) sum += in[k * step_in] * m;
    }
    out[i * step_out] = sum;
  }
}

struct Grid {
  int64_t N, C, height, width, first, rows;  // of the picture, and the rows of tiles
  int64_t wide() const { return width / 4; }
  int64_t tiles() const { return N * rows * wide(); }
};

constexpr int64_t kChannels = 64;  // of a tile done together

// Calls f(width of lanes, picture, row, column, channel); only what is `apart` runs at once.
template <typename F>
void over_tiles(const Grid& g, bool apart, F f) {
  const int64_t chunks = (g.C + kChannels - 1) / kChannels, bands = apart ? g.rows : 1;
  at::parallel_for(0, g.N * bands * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t c = k % chunks * kChannels, band = k / chunks % bands, n = k / chunks / bands;
      for (int64_t r = band; r < (apart ? band + 1 : g.rows); ++r) {
        for (int64_t t = 0; t < g.wide(); ++t) {
          over_channels(std::min(kChannels, g.C - c),
                        [&](auto lanes, int64_t i) { f(lanes, n, r, t, c + i); });
        }
      }
    }
  });
}

// Calls f(index in the tile, offset in the picture) for the pixels of a tile that lie in it.
template <int S, typename F>
inline void over_pixels(const Grid& g, int64_t n, int64_t r, int64_t t, F f) {
  const int64_t top = 4 * (g.first + r) - (S - 4) / 2, left = 4 * t - (S - 4) / 2;
  for (int i = 0; i < S; ++i) {
    if (top + i < 0 || top + i >= g.height) continue;
    const int64_t row = (n * g.height + top + i) * g.width;
    for (int j = 0; j < S; ++j) {
      if (left + j >= 0 && left + j < g.width) f(i * S + j, (row + left + j) * g.C);
    }
  }
}

template <int S>
void spread(const float* x, float* values, const Grid& g) {
  const int64_t plane = g.tiles() * g.C;
  over_tiles(g, true, [=](auto lanes, int64_t n, int64_t r, int64_t t, int64_t c) {
    constexpr int W = decltype(lanes)::value;
    using L = V<float, W>;
    L p[S * S] = {}, half[6 * S], v[36];
    over_pixels<S>(g, n, r, t, [&](int k, int64_t at) { p[k] = read<W>(x + at + c); });
    for (int j = 0; j < S; ++j) map_line<S, false>(p + j, half + j, S, S);
    for (int i = 0; i < 6; ++i) map_line<S, false>(half + i * S, v + i * 6, 1, 1);
    float* to = values + ((n * g.rows + r) * g.wide() + t) * g.C + c;
    for (int k = 0; k < 36; ++k) write<W>(to + k * plane, v[k]);
  });
}

template <int S>
void gather(const float* values, float* y, const Grid& g) {
  const int64_t plane = g.tiles() * g.C;
  over_tiles(g, S == 4, [=](auto lanes, int64_t n, int64_t r, int64_t t, int64_t c) {
    constexpr int W = decltype(lanes)::value;
    using L = V<float, W>;
    L p[S * S], half[6 * S], v[36];
    const float* from = values + ((n * g.rows + r) * g.wide() + t) * g.C + c;
    for (int k = 0; k < 36; ++k) v[k] = read<W>(from + k * plane);
    for (int i = 0; i < 6; ++i) map_line<S, true>(v + i * 6, half + i * S, 1, 1);
    for (int j = 0; j < S; ++j) map_line<S, true>(half + j, p + j, S, S);
    over_pixels<S>(g, n, r, t, [&](int k, int64_t at) {
      write<W>(y + at + c, S == 4 ? p[k] : read<W>(y + at + c) + p[k]);  // 6 x 6 overlap
    });
  });
}

Grid grid_of(const Tensor& x, int64_t size, int64_t first, int64_t rows) {
  TORCH_CHECK(x.scalar_type() == at::kFloat && (size == 4 || size == 6) && first >= 0 &&
                  x.size(3) % 4 == 0 && 4 * (first + rows) <= x.size(2),
              "tiles: expected float32 pictures that are a multiple of the tile's step");
  return {x.size(0), x.size(1), x.size(2), x.size(3), first, rows};
}

Tensor spread_tiles(const Tensor& x_, int64_t size, int64_t first, int64_t rows) {
  const Tensor x = dense(x_, true);
  const Grid g = grid_of(x, size, first, rows);
  Tensor values = at::empty({36, g.tiles(), g.C}, x.options().memory_format(std::nullopt));
  (size == 6 ? spread<6> : spread<4>)(x.const_data_ptr<float>(), values.mutable_data_ptr<float>(), g);
  return values;
}

void gather_tiles(const Tensor& values_, Tensor& y, int64_t size, int64_t first, int64_t rows) {
  const Tensor values = values_.contiguous();
  const Grid g = grid_of(y, size, first, rows);
  TORCH_CHECK(y.is_contiguous(at::MemoryFormat::ChannelsLast) && values.numel() == 36 * g.tiles() * g.C,
              "gather_tiles: values and picture do not fit");
  (size == 6 ? gather<6> : gather<4>)(values.const_data_ptr<float>(), y.mutable_data_ptr<float>(), g);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fewshot_smis, m) {
  m.def("spread_tiles(Tensor x, int size, SymInt first, SymInt rows) -> Tensor");
  m.def("gather_tiles(Tensor values, Tensor(a!) y, int size, SymInt first, SymInt rows) -> ()");
}

TORCH_LIBRARY_IMPL(fewshot_smis, CPU, m) {
  m.impl("spread_tiles", spread_tiles);
  m.impl("gather_tiles", gather_tiles);
}
