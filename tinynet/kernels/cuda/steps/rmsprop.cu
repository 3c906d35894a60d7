// RMSprop: tinynet/kernels/steps/rmsprop.py.

// m + a (x - m), in the form that errs less: tinynet/kernels/steps/mean.py
__device__ REAL moved(REAL m, REAL x, REAL a)
{
    return a <= 0.5 ? m + a * (x - m) : x - (1 - a) * (x - m);
}

// g' = g + d w, s <- s + c (g'^2 - s), u <- m u + g' / (sqrt(s) + eps), w <- w - lr u
extern "C" __global__ void rmsprop_step(REAL* weight, const REAL* grad, REAL* square,
                                        REAL* velocity, REAL lr, REAL c, REAL eps, REAL momentum,
                                        REAL weight_decay, long long count)
{
    const long long i = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const REAL g = grad[i] + weight_decay * weight[i];
    const REAL s = moved(square[i], g * g, c);
    const REAL u = momentum * velocity[i] + g / (sqrt(s) + eps);
    square[i] = s;
    velocity[i] = u;
    weight[i] -= lr * u;
}

// The same with n <- n + c (g' - n) and sqrt(s - n^2)
extern "C" __global__ void rmsprop_centered_step(REAL* weight, const REAL* grad, REAL* square,
                                                 REAL* velocity, REAL* mean, REAL lr, REAL c,
                                                 REAL eps, REAL momentum, REAL weight_decay,
                                                 long long count)
{
    const long long i = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const REAL g = grad[i] + weight_decay * weight[i];
    const REAL s = moved(square[i], g * g, c);
    const REAL n = moved(mean[i], g, c);
    const REAL variance = s - n * n < 0 ? 0 : s - n * n;  // rounding may go below 0; a NaN stays
    const REAL u = momentum * velocity[i] + g / (sqrt(variance) + eps);
    square[i] = s;
    mean[i] = n;
    velocity[i] = u;
    weight[i] -= lr * u;
}
