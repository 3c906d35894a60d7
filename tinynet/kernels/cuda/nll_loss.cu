// The negative log-likelihood. Formulas: tinynet/kernels/nll_loss.py.
//
// In memory x is (K, N) with inner = N, or (N, K) with inner = 1.

extern "C" __global__ void nll_loss_forward(
    const REAL* __restrict__ x, const long long* __restrict__ target, REAL* __restrict__ losses,
    int N, int K, int inner)
{
    const long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    const long long t = target[n];
    // A class that is not there gives NaN: targets on a GPU are not checked before.
    losses[n] = t < 0 || t >= K ? sqrt((REAL)-1) : -x[(n / inner * K + t) * inner + n % inner];
}

// One thread an element of dx, along memory.
extern "C" __global__ void nll_loss_backward(
    REAL* __restrict__ dx, const REAL* __restrict__ dlosses, const long long* __restrict__ target,
    int K, int inner, long long count)
{
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x +
                        (long long)blockIdx.y * gridDim.x * blockDim.x;
    if (i >= count) return;
    const long long n = i / inner / K * inner + i % inner;
    const long long t = target[n];
    dx[i] = t < 0 || t >= K ? sqrt((REAL)-1) : i / inner % K == t ? -dlosses[n] : 0;
}
