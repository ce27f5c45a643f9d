// y = clamp(gain * lrelu(x * scale[n,c] + noise[n,p] + bias[c])) and its gradient, one pass each.
//
// A picture is seen as rows: channels_last as N*HW rows of C values, contiguous as N*C rows of HW
// values. Arithmetic is float whatever the storage. Sums run over fixed chunks of pixels, so that
// results do not depend on the number of threads.

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <torch/library.h>
#include <ATen/ATen.h>

#include "lanes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>
#include <vector>

namespace {

using namespace fewshot_smis;
using at::Tensor;

struct Epilogue {
  float slope, gain, clamp;
};

inline float act(float v, Epilogue e) {
  v = (v > 0.f ? v : v * e.slope) * e.gain;
  v = v < -e.clamp ? -e.clamp : v;
  return v > e.clamp ? e.clamp : v;
}
// The slope of `act` where it gave y.
inline float slope_at(float y, Epilogue e) {
  const float s = y > 0.f ? e.gain : e.gain * e.slope;
  return y < e.clamp && y > -e.clamp ? s : 0.f;
}

template <int W, typename T>
void forward_lanes(const T* x, const float* scale, const float* bias, const float* noise, T* y,
                   int64_t pixels, int64_t C, Epilogue e) {
  const V<W> s = read<W>(scale), b = read<W>(bias), zero = s * 0.f;
  const V<W> high = zero + e.clamp, low = -high;
  for (int64_t p = 0; p < pixels; ++p) {
    V<W> v = read<W>(x + p * C) * s + (noise ? b + noise[p] : b);
    v = (v > zero ? v : v * e.slope) * e.gain;
    v = v < low ? low : v;
    write<W>(y + p * C, v > high ? high : v);
  }
}

template <int W, typename T>
void backward_lanes(const T* dy, const T* y, const T* x, const float* scale, T* dx, float* sum_g,
                    float* sum_gx, float* dnoise, int64_t pixels, int64_t C, Epilogue e) {
  const V<W> s = read<W>(scale), zero = s * 0.f;
  const V<W> high = zero + e.clamp, low = -high;
  const V<W> up = zero + e.gain, down = zero + e.gain * e.slope;
  V<W> sg = zero, sgx = zero;
  for (int64_t p = 0; p < pixels; ++p) {
    const V<W> at = read<W>(y + p * C);
    V<W> g = read<W>(dy + p * C) * (at > zero ? up : down);
    g = at < high ? g : zero;
    g = at > low ? g : zero;
    write<W>(dx + p * C, g * s);
    sg += g;
    if (sum_gx) sgx += g * read<W>(x + p * C);
    if (dnoise) {
      float total = 0.f;
      for (int i = 0; i < W; ++i) total += g[i];
      dnoise[p] += total;
    }
  }
  write<W>(sum_g, sg);
  if (sum_gx) write<W>(sum_gx, sgx);
}

// One row of values of one channel.
template <typename T>
void forward_plane(const T* __restrict x, float s, float b, const float* __restrict noise,
                   T* __restrict y, int64_t P, Epilogue e) {
  if (noise) {
#pragma omp simd
    for (int64_t p = 0; p < P; ++p) narrow(y[p], act(widen(x[p]) * s + (b + noise[p]), e));
  } else {
#pragma omp simd
    for (int64_t p = 0; p < P; ++p) narrow(y[p], act(widen(x[p]) * s + b, e));
  }
}

constexpr int64_t kChunk = 256;  // pixels of a partial sum

template <typename T>
void forward_last(const T* x, const float* scale, const float* noise, int64_t noise_step,
                  const float* bias, T* y, int64_t N, int64_t P, int64_t C, Epilogue e) {
  const int64_t chunks = (P + kChunk - 1) / kChunk;
  at::parallel_for(0, N * chunks, 1, [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t n = k / chunks, first = (k - n * chunks) * kChunk;
      const int64_t pixels = std::min(kChunk, P - first), at = (n * P + first) * C;
      const float* nz = noise ? noise + n * noise_step + first : nullptr;
      over_channels(C, [=](auto width, int64_t c) {
        forward_lanes<decltype(width)::value>(x + at + c, scale + n * C + c, bias + c, nz, y + at + c, pixels, C, e);
      });
    }
  });
}

