// Adam and AdamW: tinynet/kernels/steps/adam.py.

// m + a (x - m), in the form that errs less: tinynet/kernels/steps/mean.py
__device__ REAL moved(REAL m, REAL x, REAL a)
{
    return a <= 0.5 ? m + a * (x - m) : x - (1 - a) * (x - m);
}

// g' = g + l2 w, m <- m + a (g' - m), v <- v + b (g'^2 - v), x <- max(x, v),
// w <- w - decay w - rate m / (sqrt(x) / root + eps). Without amsgrad x is v: largest is square.
extern "C" __global__ void adam_step(REAL* weight, const REAL* grad, REAL* mean, REAL* square,
                                     REAL* largest, REAL rate, REAL a, REAL b, REAL root, REAL eps,
                                     REAL l2, REAL decay, long long count)
{
    const long long i = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const REAL w = weight[i], g = grad[i] + l2 * w;
    const REAL m = moved(mean[i], g, a), v = moved(square[i], g * g, b);
    mean[i] = m;
    square[i] = v;
    REAL x = v;
    if (largest != square) {
        x = v <= largest[i] ? largest[i] : v;  // a NaN in v comes through
        largest[i] = x;
    }
    weight[i] = w - decay * w - rate * (m / (sqrt(x) / root + eps));
}
