// Folded layers that add up few values a class and then two sums a row: a team of threads takes one
// image, or a few, through all of them.
//
// What it computes. For each layer, on class values (spdnn_cli/engines/cuda/gather_tables.py):
//
//     sums[c]   = values[i] + values[i'] + ...                    at most TERMS values of class c
//     values[j] = clip((sums[a] + sums[b]) * weight + bias[j])    where the sum is not zero, else 0
//
// That is every layer of the challenge's networks behind the first block. An image leaves when it is
// all zero, or all at YMAX before layers that were proved to keep it so.
//
// Where images may finish early, a team has one: nothing is read for images that have left. Where all
// stay to the end, it has several, which share what is read of tables. The kernel runs twice then: for
// the first few of the layers, and for the others. In between, the images that are left go to a second
// pool, so that teams are full again.
//
// Layout. A slot of shared memory holds one value of IMAGES images. A team has two rows of SLOTS + 2
// slots: values, and sums. Slot SLOTS is zero: padding reads it. Slot SLOTS + 1 is written and never
// read. A thread has ROWS sums and ROWS values; value j is that of thread j % TEAM.
//
// Why it is fast.
// - The state never leaves the chip.
// - Layers of a block of the network gather alike, so a thread holds the places of its ROWS * TERMS
//   values in registers, and reads tables only when the gather changes. What a layer reads besides
//   is asked for before it is needed: its constants a layer ahead, and its rows too where registers
//   are left for them.
// - The host gave rows to threads, and ordered their terms, so that threads whose accesses are one
//   pass over the banks of shared memory read different banks nearly always. The sums of neighbouring
//   threads lie side by side too, in the order in which the next loop wants them.
// - The narrowest networks have a warp to a team: no barrier, and no flags in shared memory. A layer
//   is then as short as its chain of reads. The widest have a block, whose places fill half of the
//   multiprocessor's registers.
// - Nothing in a layer waits for a counter: what became of an image is noted when it leaves.
// What bounds it is shared memory (TERMS + 4 accesses of 4 * IMAGES bytes a row and layer, 128 bytes a
// cycle) and the issue of instructions; on the narrowest networks the chain itself. docs/benchmarks.md
// has the counters. (The general kernel, folded_steps.cu, took 2 to 5 times as long.)
#include "folded.cuh"

#ifndef TERMS
#define TERMS 16
#endif
#ifndef ROWS
#define ROWS 4
#endif
#ifndef TEAM
#define TEAM 256
#endif
#ifndef IMAGES
#define IMAGES 4
#endif

static_assert(TERMS % 8 == 0, "a thread loads the places of eight terms at a time");
static_assert(TEAM % WARP == 0 && TEAM <= 1024, "a team is whole warps of one block");
static_assert(IMAGES == 1 || IMAGES == 2 || IMAGES == 4, "a slot is moved by one access");
static_assert(ROWS * TEAM + 2 <= 65536, "a slot's number has 16 bits");

constexpr int SLOTS = ROWS * TEAM;
constexpr int TEAMS = TEAM == WARP ? 4 : 1;  // of a block; a warp needs no block for itself
constexpr int THREADS = TEAM * TEAMS;
// Registers that a thread should do with: of its places, 9 a row and 16 terms, and some 28 more. The
// more threads a multiprocessor (65536 registers) holds, the more latency they hide.
constexpr int REGISTERS = ROWS <= 4 || THREADS > 512 ? 64 : 128;
constexpr int BLOCKS_WANTED = 65536 / REGISTERS / THREADS;
// Whether the rows of a layer are asked for a layer ahead: where registers are left for it.
constexpr bool ROWS_AHEAD = ROWS <= 2 || REGISTERS == 128;

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
  const uint4* indices;    // [gather][ROWS][TERMS / 8][TEAM], eight 16-bit slots each
  const unsigned* places;  // [gather][ROWS][TEAM]
  const uint2* outputs;    // two 16-bit slots; the bias
};

// A slot.
struct alignas(4 * IMAGES) Values {
  float of[IMAGES];
};

// The places of a thread's values and sums.
struct Gather {
  uint4 index[ROWS][TERMS / 8];
  unsigned place[ROWS];
};

// The rows of a layer that a thread computes: two slots, and the bias.
struct Rows {
  uint2 of[ROWS];
};

// What a team knows of its images. Bit i of the words: image i; they are the same in all threads.
struct Images {
  int number;        // of image i, in thread i
  unsigned running;  // not finished yet
  unsigned survive;  // finished, and not dead
};

// The number of a thread in its team, and of its team in the block; the compiler cannot know that the
// latter is 0 where a block is a team.
__device__ inline int thread_of_team() { return TEAMS == 1 ? threadIdx.x : threadIdx.x % TEAM; }
__device__ inline int team_of_block() { return TEAMS == 1 ? 0 : threadIdx.x / TEAM; }

__device__ inline void sync_team() {
  if constexpr (TEAM == WARP)
    __syncwarp();
  else
    __syncthreads();
}

