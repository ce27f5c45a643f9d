// Upsample, pad, filter with separable taps, downsample: row by row, first down the columns into a
// row of floats, then along it. A picture is rows of W pixels of C values each: channels_last as it
// is, contiguous as N*C pictures of one channel.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "lanes.h"

#include <algorithm>
#include <vector>

namespace {

using namespace fewshot_smis;
using at::Tensor;

struct Axis {
  int64_t in, out, up, down, pad;
  std::vector<float> taps;  // in the order of correlation

  // The first tap that meets a pixel for output `o`, and that pixel; further ones follow in steps
  // of `up` taps and one pixel.
  void first(int64_t o, int64_t& tap, int64_t& pixel) const {
    const int64_t start = o * down - pad;
    tap = start >= 0 ? (up - start % up) % up : -start % up;
    pixel = (start + tap) / up;
    if (pixel < 0) {
      tap += -pixel * up;
      pixel = 0;
    }
  }
};

template <int W>
inline V<W> weighted(const float* const* rows, const float* weights, int count, int64_t at) {
  V<W> sum = read<W>(rows[0] + at) * weights[0];
  for (int k = 1; k < count; ++k) sum += read<W>(rows[k] + at) * weights[k];
  return sum;
}

template <typename T>
void down_columns(const T* const* rows, const float* weights, int count, float* out, int64_t n) {
  over_channels(n, [=](auto width, int64_t i) {
    constexpr int W = decltype(width)::value;
    V<W> sum = read<W>(rows[0] + i) * weights[0];
    for (int k = 1; k < count; ++k) sum += read<W>(rows[k] + i) * weights[k];
    write<W>(out + i, sum);
  });
}

template <typename T>
void along_row(const float* const* at, const float* weights, int count, T* out, int64_t n) {
  over_channels(n, [=](auto width, int64_t i) {
    constexpr int W = decltype(width)::value;
    write<W>(out + i, weighted<W>(at, weights, count, i));
  });
}

constexpr int kMaxTaps = 64;

template <typename T>
void resample(const T* x, T* y, int64_t pictures, int64_t C, const Axis& cols, const Axis& rows) {
  const int64_t W = cols.in, OW = cols.out;
  // Columns of margin around the row of floats, so that stride-1 filters need no bounds.
  const bool plain = cols.up == 1 && cols.down == 1;
  const int64_t before = plain ? std::max<int64_t>(cols.pad, 0) : 0;
  const int64_t width = plain ? std::max<int64_t>(OW + int64_t(cols.taps.size()) - 1 + before - cols.pad, before + W) : W;
  at::parallel_for(0, pictures * rows.out, std::max<int64_t>(1, 16384 / (W * C + 1)),
                   [&](int64_t begin, int64_t end) {
    std::vector<float> line(width * C, 0.f);
    float* body = line.data() + before * C;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t n = r / rows.out;
      const T* picture = x + n * rows.in * W * C;
      T* out = y + r * OW * C;
      const T* source[kMaxTaps];
      float weights[kMaxTaps];
      int count = 0;
      int64_t tap, pixel;
      rows.first(r - n * rows.out, tap, pixel);
      for (; tap < int64_t(rows.taps.size()) && pixel < rows.in; tap += rows.up, ++pixel) {
        source[count] = picture + pixel * W * C;
        weights[count++] = rows.taps[tap];
      }
      if (count == 0) {
        for (int64_t i = 0; i < OW * C; ++i) narrow(out[i], 0.f);
        continue;
      }
      down_columns(source, weights, count, body, W * C);
      const float* at[kMaxTaps];
      if (plain) {
        const int taps = int(cols.taps.size());
        for (int k = 0; k < taps; ++k) at[k] = body + (k - cols.pad) * C;
        along_row(at, cols.taps.data(), taps, out, OW * C);
        continue;
      }
      for (int64_t o = 0; o < OW; ++o) {
        count = 0;
        cols.first(o, tap, pixel);
        for (; tap < int64_t(cols.taps.size()) && pixel < W; tap += cols.up, ++pixel) {
          at[count] = body + pixel * C;
          weights[count++] = cols.taps[tap];
        }
        if (count == 0) {
          for (int64_t c = 0; c < C; ++c) narrow(out[o * C + c], 0.f);
        } else {
          along_row(at, weights, count, out + o * C, C);
        }
      }
    }
  });
}

std::vector<float> taps_of(const Tensor& f, bool flip) {
  const Tensor t = f.to(at::kFloat).contiguous();
  std::vector<float> taps(t.const_data_ptr<float>(), t.const_data_ptr<float>() + t.numel());
  if (!flip) std::reverse(taps.begin(), taps.end());
  return taps;
}

// fx and fy are 1-D taps whose outer product is the filter; the gain is in them.
Tensor upfirdn2d_cpu(const Tensor& x_, const Tensor& fx, const Tensor& fy, int64_t up_x,
                     int64_t up_y, int64_t down_x, int64_t down_y, int64_t left, int64_t right,
                     int64_t top, int64_t bottom, bool flip) {
  const bool last = x_.is_contiguous(at::MemoryFormat::ChannelsLast) && !x_.is_contiguous();
  const auto format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  const Tensor x = x_.contiguous(format);
  const int64_t N = x.size(0), C = x.size(1), H = x.size(2), W = x.size(3);
  Axis cols{W, 0, up_x, down_x, left, taps_of(fx, flip)};
  Axis rows{H, 0, up_y, down_y, top, taps_of(fy, flip)};
  cols.out = (W * up_x + left + right - fx.numel()) / down_x + 1;
  rows.out = (H * up_y + top + bottom - fy.numel()) / down_y + 1;
  TORCH_CHECK(fx.numel() <= kMaxTaps && fy.numel() <= kMaxTaps, "upfirdn2d: at most ", kMaxTaps,
              " taps, got ", fx.numel(), " x ", fy.numel());
  TORCH_CHECK(cols.out > 0 && rows.out > 0, "upfirdn2d: the filter is larger than the picture");
  Tensor y = at::empty({N, C, rows.out, cols.out}, x.options().memory_format(format));
  const int64_t pictures = last ? N : N * C, values = last ? C : 1;
  if (x.scalar_type() == at::kFloat) {
    resample(x.const_data_ptr<float>(), y.mutable_data_ptr<float>(), pictures, values, cols, rows);
  } else {
    TORCH_CHECK(x.scalar_type() == at::kBFloat16, "upfirdn2d: expected float32 or bfloat16, got ",
                x.scalar_type());
    resample(static_cast<const uint16_t*>(x.const_data_ptr()),
             static_cast<uint16_t*>(y.mutable_data_ptr()), pictures, values, cols, rows);
  }
  return y;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fewshot_smis, m) {
  m.def(
      "upfirdn2d(Tensor x, Tensor fx, Tensor fy, int up_x, int up_y, int down_x, int down_y, "
      "int left, int right, int top, int bottom, bool flip) -> Tensor");
}

TORCH_LIBRARY_IMPL(fewshot_smis, CPU, m) {
  m.impl("upfirdn2d", upfirdn2d_cpu);
}
