// CUDA's words for g++, so that a kernel compiles as plain C++ and runs on a CPU, for tests only.
//
// emulator.cpp runs the threads of a block in turn, each until its next barrier or warp operation.
// So atomic operations are plain ones here, and fences are nothing. `__CUDA_ARCH__` is not defined:
// kernels take the ways that they have for old devices. What is missing here is a compile error.
#pragma once

#include <math.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// Blocks run one after the other, so one copy will do. All lie in one section, to be poisoned.
#define __shared__ static __attribute__((section("shared_memory")))

// --- what emulator.cpp does ----------------------------------------------------------------------

struct uint3 {
  unsigned x, y, z;
};

extern uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

constexpr int WARP = 32;

enum Operation { SYNC, SHUFFLE, BALLOT, ANY, ALL, ADD, MIN, MAX, AND, OR, XOR };
extern const char* const OPERATION_NAMES[];

// A launch, as Python fills it in.
struct Launch {
  const char* kernel;
  uint3 grid, block;
  std::size_t shared_bytes;
  // Of blocks and threads: 0 ascending, 1 descending, any other: the seed of a shuffle, where each
  // atomic operation gives way to the other warps too.
  int order;
  double seconds;  // processor time that a block may take
};

// Wait for the lanes in `mask`; the outcome of the operation on their values. source: the lane that
// a shuffle reads. line: of the call, for messages.
std::uint64_t warp_operation(Operation operation, unsigned mask, std::uint64_t value, int source,
                             int line);
void block_barrier(int line);
void give_way();
// End the launch with a message that names kernel, block and thread.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
void* dynamic_shared_memory();
// Run all threads of a grid; returns null, or what went wrong. shared: the static shared memory.
const char* run(const Launch& launch, void (*thread)(const void*), const void* kernel_call,
                char* shared, char* shared_end);

inline int lane() {
  return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % WARP;
}

template <class T>
std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8, "a lane hands over 8 bytes at most");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class To, class From>
To from_bits(From bits) {
  To value;
  std::memcpy(&value, &bits, sizeof(To));
  return value;
}

template <class T>
T shuffle(unsigned mask, T value, int source, int line) {
  return from_bits<T>(warp_operation(SHUFFLE, mask, to_bits(value), source, line));
}

template <class T>
T load(const T* from, int line) {
  if (reinterpret_cast<std::uintptr_t>(from) % sizeof(T) != 0)
    fail("line %d loads %zu bytes from an address that is no multiple of that", line, sizeof(T));
  return *from;
}

template <class T, class Make>
T update(T* at, Make make) {
  give_way();
  const T before = *at;
  *at = make(before);
  return before;
}

// The kinds and sizes of all parameters, a letter each: b, h, i, l: integers and addresses of 1, 2, 4
// and 8 bytes; f, d: floating point of 4 and 8.
template <class... P>
const char* signature(void (*)(P...)) {
  static constexpr char letters[] = {
      (std::is_floating_point_v<P> ? "____f___d" : "_bh_i___l")[sizeof(P)]..., 0};
  return letters;
}

// A kernel with its arguments.
template <class... P>
struct Call {
  void (*kernel)(P...);
  void** arguments;

  template <std::size_t... I>
  void make(std::index_sequence<I...>) const {
    kernel(*static_cast<std::remove_const_t<P>*>(arguments[I])...);
  }
  static void of(const void* call) {
    static_cast<const Call*>(call)->make(std::index_sequence_for<P...>());
  }
};

template <class... P>
const char* launch(const Launch& launch, void (*kernel)(P...), void** arguments, char* shared,
                   char* shared_end) {
  const Call<P...> call = {kernel, arguments};
  return run(launch, Call<P...>::of, &call, shared, shared_end);
}

}  // namespace cuda_on_cpu

// The linker knows where a section begins and ends; a file without shared memory has none.
extern "C" {
extern char __start_shared_memory[] __attribute__((weak, visibility("hidden")));
extern char __stop_shared_memory[] __attribute__((weak, visibility("hidden")));
}

// Kernel number NUMBER of a compiled file; the rest is the kernel's name.
#define EXPORT_KERNEL(NUMBER, ...)                                                             \
  extern "C" const char* signature_##NUMBER() { return cuda_on_cpu::signature(__VA_ARGS__); }  \
  extern "C" const char* launch_##NUMBER(const cuda_on_cpu::Launch& launch, void** arguments) { \
    return cuda_on_cpu::launch(launch, __VA_ARGS__, arguments, __start_shared_memory,          \
                               __stop_shared_memory);                                          \
  }

// --- types ---------------------------------------------------------------------------------------

#define VECTOR_TYPES(TYPE, NAME)                                                               \
  struct alignas(2 * sizeof(TYPE)) NAME##2 {                                                   \
    TYPE x, y;                                                                                 \
  };                                                                                           \
  struct alignas(4 * sizeof(TYPE)) NAME##4 {                                                   \
    TYPE x, y, z, w;                                                                           \
  };                                                                                           \
  inline NAME##2 make_##NAME##2(TYPE x, TYPE y) { return {x, y}; }                             \
  inline NAME##4 make_##NAME##4(TYPE x, TYPE y, TYPE z, TYPE w) { return {x, y, z, w}; }

