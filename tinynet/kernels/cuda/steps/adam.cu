// Adam and AdamW: tinynet/kernels/steps/adam.py.

// One launch changes all parameters of a device: blockIdx.y says which, and its blocks share the
// elements. The parts travel by value with the launch, in the 4 KB that a kernel's arguments may take.
template <class Part> struct All { Part part[4000 / sizeof(Part)]; };

#define OF_EACH_ELEMENT                                                                 \
    const auto& p = parts.part[blockIdx.y];                                             \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < p.count;   \
         i += (long long)gridDim.x * blockDim.x)

struct Adam {
    REAL* weight;
    const REAL* grad;
    REAL* mean;
    REAL* square;
    REAL* largest;
    REAL rate, a, b, root, eps, l2, decay;
    long long count;
};

// m + a (x - m), in the form that errs less: tinynet/kernels/steps/mean.py
__device__ REAL moved(REAL m, REAL x, REAL a)
{
    return a <= 0.5 ? m + a * (x - m) : x - (1 - a) * (x - m);
}

// g' = g + l2 w, m <- m + a (g' - m), v <- v + b (g'^2 - v), x <- max(x, v),
// w <- w - decay w - rate m / (sqrt(x) / root + eps). Without amsgrad x is v: largest is square.
extern "C" __global__ void adam_step(const All<Adam> parts)
{
    OF_EACH_ELEMENT
    {
        const REAL w = p.weight[i], g = p.grad[i] + p.l2 * w;
        const REAL m = moved(p.mean[i], g, p.a), v = moved(p.square[i], g * g, p.b);
        p.mean[i] = m;
        p.square[i] = v;
        REAL x = v;
        if (p.largest != p.square) {
            x = v <= p.largest[i] ? p.largest[i] : v;  // a NaN in v comes through
            p.largest[i] = x;
        }
        p.weight[i] = w - p.decay * w - p.rate * (m / (sqrt(x) / p.root + p.eps));
    }
}
