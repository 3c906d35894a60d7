// Upsampling by repetition. Formulas and letters: tinynet/kernels/upsample2d.py.
//
// x is (C, H, W, N), y (C, s H, t W, N); blockIdx.z and y give the channel. A thread writes one value, the
// batch innermost, so that a warp reads and writes 32 neighbours.

// y[i, j] = x[i / s, j / t]
extern "C" __global__ void upsample2d_forward(const REAL* __restrict__ x, REAL* __restrict__ y,
                                              int C, int N, int H, int W, int s,
                                               int t)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    const int n = p % N, j = p / N % (W * t), i = p / N / (W * t);
    if (i >= H * s || c >= C) return;
    y[c * H * s * W * t * N + p] = x[((c * H + i / s) * W + j / t) * N + n];
}

// dx[h, w] = the sum of dy over the block of (h, w)
extern "C" __global__ void upsample2d_backward(const REAL* __restrict__ dy, REAL* __restrict__ dx,
                                               int C, int N, int H, int W, int s,
                                               int t)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    const int n = p % N, w = p / N % W, h = p / N / W;
    if (h >= H || c >= C) return;
    REAL sum = 0;
    for (int i = h * s; i < h * s + s; i++)
        for (int j = w * t; j < w * t + t; j++)
            sum += dy[((c * H * s + i) * W * t + j) * N + n];
    dx[c * H * W * N + p] = sum;
}
