// Average pooling. Formula and letters: tinynet/kernels/avg_pool2d.py.
//
// blockIdx.z and y give the channel; along x, threads side by side hold neighbouring n. Backward gathers, like max_pool2d.cu.

// The number of pixels of window o along one axis that count: inside the padded picture, or inside the picture.
__device__ int window_size(int o, int stride, int padding, int kernel, int size, bool count_include_pad)
{
    const int start = o * stride - padding, stop = min(start + kernel, size + padding);
    return count_include_pad ? stop - start : min(stop, size) - max(start, 0);
}

extern "C" __global__ void avg_pool2d_forward(const REAL* __restrict__ x, REAL* __restrict__ y, int C, int N, int H, int W,
                                              int kh, int kw, int sh, int sw, int ph, int pw, int OH, int OW,
                                              bool count_include_pad)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (oh, ow, n)
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)OH * OW * N || c >= C) return;
    const int n = (int)p % N, ow = (int)p / N % OW, oh = (int)p / N / OW;
    const int top = oh * sh - ph, left = ow * sw - pw;
    REAL sum = 0;
    for (int h = max(top, 0); h < min(top + kh, H); h++)
        for (int w = max(left, 0); w < min(left + kw, W); w++) sum += x[((c * H + h) * W + w) * N + n];
    y[c * OH * OW * N + p] = sum / (window_size(oh, sh, ph, kh, H, count_include_pad) *
                                    window_size(ow, sw, pw, kw, W, count_include_pad));
}

extern "C" __global__ void avg_pool2d_backward(const REAL* __restrict__ dy, REAL* __restrict__ dx, int C, int N, int H,
                                               int W, int kh, int kw, int sh, int sw, int ph, int pw, int OH, int OW,
                                               bool count_include_pad)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (h, w, n)
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)H * W * N || c >= C) return;
    const int n = (int)p % N, w = (int)p / N % W, h = (int)p / N / W;
    const int oh_last = min((h + ph) / sh, OH - 1), oh_first = max((h + ph - kh + sh) / sh, 0);
    const int ow_last = min((w + pw) / sw, OW - 1), ow_first = max((w + pw - kw + sw) / sw, 0);
    REAL sum = 0;
    for (int oh = oh_last; oh >= oh_first; oh--)
        for (int ow = ow_last; ow >= ow_first; ow--)
            sum += dy[((c * OH + oh) * OW + ow) * N + n] / (window_size(oh, sh, ph, kh, H, count_include_pad) *
                                                           window_size(ow, sw, pw, kw, W, count_include_pad));
    dx[c * H * W * N + p] = sum;
}
