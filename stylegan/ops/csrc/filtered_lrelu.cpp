// Bias, upsample, leaky ReLU, downsample, without a picture at the higher rate: its rows are made
// one by one, already filtered along, and kept in a ring until the output row that needs them is
// done. Where a gradient will be wanted, the slope taken at each point is noted in a byte; the
// gradient is then the same walk with the filters swapped and those slopes in place of the ReLU.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "resample.h"
#include "upfirdn2d.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <type_traits>
#include <vector>

namespace fewshot_smis {
namespace {

using at::Tensor;

// `padding` (left, right, top, bottom) lies around the upsampled picture, `inner` around what the
// second filter gets.
struct Settings {
  int64_t up, down;
  std::array<int64_t, 4> padding, inner;
  bool flip;
  double gain, slope, clamp;
};

enum Slope : uint8_t { kClamped, kPositive, kNegative };

constexpr int64_t kBlock = 32;  // channels of one walk: its ring stays in the nearer caches

template <typename T, typename R>
struct Walk {
  const T* x;
  const R* bias;
  T* y;
  uint8_t* slopes;  // written, or read where `linear`; may be null where not
  bool linear;
  int64_t N, C, block;  // `block` channels a walk; contiguous pictures have C = 1
  Axis up_x, up_y, down_x, down_y;
  Filter<R> up, down;
  R gain, slope, clamp;

  // One row at the higher rate: columns of the input into `line`, along it into `high`.
  void make_row(int64_t n, int64_t c, int64_t width, int64_t m, const std::vector<Phase<R>>& along,
                Line<R>& line, R* high, R* sums) const {
    const int64_t W = up_x.in;
    const T* rows[kMaxTaps];
    R weights[kMaxTaps];
    int count = 0;
    int64_t tap, pixel;
    up_y.first(m, tap, pixel);
    for (; tap < up_y.taps && pixel < up_y.in; tap += up_y.up, ++pixel) {
      if (pixel < 0) continue;
      rows[count] = x + (n * up_y.in + pixel) * W * C + c;
      weights[count++] = up.y[tap];
    }
    const bool packed = width == C;  // a row is one run of values
    for (int64_t p = 0; p < (packed ? 1 : W); ++p) {
      R* to = line.body + p * width;
      const int64_t values = packed ? W * C : width;
      if (count == 0) {
        std::fill(to, to + values, R(0));
        continue;
      }
      sum_rows(rows, weights, count, to, values);
      for (int k = 0; k < count; ++k) rows[k] += C;
    }
    if (bias && count > 0) {
      R total = 0;
      for (int k = 0; k < count; ++k) total += weights[k];
      for (int64_t p = 0; p < W; ++p) {
        for (int64_t i = 0; i < width; ++i) line.body[p * width + i] += total * bias[bias_at(n, c) + i];
      }
    }
    filter_row<false>(line.body, along, high, width, sums);
  }

  int64_t channels = 1;  // of contiguous pictures, whose number is n = picture * channels + channel
  int64_t bias_at(int64_t n, int64_t c) const { return C == 1 ? n % channels : c; }

