// The first layers of a folded network, an image in the registers of a few lanes.
//
// What it computes. 0/1 inputs in GROUPS groups of n, n = LANES * WORDS * 32: u[c] = number of set
// inputs c, c + n, c + 2 n, ... Then layer after layer, with shift t and bias b:
//
//     v[j] = clip((u[j] + u[(j + t) mod n]) * w + b)        the first layer
//     v[j] = clip(v[j] + v[(j + t) mod n] + b)              every further one
//
// An image that is all zero leaves. What is left after the last layer goes to `pool`, one row an
// image, with its number in `pool_image`: the registers as they are (`pooled_value` in folded.cuh).
//
// Numbers. w, b and YMAX are whole multiples of a unit (1/80 on the challenge's networks), so every
// value is one too, and 16-bit integers hold it exactly: WEIGHT is w in units. Two values share a
// register, and one instruction of Hopper adds the bias and clips both. The result is the exact one;
// float32 sums differ from it by rounding.
//
// Layout. LANES lanes of a warp hold an image, 32 / LANES images share a warp. Lane k owns the values
// k * WORDS * 32 ... of its image. Register q * 16 + r of a lane holds its values q * 32 + r (low
// half) and q * 32 + r + 16 (high half). So v[j + t] is mostly in the same lane, in a register whose
// number is known when the kernel is compiled; the rest comes by shuffles.
//
// Why it is fast.
// - Input bits are added up in bit planes: 32 counts an instruction, one three-input operation each
//   for the sum and the carry of a full adder. The first layer's addition is done on planes too.
// - Nothing goes to shared or global memory between the bits and the pool, and no warp waits at a
//   barrier or for a ticket: each takes every so many-th image. (A queue's counter is one address, and
//   tens of thousands of requests to it took longer than the work of narrow images.)
// - Layers whose partners are whole lanes away share one loop body, which keeps the code small
//   enough for the instruction cache. (A first version, in float32 and with a body for every layer,
//   took 1.4 ms at N = 65536.)
#include "common.cuh"

#ifndef LANES
#define LANES 32
#endif
#ifndef WORDS
#define WORDS 1
#endif
#ifndef GROUPS
#define GROUPS 16
#endif
#ifndef WEIGHT
#define WEIGHT 5
#endif
#ifndef THREADS
#define THREADS 128
#endif

static_assert(LANES >= 1 && LANES <= 32 && (LANES & (LANES - 1)) == 0,
              "an image's lanes are a power of two within a warp");
static_assert(WORDS == 1 || WORDS == 2 || WORDS == 4, "a lane loads its words of a group at once");
static_assert(GROUPS >= 1 && GROUPS <= 31, "a count of up to 31 fits in five bit planes");
static_assert(2 * GROUPS * WEIGHT <= 255, "the sum of two counts, in units, fits in a byte");

constexpr int PLANES = 5;
constexpr int VALUES = WORDS * 32;     // values that a lane owns
constexpr int REGISTERS = VALUES / 2;  // two values each
constexpr int IMAGE_VALUES = LANES * VALUES;
constexpr int IMAGES_PER_WARP = 32 / LANES;
constexpr int MOST_LAYERS = 32;
constexpr int ROW = LANES * WORDS;  // words of a group of inputs
constexpr int IMAGE_WORDS = GROUPS * ROW;
// Where several images share a warp, its lanes would read words from as many places as there are
// images, and so would the next read of the same lines. The words go through shared memory then, read
// in order; images lie so that their lanes use different banks. That needs images of whole warps of
// words, and room: a block has 48 KiB of shared memory without asking for more.
constexpr int STAGED_STRIDE = IMAGE_WORDS + ROW;
constexpr int MOST_STAGED_BYTES = 47 << 10;  // the rest is for the constants of the layers
constexpr bool STAGED = IMAGES_PER_WARP > 1 && IMAGE_WORDS % WARP == 0 &&
                        THREADS / WARP * IMAGES_PER_WARP * STAGED_STRIDE * 4 <= MOST_STAGED_BYTES;
constexpr int STAGED_WORDS = STAGED ? IMAGES_PER_WARP * STAGED_STRIDE : 1;  // of a warp

