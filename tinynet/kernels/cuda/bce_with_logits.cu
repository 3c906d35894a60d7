// Binary cross-entropy of a logit. Formulas: tinynet/kernels/bce_with_logits.py.

#define ELEMENT_OR_RETURN                                                       \
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x +      \
                        (long long)blockIdx.y * gridDim.x * blockDim.x;         \
    if (i >= count) return;

extern "C" __global__ void bce_with_logits_forward(
    const REAL* x, const REAL* t, REAL* losses, long long count)
{
    ELEMENT_OR_RETURN
    // -|x| and max(x, 0); a NaN stays one
    const REAL least = x[i] < 0 ? x[i] : -x[i], most = x[i] < 0 ? 0 : x[i];
    losses[i] = log1p(exp(least)) + (most - x[i] * t[i]);
}

// p = (1 + tanh(x / 2)) / 2, which does not overflow
extern "C" __global__ void bce_with_logits_backward(
    const REAL* dlosses, const REAL* x, const REAL* t, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = ((tanh(x[i] / 2) + 1) / 2 - t[i]) * dlosses[i];
}

extern "C" __global__ void bce_with_logits_target(
    const REAL* dlosses, const REAL* x, REAL* dt, long long count)
{
    ELEMENT_OR_RETURN
    dt[i] = -dlosses[i] * x[i];
}