  void activate(R* v, uint8_t* noted, int64_t width) const {
    if (!linear && !noted) {
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        const R a = (v[i] > 0 ? v[i] : v[i] * slope) * gain;
        const R b = a < -clamp ? -clamp : a;
        v[i] = b > clamp ? clamp : b;
      }
    } else if (!linear) {
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        const bool positive = v[i] > 0;
        const R a = (positive ? v[i] : v[i] * slope) * gain;
        const bool inside = a < clamp && a > -clamp;
        noted[i] = inside ? (positive ? kPositive : kNegative) : kClamped;
        const R b = a < -clamp ? -clamp : a;
        v[i] = b > clamp ? clamp : b;
      }
    } else {
      const R falling = gain * slope;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        v[i] *= noted[i] == kPositive ? gain : noted[i] == kNegative ? falling : R(0);
      }
    }
  }

  // Output rows [begin, end) of channels [c, c + width) of picture n.
  void rows(int64_t n, int64_t c, int64_t width, int64_t begin, int64_t end,
            const std::vector<Phase<R>>& along_up, const std::vector<Phase<R>>& along_down) const {
    Line<R> line(up_x, along_up, width), high(down_x, along_down, width);
    const int64_t taps = down_y.taps, row = down_x.out * width;
    std::vector<R> ring(taps * row), sums(std::max(up_x.out, down_x.out));
    int64_t made = std::max<int64_t>(begin * down_y.down - down_y.pad, 0);
    for (int64_t r = begin; r < end; ++r) {
      const int64_t first = std::max<int64_t>(r * down_y.down - down_y.pad, 0);
      const int64_t last = std::min(r * down_y.down - down_y.pad + taps, down_y.in);
      for (made = std::max(made, first); made < last; ++made) {
        make_row(n, c, width, made, along_up, line, high.body, sums.data());
        const int64_t runs = width == C ? 1 : up_x.out;  // of values that lie together
        for (int64_t p = 0; p < runs; ++p) {
          activate(high.body + p * width, note(n, made, p, c), up_x.out / runs * width);
        }
        filter_row<false>(high.body, along_down, ring.data() + made % taps * row, width, sums.data());
      }
      const R* kept[kMaxTaps];
      const int count = int(std::max<int64_t>(last - first, 0));
      for (int k = 0; k < count; ++k) kept[k] = ring.data() + (first + k) % taps * row;
      const R* weights = down.y.data() + (first - r * down_y.down + down_y.pad);
      T* to = y + (n * down_y.out + r) * down_x.out * C + c;
      const int64_t runs = width == C ? 1 : down_x.out;
      for (int64_t p = 0; p < runs; ++p) {
        const int64_t values = row / runs;
        if (count > 0) {
          sum_rows(kept, weights, count, to + p * C, values);
        } else {
          for (int64_t i = 0; i < values; ++i) narrow(to[p * C + i], R(0));
        }
        for (int k = 0; k < count; ++k) kept[k] += values;
      }
    }
  }

  uint8_t* note(int64_t n, int64_t m, int64_t p, int64_t c) const {
    return slopes ? slopes + ((n * up_y.out + m) * up_x.out + p) * C + c : nullptr;
  }

  void run() const {
    const auto along_up = make_phases(up_x, up.x);
    const auto along_down = make_phases(down_x, down.x);
    const int64_t blocks = (C + block - 1) / block;
    // Long strips: the rows at their borders are made twice.
    const int64_t strip = std::max<int64_t>(8 * down_y.taps / down_y.down, 16);
    const int64_t strips = (down_y.out + strip - 1) / strip;
    at::parallel_for(0, N * blocks * strips, 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const int64_t s = k % strips, c = k / strips % blocks * block, n = k / strips / blocks;
        rows(n, c, std::min(block, C - c), s * strip, std::min(down_y.out, (s + 1) * strip), along_up,
             along_down);
      }
    });
  }
};

struct Sizes {
  int64_t high_height, high_width, height, width;
};

Sizes sizes_of(const Tensor& x, const Tensor& up, const Tensor& down, const Settings& s) {
  const auto& [left, right, top, bottom] = s.padding;
  const int64_t high_height = resampled(x.size(2), s.up, 1, top + bottom, up.size(0));
  const int64_t high_width = resampled(x.size(3), s.up, 1, left + right, up.size(-1));
  return {high_height, high_width,
          resampled(high_height, 1, s.down, s.inner[2] + s.inner[3], down.size(0)),
          resampled(high_width, 1, s.down, s.inner[0] + s.inner[1], down.size(-1))};
}

// The walk with both filters separable, or false where one is not.
bool fused(const Tensor& x, const std::optional<Tensor>& bias, const Tensor& up, const Tensor& down,
           const Settings& s, bool linear, const Sizes& size, Tensor& y, Tensor& slopes) {
  bool done = false;
  with_storage("filtered_lrelu", x.scalar_type(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    using R = Real<T>;
    const auto f_up = read_filter<R>(up, s.flip, double(s.up * s.up));
    const auto f_down = read_filter<R>(down, s.flip, 1.0);
    done = f_up.separable && f_down.separable;
    if (!done || y.numel() == 0) return;
    const bool last = channels_last(x);
    const int64_t N = x.size(0), C = x.size(1);
    const Tensor b = bias.has_value() ? reals(bias, {C}, 0.0, x) : Tensor();
    Walk<T, R> walk{
        static_cast<const T*>(x.const_data_ptr()),
        bias.has_value() ? b.const_data_ptr<R>() : nullptr,
        static_cast<T*>(y.mutable_data_ptr()),
        slopes.numel() > 0 ? slopes.mutable_data_ptr<uint8_t>() : nullptr,
        linear,
        last ? N : N * C,
        last ? C : 1,
        last ? std::min(C, kBlock) : 1,
        {x.size(3), size.high_width, s.up, 1, s.padding[0], up.size(-1)},
        {x.size(2), size.high_height, s.up, 1, s.padding[2], up.size(0)},
        {size.high_width, size.width, 1, s.down, s.inner[0], down.size(-1)},
        {size.high_height, size.height, 1, s.down, s.inner[2], down.size(0)},
        f_up,
        f_down,
        R(s.gain),
        R(s.slope),
        R(bound(s.clamp))};
    walk.channels = C;
    walk.run();
  });
  return done;
}

