// CUDA C on a CPU, enough of it to run tinynet's own kernels: the text of a .cu file is compiled right behind this one.
// Blocks run one after the other in a shuffled order, and so do the threads of a block, so that a result that depends on
// the order shows. Kernels that call __syncthreads run each thread on a stack of its own, switched at every barrier.
//
// Under the thread sanitizer blocks run on two real threads at once, and the threads of a block are fibers that the
// sanitizer knows. Only a barrier orders the fibers of a block, and nothing orders blocks: so what two threads do to the
// same number, with no barrier between, is reported as a race.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#include <thread>
#define PER_WORKER static thread_local
#define UNSEEN __attribute__((no_sanitize_thread)) static  // by the sanitizer: what is no part of a kernel
#else
#define PER_WORKER static
#define UNSEEN static
#endif
using namespace std;

// --- what a kernel calls an int: one that notices what it cannot hold. A test says how much that is (on_cpu.INT_MOST), so
// that an offset which is computed in an int, and would be wrong in arrays of 2^31 elements, shows in small ones.

extern "C" { int int_most = 2147483647; }
static bool overflowed;

struct Int {
    int value;
    Int() = default;
    template <class T, class = enable_if_t<is_integral<T>::value>> Int(T v) : value(v)
    {
        if ((long long)v != value || value > int_most || value < -int_most - 1) overflowed = true;
    }
    operator int() const { return value; }
    Int operator-() const { return -(long long)value; }
    template <class T> Int& operator+=(T other) { return *this = *this + other; }
    template <class T> Int& operator-=(T other) { return *this = *this - other; }
    Int& operator++() { return *this += 1; }
    Int operator++(int) { const Int old = *this; ++*this; return old; }
    Int& operator--() { return *this -= 1; }
    Int operator--(int) { const Int old = *this; --*this; return old; }
};

// Of two numbers of at most 32 bits, one of them an Int; with a long long or a floating number, C++ has its own.
template <class A, class B> using Checked = enable_if_t<
    (is_same<A, Int>::value || is_same<B, Int>::value) &&
    (is_same<A, Int>::value || (is_integral<A>::value && sizeof(A) <= 4)) &&
    (is_same<B, Int>::value || (is_integral<B>::value && sizeof(B) <= 4)), Int>;
template <class A, class B> static Checked<A, B> operator+(A a, B b) { return (long long)a + (long long)b; }
template <class A, class B> static Checked<A, B> operator-(A a, B b) { return (long long)a - (long long)b; }
template <class A, class B> static Checked<A, B> operator*(A a, B b) { return (long long)a * (long long)b; }
template <class A, class B> static Checked<A, B> operator/(A a, B b) { return (long long)a / (long long)b; }
template <class A, class B> static Checked<A, B> operator%(A a, B b) { return (long long)a % (long long)b; }
static Int min(Int a, int b) { return std::min(a.value, b); }
static Int max(Int a, int b) { return std::max(a.value, b); }

// CUDA's, of a NaN and a number, give the number; those of C++ give one or the other.
[[maybe_unused]] static float min(float a, float b) { return fmin(a, b); }
[[maybe_unused]] static float max(float a, float b) { return fmax(a, b); }
[[maybe_unused]] static double min(double a, double b) { return fmin(a, b); }
[[maybe_unused]] static double max(double a, double b) { return fmax(a, b); }

struct Place { Int x, y, z; };
PER_WORKER Place threadIdx, blockIdx;
static Place blockDim, gridDim;
#define __global__
#define __device__ static
#define __shared__ PER_WORKER
#define __restrict__ __restrict

static unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned __int128)a * b >> 64;
}

// --- fibers: stacks for threads that wait for one another. They live on from block to block, and switching between them
// is a longjmp (with a sanitizer a swapcontext, which it can be told of).

static const int MOST = 1024, STACK = 1 << 16;
PER_WORKER ucontext_t scheduler, fiber[MOST];
PER_WORKER char* stacks;
PER_WORKER bool begun[MOST], over[MOST];
PER_WORKER int current;
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
#elif defined(__SANITIZE_THREAD__)
PER_WORKER void *scheduler_known, *known[MOST];  // the sanitizer's fibers
PER_WORKER char barrier[2];  // one and the next: a thread may be at the next before all have left the one
PER_WORKER bool next_barrier[MOST];
static const unsigned UNORDERED = __tsan_switch_to_fiber_no_sync;

