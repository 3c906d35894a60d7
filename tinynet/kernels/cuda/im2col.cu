// im2col: the windows of a convolution as columns. Formula and letters: tinynet/kernels/im2col.py.
//
//     col[(c, i, j), (oh, ow, n)] = x[c, oh*sh + i - ph, ow*sw + j - pw, n]      0 outside the picture
//
// for the output rows row0 ... row0 + rows - 1, so columns can be made in pieces. blockIdx.z and y
// give the channel c; along x, threads side by side hold neighbouring n, so every read and write of a warp
// is one run of memory. A thread finds its place once (divisions are expensive) and then copies
// kh*kw pixels.
//
// ELEMENT is float or double, or 16 bytes of either where N allows: nothing is computed here, only moved.
extern "C" __global__ void im2col(const ELEMENT* __restrict__ x, ELEMENT* __restrict__ col, int C, int N, int H, int W,
                                  int kh, int kw, int sh, int sw, int ph, int pw, int OW, int row0, int rows)
{
    const long long P = (long long)rows * OW * N;
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (oh - row0, ow, n)
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= P || c >= C) return;
    const int n = (int)p % N, ow = (int)p / N % OW, oh = (int)p / N / OW + row0;
    x += c * H * W * N + n;
    col += c * kh * kw * P + p;
    for (int i = 0; i < kh; i++) {
        for (int j = 0; j < kw; j++) {
            const int h = oh * sh + i - ph, w = ow * sw + j - pw;
            const bool inside = 0 <= h && h < H && 0 <= w && w < W;
            *col = inside ? x[((long long)h * W + w) * N] : ELEMENT{};
            col += P;
        }
    }
}