// The value of the team's first thread, in all of its threads.
__device__ inline int from_first_thread(int value) {
  if constexpr (TEAM == WARP) return __shfl_sync(ALL_LANES, value, 0);
  __shared__ int word;
  __syncthreads();  // nobody reads the last word any more
  if (threadIdx.x == 0) word = value;
  __syncthreads();
  return word;
}

// The bitwise or of every thread's word, in every thread. A barrier of the team. seen: three words,
// used in turn by the layers k: while some threads still read one, and others set the next, the third
// is cleared.
__device__ inline unsigned or_of_team(unsigned word, int k, unsigned* seen) {
  word = or_of_warp(word);
  if constexpr (TEAM == WARP) {
    __syncwarp();
    return word;
  }
  if (threadIdx.x == 0) seen[(k + 1) % 3] = 0;
  if (threadIdx.x % WARP == 0 && word) atomicOr(&seen[k % 3], word);
  __syncthreads();
  return seen[k % 3];
}

__device__ inline void load_gather(const Tables& tables, int number, Gather& gather) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    const size_t row = ((size_t)number * ROWS + r) * TEAM;
    gather.place[r] = __ldg(tables.places + row + thread_of_team());
#pragma unroll
    for (int e = 0; e < TERMS / 8; ++e)
      gather.index[r][e] = __ldg(tables.indices + row * (TERMS / 8) + e * TEAM + thread_of_team());
  }
}

__device__ inline Rows load_rows(const Tables& tables, const Layer& layer) {
  Rows rows;
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    const int output = r * TEAM + thread_of_team();
    rows.of[r] = output < layer.outputs ? __ldg(tables.outputs + layer.outputs_start + output)
                                        : make_uint2(0, 0);
  }
  return rows;
}

__device__ inline Values add(Values a, const Values& b) {
#pragma unroll
  for (int i = 0; i < IMAGES; ++i) a.of[i] += b.of[i];
  return a;
}

// The sum of two values whose slots are the halves of `slots`.
__device__ inline Values sum_of_pair(const Values* from, unsigned slots) {
  return add(from[slots & 0xffffu], from[slots >> 16]);
}

__device__ inline void add_up(const Gather& gather, const Values* values, Values* sums) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    Values sum = {};
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
__device__ inline unsigned apply(const Layer& layer, const Rows& rows, float ymax,
                                 const Values* sums, Values* values) {
  unsigned flags = 0;
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    const int output = r * TEAM + thread_of_team();
    if (output >= layer.outputs) break;
    Values value = sum_of_pair(sums, rows.of[r].x);
    const float bias = __uint_as_float(rows.of[r].y);
#pragma unroll
    for (int i = 0; i < IMAGES; ++i) {
      value.of[i] = activate(value.of[i] * layer.weight, bias, ymax);
      flags |= (value.of[i] != 0.0f ? 1u << i : 0u) | (value.of[i] < ymax ? 1u << (i + 16) : 0u);
    }
    values[output] = value;
  }
  return flags;
}

// Take the images of a team through the layers first .. end - 1, as far as one of them runs.
__device__ inline void run_images(const Tables& tables, const Outcome& outcome, int first, int end,
                                  float ymax, Images& images, Values* values, Values* sums,
                                  unsigned* seen, int& held, Gather& gather) {
  Layer layer = tables.layers[first];
  Rows rows;
  if (ROWS_AHEAD) rows = load_rows(tables, layer);
  for (int k = first; k < end && images.running; ++k) {
    const Layer next = tables.layers[min(k + 1, end - 1)];
    if (layer.gather != held) load_gather(tables, held = layer.gather, gather);
    add_up(gather, values, sums);
    if (!ROWS_AHEAD) rows = load_rows(tables, layer);
    sync_team();
    const unsigned flags = apply(layer, rows, ymax, sums, values);
    if (ROWS_AHEAD) rows = load_rows(tables, next);
    const unsigned of_team = or_of_team(flags, k, seen);
    const unsigned died = images.running & ~of_team;
    const unsigned saturated = layer.final ? images.running & of_team & ~(of_team >> 16) : 0;
    images.survive |= saturated;
    images.running &= ~(died | saturated);
    if (thread_of_team() == 0) {
      if (died) atomicAdd(&outcome.died()[k], __popc(died));
      if (saturated) atomicAdd(&outcome.retired()[k], __popc(saturated));
    }
    layer = next;
  }
}

