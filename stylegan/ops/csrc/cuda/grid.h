// One thread an item, and storage types as floats. Nothing here knows of torch: nvcc alone compiles
// the kernels, and with FEWSHOT_SMIS_ON_HOST a C++ compiler does, which runs the items in a loop.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#ifdef FEWSHOT_SMIS_ON_HOST
#include <limits>
#include <memory>
#include <vector>
#define ITEM inline
#else
#define ITEM __device__ __forceinline__
#endif

namespace fewshot_smis {

// Items (x, y, z), x the nearest; of height and depth at most kMaxGrid, the bound of a launch.
struct Grid {
  int width, height, depth;
};
constexpr int64_t kMaxGrid = 65535;

#ifdef FEWSHOT_SMIS_ON_HOST
template <typename Item>
int over_items(int64_t count, cudaStream_t, Item item) {
  for (int64_t i = 0; i < count; ++i) item(i);
  return 0;
}
template <typename Item>
int over_grid(Grid grid, cudaStream_t, Item item) {
  for (int z = 0; z < grid.depth; ++z) {
    for (int y = 0; y < grid.height; ++y) {
      for (int x = 0; x < grid.width; ++x) item(x, y, z);
    }
  }
  return 0;
}

// The threads of a block, here one: first, first + step, ... are the items of each.
struct Block {
  static constexpr int first = 0, step = 1;
  ITEM void wait() const {}
};
template <typename Item>
int over_blocks(int64_t count, cudaStream_t, Item item) {
  const float nothing = std::numeric_limits<float>::quiet_NaN();
  for (int64_t i = 0; i < count; ++i) {
    std::vector<float> memory(Item::kBytes / sizeof(float) + 4, nothing);
    void* start = memory.data();
    size_t room = memory.size() * sizeof(float);
    item(Block{}, static_cast<float*>(std::align(16, Item::kBytes, start, room)), int(i));
  }
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

template <typename Item>
__global__ void __launch_bounds__(256) run_grid(Grid grid, Item item) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x < grid.width && y < grid.height) item(x, y, int(blockIdx.z));
}

// Blocks are as wide as a row fills, and else have several rows.
template <typename Item>
int over_grid(Grid grid, cudaStream_t stream, Item item) {
  unsigned wide = 32;
  while (wide < 256 && int(wide) < grid.width) wide *= 2;
  const unsigned high = 256 / wide;
  const dim3 blocks((grid.width + wide - 1) / wide, (grid.height + high - 1) / high, grid.depth);
  run_grid<<<blocks, dim3(wide, high), 0, stream>>>(grid, item);
  return cudaGetLastError();
}

struct Block {
  int first, step;
  ITEM void wait() const { __syncthreads(); }
};
template <typename Item>
__global__ void __launch_bounds__(Item::kThreads) run_blocks(Item item) {
  extern __shared__ float4 memory[];
  item(Block{int(threadIdx.x), Item::kThreads}, reinterpret_cast<float*>(memory), int(blockIdx.x));
}

// Blocks of kThreads that share kBytes, item(block, the shared memory, the block's number).
template <typename Item>
int over_blocks(int64_t count, cudaStream_t stream, Item item) {
  if (count == 0) return 0;
  const int error = cudaFuncSetAttribute(run_blocks<Item>,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, Item::kBytes);
  if (error) return error;
  run_blocks<<<unsigned(count), Item::kThreads, Item::kBytes, stream>>>(item);
  return cudaGetLastError();
}
#endif

ITEM float widen(float v) { return v; }
ITEM float widen(__half v) { return __half2float(v); }
ITEM float widen(__nv_bfloat16 v) { return __bfloat162float(v); }
ITEM void narrow(float& out, float v) { out = v; }
ITEM void narrow(__half& out, float v) { out = __float2half_rn(v); }
ITEM void narrow(__nv_bfloat16& out, float v) { out = __float2bfloat16_rn(v); }

template <int W>
struct Width {
  static constexpr int value = W;
};

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

// The same of what nothing writes meanwhile, so that it may come before earlier stores.
#ifdef FEWSHOT_SMIS_ON_HOST
template <int W, typename T>
ITEM Pack<T, W> fetch(const T* p) {
  return load<W>(p);
}
#else
ITEM unsigned short word(Width<2>, const void* p) {
  return __ldg(static_cast<const unsigned short*>(p));
}
ITEM unsigned word(Width<4>, const void* p) { return __ldg(static_cast<const unsigned*>(p)); }
ITEM uint2 word(Width<8>, const void* p) { return __ldg(static_cast<const uint2*>(p)); }
ITEM uint4 word(Width<16>, const void* p) { return __ldg(static_cast<const uint4*>(p)); }
template <int W, typename T>
ITEM Pack<T, W> fetch(const T* p) {
  const auto raw = word(Width<sizeof(T) * W>{}, p);
  return reinterpret_cast<const Pack<T, W>&>(raw);
}
#endif

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
