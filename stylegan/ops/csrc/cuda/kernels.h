// The launches of the CUDA kernels. Each returns a cudaError_t, 0 for success. `storage` is 0 for
// float32, 1 for float16, 2 for bfloat16; `last` tells channels_last from contiguous; `aligned`
// that every pointer to pictures is a multiple of 16.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

extern "C" {

// y = clamp(gain * lrelu(x * scale[n,c] + noise[n * noise_step + p] + bias[c])); scale, noise and
// bias may be null, clamp infinite. x and y are N pictures of C channels of P pixels.
int fewshot_smis_bias_act(const void* x, const float* scale, const float* noise, const float* bias,
                          void* y, int64_t N, int64_t C, int64_t P, int64_t noise_step, float slope,
                          float gain, float clamp, int storage, int last, int aligned,
                          cudaStream_t stream);

// With g = dy * slope at y: dx = g * scale. The parts of the sums over pixels of g, and of g * x
// where sum_gx is not null, are [N, chunks, C, lanes]; how many there are, bias_act_parts tells.
int fewshot_smis_bias_act_backward(const void* dy, const void* y, const void* x, const float* scale,
                                   void* dx, float* sum_g, float* sum_gx, int64_t N, int64_t C,
                                   int64_t P, int64_t chunks, int lanes, float slope, float gain,
                                   float clamp, int storage, int last, int aligned,
                                   cudaStream_t stream);
void fewshot_smis_bias_act_parts(int64_t N, int64_t C, int64_t P, int last, int64_t* chunks,
                                 int* lanes);

// The parts [N, P, lanes] of the sums over channels of g, where lanes are 4 for channels_last, else 1.
int fewshot_smis_bias_act_noise(const void* dy, const void* y, float* sum_g, int64_t N, int64_t C,
                                int64_t P, float slope, float gain, float clamp, int storage,
                                int last, int aligned, cudaStream_t stream);

// y[n,c,oy,ox] = gain * the sum over taps (ty, tx) of f[ty * width_f + tx] * x[n,c,iy,ix], where
// iy * up_y = oy * down_y + ty - top, and likewise along the row; not `flip` reverses the taps.
int fewshot_smis_upfirdn2d(const void* x, const float* f, void* y, int64_t N, int64_t C,
                           int64_t height, int64_t width, int64_t out_height, int64_t out_width,
                           int height_f, int width_f, int up_x, int up_y, int down_x, int down_y,
                           int64_t left, int64_t top, int flip, float gain, int storage, int last,
                           int aligned, cudaStream_t stream);

// Bias, upsample, leaky ReLU, gain, clamp and downsample, by taps f_up and f_down along both axes;
// `radial` tells that f_down is [taps_down, taps_down]. `slopes` [N,C,high_height,high_width] notes
// what the ReLU did, where it is not null; `linear` takes it from there instead. Padding (left, top)
// is of the way up, `inner` of the way down. Returns
// cudaErrorNotSupported for other factors and taps than (up, taps, down, taps) = (2, 12, 2, 12),
// (4, 24, 2, 12) and, not radial, (2, 12, 4, 24).
int fewshot_smis_filtered_lrelu(const void* x, const float* bias, const float* f_up,
                                const float* f_down, void* y, uint8_t* slopes, int64_t N, int64_t C,
                                int64_t height, int64_t width, int64_t high_height,
                                int64_t high_width, int64_t out_height, int64_t out_width, int up,
                                int taps_up, int down, int taps_down, int radial, int64_t left,
                                int64_t top, int64_t inner_left, int64_t inner_top, int flip,
                                float gain, float slope, float clamp, int linear, int storage,
                                int last, int aligned, cudaStream_t stream);
}
