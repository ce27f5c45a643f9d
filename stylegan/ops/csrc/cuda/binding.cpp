// The CUDA kernels as implementations of the operators that the CPU library declares.

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../tensors.h"
#include "kernels.h"

#include <array>
#include <tuple>

namespace fewshot_smis {
namespace {

using at::Tensor;

int storage_of(const Tensor& x) {
  const auto type = x.scalar_type();
  if (type == at::kFloat) return 0;
  if (type == at::kHalf) return 1;
  TORCH_CHECK(type == at::kBFloat16, "expected float32, float16 or bfloat16, got ", type);
  return 2;
}

template <typename... Pictures>
bool aligned(const Pictures&... pictures) {
  return ((reinterpret_cast<uintptr_t>(pictures.const_data_ptr()) % 16 == 0) && ...);
}

const float* floats(const Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; }

Tensor given(const std::optional<Tensor>& t) {
  return t.has_value() ? t->to(at::kFloat).contiguous() : Tensor();
}

void check(int error) {
  TORCH_CHECK(error == 0, "launch failed: ", cudaGetErrorString(cudaError_t(error)));
}

Tensor bias_act(const Tensor& x_, const std::optional<Tensor>& bias,
                const std::optional<Tensor>& scale, const std::optional<Tensor>& noise,
                double slope, double gain, double clamp) {
  const c10::cuda::CUDAGuard guard(x_.device());
  const bool last = channels_last(x_);
  const Tensor x = dense(x_, last), b = given(bias), s = given(scale), nz = given(noise);
  const int64_t N = x.size(0), C = x.size(1), P = x.size(2) * x.size(3);
  Tensor y = at::empty_like(x);
  check(fewshot_smis_bias_act(x.const_data_ptr(), floats(s), floats(nz), floats(b),
                              y.mutable_data_ptr(), N, C, P, nz.defined() && nz.dim() == 4 ? P : 0,
                              slope, gain, bound(clamp), storage_of(x), last, aligned(x, y),
                              c10::cuda::getCurrentCUDAStream()));
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> bias_act_backward(
    const Tensor& dy_, const Tensor& y_, const std::optional<Tensor>& x_,
    const std::optional<Tensor>& scale, bool want_noise, double slope, double gain, double clamp) {
  const c10::cuda::CUDAGuard guard(y_.device());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const bool last = channels_last(y_), scaled = x_.has_value();
  const Tensor dy = dense(dy_, last), y = dense(y_, last), x = scaled ? dense(*x_, last) : y;
  const Tensor s = given(scale);
  const int64_t N = y.size(0), C = y.size(1), P = y.size(2) * y.size(3);
  int64_t chunks;
  int lanes;
  fewshot_smis_bias_act_parts(N, C, P, last, &chunks, &lanes);
  const auto options = y.options().dtype(at::kFloat).memory_format(std::nullopt);
  Tensor dx = at::empty_like(y), sum_g = at::empty({N, chunks, C, lanes}, options);
  Tensor sum_gx = scaled ? at::empty({N, chunks, C, lanes}, options) : Tensor();
  check(fewshot_smis_bias_act_backward(
      dy.const_data_ptr(), y.const_data_ptr(), x.const_data_ptr(), floats(s), dx.mutable_data_ptr(),
      sum_g.mutable_data_ptr<float>(), scaled ? sum_gx.mutable_data_ptr<float>() : nullptr, N, C, P,
      chunks, lanes, slope, gain, bound(clamp), storage_of(y), last, aligned(dy, y, x, dx), stream));
  Tensor dnoise = at::empty({0}, options);
  if (want_noise) {
    Tensor parts = at::empty({N, P, last ? 4 : 1}, options);
    check(fewshot_smis_bias_act_noise(dy.const_data_ptr(), y.const_data_ptr(),
                                      parts.mutable_data_ptr<float>(), N, C, P, slope, gain,
                                      bound(clamp), storage_of(y), last, aligned(dy, y), stream));
    dnoise = parts.sum(2);
  }
  return {dx, sum_g.sum(at::IntArrayRef{0, 1, 3}),
          scaled ? sum_gx.sum(at::IntArrayRef{1, 3}) : at::empty({0}, options), dnoise};
}

Tensor resample(const Tensor& x_, const Tensor& f, int64_t up_x, int64_t up_y, int64_t down_x,
                int64_t down_y, int64_t left, int64_t right, int64_t top, int64_t bottom, bool flip,
                double gain) {
  const bool last = channels_last(x_);
  const Tensor x = dense(x_, last), taps = f.to(x.device(), at::kFloat).contiguous();
  const int64_t N = x.size(0), C = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t height_f = f.size(0), width_f = f.size(1);
  const int64_t out_height = resampled(height, up_y, down_y, top + bottom, height_f);
  const int64_t out_width = resampled(width, up_x, down_x, left + right, width_f);
  Tensor y = at::empty({N, C, out_height, out_width}, x.options().memory_format(layout(last)));
  if (y.numel() == 0) return y;
  check(fewshot_smis_upfirdn2d(x.const_data_ptr(), floats(taps), y.mutable_data_ptr(), N, C, height,
                               width, out_height, out_width, height_f, width_f, up_x, up_y, down_x,
                               down_y, left, top, flip, gain, storage_of(x), last, aligned(x, y),
                               c10::cuda::getCurrentCUDAStream()));
  return y;
}

Tensor upfirdn2d(const Tensor& x, const Tensor& f, int64_t up_x, int64_t up_y, int64_t down_x,
                 int64_t down_y, int64_t left, int64_t right, int64_t top, int64_t bottom,
                 bool flip, double gain) {
  const c10::cuda::CUDAGuard guard(x.device());
  if (f.dim() == 2) {
    return resample(x, f, up_x, up_y, down_x, down_y, left, right, top, bottom, flip, gain);
  }
  const Tensor along = resample(x, f.unsqueeze(0), up_x, 1, down_x, 1, left, right, 0, 0, flip, gain);
  return resample(along, f.unsqueeze(1), 1, up_y, 1, down_y, 0, 0, top, bottom, flip, 1.0);
}

// The tiles of filtered_lrelu: the slopes are noted where `noting`, and read where `linear`.
Tensor in_tiles(const Tensor& x_, const std::optional<Tensor>& bias, Tensor& slopes,
                const Tensor& up_filter, const Tensor& down_filter, int64_t up, int64_t down,
                const std::array<int64_t, 4>& padding, const std::array<int64_t, 4>& inner,
                bool flip, double gain, double slope, double clamp, bool linear, bool noting) {
  const c10::cuda::CUDAGuard guard(x_.device());
  TORCH_CHECK(up_filter.dim() == 1 && down_filter.size(0) == down_filter.size(-1),
              "filtered_lrelu on CUDA: expected taps [n] on the way up, [n] or [n, n] down");
  const bool last = channels_last(x_);
  const Tensor x = dense(x_, last), b = given(bias);
  const Tensor f_up = up_filter.to(x.device(), at::kFloat).contiguous();
  const Tensor f_down = down_filter.to(x.device(), at::kFloat).contiguous();
  const auto& [left, right, top, bottom] = padding;
  const auto& [inner_left, inner_right, inner_top, inner_bottom] = inner;
  const int64_t N = x.size(0), C = x.size(1), taps_up = f_up.size(0), taps_down = f_down.size(0);
  const int64_t high_height = resampled(x.size(2), up, 1, top + bottom, taps_up);
  const int64_t high_width = resampled(x.size(3), up, 1, left + right, taps_up);
  const int64_t height = resampled(high_height, 1, down, inner_top + inner_bottom, taps_down);
  const int64_t width = resampled(high_width, 1, down, inner_left + inner_right, taps_down);
  if (linear) {
    slopes = dense(slopes, last);
  } else {
    const auto bytes = x.options().dtype(at::kByte);
    slopes = noting ? at::empty({N, C, high_height, high_width}, bytes.memory_format(layout(last)))
                    : at::empty({0}, bytes.memory_format(std::nullopt));
  }
  Tensor y = at::empty({N, C, height, width}, x.options().memory_format(layout(last)));
  if (y.numel() == 0) return y;
  const bool noted = slopes.numel() > 0;
  check(fewshot_smis_filtered_lrelu(
      x.const_data_ptr(), floats(b), floats(f_up), floats(f_down), y.mutable_data_ptr(),
      noted ? slopes.mutable_data_ptr<uint8_t>() : nullptr, N, C, x.size(2), x.size(3), high_height,
      high_width, height, width, up, taps_up, down, taps_down, f_down.dim() == 2, left, top,
      inner_left, inner_top, flip, gain, slope, bound(clamp), linear, storage_of(x), last,
      noted ? aligned(x, y, slopes) : aligned(x, y), c10::cuda::getCurrentCUDAStream()));
  return y;
}

std::tuple<Tensor, Tensor> filtered_lrelu(const Tensor& x, const std::optional<Tensor>& bias,
                                          const Tensor& up_filter, const Tensor& down_filter,
                                          int64_t up, int64_t down, int64_t left, int64_t right,
                                          int64_t top, int64_t bottom, double gain, double slope,
                                          double clamp, bool want_slopes) {
  Tensor slopes;
  const Tensor y = in_tiles(x, bias, slopes, up_filter, down_filter, up, down,
                            {left, right, top, bottom}, {0, 0, 0, 0}, false, gain, slope, clamp,
                            false, want_slopes);
  return {y, slopes};
}

Tensor filtered_slopes(const Tensor& x, const Tensor& slopes_, const Tensor& up_filter,
                       const Tensor& down_filter, int64_t up, int64_t down, int64_t left,
                       int64_t right, int64_t top, int64_t bottom, int64_t inner_left,
                       int64_t inner_right, int64_t inner_top, int64_t inner_bottom, bool flip,
                       double gain, double slope) {
  Tensor slopes = slopes_;
  return in_tiles(x, std::nullopt, slopes, up_filter, down_filter, up, down,
                  {left, right, top, bottom}, {inner_left, inner_right, inner_top, inner_bottom},
                  flip, gain, slope, -1.0, true, false);
}

TORCH_LIBRARY_IMPL(fewshot_smis, CUDA, m) {
  m.impl("bias_act", bias_act);
  m.impl("bias_act_backward", bias_act_backward);
  m.impl("upfirdn2d", upfirdn2d);
  m.impl("filtered_lrelu", filtered_lrelu);
  m.impl("filtered_slopes", filtered_slopes);
}

}  // namespace
}  // namespace fewshot_smis
