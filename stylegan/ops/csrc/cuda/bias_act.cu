// Scale, noise, bias, activation, gain and clamp, and their gradients. Threads of a warp move
// neighbouring packs of values. Sums are kept in registers over a walk along pixels and come out as
// parts, which are then added in a fixed order: no atomics, so results repeat.

#include "grid.h"
#include "kernels.h"

#include <type_traits>

namespace fewshot_smis {
namespace {

struct Epilogue {
  float slope, gain, clamp;
};

ITEM float act(float v, Epilogue e) {
  v = (v > 0.f ? v : v * e.slope) * e.gain;
  v = v < -e.clamp ? -e.clamp : v;
  return v > e.clamp ? e.clamp : v;
}
// dy times the slope of `act` where it gave y.
ITEM float pulled(float dy, float y, Epilogue e) {
  const float s = y > 0.f ? e.gain : e.gain * e.slope;
  return y < e.clamp && y > -e.clamp ? dy * s : 0.f;
}

template <typename T, int W>
struct Forward {
  const T* x;
  const float *scale, *noise, *bias;
  T* y;
  int64_t C, P, noise_step;
  bool last;
  Epilogue e;

  ITEM void operator()(int64_t item) const {
    const int64_t at = item * W, n = at / (C * P), rest = at - n * C * P;
    const int64_t c = last ? rest % C : rest / P, p = last ? rest / C : rest % P;
    const Pack<T, W> from = load<W>(x + at);
    Pack<T, W> to;
    for (int i = 0; i < W; ++i) {
      const int64_t channel = last ? c + i : c, pixel = last ? p : p + i;
      float v = widen(from.values[i]);
      if (scale) v *= scale[n * C + channel];
      if (noise) v += noise[n * noise_step + pixel];
      if (bias) v += bias[channel];
      narrow(to.values[i], act(v, e));
    }
    store<W>(y + at, to);
  }
};

// One walk along the pixels of a chunk: of W channels in channels_last; else of one channel, W
// pixels at a time, where `lanes` neighbouring items share the chunk.
template <typename T, int W>
struct Backward {
  const T *dy, *y, *x;
  const float* scale;
  T* dx;
  float *sum_g, *sum_gx;
  int64_t C, P, chunks;
  int lanes;
  bool last;
  Epilogue e;

  ITEM void operator()(int64_t item) const {
    const int64_t lane = last ? 0 : item % lanes, row = last ? item : item / lanes;
    const int64_t groups = last ? C / W : C, c = row % groups * (last ? W : 1);
    const int64_t k = row / groups % chunks, n = row / groups / chunks;
    const int64_t pixels = (P + chunks - 1) / chunks;
    const int64_t step = last ? 1 : W * lanes, length = (pixels + step - 1) / step * step;
    const int64_t begin = k * length + lane * W, stop = (k + 1) * length, end = stop < P ? stop : P;
    float g_sum[W] = {}, gx_sum[W] = {};
    for (int64_t p = begin; p < end; p += step) {
      const int64_t at = last ? (n * P + p) * C + c : (n * C + c) * P + p;
      const Pack<T, W> dys = load<W>(dy + at), ys = load<W>(y + at);
      Pack<T, W> out, xs;
      if (sum_gx) xs = load<W>(x + at);
      for (int i = 0; i < W; ++i) {
        const float g = pulled(widen(dys.values[i]), widen(ys.values[i]), e);
        narrow(out.values[i], scale ? g * scale[n * C + (last ? c + i : c)] : g);
        g_sum[i] += g;
        if (sum_gx) gx_sum[i] += g * widen(xs.values[i]);
      }
      store<W>(dx + at, out);
    }
    const int64_t part = (n * chunks + k) * C + c;
    if (last) {
      for (int i = 0; i < W; ++i) sum_g[part + i] = g_sum[i];
      for (int i = 0; sum_gx && i < W; ++i) sum_gx[part + i] = gx_sum[i];
    } else {
      float g = 0.f, gx = 0.f;
      for (int i = 0; i < W; ++i) g += g_sum[i], gx += gx_sum[i];
      sum_g[part * lanes + lane] = g;
      if (sum_gx) sum_gx[part * lanes + lane] = gx;
    }
  }
};

// One walk along channels: of W pixels in contiguous; else of one pixel, W channels at a time, which
// four neighbouring items share.
template <typename T, int W>
struct OverChannels {
  const T *dy, *y;
  float* sum_g;
  int64_t C, P;
  bool last;
  Epilogue e;

