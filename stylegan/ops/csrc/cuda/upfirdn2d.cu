// Upsample, pad, filter, downsample in one gather. The filters of the networks have kernels of
// their own, whose items make a tile of outputs in registers; an item of the general kernel makes
// four outputs below one another, so that each pixel it reads serves several of them.

#include "grid.h"
#include "kernels.h"
#include "tile.h"

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
  T* y;
  Pass p;

  ITEM void operator()(int64_t item) const {
    const int64_t groups = p.C / W, strips = (p.out_height + kStrip - 1) / kStrip;
    const int64_t c = item % groups * W, ox = item / groups % p.out_width;
    const int64_t strip = item / groups / p.out_width;
    const int64_t n = strip / strips, oy = strip % strips * kStrip;
    const T* picture = x + n * p.height * p.width * p.C + c;

    int first_x, tap_y;
    int64_t begin_x, row;
    first_tap(ox * p.down_x - p.left, p.up_x, first_x, begin_x);
    first_tap(oy * p.down_y - p.top, p.up_y, tap_y, row);
    const int64_t lowest = (oy + kStrip - 1) * p.down_y - p.top + p.height_f - 1;  // upsampled
    float sum[kStrip][W] = {};
    for (; row < p.height && row * p.up_y <= lowest; ++row) {
      int64_t column = begin_x;
      for (int tx = first_x; tx < p.width_f && column < p.width; tx += p.up_x, ++column) {
        const Pack<T, W> pixel = load<W>(picture + (row * p.width + column) * p.C);
        for (int r = 0; r < kStrip; ++r) {
          const int64_t ty = row * p.up_y + p.top - (oy + r) * p.down_y;
          if (ty < 0 || ty >= p.height_f) continue;
          const float weight = p.tap(int(ty), tx);
          for (int i = 0; i < W; ++i) sum[r][i] += weight * widen(pixel.values[i]);
        }
      }
    }
    for (int r = 0; r < kStrip && oy + r < p.out_height; ++r) {
      Pack<T, W> out;
      for (int i = 0; i < W; ++i) narrow(out.values[i], sum[r][i]);
      store<W>(y + ((n * p.out_height + oy + r) * p.out_width + ox) * p.C + c, out);
    }
  }
};

// The filters of StyleGAN2, and the rows and columns of StyleGAN3's. Sizes of tiles keep the sums
// of an item within about 64 registers.
template <typename T, int W>
bool in_tiles(const T* x, T* y, const Pass& p, cudaStream_t stream, int& error) {
  constexpr int kFew = W == 1 ? 1 : 2, kMany = W == 1 ? 2 : 8;  // along rows, where one is a value
  using Still = Along<1, 1, 1, 1>;
  const auto fits = [&](auto along_x, auto along_y) {
    using X = decltype(along_x);
    using Y = decltype(along_y);
    if (!takes<X, Y>(p)) return false;
    error = over_tiles<T, W, X, Y>(x, y, p, stream);
    return true;
  };
  return fits(Along<1, 1, 4, 2>{}, Along<1, 1, 4, 8>{}) ||
         fits(Along<2, 1, 4, 2>{}, Along<2, 1, 4, 8>{}) ||
         fits(Along<1, 2, 4, kFew>{}, Along<1, 2, 4, 4>{}) ||
         fits(Along<2, 1, 12, kMany>{}, Still{}) || fits(Still{}, Along<2, 1, 12, 8>{}) ||
         fits(Along<1, 2, 12, kFew>{}, Still{}) || fits(Still{}, Along<1, 2, 12, 4>{}) ||
         fits(Along<4, 1, 24, W == 1 ? 4 : 8>{}, Still{}) || fits(Still{}, Along<4, 1, 24, 8>{}) ||
         fits(Along<1, 4, 24, kFew>{}, Still{}) || fits(Still{}, Along<1, 4, 24, 4>{});
}

}  // namespace
}  // namespace fewshot_smis

using namespace fewshot_smis;

int fewshot_smis_upfirdn2d(const void* x, const float* f, void* y, int64_t N, int64_t C,
                           int64_t height, int64_t width, int64_t out_height, int64_t out_width,
                           int height_f, int width_f, int up_x, int up_y, int down_x, int down_y,
                           int64_t left, int64_t top, int flip, float gain, int storage, int last,
                           int aligned, cudaStream_t stream) {
  const Pass pass{f, last ? N : N * C, last ? C : 1, height, width, out_height, out_width, left,
                  top, height_f, width_f, up_x, up_y, down_x, down_y, flip != 0, gain,
                  aligned != 0};
  return with_storage(storage, pass.C, aligned, [&](auto* tag, auto pack) {
    using T = std::remove_pointer_t<decltype(tag)>;
    constexpr int W = decltype(pack)::value;
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(y);
    int error = 0;
    if (in_tiles<T, W == 1 ? 1 : 4>(from, to, pass, stream, error)) return error;
    const int64_t strips = (out_height + kStrip - 1) / kStrip;
    return over_items(pass.pictures * strips * out_width * (pass.C / W), stream,
                      Resample<T, W>{from, to, pass});
  });
}
