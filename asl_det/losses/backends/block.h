/* Sixteen float32 numbers at a time: elementary functions; and other types as float32. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#define WIDTH 16

/* A block, in the vector extension of GCC and Clang: any width runs on any processor. */
typedef float Block __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Mask __attribute__((vector_size(4 * WIDTH)));

#define PLAIN(x) ((x) - (Block){0}) /* a scalar as a block */

static inline Block pick(Mask yes, Block a, Block b) { /* a where yes, else b */
    return (Block)(((Mask)a & yes) | ((Mask)b & ~yes));
}

static inline Block absolute(Block x) { return (Block)((Mask)x & 0x7fffffff); }

static inline Block exp_negative(Block x) { /* exp for x <= 0, relative error below 2e-7 */
    x = pick(x < -87.0f, PLAIN(-87.0f), x);
    Block n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounds to an integer */
    Block r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Block y = PLAIN(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return y * (Block)((__builtin_convertvector(n, Mask) + 127) << 23);
}

static inline Block log_normal(Block x) { /* log for normal x > 0, relative error below 2e-7 */
    Mask e = ((Mask)x - 0x3f3504f3) >> 23; /* mantissa in [sqrt(1/2), sqrt(2)) */
    Block f = (Block)((Mask)x - (e << 23)) - 1.0f, z = f * f;
    Block n = __builtin_convertvector(e, Block);
    Block y = PLAIN(7.0376836292e-2f);
    y = y * f - 1.1514610310e-1f;
    y = y * f + 1.1676998740e-1f;
    y = y * f - 1.2420140846e-1f;
    y = y * f + 1.4249322787e-1f;
    y = y * f - 1.6668057665e-1f;
    y = y * f + 2.0000714765e-1f;
    y = y * f - 2.4999993993e-1f;
    y = y * f + 3.3333331174e-1f;
    y = y * f * z - n * 2.12194440e-4f - 0.5f * z;
    return f + y + n * 0.693359375f;
}

static inline Block power(Block base, float gamma) { /* base^gamma for small whole gamma */
    if (gamma == 0.0f) return PLAIN(1.0f);
    if (gamma == 1.0f) return base;
    if (gamma == 2.0f) return base * base;
    if (gamma == 3.0f) return base * base * base;
    return (base * base) * (base * base);
}

static inline int is_small_whole(float gamma) {
    return gamma == 0.0f || gamma == 1.0f || gamma == 2.0f || gamma == 3.0f || gamma == 4.0f;
}

static inline Block power_by_log(Block log_base, float gamma) {
    Block exponent = gamma * log_base;
    return pick(exponent < -87.0f, PLAIN(0.0f), exp_negative(exponent));
}

static inline uint32_t bits(Mask mask) { /* one bit a lane */
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#elif defined(__AVX__)
    __m256 half[2];
    memcpy(half, &mask, sizeof half);
    return (uint32_t)_mm256_movemask_ps(half[0]) | (uint32_t)_mm256_movemask_ps(half[1]) << 8;
#else
    uint32_t found = 0;
    for (int i = 0; i < WIDTH; i++) found |= (uint32_t)(mask[i] & 1) << i;
    return found;
#endif
}

static inline Block load(const float *from, int n, float rest) {
    Block block = PLAIN(rest);
    memcpy(&block, from, n == WIDTH ? sizeof block : n * sizeof(float));
    return block;
}

static inline void store(float *to, Block block, int n) {
    memcpy(to, &block, n == WIDTH ? sizeof block : n * sizeof(float));
}


static inline double sum(Block block) {
    double total = 0;
    for (int i = 0; i < WIDTH; i++) total += block[i];
    return total;
}

typedef union { float f; uint32_t i; } Word;

static inline float from_bf16(uint16_t h) { return (Word){.i = (uint32_t)h << 16}.f; }

static inline uint16_t to_bf16(float x) { /* to the nearest, ties to even */
    const uint32_t i = (Word){.f = x}.i;
    return x != x ? 0x7fc0 : (i + 0x7fff + ((i >> 16) & 1)) >> 16;
}

static inline float from_f16(uint16_t h) {
    const uint32_t rest = h & 0x7fffu, infinite = rest >= 0x7c00u ? 0x7f800000u : 0u;
    Word w = {.i = rest << 13};
    w.f *= 0x1p112f; /* the difference of the exponents' biases; makes subnormal numbers normal */
    w.i |= infinite | (uint32_t)(h & 0x8000u) << 16;
    return w.f;
}

static inline uint16_t to_f16(float x) { /* to the nearest, ties to even */
    const uint32_t i = (Word){.f = x}.i, size = i & 0x7fffffffu;
    const uint32_t normal = (size - 0x38000000u + 0xfffu + ((size >> 13) & 1u)) >> 13;
    const Word small = {.f = (Word){.i = size}.f + 0.5f}; /* the sum rounds to multiples of 2^-24 */
    uint32_t h = size < 0x38800000u ? small.i - 0x3f000000u : normal;
    h = size >= 0x477ff000u ? 0x7c00u : h;
    h = size > 0x7f800000u ? 0x7e00u : h;
    return h | (i >> 16 & 0x8000u);
}

enum { F32, BF16, F16, F64, U8, I8, I16, I32, I64 };

typedef struct { /* (rows, cols) in memory; strides count entries */
    const void *data; /* NULL: absent */
    int64_t row_stride, col_stride;
    int64_t type;
} Matrix;

#define FETCH(type, convert) {                                                          \
    const type *from = (const type *)m->data + row * m->row_stride + col * m->col_stride; \
    if (m->col_stride == 1) for (int64_t i = 0; i < n; i++) to[i] = convert(from[i]);   \
    else for (int64_t i = 0; i < n; i++) to[i] = convert(from[i * m->col_stride]);      \
    break; }

/* n entries of a row as float32. */
static void fetch(const Matrix *m, int64_t row, int64_t col, int64_t n, float *to) {
    switch (m->type) {
        case F32: FETCH(float, (float))
        case BF16: FETCH(uint16_t, from_bf16)
        case F16: FETCH(uint16_t, from_f16)
        case F64: FETCH(double, (float))
        case U8: FETCH(uint8_t, (float))
        case I8: FETCH(int8_t, (float))
        case I16: FETCH(int16_t, (float))
        case I32: FETCH(int32_t, (float))
        case I64: FETCH(int64_t, (float))
    }
}