// Put `count` images of a pool, from row `begin` on, into `values`; zero where there are fewer than
// IMAGES.
__device__ inline void take_from_pool(const Pool& pool, int begin, int count, Values* values) {
  size_t start[IMAGES];  // of rows that exist: loads need no condition then
#pragma unroll
  for (int i = 0; i < IMAGES; ++i) start[i] = (size_t)(begin + min(i, count - 1)) * pool.width;
  if (pool.unit == 0.0f) {
    const float* from = static_cast<const float*>(pool.values);
    for (int c = thread_of_team(); c < pool.width; c += TEAM) {
      Values value;
#pragma unroll
      for (int i = 0; i < IMAGES; ++i) value.of[i] = __ldcg(from + start[i] + c);
#pragma unroll
      for (int i = 0; i < IMAGES; ++i) value.of[i] = i < count ? value.of[i] : 0.0f;
      values[c] = value;
    }
    return;
  }
  const unsigned* from = static_cast<const unsigned*>(pool.values);
  const float reciprocal = __fdiv_rn(1.0f, pool.unit);
  for (int w = thread_of_team(); w < pool.width / 2; w += TEAM) {
    unsigned word[IMAGES];
    Values low, high;
#pragma unroll
    for (int i = 0; i < IMAGES; ++i) word[i] = __ldcg(from + start[i] / 2 + w);
#pragma unroll
    for (int i = 0; i < IMAGES; ++i) {
      if (i >= count) word[i] = 0;
      low.of[i] = from_units(word[i] & 0xffffu, pool.unit, reciprocal);
      high.of[i] = from_units(word[i] >> 16, pool.unit, reciprocal);
    }
    const int c = w / 16 * 32 + w % 16;
    values[c] = low;
    values[c + 16] = high;
  }
}

// Append the running images to a pool that has `*pooled`.
__device__ inline void add_to_pool(const Pool& pool, int* pooled, const Images& images,
                                   const Values* values) {
  const int thread = thread_of_team();
  int begin = 0;
  if (thread == 0) begin = atomicAdd(pooled, __popc(images.running));
  begin = from_first_thread(begin);
  if (thread < IMAGES && images.running >> thread & 1)
    pool.image[begin + __popc(images.running & ((1u << thread) - 1))] = images.number;
  for (int c = thread; c < pool.width; c += TEAM) {
    const Values value = values[c];
    float* to = static_cast<float*>(pool.values) + (size_t)begin * pool.width + c;
#pragma unroll
    for (int i = 0; i < IMAGES; ++i) {
      if (!(images.running >> i & 1)) continue;
      *to = value.of[i];
      to += pool.width;
    }
  }
}

// Take the images of `pool`, which layers up to `first` have made, on to layer `end`. pooled: which
// counter has their number; the next one counts groups. `prepared` layers are in the tables. What
// still runs at the end goes to the pool `next`, if that is not the end of the prepared layers;
// otherwise the images have survived, if the network has no more (is_whole), or the host has to
// prepare more. The grid is as many blocks as run at once; a team takes the group of its own number,
// then the next one of the queue.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_WANTED)
    run_gathers(const Layer* layers, const uint4* indices, const unsigned* places,
                const uint2* outputs, int first, int end, int prepared, int is_whole, float ymax,
                int pooled, int* counters, int* on_host, void* values_in, int* image_in,
                int width_in, float unit_in, void* values_out, int* image_out, int width_out,
                float unit_out) {
  const int count = __ldcg(counters + pooled), groups = (count + IMAGES - 1) / IMAGES;
  // Blocks that find no image are not waited for; the first one publishes, if all are such.
  const int blocks = min((int)gridDim.x, max(1, (groups + TEAMS - 1) / TEAMS));
  if ((int)blockIdx.x >= blocks) return;
  const Pool pool = {values_in, image_in, width_in, unit_in};
  const Pool next = {values_out, image_out, width_out, unit_out};
  const Outcome outcome = {counters, prepared};
  const Tables tables = {layers, indices, places, outputs};
  extern __shared__ float4 shared[];
  __shared__ unsigned seen[3];
  const int thread = thread_of_team(), team = blockIdx.x * TEAMS + team_of_block();
  const int teams = gridDim.x * TEAMS;
  Values* values = reinterpret_cast<Values*>(shared) + team_of_block() * 2 * (SLOTS + 2);
  Values* sums = values + SLOTS + 2;
  if (thread == 0) values[SLOTS] = sums[SLOTS] = Values{};
  Gather gather;
  int held = -1;
  for (int group = team; group < groups;) {
    int ticket = 0;  // asked for now, needed when this group is done
    if (thread == 0 && groups > teams) ticket = atomicAdd(&counters[pooled + 1], 1);
    const int begin = group * IMAGES, taken = min(IMAGES, count - begin);
    Images images = {0, (1u << taken) - 1, 0};
    if (thread < taken) images.number = pool.image[begin + thread];
    take_from_pool(pool, begin, taken, values);
    if (TEAM != WARP && threadIdx.x < 3) seen[threadIdx.x] = 0;
    sync_team();
    run_images(tables, outcome, first, end, ymax, images, values, sums, seen, held, gather);
    if (images.running && end < prepared) {
      add_to_pool(next, &counters[POOLED_LATE], images, values);
    } else if (is_whole) {
      images.survive |= images.running;
    } else if (images.running && thread == 0) {
      atomicAdd(&counters[UNFINISHED], __popc(images.running));
    }
    add_survivors(outcome, thread, images.number, images.survive);
    group = groups > teams ? teams + from_first_thread(ticket) : groups;
    sync_team();  // nobody reads the group's values or flags any more
  }
  if (end == prepared) publish(outcome, on_host, blocks);
}
