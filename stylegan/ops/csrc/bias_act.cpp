// y = clamp(gain * lrelu(x * scale[n,c] + noise[n,p] + bias[c])) and its gradient, one pass each.
//
// Where y has taken the place of x, the gradient by the scale is found from y alone: with g = dy *
// slope, the sum of g * x is that of (dy * y - g * (noise + bias)) / scale, clamped points left out.
//
// A picture is seen as rows: channels_last as N*HW rows of C values, contiguous as N*C rows of HW
// values. Sums run over fixed chunks of pixels, and over the chunks in their order, so that results do
// not depend on the number of threads.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "lanes.h"
#include "tensors.h"

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <vector>

namespace {

using namespace fewshot_smis;
using at::Tensor;

template <typename R>
struct Epilogue {
  R slope, gain, clamp;
};

template <typename R>
inline R act(R v, Epilogue<R> e) {
  v = (v > 0 ? v : v * e.slope) * e.gain;
  v = v < -e.clamp ? -e.clamp : v;
  return v > e.clamp ? e.clamp : v;
}
// What `act` did where it gave y.
template <typename R>
inline bool clamped(R y, Epilogue<R> e) {
  return !(y < e.clamp && y > -e.clamp);
}
template <typename R>
inline R slope_at(R y, Epilogue<R> e) {
  return y > 0 ? e.gain : e.gain * e.slope;
}

template <int W, typename T, typename R = Real<T>>
void forward_lanes(const T* x, const R* scale, const R* bias, const R* noise, T* y,
                   int64_t pixels, int64_t C, Epilogue<R> e) {
  const V<R, W> s = read<W>(scale), b = read<W>(bias), zero = s * R(0);
  const V<R, W> high = zero + e.clamp, low = -high;
  for (int64_t p = 0; p < pixels; ++p) {
    V<R, W> v = read<W>(x + p * C) * s + (noise ? b + noise[p] : b);
    v = (v > zero ? v : v * e.slope) * e.gain;
    v = v < low ? low : v;
    write<W>(y + p * C, v > high ? high : v);
  }
}

template <int W, typename T, typename R = Real<T>>
void backward_lanes(const T* dy, const T* y, const T* x, const R* scale, const R* bias,
                    const R* noise, T* dx, R* sum_g, R* sum_gx, R* dnoise, int64_t pixels,
                    int64_t C, Epilogue<R> e) {
  const V<R, W> s = read<W>(scale), b = read<W>(bias), zero = s * R(0);
  const V<R, W> high = zero + e.clamp, low = -high;
  const V<R, W> up = zero + e.gain, down = zero + e.gain * e.slope;
  V<R, W> sg = zero, sgx = zero;
  for (int64_t p = 0; p < pixels; ++p) {
    const V<R, W> at = read<W>(y + p * C);
    V<R, W> d = read<W>(dy + p * C);
    d = at < high ? d : zero;
    d = at > low ? d : zero;
    const V<R, W> g = d * (at > zero ? up : down);
    write<W>(dx + p * C, g * s);
    sg += g;
    if (sum_gx) sgx += x ? g * read<W>(x + p * C) : d * at - g * (noise ? b + noise[p] : b);
    if (dnoise) {
      R total = 0;
      for (int i = 0; i < W; ++i) total += g[i];
      dnoise[p] += total;
    }
  }
  write<W>(sum_g, sg);
  if (sum_gx) write<W>(sum_gx, sgx);
}

// One row of values of one channel.
template <typename T, typename R = Real<T>>
void forward_plane(const T* __restrict x, R s, R b, const R* __restrict noise,
                   T* __restrict y, int64_t P, Epilogue<R> e) {
  if (noise) {
#pragma omp simd
    for (int64_t p = 0; p < P; ++p) narrow(y[p], act(widen(x[p]) * s + (b + noise[p]), e));
  } else {
#pragma omp simd
    for (int64_t p = 0; p < P; ++p) narrow(y[p], act(widen(x[p]) * s + b, e));
  }
}

constexpr int64_t kChunk = 256;  // pixels of a partial sum

template <typename T, typename R = Real<T>>
void forward_last(const T* x, const R* scale, const R* noise, int64_t noise_step,
                  const R* bias, T* y, int64_t N, int64_t P, int64_t C, Epilogue<R> e) {
  const int64_t chunks = (P + kChunk - 1) / kChunk;
  at::parallel_for(0, N * chunks, 1, [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t n = k / chunks, first = (k - n * chunks) * kChunk;
      const int64_t pixels = std::min(kChunk, P - first), at = (n * P + first) * C;
      const R* nz = noise ? noise + n * noise_step + first : nullptr;
      over_channels(C, [=](auto width, int64_t c) {
        forward_lanes<decltype(width)::value>(x + at + c, scale + n * C + c, bias + c, nz,
                                              y + at + c, pixels, C, e);
      });
    }
  });
}

