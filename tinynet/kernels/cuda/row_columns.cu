// Columns expanded along the row alone. Letters: tinynet/kernels/im2col.py, conv2d.py.
//
//     col[r, (j, c), (ow, n)] = x[c, r + top, ow*sw + j - left, n]        0 outside the picture
//
// for `rows` rows of the picture from `top` on. The columns of output row oh are kh of these rows,
// one after the other: (i, j, c) from row oh*sh on. So the columns of all output rows are overlapping
// views of one array, kh / sh times smaller than columns that are written out (im2col.py).
//
// blockIdx.z and y give (r, c); along x, threads side by side hold neighbouring n, so every read and
// write of a warp is one run of memory. A thread finds its place once (divisions are expensive) and
// then copies kw pixels.
//
// A thread moves AT_ONCE neighbouring pictures at once, 16 bytes where N allows: N and OW*N are counted in these.
struct alignas(AT_ONCE * sizeof(REAL)) Pixel { REAL n[AT_ONCE]; };

extern "C" __global__ void row_columns(
    const REAL* __restrict__ picture, REAL* __restrict__ columns, int C, int N, int H, int W, int kw,
    int sw, int left, int OW, int top, int rows)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (ow, n)
    const long long row = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    const int P = OW * N, n = p % N, ow = p / N, c = row % C, r = row / C, h = r + top;
    if (p >= P || r >= rows) return;
    const Pixel* x = (const Pixel*)picture + ((long long)c * H + h) * W * N + n;
    Pixel* col = (Pixel*)columns + ((long long)r * kw * C + c) * P + p;
    for (int j = 0; j < kw; j++) {
        const int w = ow * sw + j - left;
        const bool inside = 0 <= h && h < H && 0 <= w && w < W;
        *col = inside ? x[(long long)w * N] : Pixel{};
        col += (long long)C * P;
    }
}
