// The squared error. Formulas: tinynet/kernels/mse_loss.py.

#define ELEMENT_OR_RETURN                                                       \
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x +      \
                        (long long)blockIdx.y * gridDim.x * blockDim.x;         \
    if (i >= count) return;

extern "C" __global__ void mse_loss_forward(
    const REAL* x, const REAL* t, REAL* losses, long long count)
{
    ELEMENT_OR_RETURN
    losses[i] = (x[i] - t[i]) * (x[i] - t[i]);
}

extern "C" __global__ void mse_loss_backward(
    const REAL* dlosses, const REAL* x, const REAL* t, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = 2 * (x[i] - t[i]) * dlosses[i];
}
