// Response normalisation over neighbouring channels. Formulas and letters: tinynet/kernels/local_response_norm.py.
//
//     s = k + a * sum of x^2 over the window       y = x s^-beta
//     q = dy x s^(-beta-1)                         dx = dy s^-beta - 2 a beta x * sum of q over the mirrored window
//
// The window of c is c - SIZE/2 ... c + (SIZE-1)/2, clipped; the mirrored one m - (SIZE-1)/2 ... m + SIZE/2.

// s^-beta, for beta = 0.75 by two square roots: the general power is several times slower, and these kernels would then
// wait for it and not for memory.
__device__ REAL power(REAL s, REAL beta)
{
    if (beta != (REAL)0.75) return pow(s, -beta);
    const REAL root = sqrt(s);
    return 1 / (root * sqrt(root));
}

// A thread walks down SEGMENT channels of one pixel and keeps the window in registers (SIZE is a constant, so the loops
// over it unroll): every value is read once from memory, not SIZE times.
#define BEFORE (SIZE / 2)
#define AFTER ((SIZE - 1) / 2)

extern "C" __global__ void local_response_norm_forward(const REAL* __restrict__ x, REAL* __restrict__ y, int C,
                                                       int P, REAL a, REAL beta, REAL k)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long segment = (long long)blockIdx.z * gridDim.y + blockIdx.y, first = segment * SEGMENT;
    if (p >= P || first >= C) return;
    const int end = min(first + SEGMENT, (long long)C);
    REAL window[SIZE];  // x[c - BEFORE ... c + AFTER], 0 outside
    for (int j = 1; j < SIZE; j++) {
        const int c = first - BEFORE + j - 1;
        window[j] = 0 <= c && c < C ? x[(long long)c * P + p] : 0;
    }
    for (int c = first; c < end; c++) {
        REAL s = 0;
        for (int j = 0; j < SIZE - 1; j++) window[j] = window[j + 1];
        window[SIZE - 1] = c + AFTER < C ? x[(long long)(c + AFTER) * P + p] : 0;
        for (int j = 0; j < SIZE; j++) s += window[j] * window[j];
        y[(long long)c * P + p] = window[BEFORE] * power(k + a * s, beta);
    }
}

extern "C" __global__ void local_response_norm_backward(const REAL* __restrict__ dy, const REAL* __restrict__ x,
                                                        REAL* __restrict__ dx, int C, int P, REAL a, REAL beta,
                                                        REAL k)
{
    const long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long segment = (long long)blockIdx.z * gridDim.y + blockIdx.y, first = segment * SEGMENT;
    if (p >= P || first >= C) return;
    const int end = min(first + SEGMENT, (long long)C);
    REAL window[SIZE];           // x[c - BEFORE ... c + AFTER], 0 outside, for the foremost channel c whose q is known
    REAL q[SIZE];                // q[m - AFTER ... m + BEFORE] for the channel m whose dx comes next: c = m + BEFORE
    REAL direct[BEFORE + 1];     // dy s^-beta of m ... c
    for (int j = 0; j < SIZE; j++) q[j] = 0;
    for (int j = 0; j <= BEFORE; j++) direct[j] = 0;
    for (int j = 1; j < SIZE; j++) {
        const int c = first - AFTER - BEFORE + j - 1;
        window[j] = 0 <= c && c < C ? x[(long long)c * P + p] : 0;
    }
    for (int c = first - AFTER; c < end + BEFORE; c++) {
        for (int j = 0; j < SIZE - 1; j++) {
            window[j] = window[j + 1];
            q[j] = q[j + 1];
        }
        for (int j = 0; j < BEFORE; j++) direct[j] = direct[j + 1];
        window[SIZE - 1] = 0 <= c + AFTER && c + AFTER < C ? x[(long long)(c + AFTER) * P + p] : 0;
        q[SIZE - 1] = direct[BEFORE] = 0;
        if (0 <= c && c < C) {
            REAL s = 0;
            for (int j = 0; j < SIZE; j++) s += window[j] * window[j];
            s = k + a * s;
            direct[BEFORE] = dy[(long long)c * P + p] * power(s, beta);
            q[SIZE - 1] = direct[BEFORE] * window[BEFORE] / s;
        }
        const int m = c - BEFORE;
        if (m >= first) {
            REAL sum = 0;
            for (int j = 0; j < SIZE; j++) sum += q[j];
            dx[(long long)m * P + p] = direct[0] - 2 * a * beta * x[(long long)m * P + p] * sum;
        }
    }
}
