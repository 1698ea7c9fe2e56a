// The paper's baseline: one thread for one output neuron of one image, everything from global memory.
//
//   value'[image][j] = activate(sum over the in-edges (i, w) of j of w * value[source[image]][i])
//
// Layout: value[image][neuron]; the weights in CSR, row j the in-edges of output neuron j. Each edge
// costs three loads (index, weight, input) for one multiply-add, and neighbouring threads read inputs
// that lie anywhere. Nothing is reused on purpose; caches do what they can.
#include "common.cuh"

// One layer: block.x covers output neurons, block.y images. Dead images are dropped by the host, which
// gives in `source` where each live image lies. alive[image] = 1 where an output is not zero.
extern "C" __global__ void layer(const float* values, const int* source, int images, int inputs,
                                 int outputs, const int* row_offsets, const int* columns,
                                 const float* weights, const float* bias, float ymax, float* to,
                                 unsigned char* alive) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= outputs) return;
  for (int image = blockIdx.y; image < images; image += gridDim.y) {
    const float* value = values + (size_t)source[image] * inputs;
    float z = 0.0f;
    for (int k = row_offsets[j]; k < row_offsets[j + 1]; ++k) z += weights[k] * value[columns[k]];
    const float y = activate(z, bias[j], ymax);
    to[(size_t)image * outputs + j] = y;
    if (y > 0.0f) alive[image] = 1;
  }
}

// The inputs of the run as float32: bytes[image][row_bytes], bit f % 8 of byte f / 8 is feature f.
extern "C" __global__ void unpack_bits(const unsigned char* bytes, int neurons, int row_bytes,
                                       float* values) {
  const int f = blockIdx.x * blockDim.x + threadIdx.x;
  const size_t image = blockIdx.y;
  if (f < neurons)
    values[image * neurons + f] = bytes[image * row_bytes + f / 8] >> f % 8 & 1 ? 1.0f : 0.0f;
}
