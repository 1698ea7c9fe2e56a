// The paper's kernel: one fused launch a layer, for any sparse network (Hidayetoglu et al., "At-Scale
// Sparse Deep Neural Network Inference With Efficient GPU Implementation", arXiv 2007.14152).
//
//   value'[j][m] = activate(sum over the in-edges (i, w) of j of w * value[i][m], bias[j])
//
// A block takes BLOCKSIZE * OUTPUTS output neurons and MINIBATCH images. The input neurons that these
// outputs need, their footprint, are listed once, when the layer is tiled. The block copies them to
// shared memory, one buffer after the other, and multiplies from there:
//   - feature reuse: an input is read from device memory once for all outputs of the block;
//   - weight reuse: an index and a weight are read once for MINIBATCH images, held in registers;
//   - input reuse: a thread computes OUTPUTS neighbouring outputs, so an input read from shared
//     memory serves OUTPUTS * VECTOR multiply-adds. Its edges are the union of its outputs' edges.
//     Outputs with alike inputs are neighbours (tile.order_outputs), so the union is hardly longer.
// What is read from device memory is asked for long before it is needed: the map some entries ahead
// of the copies, weights a batch ahead of the multiply-adds, the next layer's tables a layer ahead.
//
// Tables of a layer (tile.py makes them; names as in the paper; offsets are int32):
//   buffdispl[blocks + 1]         block b stages the buffers buffdispl[b] .. buffdispl[b + 1] - 1
//   mapdispl[buffers + 1]         buffer f holds the inputs map[mapdispl[f]] .. : slot 0, 1, ...
//   map[]                         where an input neuron lies in the stored values
//   warpdispl[buffers * WARPS + 1]  warp w multiplies in buffer f the batches warpdispl[f * WARPS + w] ..
//   warpindex[batches][WARP][STEPS]  uint16: slots that a lane reads, one a step
//   warpvalue[batches][OUTPUTS][WARP][STEPS]  float32: a lane's STEPS * OUTPUTS weights of a batch,
//                                 step after step, STEPS of them in each row; 0 where there is no edge
//   bias[stored outputs]          float32
// A warp's steps are as many as its longest lane needs in that buffer (sliced ELLPACK), in whole
// batches; the rest is filled with weight 0. Lane l of warp w stores its output r at place
// (w * OUTPUTS + r) * WARP + l of the block, so that the lanes of a store are neighbours in memory.
#include "common.cuh"

#ifndef BLOCKSIZE
#define BLOCKSIZE 128
#endif
#ifndef OUTPUTS
#define OUTPUTS 4
#endif

static_assert(BLOCKSIZE % WARP == 0 && BLOCKSIZE <= 1024, "a block is whole warps, 1024 threads at most");
static_assert(OUTPUTS == 1 || OUTPUTS == 2 || OUTPUTS == 4, "tile.py lays weights out for 1, 2 or 4");
static_assert(MINIBATCH <= BLOCKSIZE, "a thread copies the values of one image");
static_assert(OUTPUTS * MINIBATCH <= 128, "the sums of a thread must fit in its 255 registers");

constexpr int WARPS = BLOCKSIZE / WARP;
constexpr int BLOCK_OUTPUTS = BLOCKSIZE * OUTPUTS;
constexpr int STEPS = 4;  // steps of a batch: so many weights are one 16-byte load
constexpr int AHEAD = 8;  // entries of the map that a thread reads before it copies
constexpr int CACHE_LINE = 128;
// Blocks that a multiprocessor (65536 registers) should hold: a thread needs 64 besides its sums.
constexpr int BLOCKS_WANTED = 65536 / (OUTPUTS * MINIBATCH + 64) / BLOCKSIZE;
// Vectors from one slot of a buffer to the next: odd, so that neighbouring slots lie in other banks.
constexpr int SLOT_VECTORS = VECTORS | 1;

// Where a layer finds its inputs.
enum Source {
  BITS,    // inputs of the network, 0 or 1: words[group][neuron]
  VALUES,  // value[panel][neuron][PANEL]
  MOVED    // the same, but after `list_live`: slot s of the group may come from slot source[s]
};

