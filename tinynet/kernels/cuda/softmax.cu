// Softmax, log-softmax, and softmax with cross-entropy. Formulas and letters: tinynet/kernels/softmax.py, cross_entropy.py.
//
// In memory x is (outer, K, inner), and a column is the K values of one (o, i). A block is 32 columns wide and LANES lanes
// deep: the threads of a warp read 32 neighbouring columns, each lane every LANES-th k, and then the lanes are added up in
// shared memory, in one fixed order.

#define LANES 8

// Adds (or takes the largest of) the values of all lanes of a column; every lane gets the result.
__device__ REAL over_lanes(REAL value, bool largest, REAL (*shared)[32])
{
    __syncthreads();  // the last use of `shared` is over
    shared[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    REAL result = shared[0][threadIdx.x];
    for (int lane = 1; lane < LANES; lane++) {
        const REAL other = shared[lane][threadIdx.x];
        if (!largest) result += other;
        else if (other > result) result = other;
    }
    return result;
}

// The place of this thread's first value. A thread past the last column goes along with that column, so that it meets the
// others at __syncthreads; after the last of these it ends.
#define COLUMN                                                                               \
    __shared__ REAL shared[LANES][32];                                                       \
    const long long wanted = (long long)blockIdx.x * 32 + threadIdx.x;                       \
    const long long column = min(wanted, columns - 1), start = column / inner * K * inner + column % inner;
#define END_PAST_THE_LAST if (wanted >= columns) return;

// The largest of a column, then the sum of exp(x - largest): NaN if there is one in the column,
// whatever is the largest.
#define LARGEST_AND_SUM                                                                      \
    REAL largest = x[start];                                                                 \
    for (int k = threadIdx.y; k < K; k += LANES) {                                           \
        const REAL v = x[start + k * inner];                                                 \
        if (v > largest) largest = v;                                                        \
    }                                                                                        \
    largest = over_lanes(largest, true, shared);                                             \
    REAL sum = 0;                                                                            \
    for (int k = threadIdx.y; k < K; k += LANES) sum += exp(x[start + k * inner] - largest); \
    sum = over_lanes(sum, false, shared);

extern "C" __global__ void softmax_forward(const REAL* __restrict__ x, REAL* __restrict__ y, long long columns,
                                           int K, long long inner, bool log_form)
{
    COLUMN
    LARGEST_AND_SUM
    END_PAST_THE_LAST
    const REAL log_sum = log(sum);
    for (int k = threadIdx.y; k < K; k += LANES) {
        const REAL shifted = x[start + k * inner] - largest;
        y[start + k * inner] = log_form ? shifted - log_sum : exp(shifted) / sum;
    }
}

// softmax: y (dy - sum of dy y)         log-softmax: dy - exp(y) * sum of dy
extern "C" __global__ void softmax_backward(const REAL* __restrict__ dy, const REAL* __restrict__ y,
                                            REAL* __restrict__ dx, long long columns, int K, long long inner,
                                            bool log_form)
{
    COLUMN
    REAL sum = 0;
    for (int k = threadIdx.y; k < K; k += LANES) {
        const long long i = start + k * inner;
        sum += log_form ? dy[i] : dy[i] * y[i];
    }
    sum = over_lanes(sum, false, shared);
    END_PAST_THE_LAST
    for (int k = threadIdx.y; k < K; k += LANES) {
        const long long i = start + k * inner;
        dx[i] = log_form ? dy[i] - exp(y[i]) * sum : y[i] * (dy[i] - sum);
    }
}

// loss = log(sum) - (1 - e) (x_t - largest) - e/K sum of (x - largest), and the probabilities for
// backward. In memory x is (K, N) with inner = N, or (N, K) with inner = 1; columns = N.
extern "C" __global__ void cross_entropy_forward(
    const REAL* __restrict__ x, const long long* __restrict__ target, REAL* __restrict__ losses,
    REAL* __restrict__ probabilities, long long columns, int K, long long inner, REAL e)
{
    COLUMN
    LARGEST_AND_SUM
    const long long t = target[column];
    REAL total = 0;
    if (e > 0) {
        for (int k = threadIdx.y; k < K; k += LANES) total += x[start + k * inner] - largest;
        total = over_lanes(total, false, shared);
    }
    END_PAST_THE_LAST
    for (int k = threadIdx.y; k < K; k += LANES) {
        const REAL shifted = x[start + k * inner] - largest;
        probabilities[start + k * inner] = exp(shifted) / sum;
        if (k == t) losses[column] = log(sum) - (1 - e) * shifted - e / K * total;
    }
    // A class that is not there gives NaN: targets on a GPU are not checked before.
    if (threadIdx.y == 0 && (t < 0 || t >= K)) losses[column] = sqrt((REAL)-1);
}

// dx_k = dloss (p_k - (1 - e) [k = t] - e/K), one thread an element, along memory
extern "C" __global__ void cross_entropy_backward(
    REAL* __restrict__ dx, const REAL* __restrict__ dlosses,
    const REAL* __restrict__ probabilities, const long long* __restrict__ target, int K, int inner,
    REAL e, long long count)
{
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x +
                        (long long)blockIdx.y * gridDim.x * blockDim.x;
    if (i >= count) return;
    const long long n = i / inner / K * inner + i % inner, k = i / inner % K;
    const long long t = target[n];
    const REAL p = t < 0 || t >= K ? sqrt((REAL)-1) : probabilities[i];
    dx[i] = dlosses[n] * (p - (1 - e) * (k == t) - e / K);
}
