// One thread an element, along memory. Formulas: the files of the same names in tinynet/kernels/.
// Each kernel NAME_forward or NAME_backward becomes a function of that name in elementwise.py.

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

// dx = 0 where y <= 0, else dy: where y is a NaN, too
extern "C" __global__ void relu_backward(const REAL* dy, const REAL* y, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = y[i] <= 0 ? 0 : dy[i];
}

extern "C" __global__ void tanh_forward(const REAL* x, REAL* y, long long count)
{
    ELEMENT_OR_RETURN
    y[i] = tanh(x[i]);
}

// dy (1 - y^2)
extern "C" __global__ void tanh_backward(const REAL* dy, const REAL* y, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = dy[i] * (1 - y[i] * y[i]);
}

// By tanh, which does not overflow for any x.
extern "C" __global__ void sigmoid_forward(const REAL* x, REAL* y, long long count)
{
    ELEMENT_OR_RETURN
    y[i] = (tanh(x[i] / 2) + 1) / 2;
}

// dy y (1 - y)
extern "C" __global__ void sigmoid_backward(const REAL* dy, const REAL* y, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = dy[i] * y[i] * (1 - y[i]);
}

// x Phi(x), Phi(x) = erfc(-x / sqrt 2) / 2
extern "C" __global__ void gelu_forward(const REAL* x, REAL* y, long long count)
{
    ELEMENT_OR_RETURN
    y[i] = x[i] * erfc(x[i] * REAL(-0.70710678118654752)) / 2;
}

// dy (Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi))
extern "C" __global__ void gelu_backward(const REAL* dy, const REAL* x, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    const REAL density = exp(x[i] * x[i] / -2) * REAL(0.39894228040143268);
    dx[i] = dy[i] * (erfc(x[i] * REAL(-0.70710678118654752)) / 2 + x[i] * density);
}

// x/2 (1 + tanh(u)), u = c (x + a x^3)
#define C REAL(0.79788456080286536)  // sqrt(2 / pi)
#define A REAL(0.044715)
extern "C" __global__ void gelu_tanh_forward(const REAL* x, REAL* y, long long count)
{
    ELEMENT_OR_RETURN
    y[i] = x[i] / 2 * (1 + tanh(C * x[i] * (1 + A * x[i] * x[i])));
}

// dy (1/2 (1 + T) + x/2 (1 - T^2) u')
extern "C" __global__ void gelu_tanh_backward(const REAL* dy, const REAL* x, REAL* dx, long long count)
{
    ELEMENT_OR_RETURN
    const REAL square = x[i] * x[i], T = tanh(C * x[i] * (1 + A * square));
    dx[i] = dy[i] * (1 + T + x[i] * (1 - T * T) * C * (1 + 3 * A * square)) / 2;
}

// dx = dy m / (1 - p), and the same for y
extern "C" __global__ void dropout_backward(const bool* mask, const REAL* dy, REAL* dx, REAL scale, long long count)
{
    ELEMENT_OR_RETURN
    dx[i] = dy[i] * mask[i] * scale;
}