// copy(slot, part, map[slot]) for all slots, PARTS threads side by side to a slot.
template <int PARTS, typename Copy>
__device__ inline void for_slots(const int* map, int slots, Copy copy) {
  constexpr int ROWS = BLOCKSIZE / PARTS;  // slots that the block takes at a time
  const int part = threadIdx.x % PARTS, row = threadIdx.x / PARTS;
  if (row >= ROWS) return;
  for (int first = row; first < slots; first += AHEAD * ROWS) {
    int neuron[AHEAD];
#pragma unroll
    for (int a = 0; a < AHEAD; ++a)
      neuron[a] = first + a * ROWS < slots ? __ldg(map + first + a * ROWS) : -1;
#pragma unroll
    for (int a = 0; a < AHEAD; ++a)
      if (neuron[a] >= 0) copy(first + a * ROWS, part, neuron[a]);
  }
}

__device__ inline void stage_bits(Vector* buffer, const unsigned* words, const int* map, int slots) {
  for_slots<1>(map, slots, [=](int slot, int, int neuron) {
    const unsigned word = __ldg(words + neuron);
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
      Vector vector;
      for (int i = 0; i < VECTOR; ++i)
        vector.of[i] = word >> (v * VECTOR + i) & 1u ? 1.0f : 0.0f;
      buffer[slot * SLOT_VECTORS + v] = vector;
    }
  });
}

__device__ inline void stage_values(Vector* buffer, const float* values, int group, int neurons,
                                    const int* map, int slots) {
  constexpr int PARTS = PANEL / VECTOR;  // vectors of one neuron of a panel
  const float* first = values + offset_of(group, 0, 0, neurons);
  const size_t panel_size = (size_t)neurons * PANEL;
  for_slots<PARTS>(map, slots, [=](int slot, int part, int neuron) {
    const float* from = first + (neuron * PANEL + part * VECTOR);
#pragma unroll
    for (int panel = 0; panel < PANELS; ++panel)
      copy_async(buffer + slot * SLOT_VECTORS + panel * PARTS + part,
                 (const Vector*)(from + panel * panel_size));
  });
  wait_for_copies();
}

// `source` are the slots where the images of the group lie; -1: there is none.
__device__ inline void stage_moved(Vector* buffer, const float* values, const int* source,
                                   int neurons, const int* map, int slots) {
  const int old_slot = source[threadIdx.x % MINIBATCH];
  const size_t panel = old_slot / PANEL;
  const float* image = values + panel * neurons * PANEL + old_slot % PANEL;
  for_slots<MINIBATCH>(map, slots, [=](int slot, int m, int neuron) {
    float* to = (float*)(buffer + slot * SLOT_VECTORS) + m;
    if (old_slot >= 0)
      copy_async(to, image + neuron * PANEL);
    else
      *to = 0.0f;
  });
  wait_for_copies();
}

// What a lane reads for a batch of steps.
struct Batch {
  ushort4 slot;
  float4 weight[OUTPUTS];
};

__device__ inline Batch load_batch(const ushort4* warpindex, const float4* warpvalue, int batch,
                                   int lane) {
  Batch loaded;
  loaded.slot = __ldg(warpindex + (batch * WARP + lane));
#pragma unroll
  for (int row = 0; row < OUTPUTS; ++row)
    loaded.weight[row] = __ldg(warpvalue + ((batch * OUTPUTS + row) * WARP + lane));
  return loaded;
}

__device__ inline void multiply(float (&sums)[OUTPUTS][MINIBATCH], const Vector* buffer,
                                const Batch& batch) {
  const unsigned short slots[STEPS] = {batch.slot.x, batch.slot.y, batch.slot.z, batch.slot.w};
  const float* weights = (const float*)batch.weight;
#pragma unroll
  for (int step = 0; step < STEPS; ++step) {
    const Vector* input = buffer + slots[step] * SLOT_VECTORS;
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
      const Vector vector = input[v];
      float values[VECTOR];
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) values[i] = vector.of[i];
#pragma unroll
      for (int r = 0; r < OUTPUTS; ++r)
#pragma unroll
        for (int i = 0; i < VECTOR; ++i)
          sums[r][v * VECTOR + i] =
              fmaf(weights[step * OUTPUTS + r], values[i], sums[r][v * VECTOR + i]);
    }
  }
}

