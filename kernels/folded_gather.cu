// Folded layers that add up few values a class and then two sums a row: four images a block.
//
// What it computes. For each layer, on class values (spdnn_cli/engines/cuda_gather_tables.py):
//
//     sums[c]   = values[i] + values[i'] + ...                    at most TERMS values of class c
//     values[j] = clip((sums[a] + sums[b]) * weight + bias[j])    where the sum is not zero, else 0
//
// That is every layer of the challenge's networks behind the first block. An image leaves when it is
// all zero, or all at YMAX before layers that were proved to keep it so.
//
// It runs twice: for the first few of the layers, and for the others. In between, the images that are
// left go to a second pool, so that groups of four are full again.
//
// Layout. A slot of shared memory holds one value of four images, 16 bytes. Two rows of SLOTS + 2
// slots: values, and sums. Slot SLOTS is zero: padding reads it. Slot SLOTS + 1 is written and never
// read. A thread has ROWS sums and ROWS values; value j is that of thread j % THREADS.
//
// Why it is fast.
// - The state never leaves the chip, and a slot serves four images.
// - Layers of a block of the network gather alike, so a thread holds the places of its ROWS * TERMS
//   values in registers, and reads tables only when the gather changes. What a layer reads besides
//   is asked for before it is needed: slots and biases of the rows at its start, its constants a
//   layer ahead.
// - Eight threads share an access of 128 bytes. The host gave rows to threads, and ordered their
//   terms, so that the eight read different banks nearly always. The sums of neighbouring threads
//   lie side by side too, in the order in which the next loop wants them.
// What bounds it is shared memory: TERMS + 4 accesses of 16 bytes a row and layer, 128 bytes a cycle.
// (The general kernel, folded_steps.cu, took 2 to 5 times as long on the same layers.)
#include "folded.cuh"

#ifndef TERMS
#define TERMS 16
#endif
#ifndef ROWS
#define ROWS 4
#endif
#ifndef THREADS
#define THREADS 256
#endif

static_assert(TERMS % 8 == 0, "a thread loads the places of eight terms at a time");
static_assert(THREADS % WARP == 0 && THREADS <= 1024, "a block is whole warps, 1024 threads at most");
static_assert(ROWS * THREADS + 2 <= 65536, "a slot's number has 16 bits");

constexpr int IMAGES = 4;
constexpr int SLOTS = ROWS * THREADS;
// Blocks that a multiprocessor (65536 registers) should hold: 64 registers a thread; with one row in
// many threads 40 do, and more blocks hide more latency.
constexpr int BLOCKS_WANTED = (ROWS == 1 && THREADS > 128 ? 1536 : 1024) / THREADS;

// A layer. outputs_start: of its rows in `outputs`. gather: number of its gather.
// final: saturated images may leave after it.
struct alignas(16) Layer {
  long long outputs_start;
  int gather, outputs;
  float weight;
  int final;
  long long unused;
};

struct Tables {
  const Layer* layers;
  const uint4* indices;    // [gather][ROWS][TERMS / 8][THREADS], eight 16-bit slots each
  const unsigned* places;  // [gather][ROWS][THREADS]
  const uint2* outputs;    // two 16-bit slots; the bias
};

// The places of a thread's values and sums.
struct Gather {
  uint4 index[ROWS][TERMS / 8];
  unsigned place[ROWS];
};

__device__ inline void load_gather(const Tables& tables, int number, Gather& gather) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    const size_t row = ((size_t)number * ROWS + r) * THREADS;
    gather.place[r] = __ldg(tables.places + row + threadIdx.x);
#pragma unroll
    for (int e = 0; e < TERMS / 8; ++e)
      gather.index[r][e] = __ldg(tables.indices + row * (TERMS / 8) + e * THREADS + threadIdx.x);
  }
}

__device__ inline float4 add(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// The sum of two values whose slots are the halves of `slots`.
__device__ inline float4 sum_of_pair(const float4* from, unsigned slots) {
  return add(from[slots & 0xffffu], from[slots >> 16]);
}

__device__ inline void add_up(const Gather& gather, const float4* values, float4* sums) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int e = 0; e < TERMS / 8; ++e) {
      const uint4& eight = gather.index[r][e];
      sum = add(sum, add(add(sum_of_pair(values, eight.x), sum_of_pair(values, eight.y)),
                         add(sum_of_pair(values, eight.z), sum_of_pair(values, eight.w))));
    }
    sums[gather.place[r]] = sum;
  }
}

// Compute the outputs; returns of this thread's: bit i: image i has a value that is not zero, bit
// i + 16: image i has a value below YMAX.
__device__ inline unsigned apply(const Layer& layer, const uint2 (&rows)[ROWS], float ymax,
                                 const float4* sums, float4* values) {
  unsigned flags = 0;
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    const int output = r * THREADS + threadIdx.x;
    if (output >= layer.outputs) break;
    const float4 sum = sum_of_pair(sums, rows[r].x);
    const float bias = __uint_as_float(rows[r].y);
    float4 value;
    value.x = activate(sum.x * layer.weight, bias, ymax);
    value.y = activate(sum.y * layer.weight, bias, ymax);
    value.z = activate(sum.z * layer.weight, bias, ymax);
    value.w = activate(sum.w * layer.weight, bias, ymax);
    values[output] = value;
    flags |= (value.x != 0.0f ? 1u : 0u) | (value.y != 0.0f ? 2u : 0u) |
             (value.z != 0.0f ? 4u : 0u) | (value.w != 0.0f ? 8u : 0u) |
             (value.x < ymax ? 1u << 16 : 0u) | (value.y < ymax ? 2u << 16 : 0u) |
             (value.z < ymax ? 4u << 16 : 0u) | (value.w < ymax ? 8u << 16 : 0u);
  }
  return flags;
}

