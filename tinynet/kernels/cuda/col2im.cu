// col2im: the adjoint of im2col, as a gather. Formula and letters: tinynet/kernels/im2col.py.
//
//     dx[c, h, w, n] += sum of col[(c, i, j), (oh, ow, n)] over the windows that cover (h, w)
//
// for the windows of the output rows row0 ... row0 + rows - 1. blockIdx.z and y give the channel c. A thread takes one pixel
// (h, w) with h0 <= h of AT_ONCE neighbouring pictures, for which N is counted in these, and adds up what all windows have for
// it, in the order of (i, j): no two threads add to the same place, so no atomics are needed, and the bits are the same every
// run, also whatever AT_ONCE is.

struct alignas(AT_ONCE * sizeof(REAL)) Pixel { REAL n[AT_ONCE]; };

extern "C" __global__ void col2im(const REAL* __restrict__ col, REAL* __restrict__ dx, int C, int N, int H, int W, int kh,
                                  int kw, int sh, int sw, int ph, int pw, int OW, int row0, int rows, int h0,
                                  int height)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (h - h0, w, n)
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)height * W * N || c >= C) return;
    const int n = (int)p % N, w = (int)p / N % W, h = (int)p / N / W + h0;
    const long long P = (long long)rows * OW * N;
    // oh*sh <= h + ph <= oh*sh + kh - 1
    const int oh_last = min((h + ph) / sh, row0 + rows - 1), oh_first = max((h + ph - kh + sh) / sh, row0);
    const int ow_last = min((w + pw) / sw, OW - 1), ow_first = max((w + pw - kw + sw) / sw, 0);
    Pixel* const d = (Pixel*)dx + ((c * H + h) * W + w) * N + n;
    Pixel sum = *d;
    for (int oh = oh_last; oh >= oh_first; oh--) {
        for (int ow = ow_last; ow >= ow_first; ow--) {
            const int i = h + ph - oh * sh, j = w + pw - ow * sw;
            const Pixel part =
                ((const Pixel*)col)[((c * kh + i) * kw + j) * P + ((long long)(oh - row0) * OW + ow) * N + n];
            for (int k = 0; k < AT_ONCE; k++) sum.n[k] += part.n[k];
        }
    }
    *d = sum;
}
