// Average pooling to a wanted size. Formula and letters: tinynet/kernels/adaptive_avg_pool2d.py.
//
// blockIdx.z and y give the channel; along x, threads side by side hold neighbouring n. Backward gathers: a
// thread takes one pixel and asks every window that covers it.

// Window i of n rows, `out` of them: first ... end - 1.
__device__ int first_row(int i, int n, int out) { return (long long)i * n / out; }
__device__ int end_row(int i, int n, int out) { return ((long long)(i + 1) * n + out - 1) / out; }

extern "C" __global__ void adaptive_avg_pool2d_forward(
    const REAL* __restrict__ x, REAL* __restrict__ y, int C, int N, int H, int W, int OH, int OW)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (i, j, n)
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)OH * OW * N || c >= C) return;
    const int n = (int)p % N, j = (int)p / N % OW, i = (int)p / N / OW;
    const int top = first_row(i, H, OH), bottom = end_row(i, H, OH);
    const int left = first_row(j, W, OW), right = end_row(j, W, OW);
    REAL sum = 0;
    for (int h = top; h < bottom; h++)
        for (int w = left; w < right; w++) sum += x[((c * H + h) * W + w) * N + n];
    y[c * OH * OW * N + p] = sum / ((bottom - top) * (right - left));
}

extern "C" __global__ void adaptive_avg_pool2d_backward(
    const REAL* __restrict__ dy, REAL* __restrict__ dx, int C, int N, int H, int W, int OH, int OW)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (h, w, n)
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)H * W * N || c >= C) return;
    const int n = (int)p % N, w = (int)p / N % W, h = (int)p / N / W;
    // Window i covers h where i H / OH < h + 1 and (i + 1) H / OH > h: the same with OH and H
    // exchanged.
    REAL sum = 0;
    for (int i = first_row(h, OH, H); i < end_row(h, OH, H); i++) {
        for (int j = first_row(w, OW, W); j < end_row(w, OW, W); j++) {
            const int rows = end_row(i, H, OH) - first_row(i, H, OH);
            const int columns = end_row(j, W, OW) - first_row(j, W, OW);
            sum += dy[((c * OH + i) * OW + j) * N + n] / (rows * columns);
        }
    }
    dx[c * H * W * N + p] = sum;
}
