// Bias, upsample, leaky ReLU, downsample, in tiles whose picture at the higher rate stays in the
// memory of a block. Each step filters along one axis: an item makes a few neighbouring values of
// it in registers. Neighbouring threads take neighbouring columns in the steps along columns, and
// neighbouring rows, an odd number of values apart, in those along rows: no two meet in a bank.

#include "grid.h"
#include "kernels.h"
#include "tile.h"

#include <type_traits>

namespace fewshot_smis {
namespace {

enum Slope : uint8_t { kClamped, kPositive, kNegative };  // as on the CPU

// One axis, of the picture, at the higher rate, and of the result.
struct Span {
  int low, high, out, padding, inner, tiles;
};

template <typename T, int W, int Up, int TapsUp, int Down, int TapsDown, bool Radial>
struct FilteredLrelu {
  using Value = Pack<float, W>;
  using Spread = Along<Up, 1, TapsUp, 4>;
  using Gather = Along<1, Down, TapsDown, 8 / Down>;

  static constexpr int kThreads = W == 1 ? 256 : 128;
  static constexpr int kSide = (W == 1 ? 64 : 32) / Down;  // outputs of a tile, along each axis
  static constexpr int kHigh = (kSide * Down + TapsDown + Up + 1) / 4 * 4;
  static constexpr int kLow = (kHigh + TapsUp - 2) / Up + 1;
  static constexpr int kHighPitch = kHigh | 1, kLowPitch = kLow | 1, kSidePitch = kSide | 1;
  // The first buffer is the picture's, then the one at the higher rate; the second is for those
  // filtered along rows.
  static constexpr int kFirst = kHigh * kHighPitch;
  static constexpr int kSecond =
      kLow * kHighPitch > kHigh * kSidePitch ? kLow * kHighPitch : kHigh * kSidePitch;
  static constexpr int kBytes = (kFirst + kSecond) * int(sizeof(Value));
  static_assert(kLow * kLowPitch <= kFirst, "the picture fits the first buffer");

  const T* x;
  const float *bias, *f_up, *f_down;
  T* y;
  uint8_t* slopes;  // written where not null, read where `linear`
  int C, channels;  // contiguous pictures have C = 1, and are those of so many channels
  Span along_x, along_y;
  bool flip, linear, whole;  // whole: packs of W channels lie on their own boundaries
  float gain, slope, clamp;

  // Where a tile lies: its first output; the first position at the higher rate and pixel it makes
  // use of; and how many positions before the first that is needed the former lies.
  struct Place {
    int out, high, low, lead;
  };
  static ITEM Place place(const Span& s, int tile) {
    const int needed = tile * kSide * Down - s.inner;
    const int lead = ((needed - s.padding) % Up + Up) % Up;
    return {tile * kSide, needed - lead, (needed - lead - s.padding) / Up, lead};
  }

  ITEM void operator()(const Block& block, float* memory, int number) const {
    const int groups = (C + W - 1) / W, c = number % groups * W;
    const int tile = number / groups, tile_x = tile % along_x.tiles;
    const int tile_y = tile / along_x.tiles % along_y.tiles;
    const int n = tile / along_x.tiles / along_y.tiles;
    const Place at_x = place(along_x, tile_x), at_y = place(along_y, tile_y);
    Value* first = reinterpret_cast<Value*>(memory);
    Value* second = first + kFirst;

    read(block, n, c, at_x, at_y, first);
    block.wait();
    float up[TapsUp];
    read_taps(f_up, flip, float(Up), up);
    for (int i = block.first; i < kLow * (kHigh / Spread::made); i += block.step) {
      const int row = i % kLow, column = i / kLow * Spread::made;
      Value sum[Spread::made] = {};
      filter<Spread>(first + row * kLowPitch + column / Up, 1, up, sum);
#pragma unroll
      for (int r = 0; r < Spread::made; ++r) second[row * kHighPitch + column + r] = sum[r];
    }
    block.wait();
    for (int i = block.first; i < kHigh * (kHigh / Spread::made); i += block.step) {
      const int column = i % kHigh, row = i / kHigh * Spread::made;
      Value sum[Spread::made] = {};
      filter<Spread>(second + row / Up * kHighPitch + column, kHighPitch, up, sum);
#pragma unroll
      for (int r = 0; r < Spread::made; ++r) {
        activate(sum[r], n, c, at_x, at_y, tile_x, tile_y, column, row + r);
        first[(row + r) * kHighPitch + column] = sum[r];
      }
    }
    block.wait();
    if constexpr (Radial) return gather(block, n, c, at_x, at_y, first, memory + kFirst * W);
    float down[TapsDown];
    read_taps(f_down, flip, 1.f, down);
    for (int i = block.first; i < kHigh * (kSide / Gather::made); i += block.step) {
      const int row = i % kHigh, column = i / kHigh * Gather::made;
      Value sum[Gather::made] = {};
      filter<Gather>(first + row * kHighPitch + at_x.lead + column * Down, 1, down, sum);
#pragma unroll
      for (int r = 0; r < Gather::made; ++r) second[row * kSidePitch + column + r] = sum[r];
    }
    block.wait();
    for (int i = block.first; i < kSide * (kSide / Gather::made); i += block.step) {
      const int column = i % kSide, row = i / kSide * Gather::made;
      Value sum[Gather::made] = {};
      const Value* from = second + (at_y.lead + row * Down) * kSidePitch + column;
      filter<Gather>(from, kSidePitch, down, sum);
#pragma unroll
      for (int r = 0; r < Gather::made; ++r) {
        write(sum[r], n, c, at_x.out + column, at_y.out + row + r);
      }
    }
  }