VECTOR_TYPES(float, float)
VECTOR_TYPES(int, int)
VECTOR_TYPES(unsigned, uint)
VECTOR_TYPES(short, short)
VECTOR_TYPES(unsigned short, ushort)
VECTOR_TYPES(unsigned char, uchar)

// --- memory and atomic operations ----------------------------------------------------------------

template <class T>
T __ldg(const T* from, int line = __builtin_LINE()) {
  return cuda_on_cpu::load(from, line);
}
template <class T>
T __ldcg(const T* from, int line = __builtin_LINE()) {
  return cuda_on_cpu::load(from, line);
}
template <class T>
T __ldcs(const T* from, int line = __builtin_LINE()) {
  return cuda_on_cpu::load(from, line);
}

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

#define ATOMIC(NAME, RESULT)                                                                   \
  template <class T>                                                                           \
  T NAME(T* at, std::common_type_t<T> by) {                                                    \
    return cuda_on_cpu::update(at, [by](T old) -> T { return RESULT; });                       \
  }

ATOMIC(atomicAdd, old + by)
ATOMIC(atomicAdd_block, old + by)
ATOMIC(atomicMin, old < by ? old : by)
ATOMIC(atomicMax, old < by ? by : old)
ATOMIC(atomicAnd, old & by)
ATOMIC(atomicOr, old | by)
ATOMIC(atomicExch, (static_cast<void>(old), by))

// --- barriers and warps --------------------------------------------------------------------------

inline void __syncthreads(int line = __builtin_LINE()) { cuda_on_cpu::block_barrier(line); }
inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
  cuda_on_cpu::warp_operation(cuda_on_cpu::SYNC, mask, 0, 0, line);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
  const int first = cuda_on_cpu::lane() & ~(width - 1);
  return cuda_on_cpu::shuffle(mask, value, first + (source & (width - 1)), line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int by, int width = 32, int line = __builtin_LINE()) {
  const int lane = cuda_on_cpu::lane(), source = lane - by;
  return cuda_on_cpu::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, int width = 32, int line = __builtin_LINE()) {
  const int lane = cuda_on_cpu::lane(), source = lane + by;
  return cuda_on_cpu::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, int line = __builtin_LINE()) {
  const int lane = cuda_on_cpu::lane(), source = lane ^ with;
  return cuda_on_cpu::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, line);
}

#define WARP_WORD(TYPE, NAME, OPERATION)                                                       \
  inline TYPE NAME(unsigned mask, unsigned value, int line = __builtin_LINE()) {               \
    return cuda_on_cpu::warp_operation(cuda_on_cpu::OPERATION, mask, value, 0, line);          \
  }

WARP_WORD(unsigned, __ballot_sync, BALLOT)
WARP_WORD(int, __any_sync, ANY)
WARP_WORD(int, __all_sync, ALL)
WARP_WORD(unsigned, __reduce_add_sync, ADD)
WARP_WORD(unsigned, __reduce_min_sync, MIN)
WARP_WORD(unsigned, __reduce_max_sync, MAX)
WARP_WORD(unsigned, __reduce_and_sync, AND)
WARP_WORD(unsigned, __reduce_or_sync, OR)
WARP_WORD(unsigned, __reduce_xor_sync, XOR)

// --- arithmetic ----------------------------------------------------------------------------------

template <class A, class B>
std::common_type_t<A, B> min(A a, B b) {
  return b < a ? b : a;
}
template <class A, class B>
std::common_type_t<A, B> max(A a, B b) {
  return a < b ? b : a;
}

inline float __uint_as_float(unsigned bits) { return cuda_on_cpu::from_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return cuda_on_cpu::from_bits<unsigned>(value); }
inline float __int_as_float(int bits) { return cuda_on_cpu::from_bits<float>(bits); }
inline int __float_as_int(float value) { return cuda_on_cpu::from_bits<int>(value); }
inline float __fdiv_rn(float a, float b) { return a / b; }

inline int __popc(unsigned word) { return __builtin_popcount(word); }
inline int __ffs(int word) { return __builtin_ffs(word); }
inline int __clz(int word) { return word == 0 ? 32 : __builtin_clz(word); }
inline unsigned __brev(unsigned word) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (word >> bit & 1u) << (31 - bit);
  return reversed;
}

// The low word of high:low, shifted to the right.
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return ((std::uint64_t)high << 32 | low) >> (shift & 31);
}

// Byte k of the result is byte number `selector >> 4 * k & 7` of y:x.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t bytes = (std::uint64_t)y << 32 | x;
  unsigned result = 0;
  for (int k = 0; k < 4; ++k)
    result |= (unsigned)(bytes >> 8 * (selector >> 4 * k & 7) & 0xff) << 8 * k;
  return result;
}

// max(min(a + b, c), 0) of the 16-bit integers in both halves; the sum wraps around.
inline unsigned __viaddmin_s16x2_relu(unsigned a, unsigned b, unsigned c) {
  const auto half = [=](int shift) -> unsigned {
    const auto sum = (std::int16_t)((a >> shift) + (b >> shift)), limit = (std::int16_t)(c >> shift);
    return (unsigned)max(min(sum, limit), 0) << shift;
  };
  return half(16) | half(0);
}
