#pragma once

#include <ATen/ATen.h>

namespace fewshot_smis {

// Resamples x [N, C, H, W] by taps f [n], along both axes, or [h, w].
at::Tensor upfirdn2d(const at::Tensor& x, const at::Tensor& f, int64_t up_x, int64_t up_y,
                     int64_t down_x, int64_t down_y, int64_t left, int64_t right, int64_t top,
                     int64_t bottom, bool flip, double gain);

}  // namespace fewshot_smis
