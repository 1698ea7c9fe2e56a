// Folded layers, IMAGES images at a time in the shared memory of a block, until each is finished.
//
// What it computes. For each layer, on class values (see spdnn_cli/network/steps.py):
//
//     sums = gather @ values                   where the layer has a gather
//     values = clip(apply @ sums + bias)       where the sum is not zero, else 0
//
// An image leaves when it is all zero, or all at YMAX before layers that were proved to keep it so.
//
// Layout. values[class][IMAGES], float32, twice: each product reads one and writes the other. A
// product is an ELLPACK table, indices[term][row], so that neighbouring threads read neighbouring
// entries; rows with fewer terms are padded with weight 0. The host orders the terms of a row so that
// neighbouring threads read different banks of shared memory at a time, as far as it can.
//
// Compile-time numbers: IMAGES to a block, and SPLIT lanes that share the terms of a row, for narrow
// layers, where a row's chain of reads would be what a layer waits for.
//
// Why it is fast. A state never leaves the chip. An index is read once for IMAGES images, which lie
// next to each other, so that one 16-byte access to shared memory serves four multiply-adds. Blocks
// take images from a queue, and a block whose images have finished takes the next.
#include "folded.cuh"

#ifndef IMAGES
#define IMAGES 4
#endif

#ifndef SPLIT
#define SPLIT 1
#endif

static_assert(SPLIT == 1 || SPLIT == 2 || SPLIT == 4, "neighbouring lanes share the terms of a row");
static_assert(IMAGES == 1 || IMAGES == 2 || IMAGES == 4,
              "the images of a class value are moved by one access of 4, 8 or 16 bytes");

constexpr unsigned ALL_IMAGES = (1u << IMAGES) - 1;

struct alignas(4 * IMAGES) Values {
  float of[IMAGES];
};

// A sparse product. terms: of a row, with padding. start: of its entries in `indices` and `weights`.
// scale: the weight that all terms share, or 0: `weights` has one a term.
struct Product {
  int rows, terms;
  long long start;
  float scale;
  int unused;
};

// A layer: gather.rows is 0 where it has no gather.
struct alignas(16) Step {
  Product gather, apply;
  long long bias_start, unused;
};

struct Program {
  const Step* steps;
  const unsigned short* indices;
  const float* weights;
  const float* bias;
};

// Where a run begins and ends: first layer, layers prepared, whether the network has no more, and
// which layers may be skipped by saturated images.
struct Extent {
  int first, prepared, is_whole;
  float ymax;
  const unsigned char* saturation_is_final;
};

__device__ inline Values part_of_sum(const Program& program, const Product& product, int row,
                                     const Values* values) {
  Values sum = {};
  if (row >= product.rows) return sum;
  const int part = threadIdx.x % SPLIT;
  const unsigned short* index = program.indices + product.start + row;
  if (product.scale != 0.0f) {
#pragma unroll 8
    for (int term = part; term < product.terms; term += SPLIT) {
      const Values value = values[index[(size_t)term * product.rows]];
#pragma unroll
      for (int i = 0; i < IMAGES; ++i) sum.of[i] += value.of[i];
    }
#pragma unroll
    for (int i = 0; i < IMAGES; ++i) sum.of[i] *= product.scale;
  } else {
    const float* weight = program.weights + product.start + row;
#pragma unroll 4
    for (int term = part; term < product.terms; term += SPLIT) {
      const Values value = values[index[(size_t)term * product.rows]];
      const float w = weight[(size_t)term * product.rows];
#pragma unroll
      for (int i = 0; i < IMAGES; ++i) sum.of[i] = fmaf(w, value.of[i], sum.of[i]);
    }
  }
  return sum;
}