// The constants of the layers, in units.
struct Layers {
  int near, layers;         // the first `near` layers are template arguments
  short bias[MOST_LAYERS];  // of each layer
  short lanes[MOST_LAYERS];  // of the further layers: lanes to the partner
  short ymax;
};

// What a block keeps in shared memory.
struct Block {
  Layers layers;
  int died[MOST_LAYERS];  // images that died in each layer
  unsigned staged[THREADS / WARP][STAGED_WORDS];
};

__device__ inline Block& shared_of_block() {
  __shared__ Block block;
  return block;
}

__device__ inline unsigned twice(short value) { return (unsigned short)value * 0x10001u; }

// Word q + distance of `words`, counted from the lane's own first: from a lane further on if need be.
__device__ inline unsigned word_at(const unsigned* words, int stride, int index) {
  const int word = index % WORDS, lanes = index / WORDS;
  if (lanes % LANES == 0) return words[word * stride];
  return __shfl_sync(ALL_LANES, words[word * stride], (threadIdx.x + lanes) % LANES, LANES);
}

// Copy the bits of the warp's images, of which there are `images`, to shared memory.
__device__ inline void stage_bits(const unsigned* bits, int images, unsigned* staged) {
  const unsigned* from = bits + threadIdx.x % WARP;
  unsigned* to = staged + threadIdx.x % WARP;
  __syncwarp();  // nobody reads the last images' bits any more
#pragma unroll
  for (int k = 0; k < IMAGES_PER_WARP * IMAGE_WORDS; k += WARP)  // a warp's words are of one image
    if (k / IMAGE_WORDS < images) copy_async(to + k + k / IMAGE_WORDS * ROW, from + k);
  wait_for_copies();
  __syncwarp();
}

// Add up the groups of an image's bits in bit planes, plane[p][word]: two groups at a time through a
// full adder, then the carry runs up the planes. The bits are in shared memory where STAGED.
__device__ inline void count_bits(const unsigned* bits, unsigned (&plane)[PLANES][WORDS]) {
  unsigned group[GROUPS + 1][WORDS];
#pragma unroll
  for (int g = 0; g < GROUPS; ++g) {
    const unsigned* from = bits + g * ROW + threadIdx.x % LANES * WORDS;
    if constexpr (STAGED) {
#pragma unroll
      for (int q = 0; q < WORDS; ++q) group[g][q] = from[q];
    } else if constexpr (WORDS == 4) {
      const uint4 four = __ldcs(reinterpret_cast<const uint4*>(from));
      group[g][0] = four.x, group[g][1] = four.y, group[g][2] = four.z, group[g][3] = four.w;
    } else {
#pragma unroll
      for (int q = 0; q < WORDS; ++q) group[g][q] = __ldcs(from + q);
    }
  }
#pragma unroll
  for (int q = 0; q < WORDS; ++q) {
    group[GROUPS][q] = 0;
#pragma unroll
    for (int p = 0; p < PLANES; ++p) plane[p][q] = 0;
#pragma unroll
    for (int g = 0; g < GROUPS; g += 2) {
      const unsigned x = group[g][q], y = group[g + 1][q], own = plane[0][q];
      unsigned carry = (own & x) | (own & y) | (x & y);
      plane[0][q] = own ^ x ^ y;
#pragma unroll
      for (int p = 1; p < PLANES; ++p) {
        const unsigned up = plane[p][q] & carry;
        plane[p][q] ^= carry;
        carry = up;
      }
    }
  }
}

// clip(value + bias), both halves.
__device__ inline unsigned activate_pair(unsigned values, unsigned bias, unsigned ymax) {
  return __viaddmin_s16x2_relu(values, bias, ymax);
}

