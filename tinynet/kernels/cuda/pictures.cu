// Pictures as bytes to centred floats: crop, flip, mean, colour noise and a border of zeros.
// Formula: tinynet/kernels/pictures.py.
//
//     out[c, i, j, n] = scale * (picture[n, t + i, l + j', c] - mean[t + i, l + j', c] + colour[n, c])
//     out[c, i, j, n] = 0                                              where i >= h or j >= w
//
// Threads side by side hold neighbouring n, so writes are whole runs of memory, but each reads from a picture of its own.
// So a thread takes RUN neighbouring pixels of a row: the bytes it reads next then lie in the cache line it has already.

extern "C" __global__ void pictures_forward(const unsigned char* __restrict__ pictures,
                                            const float* __restrict__ mean, const int* __restrict__ top,
                                            const int* __restrict__ left, const bool* __restrict__ flip,
                                            const float* __restrict__ colour, float* __restrict__ out, int N, int H,
                                            int W, int mean_H, int mean_W, int C, int h, int w, int border,
                                            float scale, bool has_colour)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (run, n)
    const int wide = w + border, runs = (wide + RUN - 1) / RUN, i = blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)runs * N || i >= h + border) return;
    const int n = (int)p % N, first = (int)p / N * RUN, end = min(first + RUN, wide);
    const int t = H == h && W == w ? 0 : top[n], l = H == h && W == w ? 0 : left[n];
    const int mean_t = mean_H == h && mean_W == w ? 0 : top[n], mean_l = mean_H == h && mean_W == w ? 0 : left[n];
    const unsigned char* const row = pictures + (((long long)n * H + t + i) * W + l) * C;
    const float* const mean_row = mean + ((long long)(mean_t + i) * mean_W + mean_l) * C;
    for (int j = first; j < end; j++) {
        const int from = flip[n] ? w - 1 - j : j;
        for (int c = 0; c < C; c++) {
            float value = 0;
            if (i < h && j < w) {
                value = row[from * C + c] - mean_row[from * C + c];
                if (has_colour) value += colour[n * C + c];
            }
            out[(((long long)c * (h + border) + i) * wide + j) * N + n] = scale * value;
        }
    }
}
