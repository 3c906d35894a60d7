// What follows a matrix product y (M, O) of sequences, whose vectors are rows: bias and rectifier,
// and their gradients.

// y[m, o] <- y[m, o] + b[o]        relu: max(y[m, o] + b[o], 0); a NaN comes out as NaN
extern "C" __global__ void add_to_columns(REAL* y, const REAL* b, int O, bool relu, long long count)
{
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x +
                        (long long)blockIdx.y * gridDim.x * blockDim.x;
    if (i >= count) return;
    const REAL sum = y[i] + b[i % O];
    y[i] = relu && sum < 0 ? 0 : sum;
}

// sums[k, o] = sum of x[m, o] over the rows m of run k: a thread goes down one column, its
// neighbours down the next ones. A second launch adds the runs. So the order depends on the shape
// alone.
extern "C" __global__ void column_sums(
    const REAL* __restrict__ x, REAL* __restrict__ sums, int M, int O, int run)
{
    const long long o = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (o >= O) return;
    const long long first = (long long)blockIdx.y * run, end = min(first + run, (long long)M);
    REAL sum = 0;
    for (long long m = first; m < end; m++) sum += x[m * O + o];
    sums[blockIdx.y * (long long)O + o] = sum;
}
