// Dropout's mask by NumPy's Philox4x64-10 (Salmon et al., SC 2011): tinynet/kernels/dropout.py's, bit for bit.
//
// Block b of the stream is ten rounds over the counter b + 1 with the key (seed, call): four words of 64 bits, each four
// lanes of 16 bits, lowest first. So block b decides on the elements 16 b ... 16 b + 15, each kept where its lane >= drop.

typedef unsigned long long word;

extern "C" __global__ void dropout_mask(bool* mask, unsigned long long seed, unsigned long long call, int drop,
                                        long long count)
{
    const long long block = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (16 * block >= count) return;
    word c0 = block + 1, c1 = 0, c2 = 0, c3 = 0;  // NumPy counts up before each block
    for (int round = 0; round < 10; round++) {
        const word m0 = 0xD2E7470EE14C6C93, m1 = 0xCA5A826395121157;  // the multipliers of Philox4x64
        const word high0 = __umul64hi(m0, c0), low0 = m0 * c0, high1 = __umul64hi(m1, c2), low1 = m1 * c2;
        c0 = high1 ^ c1 ^ seed;
        c1 = low1;
        c2 = high0 ^ c3 ^ call;
        c3 = low0;
        seed += 0x9E3779B97F4A7C15;  // the golden ratio, and the square root of 3 less 1: each round has its own key
        call += 0xBB67AE8584CAA73B;
    }
    const word words[4] = {c0, c1, c2, c3};
    for (int e = 0; e < 16; e++) {
        const long long i = 16 * block + e;
        if (i >= count) return;
        mask[i] = (int)(words[e / 4] >> 16 * (e % 4) & 0xFFFF) >= drop;
    }
}
