// Kernels w (O, C, kh, kw) in the order of row_columns.cu, and back.

// v[o, i, j, c] = w[o, c, i, j]
extern "C" __global__ void for_rows(
    const REAL* __restrict__ w, REAL* __restrict__ v, int C, int kh, int kw, long long count)
{
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // in v
    if (at >= count) return;
    const int c = at % C, j = at / C % kw, i = at / C / kw % kh;
    const long long o = at / C / kw / kh;
    v[at] = w[((o * C + c) * kh + i) * kw + j];
}

// Turned by half a circle, inputs and outputs exchanged: v[c, i, j, o] = w[o, c, kh-1-i, kw-1-j].
// With stride 1, dx is the convolution of dy with these.
extern "C" __global__ void turned_for_rows(
    const REAL* __restrict__ w, REAL* __restrict__ v, int O, int C, int kh, int kw, long long count)
{
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // in v
    if (at >= count) return;
    const int o = at % O, j = at / O % kw, i = at / O / kw % kh;
    const long long c = at / O / kw / kh;
    v[at] = w[(((long long)o * C + c) * kh + kh - 1 - i) * kw + kw - 1 - j];
}

// dw[o, c, i, j] = sum of parts[r, o, i, j, c] over the output rows r, in their order; with `add`,
// added to what is there. A thread takes one weight.
extern "C" __global__ void sum_of_rows(
    const REAL* __restrict__ parts, REAL* __restrict__ dw, int rows, int C, int kh, int kw, bool add,
    long long count)
{
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // in one of the parts
    if (at >= count) return;
    const int c = at % C, j = at / C % kw, i = at / C / kw % kh;
    const long long o = at / C / kw / kh, to = ((o * C + c) * kh + i) * kw + j;
    REAL sum = add ? dw[to] : 0;
    for (int r = 0; r < rows; r++) sum += parts[r * count + at];
    dw[to] = sum;
}
