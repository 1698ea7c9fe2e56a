// What all kernels share: how values lie in device memory, the layer's arithmetic, and asynchronous
// copies.
//
// Compile-time numbers (-D NAME=VALUE):
//   MINIBATCH  images that a block works on at a time
//   PANEL      images that lie interleaved in device memory
//   VECTOR     images that one load or store moves: 16 bytes of them, or 1
//
// Layout of values: value[panel][neuron][PANEL]. The images of a panel lie next to each other, so
// one neuron of a panel is PANEL * 4 contiguous bytes: with 8 images just one 32-byte sector,
// whichever neuron is asked for. A *group* is the MINIBATCH / PANEL panels of one minibatch.
// Image slot s (place s of the run's current list of images) is image s % PANEL of panel s / PANEL.
#pragma once

#ifndef MINIBATCH
#define MINIBATCH 16
#endif
#ifndef PANEL
#define PANEL 8
#endif
#ifndef VECTOR
#define VECTOR 4
#endif

static_assert(VECTOR == 1 || VECTOR == 4, "a load moves one image, or 16 bytes");
static_assert(PANEL % VECTOR == 0, "a panel is read in whole vectors");
static_assert(MINIBATCH % PANEL == 0, "a minibatch is made of whole panels");
static_assert(MINIBATCH <= 32, "the live images of a minibatch are the bits of one 32-bit word");

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int PANELS = MINIBATCH / PANEL;    // panels of a group
constexpr int VECTORS = MINIBATCH / VECTOR;  // vectors of a neuron in a group
constexpr unsigned ALL_ALIVE = MINIBATCH == 32 ? 0xffffffffu : (1u << MINIBATCH) - 1;

// VECTOR images of one neuron.
struct alignas(4 * VECTOR) Vector {
  float of[VECTOR];
};

// What the run knows of its images; it lives on the device, so no layer waits for the host.
struct Control {
  int groups;  // groups in use
  int moved;   // 1: the last list dropped dead images; `source` tells where the others lie
};

// Offset of vector v (of VECTORS) of a neuron in a group.
__device__ inline size_t offset_of(int group, int v, int neuron, int neurons) {
  const int image = v * VECTOR;
  const size_t panel = (size_t)group * PANELS + image / PANEL;
  return (panel * neurons + neuron) * PANEL + image % PANEL;
}

// The challenge's arithmetic on the sum z of one output neuron and image.
__device__ inline float activate(float z, float bias, float ymax) {
  return z != 0.0f ? fminf(fmaxf(z + bias, 0.0f), ymax) : 0.0f;
}

// Copy 4 or 16 bytes from global to shared memory; they are there after `wait_for_copies` and a
// barrier.
template <typename T>
__device__ inline void copy_async(T* to, const T* from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 16, "that many bytes at a time");
#if __CUDA_ARCH__ >= 800
  const unsigned address = (unsigned)__cvta_generic_to_shared(to);
  if constexpr (sizeof(T) == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from) : "memory");
#else
  *to = *from;
#endif
}

__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// The bitwise or of every lane's word, in every lane.
__device__ inline unsigned or_of_warp(unsigned word) {
#if __CUDA_ARCH__ >= 800
  return __reduce_or_sync(ALL_LANES, word);
#else
  for (int distance = WARP / 2; distance > 0; distance /= 2)
    word |= __shfl_xor_sync(ALL_LANES, word, distance);
  return word;
#endif
}
