// The parts of a resampler that works row by row: filters, axes, and sums of rows.

#pragma once

#include "lanes.h"
#include "tensors.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace fewshot_smis {

template <typename R>
using Taps = std::vector<R>;

// A filter as correlation meets it: `rows` of taps, or, where they are multiples of one another,
// their factors x (along a row) and y (down the columns). The gain is in x, or in the rows.
template <typename R>
struct Filter {
  bool separable;
  Taps<R> x, y;
  std::vector<Taps<R>> rows;
};

template <typename R>
Filter<R> read_filter(const at::Tensor& f, bool flip, double gain) {
  const at::Tensor values = f.to(at::kDouble).contiguous();
  const double* p = values.const_data_ptr<double>();
  const int64_t w = f.size(-1), h = f.dim() == 1 ? w : f.size(0);
  std::vector<double> x(w), y(h);
  Filter<R> filter{true, {}, {}, {}};
  if (f.dim() == 1) {
    std::copy(p, p + w, x.begin());
    y = x;
  } else {
    // The row and the column of the largest tap span a filter of rank one.
    const int64_t peak =
        std::max_element(p, p + h * w, [](double a, double b) { return std::abs(a) < std::abs(b); }) - p;
    const double top = p[peak];
    for (int64_t j = 0; j < w; ++j) x[j] = p[peak / w * w + j];
    for (int64_t i = 0; i < h; ++i) y[i] = top == 0 ? 0 : p[i * w + peak % w] / top;
    const double sum = std::accumulate(x.begin(), x.end(), 0.0);
    if (std::abs(sum) > 1e-3 * std::abs(top)) {  // factors of familiar size: x sums to one
      for (double& v : x) v /= sum;
      for (double& v : y) v *= sum;
    }
    for (int64_t k = 0; k < h * w; ++k) {
      filter.separable &= std::abs(y[k / w] * x[k % w] - p[k]) <= 1e-6 * std::abs(top);
    }
  }
  if (filter.separable) {
    if (!flip) std::reverse(x.begin(), x.end()), std::reverse(y.begin(), y.end());
    filter.y.assign(y.begin(), y.end());
    for (double v : x) filter.x.push_back(R(v) * R(gain));
    return filter;
  }
  for (int64_t i = 0; i < h; ++i) {
    Taps<R> row;
    for (int64_t j = 0; j < w; ++j) {
      row.push_back(R(flip ? p[i * w + j] : p[(h - 1 - i) * w + w - 1 - j]) * R(gain));
    }
    filter.rows.push_back(row);
  }
  return filter;
}

// One axis of a resampling: output `o` is the sum of taps[t] * pixel over all t and pixels with
// o * down + t = pixel * up + pad.
struct Axis {
  int64_t in, out, up, down, pad, taps;

  // The first tap that meets a pixel for output `o`, and that pixel, which may lie outside; further
  // ones follow in steps of `up` taps and one pixel.
  void first(int64_t o, int64_t& tap, int64_t& pixel) const {
    const int64_t start = o * down - pad;
    tap = start >= 0 ? (up - start % up) % up : -start % up;
    pixel = (start + tap) / up;
  }
};

inline Axis make_axis(int64_t in, int64_t up, int64_t down, int64_t before, int64_t after,
                      int64_t taps) {
  return {in, resampled(in, up, down, before + after, taps), up, down, before, taps};
}

// The outputs of one axis that share their weights: output + i * step is the sum over k of
// weights[k] * (pixel + i * stride + k), for i < count.
template <typename R>
struct Phase {
  int64_t output, pixel, count, step, stride;
  Taps<R> weights;
};

template <typename R>
std::vector<Phase<R>> make_phases(const Axis& axis, const Taps<R>& taps) {
  const int64_t common = std::gcd(axis.up, axis.down);
  const int64_t step = axis.up / common, stride = axis.down / common;
  std::vector<Phase<R>> phases;
  for (int64_t o = 0; o < std::min(step, axis.out); ++o) {
    int64_t tap, pixel;
    axis.first(o, tap, pixel);
    Phase<R> phase{o, pixel, (axis.out - o + step - 1) / step, step, stride, {}};
    for (; tap < axis.taps; tap += axis.up) phase.weights.push_back(taps[tap]);
    phases.push_back(phase);
  }
  return phases;
}