// Take four images through the layers first .. end - 1; returns those that still run. running: bit i:
// image i. seen: three words of flags, used in turn: while some threads still read one, and others
// set the next, the third is cleared.
__device__ inline unsigned run_images(const Tables& tables, const Outcome& outcome, int first,
                                      int end, float ymax, const int* image, unsigned running,
                                      float4* values, float4* sums, unsigned* seen, int& held,
                                      Gather& gather) {
  Layer layer = tables.layers[first];
  for (int k = first; k < end && running; ++k) {
    const Layer next = tables.layers[min(k + 1, end - 1)];
    if (threadIdx.x == 0) {
      seen[(k + 1) % 3] = 0;
      atomicAdd(&outcome.entered()[k], __popc(running));
    }
    if (layer.gather != held) load_gather(tables, held = layer.gather, gather);
    add_up(gather, values, sums);
    uint2 rows[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const int output = r * THREADS + threadIdx.x;
      rows[r] = output < layer.outputs ? __ldg(tables.outputs + layer.outputs_start + output)
                                       : make_uint2(0, 0);
    }
    __syncthreads();
    const unsigned flags = or_of_warp(apply(layer, rows, ymax, sums, values));
    if (threadIdx.x % WARP == 0 && flags) atomicOr(&seen[k % 3], flags);
    __syncthreads();
    const unsigned of_block = seen[k % 3];
    running &= of_block;
    const unsigned finished = layer.final ? running & ~(of_block >> 16) : 0;
    running &= ~finished;
    add_survivors(outcome, image, finished);
    if (finished && threadIdx.x == 0) atomicAdd(&outcome.retired()[k], __popc(finished));
    layer = next;
  }
  return running;
}

// Put the four images of a group into `values`, zero where there are fewer.
__device__ inline void take_from_pool(const Pool& pool, int begin, int images, int* image,
                                      float4* values) {
  if (threadIdx.x < images) image[threadIdx.x] = pool.image[begin + threadIdx.x];
  for (int c = threadIdx.x; c < pool.width; c += THREADS)
    values[c] = make_float4(pooled_value(pool, begin, c),
                            images > 1 ? pooled_value(pool, begin + 1, c) : 0.0f,
                            images > 2 ? pooled_value(pool, begin + 2, c) : 0.0f,
                            images > 3 ? pooled_value(pool, begin + 3, c) : 0.0f);
}

// Append the running ones of four images to a pool that has `*pooled`.
__device__ inline void add_to_pool(const Pool& pool, int* pooled, const int* image, unsigned running,
                                   const float4* values) {
  __shared__ int begin;
  if (threadIdx.x == 0) begin = atomicAdd(pooled, __popc(running));
  __syncthreads();
  int row = begin;
#pragma unroll
  for (int i = 0; i < IMAGES; ++i) {
    if (!(running >> i & 1)) continue;
    if (threadIdx.x == 0) pool.image[row] = image[i];
    float* to = static_cast<float*>(pool.values) + (size_t)row * pool.width;
    for (int c = threadIdx.x; c < pool.width; c += THREADS)
      to[c] = reinterpret_cast<const float*>(values + c)[i];
    ++row;
  }
}

// Take the images of `pool`, which layers up to `first` have made, on to layer `end`. pooled: which
// counter has their number; the next one counts groups. `prepared` layers are in the tables. What
// still runs at the end goes to the pool `next`, if that is not the end of the prepared layers;
// otherwise the images have survived, if the network has no more (is_whole), or the host has to
// prepare more. The grid is as many blocks as run at once; a block takes the group of its own number,
// then the next one of the queue.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_WANTED)
    run_gathers(const Layer* layers, const uint4* indices, const unsigned* places,
                const uint2* outputs, int first, int end, int prepared, int is_whole, float ymax,
                int pooled, int* counters, int* on_host, void* values_in, int* image_in,
                int width_in, float unit_in, void* values_out, int* image_out, int width_out,
                float unit_out) {
  const Pool pool = {values_in, image_in, width_in, unit_in};
  const Pool next = {values_out, image_out, width_out, unit_out};
  extern __shared__ float4 shared[];
  float4 *values = shared, *sums = shared + SLOTS + 2;
  __shared__ int taken, image[IMAGES];
  __shared__ unsigned seen[3];
  const Outcome outcome = {counters, prepared};
  const Tables tables = {layers, indices, places, outputs};
  const int count = __ldcg(counters + pooled);
  if (threadIdx.x == 0) values[SLOTS] = sums[SLOTS] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  Gather gather;
  int held = -1;
  for (int group = blockIdx.x; group * IMAGES < count; group = taken) {
    const int begin = group * IMAGES, images = min(IMAGES, count - begin);
    __syncthreads();  // nobody reads the last group's values, flags or ticket any more
    if (threadIdx.x == 0) {
      taken = gridDim.x + atomicAdd(&counters[pooled + 1], 1);
      seen[0] = seen[1] = seen[2] = 0;
    }
    take_from_pool(pool, begin, images, image, values);
    __syncthreads();
    const unsigned running = run_images(tables, outcome, first, end, ymax, image,
                                        (1u << images) - 1, values, sums, seen, held, gather);
    if (!running) continue;
    if (end < prepared)
      add_to_pool(next, &counters[POOLED_LATE], image, running, values);
    else if (is_whole)
      add_survivors(outcome, image, running);
    else if (threadIdx.x == 0)
      atomicAdd(&outcome.counters[UNFINISHED], __popc(running));
  }
  if (end == prepared) publish(outcome, on_host);
}
