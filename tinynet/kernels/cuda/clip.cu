// The sum of squares: tinynet/kernels/clip.py. A block adds up one run of x, each thread every
// 256th element of it, then one thread the 256 sums. So the order, and with it every bit, depends
// on the size of x alone. A second launch, of one block, adds up the sums of the first: with
// POWER 1, which squares nothing.
extern "C" __global__ void power_sums(const REAL* x, double* sums, long long run, long long count)
{
    __shared__ double part[256];
    const long long first = blockIdx.x * run, end = first + run < count ? first + run : count;
    double sum = 0;
    for (long long i = first + threadIdx.x; i < end; i += 256) {
        const double value = x[i];
        sum += POWER == 2 ? value * value : value;
    }
    part[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int t = 1; t < 256; t++) sum += part[t];
        sums[blockIdx.x] = sum;
    }
}