// A row of C values a pixel, between margins of zeros wide enough that no phase leaves it.
template <typename R>
struct Line {
  std::vector<R> values;
  R* body;

  Line(const Axis& axis, const std::vector<Phase<R>>& phases, int64_t C) {
    int64_t low = 0, high = axis.in;
    for (const auto& p : phases) {
      low = std::min(low, p.pixel);
      high = std::max(high, p.pixel + (p.count - 1) * p.stride + int64_t(p.weights.size()));
    }
    values.assign((high - low) * C, R(0));
    body = values.data() - low * C;
  }
};

// out[i] = the sum over k of rows[k][i] * weights[k].
template <typename S, typename T, typename R = Real<T>>
void sum_rows(const S* const* rows, const R* weights, int count, T* out, int64_t n) {
  over_channels(n, [=](auto width, int64_t i) {
    constexpr int W = decltype(width)::value;
    V<R, W> sum = read<W>(rows[0] + i) * weights[0];
    for (int k = 1; k < count; ++k) sum += read<W>(rows[k] + i) * weights[k];
    write<W>(out + i, sum);
  });
}

constexpr int kMaxTaps = 64;

// Filters a line into `out`, or adds it there. Loops with a known number of taps unroll.
template <bool add, int taps, typename T, typename R>
void filter_phase(const R* from, const Phase<R>& p, T* to, int64_t C) {
  const int count = taps > 0 ? taps : int(p.weights.size());
  const R* weights = p.weights.data();
  const bool packed = C == 1 && p.step == 1 && p.stride == 1;  // neighbours are pixels
  over_channels(packed ? p.count : C, [&](auto width, int64_t c) {
    constexpr int W = decltype(width)::value;
    const int64_t pixels = packed ? 1 : p.count;
    for (int64_t i = 0; i < pixels; ++i) {
      const R* at = from + i * p.stride * C + c;
      T* out = to + i * p.step * C + c;
      V<R, W> sum = add ? read<W>(out) : V<R, W>{};
      for (int k = 0; k < count; ++k) sum += read<W>(at + k * C) * weights[k];
      write<W>(out, sum);
    }
  });
}

// The same where a pixel is one value: whole rows, tap by tap, in `sums` of p.count values.
template <bool add, typename T, typename R>
void filter_plane(const R* from, const Phase<R>& p, T* to, R* sums) {
  std::fill(sums, sums + p.count, R(0));
  for (size_t k = 0; k < p.weights.size(); ++k) {
    const R weight = p.weights[k];
    const R* at = from + k;
    if (p.stride == 1) {
#pragma omp simd
      for (int64_t i = 0; i < p.count; ++i) sums[i] += weight * at[i];
    } else {
#pragma omp simd
      for (int64_t i = 0; i < p.count; ++i) sums[i] += weight * at[i * p.stride];
    }
  }
  for (int64_t i = 0; i < p.count; ++i) {
    narrow(to[i * p.step], add ? widen(to[i * p.step]) + sums[i] : sums[i]);
  }
}

template <bool add, typename T, typename R>
void filter_row(const R* body, const std::vector<Phase<R>>& phases, T* out, int64_t C, R* sums) {
  for (const auto& p : phases) {
    const R* from = body + p.pixel * C;
    T* to = out + p.output * C;
    if (C == 1 && (p.step > 1 || p.stride > 1)) {
      filter_plane<add>(from, p, to, sums);
    } else if (p.weights.size() == 2) {
      filter_phase<add, 2>(from, p, to, C);
    } else if (p.weights.size() == 4) {
      filter_phase<add, 4>(from, p, to, C);
    } else {
      filter_phase<add, 0>(from, p, to, C);
    }
  }
}

}  // namespace fewshot_smis