  // The way down by a filter that has no rows and columns, whose taps go into `taps`.
  ITEM void gather(const Block& block, int n, int c, const Place& at_x, const Place& at_y,
                   const Value* high, float* taps) const {
    constexpr int kTaps = TapsDown * TapsDown;
    for (int i = block.first; i < kTaps; i += block.step) {
      taps[i] = f_down[flip ? i : kTaps - 1 - i];
    }
    block.wait();
    for (int i = block.first; i < kSide * (kSide / Gather::made); i += block.step) {
      const int row = i % kSide, column = i / kSide * Gather::made;
      const Value* from =
          high + (at_y.lead + row * Down) * kHighPitch + at_x.lead + column * Down;
      Value sum[Gather::made] = {};
      for (int ty = 0; ty < TapsDown; ++ty) {
        float along[TapsDown];
#pragma unroll
        for (int tx = 0; tx < TapsDown; ++tx) along[tx] = taps[ty * TapsDown + tx];
        filter<Gather>(from + ty * kHighPitch, 1, along, sum);
      }
#pragma unroll
      for (int r = 0; r < Gather::made; ++r) {
        write(sum[r], n, c, at_x.out + column + r, at_y.out + row);
      }
    }
  }

  ITEM int64_t at(int n, int height, int iy, int width, int ix, int c) const {
    return ((int64_t(n) * height + iy) * width + ix) * C + c;
  }

  // The channels from c on, of which the last pack may have fewer.
  template <typename S>
  ITEM Pack<S, W> take(const S* p, int c) const {
    if (whole) return load<W>(p);
    Pack<S, W> pack = {};
#pragma unroll
    for (int i = 0; i < W; ++i) {
      if (c + i < C) pack.values[i] = p[i];
    }
    return pack;
  }
  template <typename S>
  ITEM void put(S* p, int c, const Pack<S, W>& pack) const {
    if (whole) return store<W>(p, pack);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      if (c + i < C) p[i] = pack.values[i];
    }
  }

  // The pixels of the tile, biased, and zeros beside the picture.
  ITEM void read(const Block& block, int n, int c, const Place& at_x, const Place& at_y,
                 Value* to) const {
    Value b = {};
    if (bias) {
#pragma unroll
      for (int i = 0; i < W; ++i) b.values[i] = bias[C == 1 ? n % channels : c + i < C ? c + i : c];
    }
    for (int i = block.first; i < kLow * kLow; i += block.step) {
      const int row = i / kLow, column = i % kLow;
      const int ix = at_x.low + column, iy = at_y.low + row;
      Value value = {};
      if (ix >= 0 && ix < along_x.low && iy >= 0 && iy < along_y.low) {
        const auto pixel = take(x + at(n, along_y.low, iy, along_x.low, ix, c), c);
#pragma unroll
        for (int k = 0; k < W; ++k) value.values[k] = widen(pixel.values[k]) + b.values[k];
      }
      to[row * kLowPitch + column] = value;
    }
  }

  // Neighbouring sums along an axis, whose values lie `step` apart.
  template <typename Axis>
  static ITEM void filter(const Value* from, int step, const float (&taps)[Axis::taps],
                          Value (&sum)[Axis::made]) {
#pragma unroll
    for (int p = 0; p < Axis::pixels; ++p) {
      const Value value = from[p * step];
#pragma unroll
      for (int r = 0; r < Axis::made; ++r) {
        if (!Axis::meets(r, p)) continue;
#pragma unroll
        for (int i = 0; i < W; ++i) sum[r].values[i] += taps[Axis::tap(r, p)] * value.values[i];
      }
    }
  }

