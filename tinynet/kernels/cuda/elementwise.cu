// One thread an element, along memory. Formulas: the files of the same names in tinynet/kernels/.

#define ELEMENT_OR_RETURN                                                       \
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x +      \
                        (long long)blockIdx.y * gridDim.x * blockDim.x;         \
    if (i >= count) return;

// y = max(x, 0); a NaN comes out as NaN. y may be x.
extern "C" __global__ void relu_forward(const REAL* x, REAL* y, long long count)
{
    ELEMENT_OR_RETURN
    y[i] = x[i] < 0 ? 0 : x[i];
}

// dx = dy where y > 0, else 0
extern "C" __global__ void relu_backward(const REAL* dy, const REAL* y, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = y[i] > 0 ? dy[i] : 0;
}

// dy (1 - y^2)
extern "C" __global__ void tanh_backward(const REAL* dy, const REAL* y, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = dy[i] * (1 - y[i] * y[i]);
}

// dy y (1 - y)
extern "C" __global__ void sigmoid_backward(const REAL* dy, const REAL* y, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = dy[i] * y[i] * (1 - y[i]);
}

// dx = dy m / (1 - p)
extern "C" __global__ void dropout_backward(const REAL* dy, const bool* mask, REAL* dx, REAL scale, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = dy[i] * mask[i] * scale;
}