// The first layer: u[j] + u[j + SHIFT] in bit planes, spread to bytes, times WEIGHT, then to pairs.
template <int SHIFT>
__device__ inline void first_layer(const unsigned (&plane)[PLANES][WORDS], unsigned bias,
                                   unsigned ymax, unsigned (&pair)[REGISTERS]) {
  constexpr int SKIP = SHIFT / 32, TURN = SHIFT % 32;
#pragma unroll
  for (int q = 0; q < WORDS; ++q) {
    unsigned sum[PLANES + 1], carry = 0;
#pragma unroll
    for (int p = 0; p < PLANES; ++p) {
      const unsigned x = plane[p][q];
      unsigned y = word_at(plane[p], 1, q + SKIP);
      if (TURN > 0) y = __funnelshift_r(y, word_at(plane[p], 1, q + SKIP + 1), TURN);
      sum[p] = x ^ y ^ carry;
      carry = (x & y) | (x & carry) | (y & carry);
    }
    sum[PLANES] = carry;
#pragma unroll
    for (int r = 0; r < 8; ++r) {  // bit r of each byte: the counts r, r + 8, r + 16, r + 24
      unsigned bytes = 0;
#pragma unroll
      for (int p = 0; p <= PLANES; ++p) bytes |= ((sum[p] >> r) & 0x01010101u) << p;
      bytes *= WEIGHT;
      const unsigned even = __byte_perm(bytes, 0, 0x4240), odd = __byte_perm(bytes, 0, 0x4341);
      pair[q * 16 + r] = activate_pair(even, bias, ymax);
      pair[q * 16 + r + 8] = activate_pair(odd, bias, ymax);
    }
  }
}

// A further layer whose shift is less than a lane's values.
template <int SHIFT>
__device__ inline void near_layer(unsigned bias, unsigned ymax, unsigned (&pair)[REGISTERS]) {
  static_assert(SHIFT < VALUES, "partners are in the same lane or in the next");
  constexpr int SKIP = SHIFT / 32, TURN = SHIFT % 32;
  unsigned next[REGISTERS];
#pragma unroll
  for (int q = 0; q < WORDS; ++q) {
#pragma unroll
    for (int r = 0; r < 16; ++r) {
      // The partners of a low and a high half are the halves `half` and `half` + 1, counted on into
      // the next word, of the registers `place`.
      const int half = (r + TURN) / 16, place = (r + TURN) % 16;
      unsigned partner = word_at(pair + place, 16, q + SKIP + half / 2);
      if (half == 1)
        partner = __funnelshift_r(partner, word_at(pair + place, 16, q + SKIP + 1), 16);
      next[q * 16 + r] = activate_pair(pair[q * 16 + r] + partner, bias, ymax);
    }
  }
#pragma unroll
  for (int k = 0; k < REGISTERS; ++k) pair[k] = next[k];
}

// A further layer whose partners are at the same place, `lanes` lanes on.
__device__ inline void far_layer(int lanes, unsigned bias, unsigned ymax,
                                 unsigned (&pair)[REGISTERS]) {
  const int from = (threadIdx.x + lanes) % LANES;
#pragma unroll
  for (int k = 0; k < REGISTERS; ++k) {
    const unsigned partner = __shfl_sync(ALL_LANES, pair[k], from, LANES);
    pair[k] = activate_pair(pair[k] + partner, bias, ymax);
  }
}

// Whether the lane's image has a value that is not zero among its first `rows`.
__device__ inline bool image_lives(const unsigned (&pair)[REGISTERS], int rows) {
  unsigned any = 0;
#pragma unroll
  for (int k = 0; k < REGISTERS; ++k) any |= pair[k];
  const int lane = threadIdx.x % LANES;
  const unsigned lives = __ballot_sync(ALL_LANES, any != 0 && lane * VALUES < rows);
  constexpr unsigned OF_IMAGE = LANES == 32 ? ALL_LANES : (1u << LANES) - 1;
  return (lives >> (threadIdx.x % 32 / LANES * LANES) & OF_IMAGE) != 0;
}

// Find out whether the lane's image outlived layer `layer`, and count it there if it just died. `rows`
// are the values of the last layer. lives: whether it was alive.
__device__ inline void look_for_life(const Layers& layers, int layer, int rows, bool& lives,
                                     const unsigned (&pair)[REGISTERS], int* died) {
  const bool goes_on = image_lives(pair, layer + 1 == layers.layers ? rows : IMAGE_VALUES);
  if (lives && !goes_on && threadIdx.x % LANES == 0) atomicAdd_block(&died[layer], 1);
  lives = lives && goes_on;
}

