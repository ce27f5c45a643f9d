// What every operator does to the tensors it is given.

#pragma once

#include <ATen/ATen.h>

#include <limits>
#include <optional>

namespace fewshot_smis {

inline bool channels_last(const at::Tensor& x) {
  return x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast) && !x.is_contiguous();
}
inline at::MemoryFormat layout(bool last) {
  return last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}
inline at::Tensor dense(const at::Tensor& x, bool last) { return x.contiguous(layout(last)); }

// The type that sums and factors have beside values of this type.
inline at::ScalarType real(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

// Factors or biases of the kernel's own type and shape, or `fill` where there are none.
inline at::Tensor reals(const std::optional<at::Tensor>& t, at::IntArrayRef shape, double fill,
                        const at::Tensor& x) {
  const auto type = real(x.scalar_type());
  if (t.has_value()) return t->to(type).expand(shape).contiguous();
  return at::full(shape, fill, x.options().dtype(type).memory_format(std::nullopt));
}

inline double bound(double clamp) {
  return clamp < 0 ? std::numeric_limits<double>::infinity() : clamp;
}

// Pixels of the resampled axis; `upfirdn2d` in Python has said the same more kindly.
inline int64_t resampled(int64_t size, int64_t up, int64_t down, int64_t padding, int64_t taps) {
  const int64_t room = size * up + padding - taps;
  TORCH_CHECK(room >= 0, "upfirdn2d: a filter of ", taps, " taps does not fit ", size * up + padding,
              " padded pixels");
  return room / down + 1;
}

// Calls f with a null pointer to the storage type, uint16_t for bfloat16.
template <typename F>
void with_storage(const char* name, at::ScalarType type, F&& f) {
  if (type == at::kFloat) return f(static_cast<float*>(nullptr));
  if (type == at::kDouble) return f(static_cast<double*>(nullptr));
  TORCH_CHECK(type == at::kBFloat16, name, ": expected float32, float64 or bfloat16, got ", type);
  f(static_cast<uint16_t*>(nullptr));
}

}  // namespace fewshot_smis
