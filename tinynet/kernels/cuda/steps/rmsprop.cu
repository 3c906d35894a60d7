// RMSprop: tinynet/kernels/steps/rmsprop.py.

// One launch changes all parameters of a device: blockIdx.y says which, and its blocks share the
// elements. The parts travel by value with the launch, in the 4 KB that a kernel's arguments may take.
template <class Part> struct All { Part part[4000 / sizeof(Part)]; };

#define OF_EACH_ELEMENT                                                                 \
    const auto& p = parts.part[blockIdx.y];                                             \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < p.count;   \
         i += (long long)gridDim.x * blockDim.x)

struct Rmsprop {
    REAL* weight;
    const REAL* grad;
    REAL* square;
    REAL* velocity;
    REAL lr, c, eps, momentum, weight_decay;
    long long count;
};

// m + a (x - m), in the form that errs less: tinynet/kernels/steps/mean.py
__device__ REAL moved(REAL m, REAL x, REAL a)
{
    return a <= 0.5 ? m + a * (x - m) : x - (1 - a) * (x - m);
}

// g' = g + d w, s <- s + c (g'^2 - s), u <- m u + g' / (sqrt(s) + eps), w <- w - lr u
extern "C" __global__ void rmsprop_step(const All<Rmsprop> parts)
{
    OF_EACH_ELEMENT
    {
        const REAL g = p.grad[i] + p.weight_decay * p.weight[i];
        const REAL s = moved(p.square[i], g * g, p.c);
        const REAL u = p.momentum * p.velocity[i] + g / (sqrt(s) + p.eps);
        p.square[i] = s;
        p.velocity[i] = u;
        p.weight[i] -= p.lr * u;
    }
}

struct Centered {
    REAL* weight;
    const REAL* grad;
    REAL* square;
    REAL* velocity;
    REAL* mean;
    REAL lr, c, eps, momentum, weight_decay;
    long long count;
};

// The same with n <- n + c (g' - n) and sqrt(s - n^2)
extern "C" __global__ void rmsprop_centered_step(const All<Centered> parts)
{
    OF_EACH_ELEMENT
    {
        const REAL g = p.grad[i] + p.weight_decay * p.weight[i];
        const REAL s = moved(p.square[i], g * g, p.c);
        const REAL n = moved(p.mean[i], g, p.c);
        const REAL variance = s - n * n < 0 ? 0 : s - n * n;  // rounding may go below 0; a NaN stays
        const REAL u = p.momentum * p.velocity[i] + g / (sqrt(variance) + p.eps);
        p.square[i] = s;
        p.mean[i] = n;
        p.velocity[i] = u;
        p.weight[i] -= p.lr * u;
    }
}
