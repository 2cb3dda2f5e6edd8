/* Value and gradient of the asymmetric loss in one sweep over float32 logits.

   The equation is the one of functional.py. Logits are taken in blocks of WIDTH
   entries. One that lies under the margin costs a comparison; the few entries over
   the margin in a block are collected until they fill one. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#define WIDTH 16
#define ALONE 6 /* up to so many entries over the margin wait to share a block */
#define FLUSH (64 * WIDTH) /* entries of a row that are summed in float32 */
#define TINY 1.17549435e-38f

typedef struct {
    float gamma_pos, gamma_neg;
    float scale_pos, scale_neg;     /* alpha, 1 - alpha (or 1, 1) times the factor of the result */
    float clip, rest, odds;         /* m, 1 - m and m / (1 - m), each rounded once */
    float threshold, threshold_low; /* logit(clip) as a sum of two floats; -inf without a margin */
    int32_t constant_focus;         /* focusing weights are constants in the gradient */
    float ignore;                   /* target value of unknown entries */
} Params;

typedef struct {
    double loss;           /* sum of all entries */
    double p_pos, p_neg;   /* sums of probabilities over positives (y > 0.5) and negatives */
    int64_t n_pos, n_neg, n_under; /* counts; n_under: negatives at or under the margin */
    int64_t known;         /* entries whose target is not the ignored value */
    int64_t bad;           /* first position of a target out of range, or -1 */
} Sums;

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

/* Negative branch without a margin: p^g * -log(1 - p) and its derivative by x.
   The positive branch is its mirror image: value(-x), -derivative(-x). */
static inline void branch_plain(Block x, float gamma, int constant, Block *value, Block *slope) {
    Mask right = x >= 0.0f;
    Block a = absolute(x), e = exp_negative(-a), u = 1.0f + e, inverse = 1.0f / u;
    Block p = pick(right, PLAIN(1.0f), e) * inverse, q = pick(right, e, PLAIN(1.0f)) * inverse;
    Block soft = log_normal(u) + (e - (u - 1.0f)) * inverse; /* log(1 + e), compensated */
    Block cost = pick(right, a + soft, soft);                /* -log(1 - p) */
    Block weight = is_small_whole(gamma) ? power(p, gamma)
                                         : power_by_log(-pick(right, soft, a + soft), gamma);
    *value = weight * cost;
    *slope = weight * (constant ? p : p + gamma * cost * q);
}

