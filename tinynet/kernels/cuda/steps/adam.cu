// Adam and AdamW: tinynet/kernels/steps/adam.py.

// g' = g + l2 w, m <- m + a (g' - m), v <- v + b (g'^2 - v), x <- max(x, v),
// w <- w - decay w - rate m / (sqrt(x) / root + eps). Without amsgrad x is v: largest is square.
extern "C" __global__ void adam_step(REAL* weight, const REAL* grad, REAL* mean, REAL* square,
                                     REAL* largest, REAL rate, REAL a, REAL b, REAL root, REAL eps,
                                     REAL l2, REAL decay, long long count)
{
    const long long i = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const REAL w = weight[i], g = grad[i] + l2 * w;
    const REAL m = mean[i] + a * (g - mean[i]), v = square[i] + b * (g * g - square[i]);
    mean[i] = m;
    square[i] = v;
    REAL x = v;
    if (largest != square) {
        x = v <= largest[i] ? largest[i] : v;  // a NaN in v comes through
        largest[i] = x;
    }
    weight[i] = w - decay * w - rate * (m / (sqrt(x) / root + eps));
}
