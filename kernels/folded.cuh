// What the folded kernels share: the outcome of a run, how it reaches the host, and images between
// two kernels.
//
// The outcome is a row of int32 on the device: COUNTERS counters, then for each layer how many images
// died in it, for each layer how many were saturated for good after it, and the survivors in any
// order. The host has the same row in memory that the device can write to. The last block of the last
// kernel copies the outcome there, clears it for the next run, and writes the number of the run last
// of all: the host waits for that number. So a run needs no copy, no clearing and no synchronisation
// of its own.
#pragma once
#include "common.cuh"

enum Counter {
  POOLED,       // images in the first pool: they outlived the shift layers
  GROUPS,       // groups of images taken from a queue
  POOLED_LATE,  // images in the second pool: they outlived some more layers
  GROUPS_LATE,  // groups of images taken from it
  SURVIVORS,
  UNFINISHED,   // images that were still running when the prepared layers ended
  BLOCKS_DONE,
  RUN,          // number of the run: counts up, is never cleared
  COUNTERS
};
static_assert(COUNTERS % 4 == 0, "what follows the counters is copied 16 bytes at a time");

struct Outcome {
  int* counters;
  int layers;  // prepared ones: entries of `died` and of `retired`
  __device__ int* died() const { return counters + COUNTERS; }
  __device__ int* retired() const { return died() + layers; }
  __device__ int* survivors() const { return retired() + layers; }
};

// Images between two kernels, `width` values each; image: their numbers.
// unit > 0: values as `shift_images` leaves them, in units, 16 bits: of 32 values, the word r holds
// number r (low half) and r + 16. unit 0: float32.
struct Pool {
  void* values;
  int* image;
  int width;
  float unit;
};

// units / unit, rounded as a division is. reciprocal: 1 / unit, rounded. One step of correction makes
// it exact for all units below 2^15 and every whole unit up to 1000 (all pairs were compared), and
// needs no branch, where a division has one.
__device__ inline float from_units(unsigned units, float unit, float reciprocal) {
  const float value = (float)units, near = value * reciprocal;
  return fmaf(fmaf(-near, unit, value), reciprocal, near);
}

// Value c of the image in a row of the pool.
__device__ inline float pooled_value(const Pool& pool, int row, int c) {
  const size_t start = (size_t)row * pool.width;
  if (pool.unit == 0.0f) return static_cast<const float*>(pool.values)[start + c];
  const int place = (c & ~31) + (c & 15) * 2 + (c >> 4 & 1);
  const int units = static_cast<const unsigned short*>(pool.values)[start + place];
  return from_units(units, pool.unit, __fdiv_rn(1.0f, pool.unit));
}

// Note images that have survived: bit i of `survive`: the one whose number thread i gives.
__device__ inline void add_survivors(const Outcome& outcome, int thread, int image,
                                     unsigned survive) {
  if (thread < WARP && survive >> thread & 1)
    outcome.survivors()[atomicAdd(&outcome.counters[SURVIVORS], 1)] = image;
}

// To be called by all threads of the first `blocks` blocks, when they have nothing left to do.
__device__ inline void publish(const Outcome& outcome, int* on_host, int blocks) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(&outcome.counters[BLOCKS_DONE], 1) == blocks - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  const int cleared = COUNTERS + 2 * outcome.layers;
  const int words = cleared + __ldcg(outcome.counters + SURVIVORS);
  const int run = __ldcg(outcome.counters + RUN) + 1;
  if (threadIdx.x < RUN) on_host[threadIdx.x] = __ldcg(outcome.counters + threadIdx.x);
  // All loads of a thread are on their way before the first of them is stored.
  constexpr int AT_ONCE = 4;
  const int4* from = reinterpret_cast<const int4*>(outcome.counters);
  int4* to = reinterpret_cast<int4*>(on_host);
  for (int first = COUNTERS / 4 + threadIdx.x; first * 4 < words; first += AT_ONCE * blockDim.x) {
    int4 four[AT_ONCE];
#pragma unroll
    for (int j = 0; j < AT_ONCE; ++j)
      if ((first + j * blockDim.x) * 4 < words) four[j] = __ldcg(from + first + j * blockDim.x);
#pragma unroll
    for (int j = 0; j < AT_ONCE; ++j)
      if ((first + j * blockDim.x) * 4 < words) to[first + j * blockDim.x] = four[j];
  }
  __threadfence_system();
  __syncthreads();  // all is written, and nobody clears a counter that another thread has yet to read
  for (int i = threadIdx.x; i < cleared; i += blockDim.x)
    outcome.counters[i] = i == RUN ? run : 0;
  if (threadIdx.x == 0) *(volatile int*)(on_host + RUN) = run;
}