  ITEM void operator()(int64_t item) const {
    float sum[W] = {};
    const int64_t first = last ? item % 4 * W : 0, step = last ? 4 * W : 1;
    const int64_t n = last ? 0 : item * W / P, p = last ? item / 4 : item * W % P;
    for (int64_t c = first; c < C; c += step) {
      const int64_t at = last ? p * C + c : (n * C + c) * P + p;
      const Pack<T, W> dys = load<W>(dy + at), ys = load<W>(y + at);
      for (int i = 0; i < W; ++i) sum[i] += pulled(widen(dys.values[i]), widen(ys.values[i]), e);
    }
    if (last) {
      float total = 0.f;
      for (int i = 0; i < W; ++i) total += sum[i];
      sum_g[item] = total;
    } else {
      for (int i = 0; i < W; ++i) sum_g[n * P + p + i] = sum[i];
    }
  }
};

}  // namespace
}  // namespace fewshot_smis

using namespace fewshot_smis;

int fewshot_smis_bias_act(const void* x, const float* scale, const float* noise, const float* bias,
                          void* y, int64_t N, int64_t C, int64_t P, int64_t noise_step, float slope,
                          float gain, float clamp, int storage, int last, int aligned,
                          cudaStream_t stream) {
  return with_storage(storage, last ? C : P, aligned, [&](auto* tag, auto width) {
    using T = std::remove_pointer_t<decltype(tag)>;
    constexpr int W = decltype(width)::value;
    const Forward<T, W> item{static_cast<const T*>(x), scale, noise, bias, static_cast<T*>(y), C, P,
                             noise_step, last != 0, {slope, gain, clamp}};
    return over_items(N * C * P / W, stream, item);
  });
}

void fewshot_smis_bias_act_parts(int64_t N, int64_t C, int64_t P, int last, int64_t* chunks,
                                 int* lanes) {
  // Walks long enough that the parts are few, where that leaves items enough to fill a card.
  const int64_t walk = N * C * P >> 21;
  const int64_t pixels = !last ? 4096 : walk < 16 ? 16 : walk > 128 ? 128 : walk;
  *lanes = last ? 1 : 32;
  *chunks = (P + pixels - 1) / pixels;
}

int fewshot_smis_bias_act_backward(const void* dy, const void* y, const void* x, const float* scale,
                                   void* dx, float* sum_g, float* sum_gx, int64_t N, int64_t C,
                                   int64_t P, int64_t chunks, int lanes, float slope, float gain,
                                   float clamp, int storage, int last, int aligned,
                                   cudaStream_t stream) {
  return with_storage(storage, last ? C : P, aligned, [&](auto* tag, auto width) {
    using T = std::remove_pointer_t<decltype(tag)>;
    constexpr int W = decltype(width)::value;
    const Backward<T, W> item{static_cast<const T*>(dy), static_cast<const T*>(y),
                              static_cast<const T*>(x), scale, static_cast<T*>(dx), sum_g, sum_gx,
                              C, P, chunks, lanes, last != 0, {slope, gain, clamp}};
    return over_items(N * chunks * (last ? C / W : C * lanes), stream, item);
  });
}

int fewshot_smis_bias_act_noise(const void* dy, const void* y, float* sum_g, int64_t N, int64_t C,
                                int64_t P, float slope, float gain, float clamp, int storage,
                                int last, int aligned, cudaStream_t stream) {
  return with_storage(storage, last ? C : P, aligned, [&](auto* tag, auto width) {
    using T = std::remove_pointer_t<decltype(tag)>;
    constexpr int W = decltype(width)::value;
    const OverChannels<T, W> item{static_cast<const T*>(dy), static_cast<const T*>(y), sum_g, C, P,
                                  last != 0, {slope, gain, clamp}};
    return over_items(N * P * (last ? 4 : 1) / (last ? 1 : W), stream, item);
  });
}
