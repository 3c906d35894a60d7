// The sums of the rows of x (O, P): the gradient of a bias.
//
//     db[o] = sum over p of dy[o, p]
//
// A block adds up one run of a row: each of its threads every 256th element, then 16 threads 16 sums each, then one the
// rest. So the order, and with it every bit of the result, depends on the shape alone. sums is (O, runs); a second launch
// adds the runs.

// The sum over all threads of a block, to its place in sums (O, runs).
__device__ void add_up(REAL sum, long long o, REAL* sums)
{
    __shared__ REAL part[256];
    const int t = threadIdx.x;
    part[t] = sum;
    __syncthreads();
    if (t < 16) {
        for (int other = t + 16; other < 256; other += 16) sum += part[other];
        part[t] = sum;
    }
    __syncthreads();
    if (t == 0) {
        for (int other = 1; other < 16; other++) sum += part[other];
        sums[o * gridDim.x + blockIdx.x] = sum;
    }
}

extern "C" __global__ void row_sums(const REAL* __restrict__ x, REAL* __restrict__ sums, int O, int P, int run)
{
    const long long o = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (o >= O) return;
    const long long first = (long long)blockIdx.x * run, end = min(first + run, (long long)P);
    REAL sum = 0;
    for (long long p = first + threadIdx.x; p < end; p += 256) sum += x[o * P + p];
    add_up(sum, o, sums);
}

// The same behind a rectifier: what it lets through of dy, and the sums of that, while it is at hand.
//
//     dz[o, p] = 0 where y[o, p] <= 0, else dy[o, p]       db[o] = sum over p of dz[o, p]
extern "C" __global__ void relu_row_sums(const REAL* __restrict__ dy, const REAL* __restrict__ y,
                                         REAL* __restrict__ dz, REAL* __restrict__ sums, int O, int P, int run)
{
    const long long o = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (o >= O) return;
    const long long first = (long long)blockIdx.x * run, end = min(first + run, (long long)P);
    REAL sum = 0;
    for (long long p = first + threadIdx.x; p < end; p += 256) {
        const REAL passed = y[o * P + p] <= 0 ? 0 : dy[o * P + p];
        dz[o * P + p] = passed;
        sum += passed;
    }
    add_up(sum, o, sums);
}
