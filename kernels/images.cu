// The images of a run, kept on the device: packing the inputs, listing who lives, the outcome.
//
// A layer's kernel sets bit m of alive[layer][group] when image m of the group has a non-zero output.
// After a layer, `list_live` counts the live images, and if few are left, lists them; the next layer's
// kernel reads its inputs through that list, so the live images are compacted without another pass.
// Until then dead images run along: all zero, they change no result, and no count of executed edges.
// The host never waits for a count: kernels read `Control`, and blocks without work return.
#include "common.cuh"

constexpr int LIST_THREADS = 1024;
constexpr int MOVES = 8;  // slots that a thread of `list_live` moves at a time

// Begin a run: images first, first + 1, ... lie in slots 0, 1, ...
extern "C" __global__ void start_run(int first, int images, int slots, Control* control,
                                     int* image_of_slot) {
  const int slot = blockIdx.x * blockDim.x + threadIdx.x;
  if (slot == 0) *control = {(images + MINIBATCH - 1) / MINIBATCH, 0};
  if (slot < slots) image_of_slot[slot] = first + slot;
}

// Inputs of 0 and 1, one bit a feature: bytes[image][row_bytes] -> words[group][neuron], where bit m
// is image m of the group. A thread turns one byte of MINIBATCH images into eight words.
extern "C" __global__ void pack_bits(const unsigned char* bytes, int images, int neurons,
                                     int row_bytes, unsigned* words) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  const int group = blockIdx.y;
  if (column >= row_bytes) return;
  unsigned word[8] = {};
#pragma unroll
  for (int m = 0; m < MINIBATCH; ++m) {
    const int image = group * MINIBATCH + m;
    const unsigned byte = image < images ? bytes[(size_t)image * row_bytes + column] : 0;
#pragma unroll
    for (int bit = 0; bit < 8; ++bit) word[bit] |= (byte >> bit & 1u) << m;
  }
  unsigned* to = words + (size_t)group * neurons + column * 8;
  for (int bit = 0; bit < 8; ++bit)
    if (column * 8 + bit < neurons) to[bit] = word[bit];
}

// Inputs of any values: values[image][neuron] -> the layout of common.cuh.
extern "C" __global__ void pack_values(const float* values, int images, int neurons,
                                       float* packed) {
  const int neuron = blockIdx.x * blockDim.x + threadIdx.x;
  const int group = blockIdx.y;
  if (neuron >= neurons) return;
  for (int v = 0; v < VECTORS; ++v) {
    Vector vector;
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) {
      const int image = group * MINIBATCH + v * VECTOR + i;
      vector.of[i] = image < images ? values[(size_t)image * neurons + neuron] : 0.0f;
    }
    *(Vector*)(packed + offset_of(group, v, neuron, neurons)) = vector;
  }
}

// The sum of `count` over the threads before this one; *total: over all. For one block of
// LIST_THREADS.
__device__ int scan(int count, int* total) {
  __shared__ int of_warp[WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int sum = count;
  for (int distance = 1; distance < WARP; distance *= 2) {
    const int below = __shfl_up_sync(ALL_LANES, sum, distance);
    if (lane >= distance) sum += below;
  }
  if (lane == WARP - 1) of_warp[warp] = sum;
  __syncthreads();
  int before = 0, all = 0;
  for (int w = 0; w < LIST_THREADS / WARP; ++w) {
    if (w < warp) before += of_warp[w];
    all += of_warp[w];
  }
  __syncthreads();
  *total = all;
  return before + sum - count;
}

// After a layer: if no more than `share` of the slots in use are alive, list the live images, so that
// the next layer compacts them (Control.moved): source[new slot] = old slot, in order; -1 in the
// slots of the last group that stay empty. Reading through the list costs time, hence `share`. One
// block.
extern "C" __global__ void __launch_bounds__(LIST_THREADS)
    list_live(const unsigned* alive, float share, Control* control, int* source, int* image_of_slot) {
  const int groups = control->groups;
  int count = 0, live;
  for (int group = threadIdx.x; group < groups; group += LIST_THREADS) count += __popc(alive[group]);
  scan(count, &live);
  const int needed = (live + MINIBATCH - 1) / MINIBATCH;
  const bool moved = needed < groups && live <= share * groups * MINIBATCH;
  if (threadIdx.x == 0) *control = {moved ? needed : groups, moved};
  if (!moved) return;

  int listed = 0;
  for (int first = 0; first < groups; first += LIST_THREADS) {
    const int group = first + threadIdx.x;
    unsigned word = group < groups ? alive[group] : 0;
    int total;
    int slot = listed + scan(__popc(word), &total);
    for (; word != 0; word &= word - 1) source[slot++] = group * MINIBATCH + __ffs(word) - 1;
    listed += total;
  }
  for (int slot = live + threadIdx.x; slot < needed * MINIBATCH; slot += LIST_THREADS)
    source[slot] = -1;
  // A slot's image moves down or stays, so rounds in ascending order overwrite nothing unread.
  for (int round = 0; round < live; round += MOVES * LIST_THREADS) {
    const int first = round + threadIdx.x;
    int image[MOVES];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < MOVES; ++i) {
      const int slot = first + i * LIST_THREADS;
      image[i] = slot < live ? image_of_slot[source[slot]] : 0;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < MOVES; ++i) {
      const int slot = first + i * LIST_THREADS;
      if (slot < live) image_of_slot[slot] = image[i];
    }
  }
}

// counts[layer] += images alive after the layer. Block k takes layer k.
extern "C" __global__ void count_alive(const unsigned* alive, int groups, int* counts) {
  int count = 0;
  for (int group = threadIdx.x; group < groups; group += blockDim.x)
    count += __popc(alive[(size_t)blockIdx.x * groups + group]);
  for (int distance = WARP / 2; distance > 0; distance /= 2)
    count += __shfl_down_sync(ALL_LANES, count, distance);
  if (threadIdx.x % WARP == 0 && count != 0) atomicAdd(&counts[blockIdx.x], count);
}

// survives[image] = 1 for every image alive after the last layer.
extern "C" __global__ void mark_survivors(const unsigned* alive, const Control* control,
                                          const int* image_of_slot, unsigned char* survives) {
  const int slot = blockIdx.x * blockDim.x + threadIdx.x;
  if (slot / MINIBATCH < control->groups && (alive[slot / MINIBATCH] >> slot % MINIBATCH & 1u))
    survives[image_of_slot[slot]] = 1;
}
