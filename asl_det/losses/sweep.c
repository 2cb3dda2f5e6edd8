/* Value and gradient of the asymmetric loss in one sweep over float32 logits.

   The equation is the one of functional.py. Logits are taken in blocks of WIDTH
   entries; a block that lies under the margin costs one comparison. Loops over a
   block have no branches, so that a C compiler turns them into vector code. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define WIDTH 16
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

static inline float exp_negative(float x) { /* exp for x <= 0, relative error below 2e-7 */
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    union { float f; int32_t i; } scale;
    scale.i = ((int32_t)n + 127) << 23;
    return y * scale.f;
}

static inline float log_normal(float x) { /* log for normal x > 0, relative error below 2e-7 */
    union { float f; int32_t i; } bits;
    bits.f = x;
    int32_t e = (bits.i - 0x3f3504f3) >> 23; /* mantissa in [sqrt(1/2), sqrt(2)) */
    bits.i -= e << 23;
    float f = bits.f - 1.0f, z = f * f, n = (float)e;
    float y = 7.0376836292e-2f;
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

static inline float focus(float base, float log_base, float gamma) { /* base^gamma, uniform gamma */
    if (gamma == 0.0f) return 1.0f;
    if (gamma == 1.0f) return base;
    if (gamma == 2.0f) return base * base;
    if (gamma == 3.0f) return base * base * base;
    if (gamma == 4.0f) return (base * base) * (base * base);
    float power = gamma * log_base;
    return power < -87.0f ? 0.0f : exp_negative(power);
}

/* Negative branch without a margin: p^g * -log(1 - p) and its derivative by x.
   The positive branch is its mirror image: value(-x), -derivative(-x). */
static inline void branch_plain(const float *x, float gamma, int constant, float *value,
                                float *slope) {
    for (int i = 0; i < WIDTH; i++) {
        float a = fabsf(x[i]), e = exp_negative(-a), inverse = 1.0f / (1.0f + e);
        float p = x[i] >= 0 ? inverse : e * inverse;
        float q = x[i] >= 0 ? e * inverse : inverse;
        float u = 1.0f + e;
        float soft = log_normal(u) + (e - (u - 1.0f)) * inverse; /* log(1 + e), compensated */
        float cost = x[i] >= 0 ? a + soft : soft;                /* -log(1 - p) */
        float weight = focus(p, x[i] >= 0 ? -soft : -a - soft, gamma);
        value[i] = weight * cost;
        slope[i] = weight * (constant ? p : p + gamma * cost * q);
    }
}

static inline void branch_margin(const float *x, const Params *s, float *value, float *slope) {
    const float gamma = s->gamma_neg, m = s->clip;
    for (int i = 0; i < WIDTH; i++) {
        float e = exp_negative(-fabsf(x[i])), inverse = 1.0f / (1.0f + e);
        float p = x[i] >= 0 ? inverse : e * inverse;
        float q = x[i] >= 0 ? e * inverse : inverse;
        float d = (x[i] - s->threshold) - s->threshold_low;
        int above = d > 0;
        /* rise = 1 - exp(-d), by its series where the difference cancels */
        float small = d < 0.35f ? d : 0.35f;
        float series = small * (1.0f - small * (0.5f - small * (1.66666667e-1f - small * (
            4.16666667e-2f - small * (8.33333333e-3f - small * (1.38888889e-3f
            - small * 1.98412698e-4f))))));
        float far = 1.0f - s->odds * (x[i] >= 0 ? e : 1.0f / e);
        float p_m = p * s->rest * (d < 0.35f ? series : far);
        p_m = above && p_m > TINY ? p_m : TINY;
        /* -log(1 - p_m), compensated below one half */
        int low = p_m < 0.5f;
        float u = low ? 1.0f - p_m : q + m, inverse_u = 1.0f / u;
        float rest = low ? (p_m + (u - 1.0f)) * inverse_u : 0.0f;
        float cost = rest - log_normal(u);
        float weight = focus(p_m, log_normal(p_m), gamma);
        float v = weight * cost;
        float g = weight * p * q * (inverse_u + (s->constant_focus ? 0.0f : gamma * cost / p_m));
        value[i] = above ? v : 0.0f;
        slope[i] = above ? g : 0.0f;
    }
}

static inline int any_above(const float *x, float threshold) {
    int found = 0;
    for (int i = 0; i < WIDTH; i++) found |= !(x[i] <= threshold); /* NaN counts as above */
    return found;
}

static inline void negative(const float *x, const Params *s, float *value, float *slope) {
    if (s->clip > 0.0f) branch_margin(x, s, value, slope);
    else branch_plain(x, s->gamma_neg, s->constant_focus, value, slope);
    for (int i = 0; i < WIDTH; i++) { /* NaN logits give NaN */
        value[i] = (x[i] != x[i] ? x[i] : value[i]) * s->scale_neg;
        slope[i] = (x[i] != x[i] ? x[i] : slope[i]) * s->scale_neg;
    }
}

static inline void positive(const float *x, const Params *s, float *value, float *slope) {
    float mirrored[WIDTH];
    for (int i = 0; i < WIDTH; i++) mirrored[i] = -x[i];
    branch_plain(mirrored, s->gamma_pos, s->constant_focus, value, slope);
    for (int i = 0; i < WIDTH; i++) {
        value[i] = (x[i] != x[i] ? x[i] : value[i]) * s->scale_pos;
        slope[i] = (x[i] != x[i] ? x[i] : -slope[i]) * s->scale_pos;
    }
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
    for (int64_t row = begin; row < end; row++) {
        const float *x_row = logits + row * cols;
        const int64_t label = labels ? labels[row] : -1;
        const int unknown = labels && (float)label == s->ignore;
        const float w_row = unknown ? 0.0f : row_weight ? row_weight[row] : 1.0f;
        if (labels && !unknown && (label < 0 || label > cols) && sums.bad < 0) sums.bad = row;
        sums.known += labels ? (unknown ? 0 : cols) : 0;
        double row_loss = 0;
        for (int64_t c = 0; c < cols; c += WIDTH) {
            const int64_t at = row * cols + c;
            const int n = cols - c < WIDTH ? (int)(cols - c) : WIDTH;
            float x[WIDTH], y[WIDTH], value[WIDTH], slope[WIDTH];
            if (n == WIDTH) memcpy(x, x_row + c, sizeof x);
            else for (int i = 0; i < WIDTH; i++) x[i] = i < n ? x_row[c + i] : -INFINITY;

            /* targets of the block */
            int some_positive = 0, all_known = 1;
            if (dense) {
                for (int i = 0; i < WIDTH; i++) y[i] = i < n ? dense[at + i] : 0.0f;
                for (int i = 0; i < WIDTH; i++) some_positive |= y[i] != 0.0f;
            } else if (label >= c && label < c + n) {
                for (int i = 0; i < WIDTH; i++) y[i] = i == label - c ? 1.0f : 0.0f;
                some_positive = 1;
            }
            if (dense && some_positive)
                for (int i = 0; i < n; i++) {
                    if (y[i] == s->ignore) all_known = 0;
                    else if (!(y[i] >= 0.0f && y[i] <= 1.0f) && sums.bad < 0) sums.bad = at + i;
                }

            const int active = w_row != 0.0f && any_above(x, s->threshold);
            if (active) negative(x, s, value, slope);
            else for (int i = 0; i < WIDTH; i++) value[i] = slope[i] = 0.0f;
            if (some_positive && w_row != 0.0f) {
                float v[WIDTH], g[WIDTH];
                positive(x, s, v, g);
                for (int i = 0; i < WIDTH; i++) {
                    value[i] = y[i] != 0.0f ? y[i] * v[i] + (1.0f - y[i]) * value[i] : value[i];
                    slope[i] = y[i] != 0.0f ? y[i] * g[i] + (1.0f - y[i]) * slope[i] : slope[i];
                }
                if (!all_known)
                    for (int i = 0; i < WIDTH; i++)
                        if (y[i] == s->ignore) value[i] = slope[i] = 0.0f;
            }

            if (want_stats && !unknown && w_row != 0.0f)
                for (int i = 0; i < n; i++) {
                    const float target = dense || some_positive ? y[i] : 0.0f;
                    if (target == s->ignore && dense) continue;
                    if (entry_weight && entry_weight[at + i] == 0.0f) continue;
                    const float e = exp_negative(-fabsf(x[i]));
                    const float p = (x[i] >= 0 ? 1.0f : e) / (1.0f + e);
                    if (target > 0.5f) { sums.n_pos++; sums.p_pos += p; }
                    else {
                        sums.n_neg++; sums.p_neg += p;
                        sums.n_under += x[i] <= s->threshold;
                    }
                }
            if (dense) {
                sums.known += n;
                if (!all_known) for (int i = 0; i < n; i++) sums.known -= y[i] == s->ignore;
            }

            if (active || some_positive) {
                float w[WIDTH];
                for (int i = 0; i < WIDTH; i++) w[i] = w_row;
                if (col_weight) for (int i = 0; i < n; i++) w[i] *= col_weight[c + i];
                if (entry_weight) for (int i = 0; i < n; i++) w[i] *= entry_weight[at + i];
                float block = 0;
                for (int i = 0; i < WIDTH; i++) { value[i] *= w[i]; slope[i] *= w[i]; }
                for (int i = 0; i < n; i++) block += value[i];
                row_loss += block;
                if (upstream) for (int i = 0; i < n; i++) slope[i] *= upstream[at + i];
            }
            if (grad) {
                if (n == WIDTH) memcpy(grad + at, slope, sizeof slope);
                else memcpy(grad + at, slope, n * sizeof(float));
            }
            if (values) memcpy(values + at, value, n * sizeof(float));
        }
        sums.loss += row_loss;
    }
    *out = sums;
}
