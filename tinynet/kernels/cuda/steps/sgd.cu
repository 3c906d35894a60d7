// The rule of 2012, and Nesterov's: tinynet/kernels/steps/sgd.py. Every array is read once and
// written once.

// One launch changes all parameters of a device: blockIdx.y says which, and its blocks share the
// elements. The parts travel by value with the launch, in the 4 KB that a kernel's arguments may take.
template <class Part> struct All { Part part[4000 / sizeof(Part)]; };

#define OF_EACH_ELEMENT                                                                 \
    const auto& p = parts.part[blockIdx.y];                                             \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < p.count;   \
         i += (long long)gridDim.x * blockDim.x)

struct Sgd {
    REAL* weight;
    const REAL* grad;
    REAL* velocity;
    REAL lr, momentum, weight_decay;
    long long count;
};

// v <- m v - lr (g + d w), w <- w + v
extern "C" __global__ void sgd_step(const All<Sgd> parts)
{
    OF_EACH_ELEMENT
    {
        const REAL downhill = p.lr * (p.weight_decay * p.weight[i] + p.grad[i]);
        const REAL v = p.momentum * p.velocity[i] - downhill;
        p.velocity[i] = v;
        p.weight[i] += v;
    }
}

struct Nesterov {
    REAL* weight;
    const REAL* grad;
    REAL* velocity;
    REAL* step;
    REAL lr, momentum, weight_decay;
    long long count;
};

// v <- m v - lr (g + d w), s <- m v - lr (g + d w), w <- w + s
extern "C" __global__ void nesterov_step(const All<Nesterov> parts)
{
    OF_EACH_ELEMENT
    {
        const REAL downhill = p.lr * (p.weight_decay * p.weight[i] + p.grad[i]);
        const REAL v = p.momentum * p.velocity[i] - downhill, s = p.momentum * v - downhill;
        p.velocity[i] = v;
        p.step[i] = s;
        p.weight[i] += s;
    }
}
