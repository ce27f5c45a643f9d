// One thread an item, and storage types as floats. Nothing here knows of torch: nvcc alone compiles
// the kernels, and with FEWSHOT_SMIS_ON_HOST a C++ compiler does, which runs the items in a loop.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#ifdef FEWSHOT_SMIS_ON_HOST
#define ITEM inline
#else
#define ITEM __device__ __forceinline__
#endif

namespace fewshot_smis {

#ifdef FEWSHOT_SMIS_ON_HOST
template <typename Item>
int over_items(int64_t count, cudaStream_t, Item item) {
  for (int64_t i = 0; i < count; ++i) item(i);
  return 0;
}
#else
template <typename Item>
__global__ void __launch_bounds__(256) run_items(int64_t count, Item item) {
  const int64_t i = blockIdx.x * int64_t(256) + threadIdx.x;
  if (i < count) item(i);
}

// Returns the error of the launch.
template <typename Item>
int over_items(int64_t count, cudaStream_t stream, Item item) {
  if (count == 0) return 0;
  run_items<<<unsigned((count + 255) / 256), 256, 0, stream>>>(count, item);
  return cudaGetLastError();
}
#endif

ITEM float widen(float v) { return v; }
ITEM float widen(__half v) { return __half2float(v); }
ITEM float widen(__nv_bfloat16 v) { return __bfloat162float(v); }
ITEM void narrow(float& out, float v) { out = v; }
ITEM void narrow(__half& out, float v) { out = __float2half_rn(v); }
ITEM void narrow(__nv_bfloat16& out, float v) { out = __float2bfloat16_rn(v); }

// W neighbouring values, moved at once.
template <typename T, int W>
struct alignas(sizeof(T) * W) Pack {
  T values[W];
};
template <int W, typename T>
ITEM Pack<T, W> load(const T* p) {
  return *reinterpret_cast<const Pack<T, W>*>(p);
}
template <int W, typename T>
ITEM void store(T* p, const Pack<T, W>& pack) {
  *reinterpret_cast<Pack<T, W>*>(p) = pack;
}

template <int W>
struct Width {
  static constexpr int value = W;
};

enum Storage { kFloat32, kFloat16, kBFloat16 };

// Calls f(null pointer to the storage type, values moved at once): 16 bytes' worth where rows of
// neighbours divide into that and pointers are aligned, else one.
template <typename F>
int with_storage(int storage, int64_t row, bool aligned, F f) {
  if (storage == kFloat32) {
    float* tag = nullptr;
    return aligned && row % 4 == 0 ? f(tag, Width<4>{}) : f(tag, Width<1>{});
  }
  if (storage == kFloat16) {
    __half* tag = nullptr;
    return aligned && row % 8 == 0 ? f(tag, Width<8>{}) : f(tag, Width<1>{});
  }
  __nv_bfloat16* tag = nullptr;
  return aligned && row % 8 == 0 ? f(tag, Width<8>{}) : f(tag, Width<1>{});
}

}  // namespace fewshot_smis
