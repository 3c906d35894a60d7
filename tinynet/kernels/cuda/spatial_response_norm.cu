// Response normalisation over a patch of the same map. Formulas and letters: tinynet/kernels/spatial_response_norm.py.
//
//     s = k + a * sum of x^2 over the window       y = x s^-beta
//     q = dy x s^(-beta-1)                         dx = dy s^-beta - 2 a beta x * sum of q over the mirrored window
//
// The patch of (h, w) is h - size/2 ... h + (size-1)/2 and the same along w, clipped; the mirrored one the other way round.

// s^-beta, for beta = 0.75 by two square roots: the general power is several times slower, and these kernels would then
// wait for it and not for memory.
__device__ REAL power(REAL s, REAL beta)
{
    if (beta != (REAL)0.75) return pow(s, -beta);
    const REAL root = sqrt(s);
    return 1 / (root * sqrt(root));
}

// A thread takes one pixel; blockIdx.z and y give the channel. Patches are read from the caches.

// The sum of v over the patch around (h, w), or of its squares.
__device__ REAL patch_sum(const REAL* v, int h, int w, int before, int after, int N, int H, int W, bool squares)
{
    REAL sum = 0;
    for (int r = max(h - before, 0); r <= min(h + after, H - 1); r++) {
        for (int l = max(w - before, 0); l <= min(w + after, W - 1); l++) {
            const REAL value = v[((long long)r * W + l) * N];
            sum += squares ? value * value : value;
        }
    }
    return sum;
}

extern "C" __global__ void spatial_response_norm_forward(const REAL* __restrict__ x, REAL* __restrict__ y, int C, int N,
                                                         int H, int W, int size, REAL a, REAL beta, REAL k)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;  // (h, w, n)
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)H * W * N || c >= C) return;
    const int n = (int)p % N, w = (int)p / N % W, h = (int)p / N / W;
    const long long map = c * H * W * N;
    const REAL s = k + a * patch_sum(x + map + n, h, w, size / 2, (size - 1) / 2, N, H, W, true);
    y[map + p] = x[map + p] * power(s, beta);
}

// Backward's first half: q, and dy s^-beta into dx.
extern "C" __global__ void spatial_response_norm_terms(const REAL* __restrict__ dy, const REAL* __restrict__ x,
                                                       REAL* __restrict__ dx, REAL* __restrict__ q, int C, int N, int H,
                                                       int W, int size, REAL a, REAL beta, REAL k)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)H * W * N || c >= C) return;
    const int n = (int)p % N, w = (int)p / N % W, h = (int)p / N / W;
    const long long map = c * H * W * N;
    const REAL s = k + a * patch_sum(x + map + n, h, w, size / 2, (size - 1) / 2, N, H, W, true);
    const REAL direct = dy[map + p] * power(s, beta);
    dx[map + p] = direct;
    q[map + p] = direct * x[map + p] / s;
}

// Its second half: the sum of q over the mirrored patch.
extern "C" __global__ void spatial_response_norm_gather(const REAL* __restrict__ q, const REAL* __restrict__ x,
                                                        REAL* __restrict__ dx, int C, int N, int H, int W, int size, REAL a,
                                                        REAL beta)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long c = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (p >= (long long)H * W * N || c >= C) return;
    const int n = (int)p % N, w = (int)p / N % W, h = (int)p / N / W;
    const long long map = c * H * W * N;
    const REAL sum = patch_sum(q + map + n, h, w, (size - 1) / 2, size / 2, N, H, W, false);
    dx[map + p] -= 2 * a * beta * x[map + p] * sum;
}