// The sum of a row, in each of the SPLIT lanes that share it.
__device__ inline Values sum_of_row(const Program& program, const Product& product, int row,
                                    const Values* values) {
  Values sum = part_of_sum(program, product, row, values);
#pragma unroll
  for (int distance = 1; distance < SPLIT; distance *= 2)
#pragma unroll
    for (int i = 0; i < IMAGES; ++i)
      sum.of[i] += __shfl_xor_sync(ALL_LANES, sum.of[i], distance);
  return sum;
}

// Rows of a product, rounded up so that whole warps take part.
__device__ inline int rounded_rows(const Product& product) {
  constexpr int ROWS_PER_WARP = WARP / SPLIT;
  return (product.rows + ROWS_PER_WARP - 1) / ROWS_PER_WARP * ROWS_PER_WARP;
}

// Ask for the tables of a product, so that they are near when its layer comes.
__device__ inline void prefetch(const Program& program, const Product& product) {
  const char* from = reinterpret_cast<const char*>(program.indices + product.start);
  const int bytes = product.rows * product.terms * sizeof(unsigned short);
  for (int at = threadIdx.x * 128; at < bytes; at += blockDim.x * 128)
    asm volatile("prefetch.global.L1 [%0];" ::"l"(from + at));
}

// Run one layer; returns, to every thread, bit i: image i has a value that is not zero, and bit
// i + 16: image i has a value below YMAX.
__device__ inline unsigned run_layer(const Program& program, const Step& step, const float ymax,
                                     Values*& values, Values*& other, unsigned* seen) {
  const int first = threadIdx.x / SPLIT, rows_at_once = blockDim.x / SPLIT;
  const bool writes = threadIdx.x % SPLIT == 0;
  if (step.gather.rows > 0) {
    for (int row = first; row < rounded_rows(step.gather); row += rows_at_once) {
      const Values sum = sum_of_row(program, step.gather, row, values);
      if (row < step.gather.rows && writes) other[row] = sum;
    }
    __syncthreads();
    Values* swapped = values;
    values = other, other = swapped;
  }
  unsigned flags = 0;
  for (int row = first; row < rounded_rows(step.apply); row += rows_at_once) {
    Values value = sum_of_row(program, step.apply, row, values);
    if (row >= step.apply.rows) continue;
    const float bias = program.bias[step.bias_start + row];
#pragma unroll
    for (int i = 0; i < IMAGES; ++i) {
      value.of[i] = activate(value.of[i], bias, ymax);
      flags |= (value.of[i] != 0.0f ? 1u << i : 0u) | (value.of[i] < ymax ? 1u << (i + 16) : 0u);
    }
    if (writes) other[row] = value;
  }
  flags = or_of_warp(flags);
  if (threadIdx.x % WARP == 0 && flags) atomicOr(seen, flags);
  __syncthreads();
  Values* swapped = values;
  values = other, other = swapped;
  return *seen;
}

// Take the images of a block through the layers. number: of image i, in thread i. `running`: bit i:
// image i. `seen`: three words of flags, used in turn: while some threads still read one, and others
// set the next, the third is cleared.
__device__ inline void run_images(const Program& program, const Extent& extent,
                                  const Outcome& outcome, int number, unsigned running,
                                  Values* values, Values* other, unsigned* seen) {
  Step step;  // there is none where the shift layers are all that is prepared
  if (extent.first < extent.prepared) step = program.steps[extent.first];
  unsigned survive = 0;
  for (int layer = extent.first; layer < extent.prepared && running; ++layer) {
    if (threadIdx.x == 0) seen[(layer + 1) % 3] = 0;
    const bool is_final = extent.saturation_is_final[layer + 1];
    Step next = step;
    if (layer + 1 < extent.prepared) {
      next = program.steps[layer + 1];
      prefetch(program, next.gather);
      prefetch(program, next.apply);
    }
    const unsigned flags = run_layer(program, step, extent.ymax, values, other, &seen[layer % 3]);
    step = next;
    const unsigned died = running & ~flags;
    const unsigned saturated = is_final ? running & flags & ~(flags >> 16) : 0;
    survive |= saturated;
    running &= ~(died | saturated);
    if (threadIdx.x == 0 && died) atomicAdd(&outcome.died()[layer], __popc(died));
    if (threadIdx.x == 0 && saturated) atomicAdd(&outcome.retired()[layer], __popc(saturated));
  }
  if (extent.is_whole)
    survive |= running;
  else if (running && threadIdx.x == 0)
    atomicAdd(&outcome.counters[UNFINISHED], __popc(running));
  add_survivors(outcome, threadIdx.x, number, survive);
}

