// Resampling by factors and taps known to the compiler: an item keeps the filter in registers, and
// a tile of outputs, so that a pixel it loads serves all of them. Positions within a picture have
// 32 bits.

#pragma once

#include "grid.h"

namespace fewshot_smis {

// What is resampled. Pictures are [height, width, C]; contiguous ones have C = 1 and count as many
// pictures.
struct Pass {
  const float* f;
  int64_t pictures, C, height, width, out_height, out_width, left, top;
  int height_f, width_f, up_x, up_y, down_x, down_y;
  bool flip;
  float gain;
  bool aligned;

  ITEM float tap(int ty, int tx) const {
    const int at = ty * width_f + tx;
    return gain * f[flip ? at : height_f * width_f - 1 - at];
  }
};

// Taps as factors of neighbours from the first to the last.
template <int N>
ITEM void read_taps(const float* f, bool flip, float gain, float (&taps)[N]) {
  float given[N];
#pragma unroll
  for (int t = 0; t < N; ++t) given[t] = gain * f[t];
#pragma unroll
  for (int t = 0; t < N; ++t) taps[t] = flip ? given[t] : given[N - 1 - t];
}

// One axis of a tile of `Made` outputs, the first of which starts on a pixel.
template <int Up, int Down, int Taps, int Made>
struct Along {
  static_assert(Up == 1 || Down == 1, "tiles go one way");
  static_assert(Made % Up == 0, "all tiles start on a pixel");
  static constexpr int up = Up, down = Down, taps = Taps, made = Made;
  static constexpr int pixels = ((Made - 1) * Down + Taps - 1) / Up + 1;

  // The tap that takes a pixel into an output, both counted from the tile's first; or none.
  static ITEM constexpr int tap(int output, int pixel) { return pixel * Up - output * Down; }
  static ITEM constexpr bool meets(int output, int pixel) {
    return tap(output, pixel) >= 0 && tap(output, pixel) < Taps;
  }
  // The last pixel of an output.
  static ITEM constexpr int last(int output) { return (output * Down + Taps - 1) / Up; }

  // The output at which the first tile begins: 0, or as many before as start it on a pixel.
  static int begin(int64_t padding) { return -int((Up - padding % Up) % Up); }
  static int tiles(int64_t out, int64_t padding) {
    return int((out - begin(padding) + Made - 1) / Made);
  }
};

template <typename T, int W, typename X, typename Y>
struct Tile {
  const T* x;
  T* y;
  Pass p;
  int C, height, width, out_height, out_width, left, top, begin_x, begin_y;
  bool packed;  // outputs of a row are stored at once

  ITEM void operator()(int column, int row, int n) const {
    const int groups = C / W, across = column / groups, c = (column - across * groups) * W;
    const int ox = across * X::made + begin_x, oy = row * Y::made + begin_y;
    const int ix = (ox * X::down - left) / X::up, iy = (oy * Y::down - top) / Y::up;
    const T* from = x + n * (int64_t(height) * width * C) + c;
    T* to = y + n * (int64_t(out_height) * out_width * C) + c;
    const bool inside = ix >= 0 && ix + X::pixels <= width && iy >= 0 &&
                        iy + Y::pixels <= height && ox >= 0 && ox + X::made <= out_width &&
                        oy >= 0 && oy + Y::made <= out_height;
    inside ? make<true>(from, to, ix, iy, ox, oy) : make<false>(from, to, ix, iy, ox, oy);
  }

