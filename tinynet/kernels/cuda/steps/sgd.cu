// The rule of 2012, and Nesterov's: tinynet/kernels/steps/sgd.py. Every array is read once and
// written once, in one launch.

// v <- m v - lr (g + d w), w <- w + v
extern "C" __global__ void sgd_step(REAL* weight, const REAL* grad, REAL* velocity, REAL lr,
                                    REAL momentum, REAL weight_decay, long long count)
{
    const long long i = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const REAL v = momentum * velocity[i] - lr * (weight_decay * weight[i] + grad[i]);
    velocity[i] = v;
    weight[i] += v;
}

// v <- m v - lr (g + d w), s <- m v - lr (g + d w), w <- w + s
extern "C" __global__ void nesterov_step(REAL* weight, const REAL* grad, REAL* velocity, REAL* step,
                                         REAL lr, REAL momentum, REAL weight_decay, long long count)
{
    const long long i = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const REAL downhill = lr * (weight_decay * weight[i] + grad[i]);
    const REAL v = momentum * velocity[i] - downhill, s = momentum * v - downhill;
    velocity[i] = v;
    step[i] = s;
    weight[i] += s;
}
