// A bias is added to every row of y (O, P), and its gradient is the sum of every row of dy.
//
//     y[o, p] += b[o]            db[o] = sum over p of dy[o, p]

extern "C" __global__ void add_to_rows(REAL* y, const REAL* b, int P)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x, o = blockIdx.y;
    if (p < P) y[o * P + p] += b[o];
}

// A block adds up one run of a row: each of its threads every 256th element, then the threads in pairs, so the order, and
// with it every bit of the result, depends on the shape alone. sums is (O, runs); a second launch adds the runs.
extern "C" __global__ void row_sums(const REAL* __restrict__ x, REAL* __restrict__ sums, int P, int run)
{
    __shared__ REAL part[256];
    const int t = threadIdx.x;
    const long long o = blockIdx.y, first = (long long)blockIdx.x * run, end = min(first + run, (long long)P);
    REAL sum = 0;
    for (long long p = first + t; p < end; p += 256) sum += x[o * P + p];
    part[t] = sum;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) part[t] += part[t + half];
    }
    if (t == 0) sums[o * gridDim.x + blockIdx.x] = part[0];
}
