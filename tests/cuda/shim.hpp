// CUDA C on a CPU, enough of it to run tinynet's own kernels: the text of a .cu file is compiled right behind this one.
// Blocks run one after the other in a shuffled order, and so do the threads of a block, so that a result that depends on
// the order shows. Kernels that call __syncthreads run each thread on a stack of its own, switched at every barrier.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
using namespace std;

struct dim3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) double2 { double x, y; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#define __device__ static
#define __shared__ static
#define __restrict__ __restrict

static unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned __int128)a * b >> 64;
}

// --- fibers: stacks for threads that wait for one another. They live on from block to block, and switching between them
// is a longjmp (with the address sanitizer a swapcontext, which it can be told of).

static const int MOST = 1024, STACK = 1 << 16;
static ucontext_t scheduler, fiber[MOST];
static char* stacks;
static bool begun[MOST], over[MOST];
static int current;
static void (*body)(void*);
static void* body_argument;

#if defined(__SANITIZE_ADDRESS__)
static const void* scheduler_stack;
static size_t scheduler_size;

static void to_fiber(int t)
{
    void* fake;
    __sanitizer_start_switch_fiber(&fake, stacks + (size_t)t * STACK, STACK);
    swapcontext(&scheduler, &fiber[t]);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

static void to_scheduler()
{
    const int t = current;
    void* fake;
    __sanitizer_start_switch_fiber(&fake, scheduler_stack, scheduler_size);
    swapcontext(&fiber[t], &scheduler);
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_size);
}
#else
static jmp_buf scheduler_place, place[MOST];

static void to_fiber(int t)
{
    if (_setjmp(scheduler_place)) return;
    if (begun[t]) _longjmp(place[t], 1);
    begun[t] = true;
    setcontext(&fiber[t]);
}

static void to_scheduler()
{
    if (!_setjmp(place[current])) _longjmp(scheduler_place, 1);
}
#endif

static void __syncthreads() { to_scheduler(); }

static void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    for (;;) {
        body(body_argument);
        over[current] = true;
        to_scheduler();
    }
}

static void make_fibers()
{
    if (!stacks) stacks = (char*)malloc((size_t)MOST * STACK);
    for (int t = 0; t < MOST; t++) {
        begun[t] = false;
        getcontext(&fiber[t]);
        fiber[t].uc_stack.ss_sp = stacks + (size_t)t * STACK;
        fiber[t].uc_stack.ss_size = STACK;
        fiber[t].uc_link = nullptr;
        makecontext(&fiber[t], fiber_main, 0);
    }
}

// --- a launch ---

static unsigned long long state;
static unsigned long long random_below(unsigned long long n)
{
    state = state * 6364136223846793005 + 1442695040888963407;
    return (state >> 33) % n;
}

static unsigned* shuffled(unsigned n)
{
    unsigned* order = (unsigned*)malloc(n * sizeof(unsigned));
    for (unsigned i = 0; i < n; i++) order[i] = i;
    for (unsigned i = n - 1; i > 0; i--) swap(order[i], order[random_below(i + 1)]);
    return order;
}

static void set_thread(unsigned t) { threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y}; }

static bool run_fibers(const unsigned* order, unsigned threads)
{
    if (!stacks) make_fibers();
    for (unsigned t = 0; t < threads; t++) over[t] = false;
    for (;;) {
        unsigned ended = 0;
        for (unsigned i = 0; i < threads; i++) {
            current = order[i];
            set_thread(current);
            to_fiber(current);
            ended += over[current];
        }
        if (ended == threads) return true;
        if (ended) {  // some threads wait at a barrier that others never reach
            make_fibers();
            return false;
        }
    }
}

template <class... A, size_t... I> static void call(void (*kernel)(A...), void** a, index_sequence<I...>)
{
    kernel(*(A*)a[I]...);
}

template <class... A>
static int launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, bool fibers, unsigned long long seed,
                  void** arguments)
{
    struct Call { void (*kernel)(A...); void** arguments; } the_call = {kernel, arguments};
    body = [](void* p) { Call* c = (Call*)p; call(c->kernel, c->arguments, index_sequence_for<A...>()); };
    body_argument = &the_call;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], 1};
    state = seed;
    const unsigned blocks = grid[0] * grid[1] * grid[2], threads = block[0] * block[1];
    unsigned *block_order = shuffled(blocks), *thread_order = shuffled(threads);
    bool met = true;
    for (unsigned b = 0; b < blocks && met; b++) {
        const unsigned k = block_order[b];
        blockIdx = {k % grid[0], k / grid[0] % grid[1], k / grid[0] / grid[1]};
        if (fibers) met = run_fibers(thread_order, threads);
        else
            for (unsigned t = 0; t < threads; t++) {
                set_thread(thread_order[t]);
                body(body_argument);
            }
    }
    free(block_order);
    free(thread_order);
    return met ? 0 : 1;
}