static inline void branch_margin(Block x, const Params *s, Block *value, Block *slope) {
    const float gamma = s->gamma_neg;
    Mask right = x >= 0.0f;
    Block e = exp_negative(-absolute(x)), inverse = 1.0f / (1.0f + e);
    Block p = pick(right, PLAIN(1.0f), e) * inverse, q = pick(right, e, PLAIN(1.0f)) * inverse;
    /* rise = 1 - exp(-d), by its series where the difference cancels */
    Block d = (x - s->threshold) - s->threshold_low;
    Mask above = d > 0.0f, near = d < 0.35f;
    Block r = pick(near, d, PLAIN(0.35f));
    Block series = r * (1.0f - r * (0.5f - r * (1.66666667e-1f - r * (4.16666667e-2f - r * (
        8.33333333e-3f - r * (1.38888889e-3f - r * 1.98412698e-4f))))));
    Block far = 1.0f - s->odds * pick(right, e, 1.0f / e);
    Block p_m = p * s->rest * pick(near, series, far);
    p_m = pick(above & (p_m > TINY), p_m, PLAIN(TINY));
    /* -log(1 - p_m), compensated below one half */
    Mask low = p_m < 0.5f;
    Block u = pick(low, 1.0f - p_m, q + s->clip), inverse_u = 1.0f / u;
    Block cost = pick(low, (p_m + (u - 1.0f)) * inverse_u, PLAIN(0.0f)) - log_normal(u);
    Block weight = is_small_whole(gamma) ? power(p_m, gamma) : power_by_log(log_normal(p_m), gamma);
    Block steep = inverse_u;
    if (!s->constant_focus && gamma != 0.0f) steep += gamma * cost / p_m;
    *value = pick(above, weight * cost, PLAIN(0.0f));
    *slope = pick(above, weight * p * q * steep, PLAIN(0.0f));
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

static inline void negative(Block x, const Params *s, Block *value, Block *slope) {
    if (s->clip > 0.0f) branch_margin(x, s, value, slope);
    else branch_plain(x, s->gamma_neg, s->constant_focus, value, slope);
    *value = pick(x != x, x, *value * s->scale_neg); /* NaN stays NaN */
    *slope = pick(x != x, x, *slope * s->scale_neg);
}

static inline void positive(Block x, const Params *s, Block *value, Block *slope) {
    branch_plain(-x, s->gamma_pos, s->constant_focus, value, slope);
    *value = pick(x != x, x, *value * s->scale_pos);
    *slope = pick(x != x, x, *slope * -s->scale_pos);
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
    float total = 0;
    for (int i = 0; i < WIDTH; i++) total += block[i];
    return total;
}

static void count(Sums *sums, Block x, Block y, Mask ignored, Block weight, int n,
                  float threshold) {
    const Block e = exp_negative(-absolute(x));
    const Block p = pick(x >= 0.0f, PLAIN(1.0f), e) / (1.0f + e);
    for (int i = 0; i < n; i++) {
        if (ignored[i] || weight[i] == 0.0f) continue;
        if (y[i] > 0.5f) { sums->n_pos++; sums->p_pos += p[i]; }
        else { sums->n_neg++; sums->p_neg += p[i]; sums->n_under += x[i] <= threshold; }
    }
}

/* Negatives over the margin that stand alone in their block, waiting for a full one. */
typedef struct {
    float x[2 * WIDTH], weight[2 * WIDTH];
    int64_t at[2 * WIDTH];
    int count;
} Pending;

static inline void finish(Pending *p, const Params *s, float *values, float *grad,
                          const float *upstream, double *loss) {
    const int n = p->count < WIDTH ? p->count : WIDTH;
    Block value, slope, weight = load(p->weight, n, 0.0f);
    negative(load(p->x, n, 0.0f), s, &value, &slope);
    value *= weight;
    slope *= weight;
    for (int i = 0; i < n; i++) {
        const int64_t at = p->at[i];
        if (grad) grad[at] = upstream ? slope[i] * upstream[at] : slope[i];
        if (values) values[at] = value[i];
    }
    *loss += sum(value);
    p->count -= n;
    memmove(p->x, p->x + n, p->count * sizeof(float));
    memmove(p->weight, p->weight + n, p->count * sizeof(float));
    memmove(p->at, p->at + n, p->count * sizeof(int64_t));
}

/* Rows `begin` to `end` of logits (rows, cols), contiguous.

   Targets are either labels (rows,), where a value of cols or more is background
   and the ignored value an unknown row, or dense (rows, cols). row_weight (rows,),
   col_weight (cols,), entry_weight and upstream (rows, cols), values and grad
   (rows, cols) may be NULL. `grad` gets the derivative times every weight and
   upstream; `values` the weighted loss. */
void asl_sweep(const float *logits, int64_t begin, int64_t end, int64_t cols,
               const int64_t *labels, const float *dense, const float *row_weight,
               const float *col_weight, const float *entry_weight, const float *upstream,
               const Params *s, float *values, float *grad, int32_t want_stats, Sums *out) {
    Sums sums = {0, 0, 0, 0, 0, 0, 0, -1};
    const float threshold = s->threshold;
    Pending pending;
    pending.count = 0;
    for (int64_t row = begin; row < end; row++) {
        const float *x_row = logits + row * cols;
        const int64_t label = labels ? labels[row] : -1;
        const int unknown = labels && (float)label == s->ignore;
        const float w_row = unknown ? 0.0f : row_weight ? row_weight[row] : 1.0f;
        if (labels && !unknown && (label < 0 || label > cols) && sums.bad < 0) sums.bad = row;
        sums.known += unknown ? 0 : cols;
        Block row_loss = {0};
        for (int64_t c = 0; c < cols; c += WIDTH) {
            const int64_t at = row * cols + c;
            const int n = cols - c < WIDTH ? (int)(cols - c) : WIDTH;
            const Block x = load(x_row + c, n, -INFINITY), zero = {0};
            Block value = zero, slope = zero, y = zero;
            if (n == WIDTH && !want_stats && !bits(~(x <= threshold)) && /* the usual case */
                (dense ? !bits(load(dense + at, WIDTH, 0.0f) != 0.0f)
                       : label < c || label >= c + WIDTH)) {
                if (grad) store(grad + at, zero, WIDTH);
                if (values) store(values + at, zero, WIDTH);
                continue;
            }
            Mask ignored = (Mask)zero;
            int some_positive = 0; /* or soft, or ignored */
            if (dense) {
                y = load(dense + at, n, 0.0f);
                some_positive = bits(y != 0.0f);
            } else if (label >= c && label < c + n) {
                y[label - c] = 1.0f;
                some_positive = 1;
            }
            if (dense && some_positive) {
                ignored = y == s->ignore;
                const Mask wrong = ~ignored & ~((y >= 0.0f) & (y <= 1.0f));
                if (sums.bad < 0 && bits(wrong))
                    for (int i = n - 1; i >= 0; i--) if (wrong[i]) sums.bad = at + i;
                if (bits(ignored)) for (int i = 0; i < n; i++) sums.known += ignored[i];
            }
            uint32_t active = w_row != 0.0f ? bits(~(x <= s->threshold)) : 0; /* NaN too */
            const int alone = !some_positive && __builtin_popcount(active) <= ALONE;
            if (active && !alone) negative(x, s, &value, &slope);
            if (some_positive && w_row != 0.0f) {
                Block v, g;
                positive(x, s, &v, &g);
                const Mask with = y != 0.0f;
                value = pick(with, y * v + (1.0f - y) * value, value);
                slope = pick(with, y * g + (1.0f - y) * slope, slope);
                value = pick(ignored, zero, value);
                slope = pick(ignored, zero, slope);
            }
            Block weight = PLAIN(w_row);
            if ((active && !alone) || some_positive || want_stats) {
                if (col_weight) weight *= load(col_weight + c, n, 0.0f);
                if (entry_weight) weight *= load(entry_weight + at, n, 0.0f);
                if (want_stats) count(&sums, x, y, ignored, weight, n, s->threshold);
            }
            if ((active && !alone) || some_positive) {
                value = pick(weight != 0.0f, value * weight, zero);
                slope = pick(weight != 0.0f, slope * weight, zero);
                if (upstream) slope *= load(upstream + at, n, 0.0f);
                row_loss += n == WIDTH ? value : load((float *)&value, n, 0.0f);
            }
            if (grad) store(grad + at, slope, n);
            if (values) store(values + at, value, n);
            if (alone)
                for (; active; active &= active - 1) {
                    const int i = __builtin_ctz(active);
                    float w = w_row;
                    if (col_weight) w *= col_weight[c + i];
                    if (entry_weight) w *= entry_weight[at + i];
                    if (w == 0.0f) continue;
                    pending.x[pending.count] = x_row[c + i];
                    pending.weight[pending.count] = w;
                    pending.at[pending.count++] = at + i;
                }
            if (pending.count >= WIDTH)
                finish(&pending, s, values, grad, upstream, &sums.loss);
            if (c % FLUSH == 0) {
                sums.loss += sum(row_loss);
                row_loss = zero;
            }
        }
        sums.loss += sum(row_loss);
    }
    if (pending.count) finish(&pending, s, values, grad, upstream, &sums.loss);
    *out = sums;
}
