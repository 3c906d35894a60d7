// The sums of the rows of x (O, P): the gradient of a bias.
//
//     db[o] = sum over p of dy[o, p]

// A block adds up one run of a row: each of its threads every 256th element, then 16 threads 16 sums each, then one the
// rest. So the order, and with it every bit of the result, depends on the shape alone. sums is (O, runs); a second launch
// adds the runs.
extern "C" __global__ void row_sums(const REAL* __restrict__ x, REAL* __restrict__ sums, int P, int run)
{
    __shared__ REAL part[256];
    const int t = threadIdx.x;
    const long long o = blockIdx.y, first = (long long)blockIdx.x * run, end = min(first + run, (long long)P);
    REAL sum = 0;
    for (long long p = first + t; p < end; p += 256) sum += x[o * P + p];
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
