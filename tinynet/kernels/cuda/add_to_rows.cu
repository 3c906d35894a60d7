// What follows a matrix product y (O, P), in place: the bias of each row, and with `relu` the rectifier.
//
//     y[o, p] <- y[o, p] + b[o]        relu: max(y[o, p] + b[o], 0); a NaN comes out as NaN

extern "C" __global__ void add_to_rows(REAL* y, const REAL* b, bool relu, int O, int P)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long o = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= P || o >= O) return;
    const REAL sum = y[o * P + p] + b[o];
    y[o * P + p] = relu && sum < 0 ? 0 : sum;
}
