// What the `cusparse` engine adds to the library's product: bias, clip and the live images, in one pass.
#include "common.cuh"

// sums[neuron][image] becomes value[neuron][image] in place; alive[image] = 1 where one is not zero.
// block.x covers images, block.y neurons.
extern "C" __global__ void finish(float* sums, int neurons, int images, const float* bias, float ymax,
                                  unsigned char* alive) {
  const int image = blockIdx.x * blockDim.x + threadIdx.x;
  if (image >= images) return;
  bool lives = false;
  for (int neuron = blockIdx.y; neuron < neurons; neuron += gridDim.y) {
    float* sum = sums + (size_t)neuron * images + image;
    *sum = activate(*sum, bias[neuron], ymax);
    lives |= *sum > 0.0f;
  }
  if (lives) alive[image] = 1;
}

// value[neuron][image] of the live images alone: to[neuron][k] = from[neuron][live[k]].
extern "C" __global__ void keep_live(const float* from, int neurons, int images, const int* live,
                                     int count, float* to) {
  const int k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k >= count) return;
  for (int neuron = blockIdx.y; neuron < neurons; neuron += gridDim.y)
    to[(size_t)neuron * count + k] = from[(size_t)neuron * images + live[k]];
}

// Inputs as bits, bytes[image][row_bytes], to values[neuron][image].
extern "C" __global__ void unpack_bits(const unsigned char* bytes, int images, int neurons,
                                       int row_bytes, float* values) {
  const int image = blockIdx.x * blockDim.x + threadIdx.x;
  if (image >= images) return;
  for (int f = blockIdx.y; f < neurons; f += gridDim.y)
    values[(size_t)f * images + image] =
        bytes[(size_t)image * row_bytes + f / 8] >> f % 8 & 1 ? 1.0f : 0.0f;
}
