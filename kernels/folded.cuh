// What the folded kernels share: the outcome of a run, and how it reaches the host.
//
// The outcome is a row of int32 on the device: COUNTERS counters, then images that entered each layer,
// images that were saturated for good after each, and the survivors in any order. The host has the
// same row in memory that the device can write to. The last block of the last kernel copies the
// outcome there, clears it for the next run, and writes the number of the run last of all: the host
// waits for that number. So a run needs no copy, no clearing and no synchronisation of its own.
#pragma once
#include "common.cuh"

enum Counter {
  TICKETS,      // of shift_images: images taken from the inputs
  POOLED,       // images in the first pool: they outlived the shift layers
  GROUPS,       // groups of images taken from it
  POOLED_LATE,  // images in the second pool: they outlived some more layers
  GROUPS_LATE,  // groups of images taken from it
  SURVIVORS,
  UNFINISHED,   // images that were still running when the prepared layers ended
  BLOCKS_DONE,
  RUN,          // number of the run: counts up, is never cleared
  COUNTERS
};

struct Outcome {
  int* counters;
  int layers;  // prepared ones: entries of `entered` and of `retired`
  __device__ int* entered() const { return counters + COUNTERS; }
  __device__ int* retired() const { return entered() + layers; }
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

// Value c of the image in a row of the pool.
__device__ inline float pooled_value(const Pool& pool, int row, int c) {
  const size_t start = (size_t)row * pool.width;
  if (pool.unit == 0.0f) return static_cast<const float*>(pool.values)[start + c];
  const int place = (c & ~31) + (c & 15) * 2 + (c >> 4 & 1);
  const int units = static_cast<const unsigned short*>(pool.values)[start + place];
  return units == 0 ? 0.0f : __fdiv_rn((float)units, pool.unit);
}

__device__ inline void add_survivors(const Outcome& outcome, const int* image, unsigned survive) {
  if (threadIdx.x < 32 && survive >> threadIdx.x & 1)
    outcome.survivors()[atomicAdd(&outcome.counters[SURVIVORS], 1)] = image[threadIdx.x];
}

// To be called by all threads of all blocks, when they have nothing left to do.
__device__ inline void publish(const Outcome& outcome, int* on_host) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0)
    is_last = atomicAdd(&outcome.counters[BLOCKS_DONE], 1) == (int)gridDim.x - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  const int cleared = COUNTERS + 2 * outcome.layers;
  const int words = cleared + __ldcg(outcome.counters + SURVIVORS);
  const int run = __ldcg(outcome.counters + RUN) + 1;
  __syncthreads();  // nobody clears a counter that another thread has yet to read
#pragma unroll 4
  for (int i = threadIdx.x; i < words; i += blockDim.x)
    if (i != RUN) on_host[i] = __ldcg(outcome.counters + i);
  for (int i = threadIdx.x; i < cleared; i += blockDim.x)
    outcome.counters[i] = i == RUN ? run : 0;
  __threadfence_system();
  __syncthreads();
  if (threadIdx.x == 0) *(volatile int*)(on_host + RUN) = run;
}