// The arguments that both kernels share: the program's tables, its extent, and the outcome. The host
// reads `on_host`.
#define RUN_PARAMETERS                                                                           \
  const Step *steps, const unsigned short *indices, const float *weights, const float *bias,     \
      int first_layer, int prepared, int is_whole, float ymax,                                   \
      const unsigned char *saturation_is_final, int *counters, int *on_host

// Take groups of IMAGES images from the queue. fill(first, images, values) loads a group; number_of(k)
// is the number of its image k.
template <class Fill, class NumberOf>
__device__ inline void run_queue(const Program& program, const Extent& extent,
                                 const Outcome& outcome, int* on_host, int count, int stride,
                                 Fill fill, NumberOf number_of) {
  extern __shared__ float4 shared[];
  Values* values = reinterpret_cast<Values*>(shared);
  __shared__ int next;
  __shared__ unsigned seen[3];
  while (true) {
    __syncthreads();
    if (threadIdx.x == 0) {
      next = atomicAdd(&outcome.counters[GROUPS], 1);
      seen[0] = seen[1] = seen[2] = 0;
    }
    __syncthreads();
    const int first = next * IMAGES;
    if (first >= count) break;
    const int images = min(IMAGES, count - first);
    const int number = threadIdx.x < images ? number_of(first + threadIdx.x) : 0;
    fill(first, images, values);
    __syncthreads();
    run_images(program, extent, outcome, number, ALL_IMAGES >> (IMAGES - images), values,
               values + stride, seen);
  }
  publish(outcome, on_host, gridDim.x);
}

// Images from the pool of `shift_images`. stride: Values between the two sides in shared memory.
extern "C" __global__ void run_pool(RUN_PARAMETERS, void* pool_values, int* pool_image, int width,
                                    float unit, int stride) {
  const Pool pool = {pool_values, pool_image, width, unit};
  const auto fill = [=](int first, int images, Values* values) {
#pragma unroll
    for (int i = 0; i < IMAGES; ++i)
      for (int c = threadIdx.x; c < pool.width; c += blockDim.x)
        values[c].of[i] = i < images ? pooled_value(pool, first + i, c) : 0.0f;
  };
  run_queue({steps, indices, weights, bias},
            {first_layer, prepared, is_whole, ymax, saturation_is_final}, {counters, prepared}, on_host,
            __ldcg(counters + POOLED), stride, fill, [=](int row) { return pool.image[row]; });
}

// Images as they come: packed bits where `bits`, else float32 (images, neurons).
extern "C" __global__ void run_features(RUN_PARAMETERS, const void* features, int bits, int count,
                                        int neurons, int stride) {
  const auto fill = [=](int first, int images, Values* values) {
    const size_t row_bytes = (neurons + 7) / 8;
#pragma unroll
    for (int i = 0; i < IMAGES; ++i)
      for (int c = threadIdx.x; c < neurons; c += blockDim.x) {
        float value = 0.0f;
        if (i < images && bits)
          value = static_cast<const unsigned char*>(features)[(first + i) * row_bytes + c / 8] >>
                      (c % 8) & 1;
        else if (i < images)
          value = static_cast<const float*>(features)[(size_t)(first + i) * neurons + c];
        values[c].of[i] = value;
      }
  };
  run_queue({steps, indices, weights, bias},
            {first_layer, prepared, is_whole, ymax, saturation_is_final}, {counters, prepared}, on_host,
            count, stride, fill, [](int image) { return image; });
}