template <typename T, typename R = Real<T>>
void forward_first(const T* x, const R* scale, const R* noise, int64_t noise_step,
                   const R* bias, T* y, int64_t N, int64_t P, int64_t C, Epilogue<R> e) {
  at::parallel_for(0, N * C, std::max<int64_t>(1, 32768 / std::max<int64_t>(P, 1)),
                   [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t n = r / C, c = r - n * C;
      const R* nz = noise ? noise + n * noise_step : nullptr;
      forward_plane(x + r * P, scale[r], bias[c], nz, y + r * P, P, e);
    }
  });
}

// dx, and per chunk of pixels the sums of g (for the bias) and of g * x (for the scale; times the
// scale where there is no x).
template <typename T, typename R = Real<T>>
void backward_last(const T* dy, const T* y, const T* x, const R* scale, const R* bias,
                   const R* noise, int64_t noise_step, T* dx, R* dnoise, R* sum_g, R* sum_gx,
                   int64_t N, int64_t P, int64_t C, int64_t chunks, Epilogue<R> e) {
  at::parallel_for(0, N * chunks, 1, [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t n = k / chunks, first = (k - n * chunks) * kChunk;
      const int64_t pixels = std::min(kChunk, P - first), at = (n * P + first) * C;
      const R* nz = noise ? noise + n * noise_step + first : nullptr;
      R* dn = dnoise ? dnoise + n * P + first : nullptr;
      if (dn) std::fill(dn, dn + pixels, R(0));
      over_channels(C, [=](auto width, int64_t c) {
        backward_lanes<decltype(width)::value>(
            dy + at + c, y + at + c, x ? x + at + c : nullptr, scale + n * C + c, bias + c, nz,
            dx + at + c, sum_g + k * C + c, sum_gx ? sum_gx + k * C + c : nullptr, dn, pixels, C, e);
      });
    }
  });
}

template <typename T, typename R = Real<T>>
void backward_first(const T* dy, const T* y, const T* x, const R* scale, const R* bias,
                    const R* noise, int64_t noise_step, T* dx, R* dnoise, R* sum_g, R* sum_gx,
                    int64_t N, int64_t P, int64_t C, int64_t chunks, Epilogue<R> e) {
  at::parallel_for(0, N * chunks, 1, [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t n = k / chunks, first = (k - n * chunks) * kChunk;
      const int64_t last = std::min(first + kChunk, P);
      const R* nz = noise ? noise + n * noise_step : nullptr;
      R* dn = dnoise ? dnoise + n * P : nullptr;
      if (dn) std::fill(dn + first, dn + last, R(0));
      for (int64_t c = 0; c < C; ++c) {
        const int64_t at = (n * C + c) * P;
        const R s = scale[n * C + c], b = bias[c];
        R sg = 0, sgx = 0;
        const T *dyp = dy + at, *yp = y + at, *xp = x ? x + at : nullptr;
        T* dxp = dx + at;
        const bool scaled = sum_gx != nullptr;
#pragma omp simd reduction(+ : sg, sgx)
        for (int64_t p = first; p < last; ++p) {
          const R v = widen(yp[p]), d = clamped(v, e) ? R(0) : widen(dyp[p]);
          const R g = d * slope_at(v, e);
          narrow(dxp[p], g * s);
          sg += g;
          sgx += !scaled ? R(0) : xp ? g * widen(xp[p]) : d * v - g * (nz ? b + nz[p] : b);
          if (dn) dn[p] += g;
        }
        sum_g[k * C + c] = sg;
        if (sum_gx) sum_gx[k * C + c] = sgx;
      }
    }
  });
}

