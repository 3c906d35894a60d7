// Max-pooling. Formula and letters: tinynet/kernels/max_pool2d.py.
//
// blockIdx.z and y give the channel; along x, threads side by side hold neighbouring n. Backward gathers: a thread takes one
// pixel and asks every window that covers it, so no two threads ever add to the same place, and no atomics are needed.
//
// A thread takes AT_ONCE neighbouring pictures, for which N is counted in these: it needs some 130 instructions to find its
// place and its windows, and a dozen for what it does to one picture there.

struct alignas(AT_ONCE * sizeof(REAL)) Pixel { REAL n[AT_ONCE]; };
struct alignas(AT_ONCE * sizeof(INDEX)) Winner { INDEX n[AT_ONCE]; };

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
    const Pixel* __restrict__ map = (const Pixel*)x + c * H * W * N + n;
    Pixel best = map[((long long)h_first * W + w_first) * N];
    int who[AT_ONCE];
    for (int k = 0; k < AT_ONCE; k++) who[k] = first;
    for (int h = h_first; h < h_end; h++) {
        for (int w = w_first; w < w_end; w++) {
            const Pixel v = map[((long long)h * W + w) * N];
            for (int k = 0; k < AT_ONCE; k++) {
                const bool nan = v.n[k] != v.n[k];
                if (v.n[k] > best.n[k] || nan) {
                    best.n[k] = v.n[k];
                    who[k] = nan ? first : (h - top) * kw + w - left;
                }
            }
        }
    }
    Winner won;
    for (int k = 0; k < AT_ONCE; k++) won.n[k] = who[k];
    ((Pixel*)y)[c * OH * OW * N + p] = best;
    ((Winner*)winner)[c * OH * OW * N + p] = won;
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
    Pixel sum = {};
    for (int oh = oh_last; oh >= oh_first; oh--) {
        for (int ow = ow_last; ow >= ow_first; ow--) {
            const long long o = ((c * OH + oh) * OW + ow) * N + n;
            const int here = (h + ph - oh * sh) * kw + w + pw - ow * sw;
            const Winner won = ((const Winner*)winner)[o];
            const Pixel gradient = ((const Pixel*)dy)[o];
            for (int k = 0; k < AT_ONCE; k++)
                if ((int)won.n[k] == here) sum.n[k] += gradient.n[k];
        }
    }
    ((Pixel*)dx)[c * H * W * N + p] = sum;
}