  // Most tiles lie inside of the picture, where nothing has to be asked.
  template <bool Inside>
  ITEM void make(const T* from, T* to, int ix, int iy, int ox, int oy) const {
    float taps[Y::taps * X::taps];
    read_taps(p.f, p.flip, p.gain, taps);
    float sum[Y::made][X::made][W] = {};
#pragma unroll
    for (int py = 0; py < Y::pixels; ++py) {
      const bool within = Inside || unsigned(iy + py) < unsigned(height);
      const T* line = from + (within ? iy + py : 0) * width * C;
      Pack<T, W> pixels[X::pixels];
#pragma unroll
      for (int px = 0; px < X::pixels; ++px) {
        // Beside the picture some pixel is read and not taken: that is cheaper than a branch.
        const bool taken = Inside || (within && unsigned(ix + px) < unsigned(width));
        const Pack<T, W> pixel = fetch<W>(taken ? line + (ix + px) * C : from);
        pixels[px] = taken ? pixel : Pack<T, W>{};
      }
#pragma unroll
      for (int r = 0; r < Y::made; ++r) {
        if (!Y::meets(r, py)) continue;
        add_row(sum[r], taps, Y::tap(r, py) * X::taps, pixels);
        if (py == Y::last(r) && (Inside || unsigned(oy + r) < unsigned(out_height))) {
          write_row<Inside>(to + (oy + r) * out_width * C, ox, sum[r]);
        }
      }
    }
  }

  // The taps of a row are those from `first` on.
  ITEM void add_row(float (&sum)[X::made][W], const float (&taps)[Y::taps * X::taps], int first,
                    const Pack<T, W> (&pixels)[X::pixels]) const {
#pragma unroll
    for (int px = 0; px < X::pixels; ++px) {
#pragma unroll
      for (int r = 0; r < X::made; ++r) {
        if (!X::meets(r, px)) continue;
#pragma unroll
        for (int i = 0; i < W; ++i) {
          sum[r][i] += taps[first + X::tap(r, px)] * widen(pixels[px].values[i]);
        }
      }
    }
  }

  template <bool Inside>
  ITEM void write_row(T* line, int ox, const float (&sum)[X::made][W]) const {
    Pack<T, W> out[X::made];
#pragma unroll
    for (int r = 0; r < X::made; ++r) {
#pragma unroll
      for (int i = 0; i < W; ++i) narrow(out[r].values[i], sum[r][i]);
    }
    if constexpr (W == 1 && X::made > 1) {
      if (packed) {
        Pack<T, X::made> all;
#pragma unroll
        for (int r = 0; r < X::made; ++r) all.values[r] = out[r].values[0];
        return store<X::made>(line + ox, all);
      }
    }
#pragma unroll
    for (int r = 0; r < X::made; ++r) {
      if (Inside || unsigned(ox + r) < unsigned(out_width)) store<W>(line + (ox + r) * C, out[r]);
    }
  }
};

// Whether these tiles make this pass.
template <typename X, typename Y>
bool takes(const Pass& p) {
  constexpr int64_t kMost = int64_t(1) << 30;
  const auto small = [](int64_t size) { return size > -kMost && size < kMost; };
  return p.up_x == X::up && p.up_y == Y::up && p.down_x == X::down && p.down_y == Y::down &&
         p.width_f == X::taps && p.height_f == Y::taps && p.pictures <= kMaxGrid &&
         Y::tiles(p.out_height, p.top) <= kMaxGrid && small(p.left) && small(p.top) &&
         p.height * p.width > 0 && small(p.height * p.width * p.C) &&
         small((p.out_height + 1) * p.out_width * p.C * X::down) && small(p.out_height * Y::down);
}

template <typename T, int W, typename X, typename Y>
int over_tiles(const T* x, T* y, const Pass& p, cudaStream_t stream) {
  const int begin_x = X::begin(p.left);
  const bool packed = p.C == 1 && p.aligned && begin_x == 0 && p.out_width % X::made == 0;
  const Tile<T, W, X, Y> item{x, y, p, int(p.C), int(p.height), int(p.width), int(p.out_height),
                              int(p.out_width), int(p.left), int(p.top), begin_x, Y::begin(p.top),
                              packed};
  const Grid grid{X::tiles(p.out_width, p.left) * int(p.C / W), Y::tiles(p.out_height, p.top),
                  int(p.pictures)};
  return over_grid(grid, stream, item);
}

}  // namespace fewshot_smis
