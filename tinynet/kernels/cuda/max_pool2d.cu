// Max-pooling. Formula and letters: tinynet/kernels/max_pool2d.py.
//
// blockIdx.z and y give the channel; along x, threads side by side hold neighbouring n. Backward gathers: a thread takes one pixel
// and asks every window that covers it, so no two threads ever add to the same place, and no atomics are needed.

// The first largest value in (i, j) order wins. Of a window with a NaN, NaN comes out and its first pixel wins.
extern "C" __global__ void max_pool2d_forward(const REAL* __restrict__ x, REAL* __restrict__ y,
                                              INDEX* __restrict__ winner, int C, int N, int H, int W, int kh, int kw,
                                              int sh, int sw, int ph, int pw, int OH, int OW)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (oh, ow, n)
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)OH * OW * N || c >= C) return;
    const int n = (int)p % N, ow = (int)p / N % OW, oh = (int)p / N / OW;
    const int top = oh * sh - ph, left = ow * sw - pw;
    const int h_first = max(top, 0), h_end = min(top + kh, H), w_first = max(left, 0), w_end = min(left + kw, W);
    const int first = (h_first - top) * kw + w_first - left;  // the first pixel inside the picture
    REAL best = x[((c * H + h_first) * W + w_first) * N + n];
    int who = first;
    for (int h = h_first; h < h_end; h++) {
        for (int w = w_first; w < w_end; w++) {
            const REAL v = x[((c * H + h) * W + w) * N + n];
            const bool nan = v != v;
            if (v > best || nan) {
                best = v;
                who = nan ? first : (h - top) * kw + w - left;
            }
        }
    }
    y[c * OH * OW * N + p] = best;
    winner[c * OH * OW * N + p] = who;
}

extern "C" __global__ void max_pool2d_backward(const REAL* __restrict__ dy, const INDEX* __restrict__ winner,
                                               REAL* __restrict__ dx, int C, int N, int H, int W, int kh, int kw, int sh,
                                               int sw, int ph, int pw, int OH, int OW)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (h, w, n)
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)H * W * N || c >= C) return;
    const int n = (int)p % N, w = (int)p / N % W, h = (int)p / N / W;
    // oh*sh <= h + ph <= oh*sh + kh - 1
    const int oh_last = min((h + ph) / sh, OH - 1), oh_first = max((h + ph - kh + sh) / sh, 0);
    const int ow_last = min((w + pw) / sw, OW - 1), ow_first = max((w + pw - kw + sw) / sw, 0);
    REAL sum = 0;
    for (int oh = oh_last; oh >= oh_first; oh--) {
        for (int ow = ow_last; ow >= ow_first; ow--) {
            const long long o = ((c * OH + oh) * OW + ow) * N + n;
            if ((int)winner[o] == (h + ph - oh * sh) * kw + w + pw - ow * sw) sum += dy[o];
        }
    }
    dx[c * H * W * N + p] = sum;
}