  // What the nonlinearity makes of the value at (column, row) of the tile at the higher rate. The
  // slope is noted by the tile whose outputs begin there, the last if there is none.
  ITEM void activate(Value& v, int n, int c, const Place& at_x, const Place& at_y,
                     int tile_x, int tile_y, int column, int row) const {
    const int gx = at_x.high + column, gy = at_y.high + row;
    if (gx < 0 || gx >= along_x.high || gy < 0 || gy >= along_y.high) {
      v = Value{};
      return;
    }
    uint8_t* note = slopes ? slopes + at(n, along_y.high, gy, along_x.high, gx, c) : nullptr;
    Pack<uint8_t, W> noted = {};
    if (linear) noted = take(note, c);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      float& value = v.values[i];
      if (linear) {
        const uint8_t s = noted.values[i];
        value *= s == kPositive ? gain : s == kNegative ? gain * slope : 0.f;
        continue;
      }
      const bool positive = value > 0.f;
      const float bent = (positive ? value : value * slope) * gain;
      const bool inside = bent < clamp && bent > -clamp;
      noted.values[i] = inside ? (positive ? kPositive : kNegative) : kClamped;
      value = bent < -clamp ? -clamp : bent > clamp ? clamp : bent;
    }
    const bool mine =
        note && !linear && owns(along_x, tile_x, gx) && owns(along_y, tile_y, gy);
    if (mine) put(note, c, noted);
  }
  static ITEM bool owns(const Span& s, int tile, int high) {
    return high >= tile * kSide * Down && (high < (tile + 1) * kSide * Down || tile + 1 == s.tiles);
  }

  ITEM void write(const Value& sum, int n, int c, int ox, int oy) const {
    if (ox >= along_x.out || oy >= along_y.out) return;
    Pack<T, W> out;
#pragma unroll
    for (int i = 0; i < W; ++i) narrow(out.values[i], sum.values[i]);
    put(y + at(n, along_y.out, oy, along_x.out, ox, c), c, out);
  }
};

}  // namespace
}  // namespace fewshot_smis

using namespace fewshot_smis;

int fewshot_smis_filtered_lrelu(const void* x, const float* bias, const float* f_up,
                                const float* f_down, void* y, uint8_t* slopes, int64_t N, int64_t C,
                                int64_t height, int64_t width, int64_t high_height,
                                int64_t high_width, int64_t out_height, int64_t out_width, int up,
                                int taps_up, int down, int taps_down, int radial, int64_t left,
                                int64_t top, int64_t inner_left, int64_t inner_top, int flip,
                                float gain, float slope, float clamp, int linear, int storage,
                                int last, int aligned, cudaStream_t stream) {
  const int64_t pictures = last ? N : N * C, values = last ? C : 1;
  const bool whole = !last || (aligned && C % 4 == 0);
  const auto with_pack = [&](auto* tag, auto pack) -> int {
    using T = std::remove_pointer_t<decltype(tag)>;
    constexpr int W = decltype(pack)::value;
    const auto launch = [&](auto up_, auto taps_up_, auto down_, auto taps_down_, auto round) {
      using Item = FilteredLrelu<T, W, decltype(up_)::value, decltype(taps_up_)::value,
                                 decltype(down_)::value, decltype(taps_down_)::value,
                                 decltype(round)::value>;
      const auto span = [](int64_t low, int64_t high, int64_t out, int64_t padding, int64_t inner) {
        const int64_t tiles = (out + Item::kSide - 1) / Item::kSide;
        return Span{int(low), int(high), int(out), int(padding), int(inner), int(tiles)};
      };
      const Span along_x = span(width, high_width, out_width, left, inner_left);
      const Span along_y = span(height, high_height, out_height, top, inner_top);
      const Item item{static_cast<const T*>(x), bias, f_up, f_down, static_cast<T*>(y), slopes,
                      int(values), int(C), along_x, along_y, flip != 0, linear != 0, whole, gain,
                      slope, clamp};
      const int64_t blocks = pictures * along_x.tiles * along_y.tiles * ((values + W - 1) / W);
      return blocks >> 31 ? int(cudaErrorNotSupported) : over_blocks(blocks, stream, item);
    };
    const Width<2> two;
    const Width<4> four;
    const Width<12> twelve;
    const Width<24> more;
    const std::bool_constant<true> round;
    const std::bool_constant<false> apart;
    const auto is = [&](int a, int b, int c, int d) {
      return up == a && taps_up == b && down == c && taps_down == d;
    };
    if (is(2, 12, 2, 12) && radial) return launch(two, twelve, two, twelve, round);
    if (is(4, 24, 2, 12) && radial) return launch(four, more, two, twelve, round);
    if (is(2, 12, 2, 12)) return launch(two, twelve, two, twelve, apart);
    if (is(4, 24, 2, 12)) return launch(four, more, two, twelve, apart);
    if (is(2, 12, 4, 24) && !radial) return launch(two, twelve, four, more, apart);
    return int(cudaErrorNotSupported);
  };
  return with_storage(storage, values, aligned, [&](auto* tag, auto) -> int {
    return last ? with_pack(tag, Width<4>{}) : with_pack(tag, Width<1>{});
  });
}
