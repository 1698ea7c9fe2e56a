// Runs the threads of a kernel on one processor, and watches over memory; for tests.
//
// Each thread of a block is a fiber with a stack of its own. It runs until its next barrier or warp
// operation and then hands over to the scheduler. A warp goes on for as long as none of its lanes
// needs another warp; so warps are as far apart as barriers allow, and a barrier that is missing shows.
// Blocks run one after the other: a kernel that waits for another block never ends, so its time is
// limited. The same launch always does the same.
//
// An array ends where a page ends that nobody may touch: a read or a write past it is a signal,
// caught here, and said in words. What lies between array and page is filled with a pattern and
// looked at after each launch. Memory starts with bytes 0xff: not a number as float, -1 as integer.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cuda_on_cpu.h"

uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

const char* const OPERATION_NAMES[] = {
    "__syncwarp",     "a shuffle",         "__ballot_sync",     "__any_sync",
    "__all_sync",     "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync",
    "__reduce_and_sync", "__reduce_or_sync", "__reduce_xor_sync"};

namespace {

// --- memory --------------------------------------------------------------------------------------

constexpr char POISON = (char)0xff, GUARD = (char)0xa5;
constexpr std::size_t ALIGNMENT = 16;  // of an array: the largest access is of so many bytes

// Pages: one that nobody may touch, some that hold the array at their end, one more.
struct Allocation {
  char *first_page, *array, *last_page;
  std::size_t bytes;
};

std::map<void*, Allocation> allocations;

std::size_t page_bytes() { return sysconf(_SC_PAGESIZE); }
std::size_t rounded(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

void* allocate(std::size_t bytes) {
  const std::size_t page = page_bytes(), room = rounded(bytes, ALIGNMENT);
  const std::size_t inner = rounded(room, page);
  void* mapped = mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  Allocation made = {(char*)mapped, nullptr, (char*)mapped + page + inner, bytes};
  made.array = made.last_page - room;
  if (inner > 0) mprotect(made.first_page + page, inner, PROT_READ | PROT_WRITE);
  std::memset(made.last_page - inner, GUARD, inner);
  std::memset(made.array, POISON, bytes);
  allocations[made.array] = made;
  return made.array;
}

void release(void* array) {
  const Allocation gone = allocations.at(array);
  allocations.erase(array);
  munmap(gone.first_page, gone.last_page - gone.first_page + page_bytes());
}

bool is_written(char* from, char* end) {
  const bool written = std::any_of(from, end, [](char byte) { return byte != GUARD; });
  if (written) std::memset(from, GUARD, end - from);  // it is told once
  return written;
}

// Which arrays' guards were written; empty: none.
std::string broken_guards() {
  std::string found;
  for (const auto& [_, of] : allocations) {
    const std::string array = " an array of " + std::to_string(of.bytes) + " bytes";
    if (is_written(of.first_page + page_bytes(), of.array)) found += ": it wrote before" + array;
    if (is_written(of.array + of.bytes, of.last_page)) found += ": it wrote behind" + array;
  }
  return found;
}

// --- fibers --------------------------------------------------------------------------------------

constexpr std::size_t STACK_BYTES = 128 << 10;
constexpr int MOST_THREADS = 1024;
constexpr std::ptrdiff_t MOST_FIXED_SHARED_BYTES = 48 << 10;

enum State { READY, AT_BARRIER, AT_WARP_OPERATION, ENDED };

struct Thread {
  State state;
  int line;  // where it waits
  Operation operation;
  unsigned mask;
  int source;
  std::uint64_t value;  // what it hands over, then what it gets
  jmp_buf place;
  bool is_started;  // `place` is set
};

Thread threads[MOST_THREADS];
int count;  // of threads in a block
int current;
bool gives_way, has_given_way;
jmp_buf scheduler;
sigjmp_buf end_of_launch;
std::string message;
char* shared_memory;
void (*run_thread)(const void*);
const void* call;

uint3 split(int number, const uint3& size) {
  return {number % size.x, number / size.x % size.y, number / size.x / size.y};
}

std::string text_of(const uint3& at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

std::string place_of(const Thread& thread) {
  const char* const what =
      thread.state == AT_BARRIER ? "__syncthreads" : OPERATION_NAMES[thread.operation];
  return std::string(what) + " in line " + std::to_string(thread.line);
}

// A fiber, for all blocks: it runs one thread after the other.
void fiber() {
  while (true) {
    run_thread(call);
    threads[current].state = ENDED;
    if (_setjmp(threads[current].place) == 0) _longjmp(scheduler, 1);
  }
}

__attribute__((noinline)) void wait_for_others() {
  if (_setjmp(threads[current].place) == 0) _longjmp(scheduler, 1);
}

// Stacks with a page between each other that nobody may touch.
char* make_stacks() {
  constexpr std::size_t bytes = MOST_THREADS * STACK_BYTES;
  char* stacks = (char*)mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (std::size_t at = 0; at < bytes; at += STACK_BYTES) mprotect(stacks + at, page_bytes(), PROT_NONE);
  return stacks;
}

void start_fiber() {
  static char* const stacks = make_stacks();
  static ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = stacks + current * STACK_BYTES;
  context.uc_stack.ss_size = STACK_BYTES;
  context.uc_link = nullptr;
  makecontext(&context, fiber, 0);
  threads[current].is_started = true;
  setcontext(&context);
}

__attribute__((noinline)) void go_on_with(int thread) {
  current = thread;
  threadIdx = split(thread, blockDim);
  if (_setjmp(scheduler) != 0) return;
  if (threads[thread].is_started) _longjmp(threads[thread].place, 1);
  start_fiber();
}

// --- the threads of a block ----------------------------------------------------------------------

// No thread can go on: open the barrier that all have reached, or say who waits where.
void open_barrier() {
  const auto same = [](const Thread& thread) {
    return thread.state == AT_BARRIER && thread.line == threads[0].line;
  };
  if (std::all_of(threads, threads + count, same)) {
    for (int t = 0; t < count; ++t) threads[t].state = READY;
    return;
  }
  std::string waiting;
  std::map<std::string, std::pair<int, int>> groups;  // place -> first thread, threads
  for (int t = 0; t < count; ++t) {
    const bool has_ended = threads[t].state == ENDED;
    auto& [first, size] = groups[has_ended ? "the end" : place_of(threads[t])];
    if (size++ == 0) first = t;
  }
  for (const auto& [place, group] : groups)
    waiting += (waiting.empty() ? "" : ", ") + std::to_string(group.second) + " from thread " +
               std::to_string(group.first) + " on are at " + place;
  current = -1;
  fail("no thread can go on: %s", waiting.c_str());
}

// In which order warps and their lanes take turns.
struct Turns {
  std::vector<int> warps, lanes;
};

// Run a warp until all its lanes wait for other warps, or have ended, or one gives way.
void run_warp(int warp, const std::vector<int>& lanes) {
  bool went_on = true;
  has_given_way = false;
  while (went_on) {
    went_on = false;
    for (int lane : lanes) {
      const int t = warp * WARP + lane;
      if (t >= count || threads[t].state != READY) continue;
      went_on = true;
      go_on_with(t);
      if (has_given_way) return;
    }
  }
}

void run_block(const Turns& turns) {
  for (int t = 0; t < count; ++t) threads[t].state = READY;
  const auto has_ended = [](const Thread& thread) { return thread.state == ENDED; };
  const auto is_ready = [](const Thread& thread) { return thread.state == READY; };
  while (true) {
    for (int warp : turns.warps) run_warp(warp, turns.lanes);
    if (std::all_of(threads, threads + count, has_ended)) return;
    if (std::none_of(threads, threads + count, is_ready)) open_barrier();
  }
}

std::vector<int> ordered(int size, int order) {
  std::vector<int> numbers(size);
  std::iota(numbers.begin(), numbers.end(), 0);
  if (order == 1) std::reverse(numbers.begin(), numbers.end());
  if (order > 1) std::shuffle(numbers.begin(), numbers.end(), std::mt19937(order));
  return numbers;
}

// --- signals -------------------------------------------------------------------------------------

pthread_t launching;

void on_signal(int number) {
  if (!pthread_equal(pthread_self(), launching)) {  // a timer may interrupt any thread
    pthread_kill(launching, number);
    return;
  }
  if (number == SIGVTALRM)
    fail("its block does not come to an end; does it wait for another block?");
  fail("it read or wrote memory outside of every array, or its stack is full");
}

// While it lives, signals of kernels come here.
struct SignalsCaught {
  static constexpr int NUMBERS[] = {SIGSEGV, SIGBUS, SIGVTALRM};
  struct sigaction before[3];
  stack_t stack_before;
  SignalsCaught() {
    static char stack[64 << 10];  // a fiber's own may be full
    const stack_t own = {stack, 0, sizeof stack};
    sigaltstack(&own, &stack_before);
    launching = pthread_self();
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK;
    for (int k = 0; k < 3; ++k) sigaction(NUMBERS[k], &action, &before[k]);
  }
  ~SignalsCaught() {
    limit(0);
    for (int k = 0; k < 3; ++k) sigaction(NUMBERS[k], &before[k], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
  // From now on, so many seconds of processor time; 0: any.
  static void limit(double seconds) {
    itimerval timer = {};
    timer.it_value.tv_sec = (long)seconds;
    timer.it_value.tv_usec = (long)(1e6 * (seconds - (long)seconds));
    setitimer(ITIMER_VIRTUAL, &timer, nullptr);
  }
};

void run_grid(const Launch& launch, char* shared, char* shared_end) {
  const Turns turns = {ordered((count + WARP - 1) / WARP, launch.order), ordered(WARP, launch.order)};
  for (int block : ordered(gridDim.x * gridDim.y * gridDim.z, launch.order)) {
    blockIdx = split(block, gridDim);
    std::memset(shared, POISON, shared_end - shared);
    std::memset(shared_memory, POISON, launch.shared_bytes);
    SignalsCaught::limit(launch.seconds);
    run_block(turns);
  }
}

// The value that a lane gets, from those of the lanes in `mask`.
std::uint64_t outcome(Operation operation, unsigned mask, const Thread* lanes) {
  std::uint64_t ballot = 0, sum = 0, least = ~0u, most = 0, all = ~0u, any = 0, odd = 0;
  for (int lane = 0; lane < WARP; ++lane) {
    if (!(mask >> lane & 1)) continue;
    const std::uint64_t value = lanes[lane].value;
    ballot |= (std::uint64_t)(value != 0) << lane;
    sum += value, least = std::min(least, value), most = std::max(most, value);
    all &= value, any |= value, odd ^= value;
  }
  const std::uint64_t outcomes[] = {0, 0, ballot, ballot != 0, ballot == mask, sum, least, most,
                                    all, any, odd};
  return outcomes[operation];
}

// Whether all lanes that `mask` names and that have not ended wait for this operation.
bool is_complete(const Thread& own, unsigned mask, const Thread* lanes) {
  for (int lane = 0; lane < WARP; ++lane) {
    const Thread& other = lanes[lane];
    if (!(mask >> lane & 1)) continue;
    if (other.state != AT_WARP_OPERATION || other.line != own.line) return false;
    if (other.operation != own.operation || other.mask != own.mask)
      fail("%s: lanes name different masks or operations", place_of(own).c_str());
  }
  return true;
}

// Hand the values over; all lanes of `mask` can go on.
void hand_over(Operation operation, unsigned mask, Thread* lanes) {
  std::uint64_t values[WARP];
  const std::uint64_t same = outcome(operation, mask, lanes);
  for (int lane = 0; lane < WARP; ++lane) {
    if (!(mask >> lane & 1)) continue;
    const int source = lanes[lane].source;
    if (operation == SHUFFLE && !(mask >> source & 1))
      fail("%s reads lane %d, which takes no part", place_of(lanes[lane]).c_str(), source);
    values[lane] = operation == SHUFFLE ? lanes[source].value : same;
  }
  for (int lane = 0; lane < WARP; ++lane)
    if (mask >> lane & 1) lanes[lane].value = values[lane], lanes[lane].state = READY;
}

}  // namespace

std::uint64_t warp_operation(Operation operation, unsigned mask, std::uint64_t value, int source,
                             int line) {
  Thread& own = threads[current];
  Thread* lanes = threads + current / WARP * WARP;
  own.state = AT_WARP_OPERATION, own.operation = operation, own.line = line;
  own.mask = mask, own.value = value, own.source = source;
  if (!(mask >> current % WARP & 1)) fail("%s: its mask leaves out the lane", place_of(own).c_str());
  unsigned present = 0;
  for (int lane = 0; lane < WARP; ++lane)
    present |= (lanes[lane].state != ENDED ? 1u : 0u) << lane;
  if (is_complete(own, mask & present, lanes))
    hand_over(operation, mask & present, lanes);
  else
    wait_for_others();
  return own.value;
}

void block_barrier(int line) {
  threads[current].state = AT_BARRIER;
  threads[current].line = line;
  wait_for_others();
}

void give_way() {
  if (!gives_way) return;
  has_given_way = true;
  wait_for_others();
}

void fail(const char* format, ...) {
  char what[1000];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  message = ": block " + text_of(blockIdx);
  if (current >= 0) message += ", thread " + text_of(split(current, blockDim));
  message += std::string(": ") + what;
  siglongjmp(end_of_launch, 1);
}

void* dynamic_shared_memory() { return shared_memory; }

const char* run(const Launch& launch, void (*thread)(const void*), const void* kernel_call,
                char* shared, char* shared_end) {
  gridDim = launch.grid, blockDim = launch.block;
  count = blockDim.x * blockDim.y * blockDim.z;
  run_thread = thread, call = kernel_call, gives_way = launch.order > 1;
  message.clear();
  if (shared_end - shared > MOST_FIXED_SHARED_BYTES) {
    message = std::string(launch.kernel) + ": its file's __shared__ variables take " +
              std::to_string(shared_end - shared) + " bytes, a block has " +
              std::to_string(MOST_FIXED_SHARED_BYTES) + " for them";
    return message.c_str();
  }
  for (int t = count; t < MOST_THREADS; ++t) threads[t].state = ENDED;
  shared_memory = (char*)allocate(launch.shared_bytes);
  {
    const SignalsCaught caught;
    if (sigsetjmp(end_of_launch, 1) == 0)
      run_grid(launch, shared, shared_end);
    else
      for (Thread& of : threads) of.is_started = false;  // their stacks hold half a thread
  }
  message += broken_guards();
  release(shared_memory);
  if (!message.empty()) message = launch.kernel + message;
  return message.empty() ? nullptr : message.c_str();
}

}  // namespace cuda_on_cpu

extern "C" {
void* cuda_on_cpu_allocate(std::size_t bytes) { return cuda_on_cpu::allocate(bytes); }
void cuda_on_cpu_release(void* array) { cuda_on_cpu::release(array); }
}
