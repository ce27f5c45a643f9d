// Upsample, pad, filter, downsample: row by row. A separable filter goes first down the columns into
// a line of reals, then along it; another one adds up its rows of taps. A picture is rows of W
// pixels of C values each: channels_last as it is, contiguous as N*C pictures of one channel.

#include "upfirdn2d.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include "resample.h"

namespace fewshot_smis {
namespace {

using at::Tensor;

int64_t grain(int64_t values) { return std::max<int64_t>(1, 16384 / (values + 1)); }

template <typename T, typename R = Real<T>>
void separable(const T* x, T* y, int64_t pictures, int64_t C, const Axis& cols, const Axis& rows,
               const Filter<R>& f) {
  const auto phases = make_phases(cols, f.x);
  const int64_t row = cols.in * C;
  at::parallel_for(0, pictures * rows.out, grain(row), [&](int64_t begin, int64_t end) {
    Line<R> line(cols, phases, C);
    std::vector<R> sums(cols.out);
    for (int64_t r = begin; r < end; ++r) {
      const int64_t n = r / rows.out;
      const T* source[kMaxTaps];
      R weights[kMaxTaps];
      int count = 0;
      int64_t tap, pixel;
      rows.first(r - n * rows.out, tap, pixel);
      for (; tap < rows.taps && pixel < rows.in; tap += rows.up, ++pixel) {
        if (pixel < 0) continue;
        source[count] = x + (n * rows.in + pixel) * row;
        weights[count++] = f.y[tap];
      }
      if (count > 0) {
        sum_rows(source, weights, count, line.body, row);
      } else {
        std::fill(line.body, line.body + row, R(0));
      }
      filter_row<false>(line.body, phases, y + r * cols.out * C, C, sums.data());
    }
  });
}

template <typename T, typename R = Real<T>>
void full(const T* x, T* y, int64_t pictures, int64_t C, const Axis& cols, const Axis& rows,
          const Filter<R>& f) {
  std::vector<std::vector<Phase<R>>> phases;
  for (const auto& taps : f.rows) phases.push_back(make_phases(cols, taps));
  const int64_t row = cols.in * C;
  at::parallel_for(0, pictures * rows.out, grain(row), [&](int64_t begin, int64_t end) {
    Line<R> line(cols, phases[0], C);
    std::vector<R> sums(cols.out), total(cols.out * C);
    for (int64_t r = begin; r < end; ++r) {
      const int64_t n = r / rows.out;
      std::fill(total.begin(), total.end(), R(0));
      int64_t tap, pixel;
      rows.first(r - n * rows.out, tap, pixel);
      for (; tap < rows.taps && pixel < rows.in; tap += rows.up, ++pixel) {
        if (pixel < 0) continue;
        const T* source = x + (n * rows.in + pixel) * row;
        for (int64_t i = 0; i < row; ++i) line.body[i] = widen(source[i]);
        filter_row<true>(line.body, phases[tap], total.data(), C, sums.data());
      }
      T* out = y + r * cols.out * C;
      for (int64_t i = 0; i < cols.out * C; ++i) narrow(out[i], total[i]);
    }
  });
}

}  // namespace

Tensor upfirdn2d(const Tensor& x_, const Tensor& f, int64_t up_x, int64_t up_y, int64_t down_x,
                 int64_t down_y, int64_t left, int64_t right, int64_t top, int64_t bottom,
                 bool flip, double gain) {
  const bool last = channels_last(x_);
  const Tensor x = dense(x_, last);
  const int64_t N = x.size(0), C = x.size(1);
  TORCH_CHECK(f.size(0) <= kMaxTaps && f.size(-1) <= kMaxTaps, "upfirdn2d: at most ", kMaxTaps,
              " taps, got ", f.sizes());
  const Axis cols = make_axis(x.size(3), up_x, down_x, left, right, f.size(-1));
  const Axis rows = make_axis(x.size(2), up_y, down_y, top, bottom, f.size(0));
  Tensor y = at::empty({N, C, rows.out, cols.out}, x.options().memory_format(layout(last)));
  if (y.numel() == 0) return y;
  const int64_t pictures = last ? N : N * C, values = last ? C : 1;
  with_storage("upfirdn2d", x.scalar_type(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    const auto filter = read_filter<Real<T>>(f, flip, gain);
    auto run = filter.separable ? separable<T> : full<T>;
    run(static_cast<const T*>(x.const_data_ptr()), static_cast<T*>(y.mutable_data_ptr()), pictures,
        values, cols, rows, filter);
  });
  return y;
}

TORCH_LIBRARY_FRAGMENT(fewshot_smis, m) {
  m.def(
      "upfirdn2d(Tensor x, Tensor f, SymInt up_x, SymInt up_y, SymInt down_x, SymInt down_y, "
      "SymInt left, SymInt right, SymInt top, SymInt bottom, bool flip, float gain) -> Tensor");
}

TORCH_LIBRARY_IMPL(fewshot_smis, CPU, m) {
  m.impl("upfirdn2d", upfirdn2d);
}

}  // namespace fewshot_smis