template <typename T>
void forward_first(const T* x, const float* scale, const float* noise, int64_t noise_step,
                   const float* bias, T* y, int64_t N, int64_t P, int64_t C, Epilogue e) {
  at::parallel_for(0, N * C, std::max<int64_t>(1, 32768 / std::max<int64_t>(P, 1)),
                   [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t n = r / C, c = r - n * C;
      const float* nz = noise ? noise + n * noise_step : nullptr;
      forward_plane(x + r * P, scale[r], bias[c], nz, y + r * P, P, e);
    }
  });
}

// dx, and per chunk of pixels the sums of g (for the bias) and of g * x (for the scale).
template <typename T>
void backward_last(const T* dy, const T* y, const T* x, const float* scale, T* dx, float* dnoise,
                   float* sum_g, float* sum_gx, int64_t N, int64_t P, int64_t C, int64_t chunks,
                   Epilogue e) {
  at::parallel_for(0, N * chunks, 1, [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t n = k / chunks, first = (k - n * chunks) * kChunk;
      const int64_t pixels = std::min(kChunk, P - first), at = (n * P + first) * C;
      float* dn = dnoise ? dnoise + n * P + first : nullptr;
      if (dn) std::fill(dn, dn + pixels, 0.f);
      over_channels(C, [=](auto width, int64_t c) {
        backward_lanes<decltype(width)::value>(dy + at + c, y + at + c, x + at + c, scale + n * C + c, dx + at + c,
                              sum_g + k * C + c, sum_gx ? sum_gx + k * C + c : nullptr, dn, pixels,
                              C, e);
      });
    }
  });
}

template <typename T>
void backward_first(const T* dy, const T* y, const T* x, const float* scale, T* dx, float* dnoise,
                    float* sum_g, float* sum_gx, int64_t N, int64_t P, int64_t C, int64_t chunks,
                    Epilogue e) {
  at::parallel_for(0, N * chunks, 1, [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t n = k / chunks, first = (k - n * chunks) * kChunk;
      const int64_t last = std::min(first + kChunk, P);
      float* dn = dnoise ? dnoise + n * P : nullptr;
      if (dn) std::fill(dn + first, dn + last, 0.f);
      for (int64_t c = 0; c < C; ++c) {
        const int64_t at = (n * C + c) * P;
        const float s = scale[n * C + c];
        float sg = 0.f, sgx = 0.f;
        const T *dyp = dy + at, *yp = y + at, *xp = x + at;
        T* dxp = dx + at;
        const bool scaled = sum_gx != nullptr;
#pragma omp simd reduction(+ : sg, sgx)
        for (int64_t p = first; p < last; ++p) {
          const float g = widen(dyp[p]) * slope_at(widen(yp[p]), e);
          narrow(dxp[p], g * s);
          sg += g;
          sgx += scaled ? g * widen(xp[p]) : 0.f;
          if (dn) dn[p] += g;
        }
        sum_g[k * C + c] = sg;
        if (sum_gx) sum_gx[k * C + c] = sgx;
      }
    }
  });
}

template <typename F>
void with_storage(const Tensor& x, F&& f) {
  if (x.scalar_type() == at::kFloat) {
    f(static_cast<float*>(nullptr));
  } else {
    TORCH_CHECK(x.scalar_type() == at::kBFloat16, "bias_act: expected float32 or bfloat16, got ",
                x.scalar_type());
    f(static_cast<uint16_t*>(nullptr));
  }
}

bool channels_last(const Tensor& x) {
  return x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast) && !x.is_contiguous();
}

