// Layer normalisation. Formulas and letters: tinynet/kernels/layer_norm.py.
//
// x is (R, D). A row is one warp's work: each of its 32 lanes takes every 32nd value, then the
// lanes' sums are added up in shared memory, in one fixed order. A block is eight rows.

#define WARP 32
#define ROWS 8

// The sum over the lanes of a row; every lane gets it.
__device__ REAL over_row(REAL sum, REAL (*part)[WARP])
{
    __syncthreads();  // the last use of `part` is over
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (int lane = 0; lane < WARP; lane++) sum += part[threadIdx.y][lane];
    return sum;
}

// A row past the last goes along with the last one, so that it meets the others at __syncthreads,
// and ends after the last of these.
#define ROW                                                                                   \
    __shared__ REAL part[ROWS][WARP];                                                         \
    const long long wanted = (long long)blockIdx.x * ROWS + threadIdx.y;                      \
    const long long row = min(wanted, (long long)R - 1), start = row * D;
#define END_PAST_THE_LAST if (wanted >= R) return;

// m, r, and y_i = w_i (x_i - m) r + b_i
extern "C" __global__ void layer_norm_forward(
    const REAL* __restrict__ x, const REAL* __restrict__ w, const REAL* __restrict__ b,
    REAL* __restrict__ y, REAL* __restrict__ mean, REAL* __restrict__ inverse, int R, int D,
    REAL eps)
{
    ROW
    REAL sum = 0;
    for (int i = threadIdx.x; i < D; i += WARP) sum += x[start + i];
    const REAL m = over_row(sum, part) / D;
    sum = 0;
    for (int i = threadIdx.x; i < D; i += WARP) sum += (x[start + i] - m) * (x[start + i] - m);
    const REAL r = 1 / sqrt(over_row(sum, part) / D + eps);
    END_PAST_THE_LAST
    for (int i = threadIdx.x; i < D; i += WARP)
        y[start + i] = w[i] * ((x[start + i] - m) * r) + b[i];
    if (threadIdx.x == 0) {
        mean[row] = m;
        inverse[row] = r;
    }
}

// dx_j = r (g_j - 1/D sum of g_i - h_j 1/D sum of g_i h_i), g = w dy
extern "C" __global__ void layer_norm_backward(
    const REAL* __restrict__ dy, const REAL* __restrict__ x, const REAL* __restrict__ w,
    const REAL* __restrict__ mean, const REAL* __restrict__ inverse, REAL* __restrict__ dx, int R,
    int D)
{
    ROW
    const REAL m = mean[row], r = inverse[row];
    REAL sum = 0, product = 0;
    for (int i = threadIdx.x; i < D; i += WARP) {
        const REAL g = w[i] * dy[start + i];
        sum += g;
        product += g * ((x[start + i] - m) * r);
    }
    sum = over_row(sum, part) / D;
    product = over_row(product, part) / D;
    END_PAST_THE_LAST
    for (int i = threadIdx.x; i < D; i += WARP) {
        const REAL h = (x[start + i] - m) * r;
        dx[start + i] = r * (w[i] * dy[start + i] - sum - h * product);
    }
}

// The sums of dy h and of dy over a run of rows, both (runs, D): a thread a column, blockIdx.y the
// run.
extern "C" __global__ void layer_norm_sums(
    const REAL* __restrict__ dy, const REAL* __restrict__ x, const REAL* __restrict__ mean,
    const REAL* __restrict__ inverse, REAL* __restrict__ dw, REAL* __restrict__ db, int R, int D,
    int run)
{
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= D) return;
    const long long first = (long long)blockIdx.y * run, end = min(first + run, (long long)R);
    REAL product = 0, sum = 0;
    for (long long row = first; row < end; row++) {
        product += dy[row * D + i] * ((x[row * D + i] - mean[row]) * inverse[row]);
        sum += dy[row * D + i];
    }
    dw[blockIdx.y * (long long)D + i] = product;
    db[blockIdx.y * (long long)D + i] = sum;
}
