// Batch normalisation. Formulas and letters: tinynet/kernels/batch_norm.py.
//
// x is (C, P); blockIdx.z and y give the channel. A block of threads adds up one run of a row, and then one
// thread a channel adds up the runs, in one fixed order; the runs are the blocks of the formulas.

// The sum over all threads of a block; every thread gets it.
__device__ REAL over_block(REAL sum, REAL* part)
{
    const int t = threadIdx.x;
    __syncthreads();  // the last use of `part` is over
    part[t] = sum;
    __syncthreads();
    if (t < 16) {
        for (int other = t + 16; other < 256; other += 16) sum += part[other];
        part[t] = sum;
    }
    __syncthreads();
    sum = 0;
    for (int other = 0; other < 16; other++) sum += part[other];
    return sum;
}

#define RUN_OF_ROW                                                               \
    __shared__ REAL part[256];                                                   \
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;   \
    if (c >= C) return;                                                          \
    const long long first = (long long)blockIdx.x * run;                         \
    const long long end = min(first + run, (long long)P);

// m_k and q_k of every run, both (C, runs)
extern "C" __global__ void batch_norm_moments(
    const REAL* __restrict__ x, REAL* __restrict__ means, REAL* __restrict__ squares, int C,
    int P, int run)
{
    RUN_OF_ROW
    REAL sum = 0;
    for (long long p = first + threadIdx.x; p < end; p += 256) sum += x[c * P + p];
    const REAL mean = over_block(sum, part) / (end - first);
    sum = 0;
    for (long long p = first + threadIdx.x; p < end; p += 256) {
        const REAL shifted = x[c * P + p] - mean;
        sum += shifted * shifted;
    }
    sum = over_block(sum, part);
    if (threadIdx.x == 0) {
        means[c * gridDim.x + blockIdx.x] = mean;
        squares[c * gridDim.x + blockIdx.x] = sum;
    }
}

// m and r of every channel; the running ones move by the share `momentum`, if `update`. One thread
// a channel, in double: there are few.
extern "C" __global__ void batch_norm_statistics(
    const REAL* __restrict__ means, const REAL* __restrict__ squares, REAL* mean, REAL* inverse,
    REAL* running_mean, REAL* running_var, int C, int P, int run, int runs, double momentum,
    double eps, bool update)
{
    const long long c = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    double m = 0, v = 0;
    for (int k = 0; k < runs; k++) m += (double)min(run, P - k * run) * means[c * runs + k];
    m /= P;
    for (int k = 0; k < runs; k++) {
        const double away = means[c * runs + k] - m;
        v += squares[c * runs + k] + min(run, P - k * run) * away * away;
    }
    mean[c] = m;
    inverse[c] = 1 / sqrt(v / P + eps);
    if (update) {
        running_mean[c] = (1 - momentum) * running_mean[c] + momentum * m;
        running_var[c] = (1 - momentum) * running_var[c] + momentum * v / (P - 1);
    }
}

// y = w h + b, then max(y, 0) if asked for; a NaN comes out as NaN
extern "C" __global__ void batch_norm_forward(
    const REAL* __restrict__ x, const REAL* __restrict__ mean, const REAL* __restrict__ inverse,
    const REAL* __restrict__ w, const REAL* __restrict__ b, REAL* __restrict__ y, int C, int P, bool relu)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= P || c >= C) return;
    const REAL value = (x[c * P + p] - mean[c]) * (inverse[c] * w[c]) + b[c];
    y[c * P + p] = relu && value < 0 ? 0 : value;
}

// The sums of dy and of dy (x - m) over every run, both (C, runs). With relu, dy counts 0 where
// y <= 0.
extern "C" __global__ void batch_norm_sums(
    const REAL* __restrict__ dy, const REAL* __restrict__ y, const REAL* __restrict__ x,
    const REAL* __restrict__ mean, REAL* __restrict__ sums, REAL* __restrict__ products, int C, int P,
    int run, bool relu)
{
    RUN_OF_ROW
    REAL sum = 0, product = 0;
    for (long long p = first + threadIdx.x; p < end; p += 256) {
        if (relu && y[c * P + p] <= 0) continue;
        sum += dy[c * P + p];
        product += dy[c * P + p] * (x[c * P + p] - mean[c]);
    }
    sum = over_block(sum, part);
    product = over_block(product, part);
    if (threadIdx.x == 0) {
        sums[c * gridDim.x + blockIdx.x] = sum;
        products[c * gridDim.x + blockIdx.x] = product;
    }
}

// db and dw of every channel, from the runs
extern "C" __global__ void batch_norm_gradients(
    const REAL* __restrict__ sums, const REAL* __restrict__ products,
    const REAL* __restrict__ inverse, REAL* __restrict__ dw, REAL* __restrict__ db, int C, int runs)
{
    const long long c = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    double sum = 0, product = 0;
    for (int k = 0; k < runs; k++) {
        sum += sums[c * runs + k];
        product += products[c * runs + k];
    }
    db[c] = sum;
    dw[c] = product * inverse[c];
}

// dx = w r (dy - db/P - h dw/P); in use w r dy
extern "C" __global__ void batch_norm_backward(
    const REAL* __restrict__ dy, const REAL* __restrict__ y, const REAL* __restrict__ x,
    const REAL* __restrict__ mean, const REAL* __restrict__ inverse, const REAL* __restrict__ w,
    const REAL* __restrict__ dw, const REAL* __restrict__ db, REAL* __restrict__ dx, int C, int P,
    bool relu, bool training)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= P || c >= C) return;
    REAL value = relu && y[c * P + p] <= 0 ? 0 : dy[c * P + p];
    if (training) value -= (db[c] + (x[c * P + p] - mean[c]) * inverse[c] * dw[c]) / P;
    dx[c * P + p] = w[c] * inverse[c] * value;
}