// The sum of each column of rows [count, C], in their order.
template <typename R>
void sum_rows(const R* rows, int64_t count, int64_t C, R* out) {
  std::vector<double> total(C);
  for (int64_t k = 0; k < count; ++k) {
    for (int64_t c = 0; c < C; ++c) total[c] += rows[k * C + c];
  }
  std::copy(total.begin(), total.end(), out);
}

template <typename R>
Epilogue<R> epilogue(double slope, double gain, double clamp) {
  return {R(slope), R(gain), R(bound(clamp))};
}

// Writes into `y`, which is laid out as the dense `x` and may be `x` itself where that is channels_last.
void bias_act_into(const Tensor& y, const Tensor& x, bool last, const std::optional<Tensor>& bias,
                   const std::optional<Tensor>& scale, const std::optional<Tensor>& noise_,
                   double slope, double gain, double clamp) {
  const int64_t N = x.size(0), C = x.size(1), P = x.size(2) * x.size(3);
  const Tensor s = reals(scale, {N, C}, 1.0, x), b = reals(bias, {C}, 0.0, x);
  const bool noisy = noise_.has_value();
  const Tensor noise = noisy ? noise_->to(real(x.scalar_type())).contiguous() : Tensor();
  const int64_t step = noisy && noise.dim() == 4 ? P : 0;
  with_storage("bias_act", x.scalar_type(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    using R = Real<T>;
    auto run = last ? forward_last<T> : forward_first<T>;
    run(static_cast<const T*>(x.const_data_ptr()), s.const_data_ptr<R>(),
        noisy ? noise.const_data_ptr<R>() : nullptr, step, b.const_data_ptr<R>(),
        static_cast<T*>(y.mutable_data_ptr()), N, P, C, epilogue<R>(slope, gain, clamp));
  });
}

Tensor bias_act_cpu(const Tensor& x_, const std::optional<Tensor>& bias,
                    const std::optional<Tensor>& scale, const std::optional<Tensor>& noise,
                    double slope, double gain, double clamp) {
  const bool last = channels_last(x_);
  const Tensor x = dense(x_, last), y = at::empty_like(x);
  bias_act_into(y, x, last, bias, scale, noise, slope, gain, clamp);
  return y;
}

void bias_act_cpu_(Tensor& x, const std::optional<Tensor>& bias,
                   const std::optional<Tensor>& scale, const std::optional<Tensor>& noise,
                   double slope, double gain, double clamp) {
  TORCH_CHECK(channels_last(x), "bias_act_: x must be channels_last");
  bias_act_into(x, x, true, bias, scale, noise, slope, gain, clamp);
}