// The same in steps, for filters that do not separate.
Tensor stepwise(const Tensor& x, const std::optional<Tensor>& bias, const Tensor& up,
                const Tensor& down, const Settings& s, bool linear, Tensor& slopes) {
  const Tensor biased =
      bias.has_value() ? x + bias->to(x.scalar_type()).reshape({1, -1, 1, 1}) : x;
  const auto& [left, right, top, bottom] = s.padding;
  Tensor high = upfirdn2d(biased, up, s.up, s.up, 1, 1, left, right, top, bottom, s.flip,
                          double(s.up * s.up));
  if (linear) {
    const Tensor zero = at::zeros({}, high.options());
    high = high * at::where(slopes == kPositive, zero + s.gain,
                            at::where(slopes == kNegative, zero + s.gain * s.slope, zero));
  } else {
    if (slopes.numel() > 0) {
      slopes.copy_(at::where(high > 0, int64_t(kPositive), int64_t(kNegative)));
    }
    high = at::leaky_relu(high, s.slope) * s.gain;
    if (s.clamp >= 0) {
      if (slopes.numel() > 0) slopes.masked_fill_(high.abs() >= s.clamp, int64_t(kClamped));
      high = high.clamp(-s.clamp, s.clamp);
    }
  }
  return upfirdn2d(high, down, 1, 1, s.down, s.down, s.inner[0], s.inner[1], s.inner[2], s.inner[3],
                   s.flip, 1.0);
}

Tensor compute(const Tensor& x_, const std::optional<Tensor>& bias, const Tensor& up,
               const Tensor& down, const Settings& s, bool linear, bool noting, Tensor& slopes) {
  const bool last = channels_last(x_);
  const Tensor x = dense(x_, last);
  const Sizes size = sizes_of(x, up, down, s);
  TORCH_CHECK(std::max({up.size(0), up.size(-1), down.size(0), down.size(-1)}) <= kMaxTaps,
              "filtered_lrelu: at most ", kMaxTaps, " taps");
  const int64_t N = x.size(0), C = x.size(1);
  if (linear) {
    slopes = dense(slopes, last);
  } else {
    const auto bytes = x.options().dtype(at::kByte);
    slopes = noting ? at::empty({N, C, size.high_height, size.high_width},
                                bytes.memory_format(layout(last)))
                    : at::empty({0}, bytes.memory_format(std::nullopt));
  }
  Tensor y = at::empty({N, C, size.height, size.width}, x.options().memory_format(layout(last)));
  if (fused(x, bias, up, down, s, linear, size, y, slopes)) return y;
  return dense(stepwise(x, bias, up, down, s, linear, slopes), last);
}

std::tuple<Tensor, Tensor> filtered_lrelu(const Tensor& x, const std::optional<Tensor>& bias,
                                          const Tensor& up_filter, const Tensor& down_filter,
                                          int64_t up, int64_t down, int64_t left, int64_t right,
                                          int64_t top, int64_t bottom, double gain, double slope,
                                          double clamp, bool want_slopes) {
  const Settings s{up, down, {left, right, top, bottom}, {0, 0, 0, 0}, false, gain, slope, clamp};
  Tensor slopes;
  const Tensor y = compute(x, bias, up_filter, down_filter, s, false, want_slopes, slopes);
  return {y, slopes};
}

Tensor filtered_slopes(const Tensor& x, const Tensor& slopes_, const Tensor& up_filter,
                       const Tensor& down_filter, int64_t up, int64_t down, int64_t left,
                       int64_t right, int64_t top, int64_t bottom, int64_t inner_left,
                       int64_t inner_right, int64_t inner_top, int64_t inner_bottom, bool flip,
                       double gain, double slope) {
  const Settings s{up, down, {left, right, top, bottom},
                   {inner_left, inner_right, inner_top, inner_bottom}, flip, gain, slope, -1.0};
  Tensor slopes = slopes_;
  return compute(x, std::nullopt, up_filter, down_filter, s, true, false, slopes);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fewshot_smis, m) {
  m.def(
      "filtered_lrelu(Tensor x, Tensor? bias, Tensor up_filter, Tensor down_filter, SymInt up, "
      "SymInt down, SymInt left, SymInt right, SymInt top, SymInt bottom, float gain, float slope, "
      "float clamp, bool want_slopes) -> (Tensor, Tensor)");
  m.def(
      "filtered_slopes(Tensor x, Tensor slopes, Tensor up_filter, Tensor down_filter, SymInt up, "
      "SymInt down, SymInt left, SymInt right, SymInt top, SymInt bottom, SymInt inner_left, "
      "SymInt inner_right, SymInt inner_top, SymInt inner_bottom, bool flip, float gain, "
      "float slope) -> Tensor");
}

TORCH_LIBRARY_IMPL(fewshot_smis, CPU, m) {
  m.impl("filtered_lrelu", filtered_lrelu);
  m.impl("filtered_slopes", filtered_slopes);
}

}  // namespace fewshot_smis
