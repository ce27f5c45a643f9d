// Upsample, pad, filter, downsample in one gather. An item makes four outputs below one another, so
// that each pixel it reads serves several of them.

#include "grid.h"
#include "kernels.h"

#include <type_traits>

namespace fewshot_smis {
namespace {

constexpr int kStrip = 4;

// The first tap that meets a pixel at or after 0 for an output starting at `start`, and that pixel.
ITEM void first_tap(int64_t start, int up, int& tap, int64_t& pixel) {
  tap = int(start >= 0 ? (up - start % up) % up : -start % up);
  pixel = (start + tap) / up;
  if (pixel < 0) {
    tap += int(-pixel * up);
    pixel = 0;
  }
}

template <typename T, int W>
struct Resample {
  const T* x;
  const float* f;
  T* y;
  int64_t C, height, width, out_height, out_width, left, top;
  int height_f, width_f, up_x, up_y, down_x, down_y;
  bool flip;
  float gain;

  // Pictures are [height, width, C]; contiguous ones have C = 1 and count as many pictures.
  ITEM void operator()(int64_t item) const {
    const int64_t groups = C / W, strips = (out_height + kStrip - 1) / kStrip;
    const int64_t c = item % groups * W, ox = item / groups % out_width;
    const int64_t strip = item / groups / out_width;
    const int64_t n = strip / strips, oy = strip % strips * kStrip;
    const T* picture = x + n * height * width * C + c;

    int first_x, tap_y;
    int64_t begin_x, row;
    first_tap(ox * down_x - left, up_x, first_x, begin_x);
    first_tap(oy * down_y - top, up_y, tap_y, row);
    const int64_t lowest = (oy + kStrip - 1) * down_y - top + height_f - 1;  // of the strip, upsampled
    float sum[kStrip][W] = {};
    for (; row < height && row * up_y <= lowest; ++row) {
      int64_t column = begin_x;
      for (int tx = first_x; tx < width_f && column < width; tx += up_x, ++column) {
        const Pack<T, W> pixel = load<W>(picture + (row * width + column) * C);
        for (int r = 0; r < kStrip; ++r) {
          const int64_t ty = row * up_y + top - (oy + r) * down_y;
          if (ty < 0 || ty >= height_f) continue;
          const int64_t at = flip ? ty * width_f + tx
                                  : (height_f - 1 - ty) * width_f + width_f - 1 - tx;
          const float weight = f[at];
          for (int i = 0; i < W; ++i) sum[r][i] += weight * widen(pixel.values[i]);
        }
      }
    }
    for (int r = 0; r < kStrip && oy + r < out_height; ++r) {
      Pack<T, W> out;
      for (int i = 0; i < W; ++i) narrow(out.values[i], sum[r][i] * gain);
      store<W>(y + ((n * out_height + oy + r) * out_width + ox) * C + c, out);
    }
  }
};

}  // namespace
}  // namespace fewshot_smis

using namespace fewshot_smis;

int fewshot_smis_upfirdn2d(const void* x, const float* f, void* y, int64_t N, int64_t C,
                           int64_t height, int64_t width, int64_t out_height, int64_t out_width,
                           int height_f, int width_f, int up_x, int up_y, int down_x, int down_y,
                           int64_t left, int64_t top, int flip, float gain, int storage, int last,
                           int aligned, cudaStream_t stream) {
  const int64_t pictures = last ? N : N * C, values = last ? C : 1;
  return with_storage(storage, values, aligned, [&](auto* tag, auto pack) {
    using T = std::remove_pointer_t<decltype(tag)>;
    constexpr int W = decltype(pack)::value;
    const Resample<T, W> item{static_cast<const T*>(x), f, static_cast<T*>(y), values, height,
                              width, out_height, out_width, left, top, height_f, width_f, up_x,
                              up_y, down_x, down_y, flip != 0, gain};
    const int64_t strips = (out_height + kStrip - 1) / kStrip;
    return over_items(pictures * strips * out_width * (values / W), stream, item);
  });
}