// Store the outputs of a thread and report the images that live.
__device__ inline void finish(float (&sums)[OUTPUTS][MINIBATCH], const float* bias, float ymax,
                              float* values, int group, int neurons, int neuron,
                              unsigned* alive) {
  const unsigned known = *(volatile unsigned*)(alive + group);
  unsigned live = 0;
#pragma unroll
  for (int r = 0; r < OUTPUTS; ++r) {
    const float bias_of = bias[neuron + r * WARP];
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
      Vector vector;
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) {
        vector.of[i] = activate(sums[r][v * VECTOR + i], bias_of, ymax);
        live |= (vector.of[i] > 0.0f ? 1u : 0u) << (v * VECTOR + i);
      }
      *(Vector*)(values + offset_of(group, v, neuron + r * WARP, neurons)) = vector;
    }
  }
  if (__all_sync(ALL_LANES, known == ALL_ALIVE)) return;
  live = or_of_warp(live);
  if (threadIdx.x % WARP == 0 && (live & ~known) != 0) atomicOr(alive + group, live);
}

// Bring the tables of the next layer into the L2 cache: no multiplication there waits for memory.
__device__ inline void prefetch(const char* tables, size_t bytes) {
  const size_t thread = blockIdx.x * BLOCKSIZE + threadIdx.x;
  const size_t threads = (size_t)gridDim.x * BLOCKSIZE;
  for (size_t at = thread * CACHE_LINE; at < bytes; at += threads * CACHE_LINE)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(tables + at));
}

// One layer. `inputs` and `outputs` count stored neurons. `alive` is the layer's row of words and
// `before` that of the layer before; null: there is none. `next` are the next layer's tables.
//
// The grid is as many blocks as run at once. They go through all pairs of groups and blocks of
// outputs; every other layer from the last group to the first, because the groups that were stored
// last may still be in the L2 cache.
template <int SOURCE>
__global__ void __launch_bounds__(BLOCKSIZE, BLOCKS_WANTED)
    layer(const void* from, float* to, int inputs, int outputs, float ymax, int backwards,
          const Control* control, const int* source, const unsigned* before, unsigned* alive,
          const char* next, size_t next_bytes, const int* buffdispl, const int* mapdispl,
          const int* map, const int* warpdispl, const ushort4* warpindex, const float4* warpvalue,
          const float* bias) {
  extern __shared__ float4 shared_memory[];
  Vector* buffer = (Vector*)shared_memory;
  prefetch(next, next_bytes);
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int blocks = outputs / BLOCK_OUTPUTS, groups = control->groups;
  const bool moved = SOURCE == MOVED && control->moved;
  for (int unit = blockIdx.x; unit < groups * blocks; unit += gridDim.x) {
    const int turn = unit / blocks, block = unit % blocks;
    const int group = backwards ? groups - 1 - turn : turn;
    // In a group of dead images alone all values are zero; nobody will read them.
    if (SOURCE != BITS && before != nullptr && !moved && before[group] == 0) continue;
    float sums[OUTPUTS][MINIBATCH] = {};
    for (int f = buffdispl[block]; f < buffdispl[block + 1]; ++f) {
      const int* inputs_of = map + mapdispl[f];
      const int slots = mapdispl[f + 1] - mapdispl[f];
      const int first = warpdispl[f * WARPS + warp], last = warpdispl[f * WARPS + warp + 1];
      Batch ahead;
      if (first < last) ahead = load_batch(warpindex, warpvalue, first, lane);
      __syncthreads();  // nobody reads the buffer's old content any more
      if (SOURCE == BITS)
        stage_bits(buffer, (const unsigned*)from + (size_t)group * inputs, inputs_of, slots);
      else if (moved)
        stage_moved(buffer, (const float*)from, source + group * MINIBATCH, inputs, inputs_of,
                    slots);
      else
        stage_values(buffer, (const float*)from, group, inputs, inputs_of, slots);
      __syncthreads();
#pragma unroll 2  // so that `now` and `ahead` change places without a copy
      for (int batch = first; batch < last; ++batch) {
        const Batch now = ahead;
        ahead = load_batch(warpindex, warpvalue, min(batch + 1, last - 1), lane);
        multiply(sums, buffer, now);
      }
    }
    finish(sums, bias, ymax, to, group, outputs,
           block * BLOCK_OUTPUTS + warp * OUTPUTS * WARP + lane, alive);
  }
}