UNSEEN void to_fiber(int t)
{
    __tsan_switch_to_fiber(known[t], UNORDERED);
    swapcontext(&scheduler, &fiber[t]);
}

UNSEEN void to_scheduler()  // at a barrier, and at the end of a block: what comes after waits for all that was before
{
    const int t = current;
    char* here = &barrier[next_barrier[t] = !next_barrier[t]];
    __tsan_release(here);
    __tsan_switch_to_fiber(scheduler_known, UNORDERED);
    swapcontext(&fiber[t], &scheduler);
    __tsan_acquire(here);
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

UNSEEN void fiber_main()
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

UNSEEN void make_fibers(int count)
{
    if (!stacks) stacks = (char*)malloc((size_t)count * STACK);
    for (int t = 0; t < count; t++) {
#if defined(__SANITIZE_THREAD__)
        known[t] = __tsan_create_fiber(0);
#endif
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

UNSEEN void set_thread(unsigned t)
{
    const unsigned wide = blockDim.x, deep = blockDim.y;
    threadIdx = {t % wide, t / wide % deep, t / wide / deep};
}

UNSEEN bool run_fibers(const unsigned* order, unsigned threads)
{
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
            return false;
        }
    }
}

// A thread that waits for no other. The sanitizer sees it as one of a few fibers, since a fiber costs half a millisecond.
static const unsigned FEW = 8;
UNSEEN void run_alone([[maybe_unused]] unsigned t)
{
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(known[t % FEW], UNORDERED);
#endif
    body(body_argument);
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&barrier[0]);
    __tsan_switch_to_fiber(scheduler_known, UNORDERED);
#endif
}

// Every step-th block from the first on. False if some threads of a block wait at a barrier that others never reach.
UNSEEN bool run_blocks(const unsigned* order, unsigned first, unsigned blocks, unsigned step, const unsigned* thread_order,
                       unsigned threads, bool fibers)
{
    for (unsigned b = first; b < blocks; b += step) {
        const unsigned k = order[b];
        const unsigned wide = gridDim.x, deep = gridDim.y;
        blockIdx = {k % wide, k / wide % deep, k / wide / deep};
        if (!fibers)
            for (unsigned t = 0; t < threads; t++) {
                set_thread(thread_order[t]);
                run_alone(t);
            }
        else if (!run_fibers(thread_order, threads)) return false;
    }
    return true;
}

template <class... A, size_t... I> static void call(void (*kernel)(A...), void** a, index_sequence<I...>)
{
    kernel(*(A*)a[I]...);
}

template <class... A>
static int launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, bool fibers,
                  unsigned long long seed, void** arguments)
{
    struct Call { void (*kernel)(A...); void** arguments; } the_call = {kernel, arguments};
    body = [](void* p) { Call* c = (Call*)p; call(c->kernel, c->arguments, index_sequence_for<A...>()); };
    body_argument = &the_call;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], 1};
    state = seed;
    overflowed = false;
    const unsigned blocks = grid[0] * grid[1] * grid[2], threads = block[0] * block[1];
    unsigned *block_order = shuffled(blocks), *thread_order = shuffled(threads);
    bool met = true;
#if defined(__SANITIZE_THREAD__)
    const unsigned workers = min(blocks, 2u);
    bool each_met[2] = {true, true};
    thread worker[2];
    for (unsigned w = 0; w < workers; w++)
        worker[w] = thread([=, &each_met] {
            scheduler_known = __tsan_get_current_fiber();
            const unsigned count = fibers ? threads : FEW;
            make_fibers(count);
            each_met[w] = run_blocks(block_order, w, blocks, workers, thread_order, threads, fibers);
            for (char& one : barrier) __tsan_acquire(&one);  // the launch ends after all of its threads
            for (unsigned t = 0; t < count; t++) __tsan_destroy_fiber(known[t]);
            free(stacks);
        });
    for (unsigned w = 0; w < workers; w++) {
        worker[w].join();
        met = met && each_met[w];
    }
#else
    if (fibers && !stacks) make_fibers(MOST);
    met = run_blocks(block_order, 0, blocks, 1, thread_order, threads, fibers);
    if (!met) make_fibers(MOST);  // those that wait at a barrier will never end
#endif
    free(block_order);
    free(thread_order);
    return met ? 2 * overflowed : 1;
}
