// The gradient of indexing with arrays. Formula: tinynet/kernels/index.py.
//
//     dx[row, d] = sum of dy[i, d] over all i with rows[i] = row
//
// `rows` is sorted, `order` says where in dy each of them came from. blockIdx.z and y give a place k
// in it; along x, threads side by side hold neighbouring d. The first of a run adds up the run.

extern "C" __global__ void sum_runs(
    const REAL* __restrict__ dy, const long long* __restrict__ order,
    const long long* __restrict__ rows, REAL* __restrict__ dx, long long D, long long count)
{
    const long long d = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long k = (long long)blockIdx.z * gridDim.y + blockIdx.y;
    if (d >= D || k >= count || (k > 0 && rows[k - 1] == rows[k])) return;
    REAL sum = 0;
    for (long long i = k; i < count && rows[i] == rows[k]; i++) sum += dy[order[i] * D + d];
    dx[rows[k] * D + d] = sum;
}