Tensor dense(const Tensor& x, bool last) {
  return x.contiguous(last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

Tensor floats(const std::optional<Tensor>& t, at::IntArrayRef shape, double fill, const Tensor& x) {
  if (t.has_value()) return t->to(at::kFloat).expand(shape).contiguous();
  return at::full(shape, fill, x.options().dtype(at::kFloat).memory_format(std::nullopt));
}

Epilogue epilogue(double slope, double gain, double clamp) {
  return {float(slope), float(gain), clamp < 0 ? std::numeric_limits<float>::infinity() : float(clamp)};
}

Tensor bias_act_cpu(const Tensor& x_, const std::optional<Tensor>& bias,
                    const std::optional<Tensor>& scale, const std::optional<Tensor>& noise,
                    double slope, double gain, double clamp) {
  const bool last = channels_last(x_);
  const Tensor x = dense(x_, last);
  const int64_t N = x.size(0), C = x.size(1), P = x[0][0].numel();
  Tensor y = at::empty_like(x);
  const Tensor s = floats(scale, {N, C}, 1.0, x), b = floats(bias, {C}, 0.0, x);
  Tensor nz;
  int64_t step = 0;
  if (noise.has_value()) {
    nz = noise->to(at::kFloat).contiguous();
    step = nz.numel() == P ? 0 : P;
  }
  const Epilogue e = epilogue(slope, gain, clamp);
  with_storage(x, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    auto run = last ? forward_last<T> : forward_first<T>;
    run(static_cast<const T*>(x.const_data_ptr()), s.const_data_ptr<float>(),
        noise.has_value() ? nz.const_data_ptr<float>() : nullptr, step, b.const_data_ptr<float>(),
        static_cast<T*>(y.mutable_data_ptr()), N, P, C, e);
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> bias_act_backward_cpu(
    const Tensor& dy_, const Tensor& y_, const std::optional<Tensor>& x_,
    const std::optional<Tensor>& scale, bool want_noise, double slope, double gain, double clamp) {
  const bool last = channels_last(y_);
  const Tensor dy = dense(dy_, last), y = dense(y_, last);
  const Tensor x = x_.has_value() ? dense(*x_, last) : y;
  const int64_t N = y.size(0), C = y.size(1), P = y[0][0].numel();
  const int64_t chunks = (P + kChunk - 1) / kChunk;
  Tensor dx = at::empty_like(y);
  const auto options = y.options().dtype(at::kFloat).memory_format(std::nullopt);
  const Tensor s = floats(scale, {N, C}, 1.0, y);
  Tensor sum_g = at::zeros({N, chunks, C}, options);
  Tensor sum_gx = x_.has_value() ? at::zeros({N, chunks, C}, options) : Tensor();
  Tensor dnoise = want_noise ? at::empty({N, P}, options) : at::empty({0}, options);
  const Epilogue e = epilogue(slope, gain, clamp);
  with_storage(y, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    auto run = last ? backward_last<T> : backward_first<T>;
    run(static_cast<const T*>(dy.const_data_ptr()), static_cast<const T*>(y.const_data_ptr()),
        static_cast<const T*>(x.const_data_ptr()), s.const_data_ptr<float>(),
        static_cast<T*>(dx.mutable_data_ptr()),
        want_noise ? dnoise.mutable_data_ptr<float>() : nullptr, sum_g.mutable_data_ptr<float>(),
        x_.has_value() ? sum_gx.mutable_data_ptr<float>() : nullptr, N, P, C, chunks, e);
  });
  Tensor dbias = sum_g.sum(at::IntArrayRef{0, 1});
  Tensor dscale = x_.has_value() ? sum_gx.sum(1) : at::empty({0}, options);
  return {dx, dbias, dscale, dnoise};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fewshot_smis, m) {
  m.def(
      "bias_act(Tensor x, Tensor? bias, Tensor? scale, Tensor? noise, float slope, float gain, "
      "float clamp) -> Tensor");
  m.def(
      "bias_act_backward(Tensor dy, Tensor y, Tensor? x, Tensor? scale, bool want_noise, "
      "float slope, float gain, float clamp) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(fewshot_smis, CPU, m) {
  m.impl("bias_act", bias_act_cpu);
  m.impl("bias_act_backward", bias_act_backward_cpu);
}