// The gradients from x and y, or, where there is no x, from y, bias and noise.
std::tuple<Tensor, Tensor, Tensor, Tensor> gradients(
    const Tensor& dy_, const Tensor& y_, const std::optional<Tensor>& x_,
    const std::optional<Tensor>& scale, const std::optional<Tensor>& bias,
    const std::optional<Tensor>& noise_, bool want_noise, double slope, double gain, double clamp) {
  const bool last = channels_last(y_), scaled = scale.has_value(), noisy = noise_.has_value();
  const Tensor dy = dense(dy_, last), y = dense(y_, last), x = x_ ? dense(*x_, last) : Tensor();
  const int64_t N = y.size(0), C = y.size(1), P = y.size(2) * y.size(3);
  const int64_t chunks = (P + kChunk - 1) / kChunk;
  const auto options = y.options().dtype(real(y.scalar_type())).memory_format(std::nullopt);
  const Tensor s = reals(scale, {N, C}, 1.0, y), b = reals(bias, {C}, 0.0, y);
  const Tensor noise = noisy ? noise_->to(real(y.scalar_type())).contiguous() : Tensor();
  const int64_t step = noisy && noise.dim() == 4 ? P : 0;
  Tensor dx = at::empty_like(y), dbias = at::empty({C}, options);
  Tensor dscale = scaled ? at::empty({N, C}, options) : at::empty({0}, options);
  Tensor dnoise = want_noise ? at::empty({N, P}, options) : at::empty({0}, options);
  Tensor sum_g = at::empty({N, chunks, C}, options);
  Tensor sum_gx = scaled ? at::empty({N, chunks, C}, options) : Tensor();
  with_storage("bias_act", y.scalar_type(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    using R = Real<T>;
    auto run = last ? backward_last<T> : backward_first<T>;
    run(static_cast<const T*>(dy.const_data_ptr()), static_cast<const T*>(y.const_data_ptr()),
        x.defined() ? static_cast<const T*>(x.const_data_ptr()) : nullptr, s.const_data_ptr<R>(),
        b.const_data_ptr<R>(), noisy ? noise.const_data_ptr<R>() : nullptr, step,
        static_cast<T*>(dx.mutable_data_ptr()),
        want_noise ? dnoise.mutable_data_ptr<R>() : nullptr, sum_g.mutable_data_ptr<R>(),
        scaled ? sum_gx.mutable_data_ptr<R>() : nullptr, N, P, C, chunks,
        epilogue<R>(slope, gain, clamp));
    sum_rows(sum_g.const_data_ptr<R>(), N * chunks, C, dbias.mutable_data_ptr<R>());
    for (int64_t n = 0; scaled && n < N; ++n) {
      sum_rows(sum_gx.const_data_ptr<R>() + n * chunks * C, chunks, C,
               dscale.mutable_data_ptr<R>() + n * C);
    }
  });
  if (scaled && !x.defined()) dscale.div_(s);
  return {dx, dbias, dscale, dnoise};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> bias_act_backward_cpu(
    const Tensor& dy, const Tensor& y, const std::optional<Tensor>& x,
    const std::optional<Tensor>& scale, bool want_noise, double slope, double gain, double clamp) {
  return gradients(dy, y, x, scale, std::nullopt, std::nullopt, want_noise, slope, gain, clamp);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> bias_act_undone_cpu(
    const Tensor& dy, const Tensor& y, const std::optional<Tensor>& bias,
    const std::optional<Tensor>& scale, const std::optional<Tensor>& noise, bool want_noise,
    double slope, double gain, double clamp) {
  return gradients(dy, y, std::nullopt, scale, bias, noise, want_noise, slope, gain, clamp);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fewshot_smis, m) {
  m.def(
      "bias_act(Tensor x, Tensor? bias, Tensor? scale, Tensor? noise, float slope, float gain, "
      "float clamp) -> Tensor");
  m.def(
      "bias_act_(Tensor(a!) x, Tensor? bias, Tensor? scale, Tensor? noise, float slope, float gain, "
      "float clamp) -> ()");
  m.def(
      "bias_act_backward(Tensor dy, Tensor y, Tensor? x, Tensor? scale, bool want_noise, "
      "float slope, float gain, float clamp) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "bias_act_undone(Tensor dy, Tensor y, Tensor? bias, Tensor? scale, Tensor? noise, "
      "bool want_noise, float slope, float gain, float clamp) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(fewshot_smis, CPU, m) {
  m.impl("bias_act", bias_act_cpu);
  m.impl("bias_act_", bias_act_cpu_);
  m.impl("bias_act_backward", bias_act_backward_cpu);
  m.impl("bias_act_undone", bias_act_undone_cpu);
}