// The layers after the first that are template arguments, as long as an image of the warp lives.
template <int LAYER, int SHIFT, int... REST>
__device__ inline void near_layers(const Layers& layers, int rows, bool& lives,
                                   unsigned (&pair)[REGISTERS], int* died) {
  if (!__any_sync(ALL_LANES, lives)) return;
  near_layer<SHIFT>(twice(layers.bias[LAYER]), twice(layers.ymax), pair);
  look_for_life(layers, LAYER, rows, lives, pair, died);
  if constexpr (sizeof...(REST) > 0)
    near_layers<LAYER + 1, REST...>(layers, rows, lives, pair, died);
}

// Write a living image to the pool.
__device__ inline void write_to_pool(int image, int rows, const unsigned (&pair)[REGISTERS],
                                     bool lives, unsigned* pool, int* pool_image, int* pool_count) {
  const int lane = threadIdx.x % LANES;
  // One request for the whole warp.
  const unsigned living = __ballot_sync(ALL_LANES, lives && lane == 0);
  int slot = 0;
  if (threadIdx.x % 32 == 0) slot = atomicAdd(pool_count, __popc(living));
  slot = __shfl_sync(ALL_LANES, slot, 0);
  slot += __popc(living & ((1u << (threadIdx.x % 32 / LANES * LANES)) - 1));
  if (lives && lane == 0) pool_image[slot] = image;
  if (!lives || lane * VALUES >= rows) return;
  uint4* to = reinterpret_cast<uint4*>(pool + (size_t)slot * (rows / 2) + lane * REGISTERS);
#pragma unroll
  for (int k = 0; k < REGISTERS; k += 4)
    to[k / 4] = make_uint4(pair[k], pair[k + 1], pair[k + 2], pair[k + 3]);
}

// bits: uint32 (images, GROUPS * LANES * WORDS). layers: the constants.
// rows: values of the last layer; those before have LANES * WORDS * 32.
// died: images that died in each layer; added to.
// pool: uint32 (.., rows / 2), two values each; pool_image: int32; pool_count: rows used.
template <int FIRST, int... NEAR>
__global__ void __launch_bounds__(THREADS)
    shift_images(const unsigned* bits, int images, const Layers* constants, int rows, int* died,
                 unsigned* pool, int* pool_image, int* pool_count) {
  Block& block = shared_of_block();
  const Layers& layers = block.layers;
  if (threadIdx.x == 0) block.layers = *constants;
  if (threadIdx.x < MOST_LAYERS) block.died[threadIdx.x] = 0;
  __syncthreads();
  const unsigned ymax = twice(layers.ymax);

  const int warp = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
  const int images_at_once = gridDim.x * (THREADS / WARP) * IMAGES_PER_WARP;
  for (int first = warp * IMAGES_PER_WARP; first < images; first += images_at_once) {
    const int own = threadIdx.x % WARP / LANES, image = first + own;
    bool lives = image < images;

    unsigned plane[PLANES][WORDS], pair[REGISTERS];
    if constexpr (STAGED) {
      unsigned* of_warp = block.staged[threadIdx.x / WARP];
      stage_bits(bits + (size_t)first * IMAGE_WORDS, min(images - first, IMAGES_PER_WARP), of_warp);
      count_bits(of_warp + own * STAGED_STRIDE, plane);
    } else {  // lanes without an image read the last one, and throw it away
      count_bits(bits + (size_t)min(image, images - 1) * IMAGE_WORDS, plane);
    }
    first_layer<FIRST>(plane, twice(layers.bias[0]), ymax, pair);
    look_for_life(layers, 0, rows, lives, pair, block.died);
    if constexpr (sizeof...(NEAR) > 0)
      near_layers<1, NEAR...>(layers, rows, lives, pair, block.died);
    for (int layer = layers.near; layer < layers.layers && __any_sync(ALL_LANES, lives); ++layer) {
      far_layer(layers.lanes[layer], twice(layers.bias[layer]), ymax, pair);
      look_for_life(layers, layer, rows, lives, pair, block.died);
    }
    if (__any_sync(ALL_LANES, lives))
      write_to_pool(image, rows, pair, lives, pool, pool_image, pool_count);
  }
  __syncthreads();
  if (threadIdx.x < MOST_LAYERS && block.died[threadIdx.x] > 0)
    atomicAdd(&died[threadIdx.x], block.died[threadIdx.x]);
}
