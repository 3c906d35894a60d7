// A bias is added to every row of y (O, P).
//
//     y[o, p] += b[o]

extern "C" __global__ void add_to_rows(REAL* y, const REAL* b, int P)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x, o = blockIdx.y;
    if (p < P) y[o * P + p] += b[o];
}
