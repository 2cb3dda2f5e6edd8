/* Value and gradient of the asymmetric loss in one pass over the logits.

   The equation is the one of functional.py, in float32. A batch is cut into tiles of
   some rows, which stay in the first cache: inputs of another type or layout
   are converted there, and rows shorter than a block are joined. A tile is taken in
   blocks of WIDTH entries. One that lies under the margin costs a comparison; the few
   entries over the margin in a block are collected until they fill one. */

#include "block.h"

#define TILE 1024 /* entries of a tile that is converted */
#define LARGE 16384 /* of one that is taken as it lies in memory */
#define FLUSH 8 /* blocks that are summed in float32 */
#define ALONE 6 /* up to so many entries over the margin wait to share a block */
#define TINY 1.17549435e-38f

typedef struct {
    float gamma_pos, gamma_neg;
    float scale_pos, scale_neg;     /* alpha, 1 - alpha (or 1, 1) times the factor of the result */
    float clip, rest, odds;         /* m, 1 - m and m / (1 - m), each rounded once */
    float threshold, threshold_low; /* logit(clip) as a sum of two floats; -inf without a margin */
    float under;                    /* the largest float at or under logit(clip) */
    int32_t constant_focus;         /* focusing weights are constants in the gradient */
    int64_t ignore;                 /* target value of unknown entries */
} Params;

/* Targets are either labels (rows,), where cols stands for background, or dense.
   row_weight (rows,) and col_weight (cols,) may be NULL, and so may the outputs:
   values, float32, get the weighted loss; grad, of the type of the logits, the
   derivative times every weight and upstream. Both are contiguous. */
typedef struct {
    int64_t rows, cols;
    Matrix logits, dense, entry_weight, upstream;
    const int64_t *labels;
    const float *row_weight, *col_weight;
    float *values;
    void *grad;
    int64_t want_stats;
    const Params *params;
} Call;

typedef struct {
    double loss;           /* sum of all entries */
    double p_pos, p_neg;   /* sums of probabilities over positives (y > 0.5) and negatives */
    int64_t n_pos, n_neg, n_under; /* counts; n_under: negatives at or under the margin */
    int64_t known;         /* entries whose target is not the ignored value */
    int64_t bad;           /* first position of a target out of range, or -1 */
} Sums;

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
    if (constant || gamma == 0.0f) *slope = weight * p;
    else *slope = weight * (p + gamma * pick(a < 1000.0f, cost, PLAIN(0.0f)) * q); /* not inf * 0 */
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

/* ------------------------------------------------------------------------- a tile */

typedef struct { /* float32 rows, `pitch` entries apart */
    const float *data;
    int64_t pitch;
} Rows;

typedef struct {
    int64_t row, rows, col, cols; /* where it begins and its size */
    int joined;                   /* short rows become one long row of dense targets */
    Rows x, y, weight, upstream;  /* data NULL where absent */
    const int64_t *labels;        /* of the rows, or NULL */
    const float *row_weight, *col_weight; /* of these rows and columns, or NULL */
    float *values, *grad;         /* contiguous; may be NULL */
    int64_t at;                   /* position of the first entry in the batch */
} Tile;

typedef struct { /* memory of a tile whose tensors are not float32 rows */
    float x[TILE], y[TILE], weight[TILE], upstream[TILE], grad[TILE];
} Scratch;

/* Negatives over the margin that stand alone in their block, waiting for a full one. */
typedef struct {
    float x[2 * WIDTH], weight[2 * WIDTH], upstream[2 * WIDTH];
    int64_t at[2 * WIDTH]; /* in the tile */
    int count;
} Pending;

static void finish(Pending *p, const Tile *t, const Params *s, double *loss) {
    const int n = p->count < WIDTH ? p->count : WIDTH;
    Block value, slope, weight = load(p->weight, n, 0.0f);
    negative(load(p->x, n, 0.0f), s, &value, &slope);
    value *= weight;
    slope *= weight;
    if (t->upstream.data) slope *= load(p->upstream, n, 0.0f);
    if (t->grad) for (int i = 0; i < n; i++) t->grad[p->at[i]] = slope[i];
    if (t->values) for (int i = 0; i < n; i++) t->values[p->at[i]] = value[i];
    *loss += sum(value);
    p->count -= n;
    memmove(p->x, p->x + n, p->count * sizeof *p->x);
    memmove(p->weight, p->weight + n, p->count * sizeof *p->weight);
    memmove(p->upstream, p->upstream + n, p->count * sizeof *p->upstream);
    memmove(p->at, p->at + n, p->count * sizeof *p->at);
}

static void count(Sums *sums, const Params *s, Block x, Block y, Mask counted) {
    const Block zero = {0}, e = exp_negative(-absolute(x));
    const Block p = pick(x >= 0.0f, PLAIN(1.0f), e) / (1.0f + e);
    const Mask positive = counted & (y > 0.5f), negative = counted & ~(y > 0.5f);
    sums->n_pos += __builtin_popcount(bits(positive));
    sums->n_neg += __builtin_popcount(bits(negative));
    sums->n_under += __builtin_popcount(bits(negative & (x <= s->under)));
    if (bits(positive)) sums->p_pos += sum(pick(positive, pick(x != x, x, p), zero));
    sums->p_neg += sum(pick(negative, pick(x != x, x, p), zero));
}

/* The rows of a tile. */
static void rows_pass(const Tile *t, const Params *s, int want_stats, Sums *sums) {
    Pending pending;
    pending.count = 0;
    const int64_t cols = t->cols;
    const float *col_weight = t->col_weight;
    const Block zero = {0};
    for (int64_t r = 0; r < t->rows; r++) {
        const int unknown = t->labels && t->labels[r] == s->ignore;
        const int64_t label = t->labels ? t->labels[r] - t->col : -1;
        const float w_row = unknown ? 0.0f : t->row_weight ? t->row_weight[r] : 1.0f;
        const float *x_row = t->x.data + r * t->x.pitch;
        const float *y_row = t->y.data ? t->y.data + r * t->y.pitch : NULL;
        const float *w_entry = t->weight.data ? t->weight.data + r * t->weight.pitch : NULL;
        const float *up = t->upstream.data ? t->upstream.data + r * t->upstream.pitch : NULL;
        float *values = t->values ? t->values + r * cols : NULL;
        float *grad = t->grad ? t->grad + r * cols : NULL;
        Block loss = zero;
        int waiting = 0; /* blocks in `loss` */
        sums->known += unknown ? 0 : cols;
        for (int64_t c = 0; c < cols; c += WIDTH) {
            const int n = cols - c < WIDTH ? (int)(cols - c) : WIDTH;
            const Block x = load(x_row + c, n, -INFINITY);
            Block value = zero, slope = zero, y = zero;
            if (n == WIDTH && !want_stats && !bits(~(x <= s->under)) && /* the usual case */
                (y_row ? !bits(load(y_row + c, WIDTH, 0.0f) != 0.0f)
                       : label < c || label >= c + WIDTH)) {
                if (grad) store(grad + c, zero, WIDTH);
                if (values) store(values + c, zero, WIDTH);
                continue;
            }
            Mask ignored = (Mask)zero;
            int some_positive = 0; /* or soft, or ignored */
            if (y_row) {
                y = load(y_row + c, n, 0.0f);
                some_positive = bits(y != 0.0f) != 0;
            } else if (label >= c && label < c + n) {
                y[label - c] = 1.0f;
                some_positive = 1;
            }
            if (y_row && some_positive) {
                ignored = y == (float)s->ignore;
                const Mask wrong = ~ignored & ~((y >= 0.0f) & (y <= 1.0f));
                if (sums->bad < 0 && bits(wrong))
                    sums->bad = t->at + r * cols + c + __builtin_ctz(bits(wrong));
                if (bits(ignored)) sums->known -= __builtin_popcount(bits(ignored));
            }
            uint32_t active = w_row != 0.0f ? bits(~(x <= s->under)) : 0; /* NaN too */
            const int alone = !some_positive && __builtin_popcount(active) <= ALONE;
            if (active && !alone) negative(x, s, &value, &slope);
            if (some_positive && w_row != 0.0f) {
                Block v, g;
                positive(x, s, &v, &g);
                const Mask with = y != 0.0f, all = y == 1.0f;
                value = pick(with, pick(all, v, y * v + (1.0f - y) * value), value);
                slope = pick(with, pick(all, g, y * g + (1.0f - y) * slope), slope);
            }
            Block weight = PLAIN(w_row);
            if ((active && !alone) || some_positive || want_stats) {
                if (col_weight) weight *= load(col_weight + c, n, 0.0f);
                if (w_entry) weight *= load(w_entry + c, n, 0.0f);
                weight = pick(ignored, zero, weight);
                if (n < WIDTH) weight = load((float *)&weight, n, 0.0f);
                if (want_stats) count(sums, s, x, y, weight != 0.0f);
            }
            if ((active && !alone) || some_positive) {
                value = pick(weight != 0.0f, value * weight, zero);
                slope = pick(weight != 0.0f, slope * weight, zero);
                if (up) slope *= load(up + c, n, 0.0f);
                loss += value;
                if (++waiting == FLUSH) {
                    sums->loss += sum(loss);
                    loss = zero;
                    waiting = 0;
                }
            }
            if (grad) store(grad + c, slope, n);
            if (values) store(values + c, value, n);
            if (alone)
                for (; active; active &= active - 1) {
                    const int i = __builtin_ctz(active);
                    float w = w_row;
                    if (col_weight) w *= col_weight[c + i];
                    if (w_entry) w *= w_entry[c + i];
                    if (w == 0.0f) continue;
                    pending.x[pending.count] = x_row[c + i];
                    pending.weight[pending.count] = w;
                    if (up) pending.upstream[pending.count] = up[c + i];
                    pending.at[pending.count++] = r * cols + c + i;
                }
            if (pending.count >= WIDTH) finish(&pending, t, s, &sums->loss);
        }
        if (waiting) sums->loss += sum(loss);
    }
    if (pending.count) finish(&pending, t, s, &sums->loss);
}

/* A part of a matrix as float32 rows: as it lies in memory, or a copy in `room`. */
static Rows rows_of(const Matrix *m, const Tile *t, float *room) {
    if (!m->data) return (Rows){NULL, 0};
    const int uniform = m->row_stride == t->cols * m->col_stride; /* rows can be joined */
    if (m->type == F32 && m->col_stride == 1 && (uniform || !t->joined))
        return (Rows){(const float *)m->data + t->row * m->row_stride + t->col, m->row_stride};
    if (t->joined && (uniform || t->cols == 1)) { /* one run of entries, of any distance */
        Matrix flat = *m;
        if (t->cols == 1) flat.col_stride = m->row_stride;
        fetch(&flat, t->row, t->col, t->rows * t->cols, room);
    } else {
        for (int64_t r = 0; r < t->rows; r++)
            fetch(m, t->row + r, t->col, t->cols, room + r * t->cols);
    }
    return (Rows){room, t->cols};
}

static int64_t bad_label(const int64_t *labels, int64_t rows, int64_t cols, int64_t ignore) {
    int64_t wrong = 0; /* without a jump in the loop, which is then vector code */
    for (int64_t r = 0; r < rows; r++)
        wrong |= (labels[r] != ignore) & ((uint64_t)labels[r] > (uint64_t)cols);
    if (!wrong) return -1;
    for (int64_t r = 0;; r++)
        if (labels[r] != ignore && (uint64_t)labels[r] > (uint64_t)cols) return r;
}

/* Labels and the weights of rows and columns, entry by entry. */
static void spread(const Call *call, Tile *t, Scratch *room) {
    if (call->labels) {
        const int64_t *labels = call->labels + t->row, ignore = call->params->ignore;
        for (int64_t c = 0; c < t->cols; c++)
            for (int64_t r = 0; r < t->rows; r++) /* the long loop inside */
                room->y[r * t->cols + c] = labels[r] == c ? 1.0f
                                         : labels[r] == ignore ? (float)ignore : 0.0f;
        t->y = (Rows){room->y, t->cols};
    }
    if (call->row_weight || call->col_weight) {
        const float *entry = t->weight.data;
        for (int64_t r = 0; r < t->rows; r++) {
            const float w = call->row_weight ? call->row_weight[t->row + r] : 1.0f;
            for (int64_t c = 0; c < t->cols; c++) {
                const int64_t i = r * t->cols + c;
                room->weight[i] = w * (entry ? entry[i] : 1.0f)
                                * (call->col_weight ? call->col_weight[c] : 1.0f);
            }
        }
        t->weight = (Rows){room->weight, t->cols};
    }
}

static void tile_pass(const Call *call, Tile *t, Scratch *room, Sums *sums) {
    const Params *s = call->params;
    const int64_t size = t->rows * t->cols;
    const int converted = call->grad && call->logits.type != F32;
    t->at = t->row * call->cols + t->col;
    t->x = rows_of(&call->logits, t, room->x);
    t->y = rows_of(&call->dense, t, room->y);
    t->weight = rows_of(&call->entry_weight, t, room->weight);
    t->upstream = rows_of(&call->upstream, t, room->upstream);
    t->values = call->values ? call->values + t->at : NULL;
    t->grad = converted ? room->grad : call->grad ? (float *)call->grad + t->at : NULL;
    if (call->labels && sums->bad < 0) {
        const int64_t r = bad_label(call->labels + t->row, t->rows, call->cols, s->ignore);
        if (r >= 0) sums->bad = t->row + r;
    }
    if (t->joined) {
        spread(call, t, room);
        t->rows = 1;
        t->cols = size;
    } else {
        t->labels = call->labels ? call->labels + t->row : NULL;
        t->row_weight = call->row_weight ? call->row_weight + t->row : NULL;
        t->col_weight = call->col_weight ? call->col_weight + t->col : NULL;
    }
    rows_pass(t, s, call->want_stats, sums);
    if (!converted) return;
    uint16_t *grad = (uint16_t *)call->grad + t->at;
    if (call->logits.type == BF16)
        for (int64_t i = 0; i < size; i++) grad[i] = to_bf16(room->grad[i]);
    else
        for (int64_t i = 0; i < size; i++) grad[i] = to_f16(room->grad[i]);
}

static int as_it_lies(const Matrix *m) {
    return !m->data || (m->type == F32 && m->col_stride == 1);
}

/* How a batch is cut: `tile` entries at most, whole rows or a part of one. */
typedef struct {
    int64_t tile, rows, parts; /* rows of a tile, tiles of a row */
    int joined;
} Cut;

static Cut cut(const Call *call) {
    Cut k = {.joined = call->cols < 4 * WIDTH && call->cols % WIDTH != 0};
    const int direct = !k.joined && as_it_lies(&call->logits) && as_it_lies(&call->dense)
                       && as_it_lies(&call->entry_weight) && as_it_lies(&call->upstream);
    k.tile = direct ? LARGE : TILE;
    k.rows = call->cols > k.tile ? 1 : k.tile / call->cols;
    k.parts = (call->cols + k.tile - 1) / k.tile;
    return k;
}

/* The number of tiles of a batch, which threads may share out. */
int64_t asl_tiles(const Call *call) {
    const Cut k = cut(call);
    return (call->rows + k.rows - 1) / k.rows * k.parts;
}

/* Tiles `begin` to `end` of a batch. */
void asl_one_pass(const Call *call, int64_t begin, int64_t end, Sums *out) {
    const Cut k = cut(call);
    Sums sums = {.bad = -1};
    Scratch room;
    for (int64_t i = begin; i < end; i++) {
        Tile t = {.row = i / k.parts * k.rows, .col = i % k.parts * k.tile, .joined = k.joined};
        t.rows = call->rows - t.row < k.rows ? call->rows - t.row : k.rows;
        t.cols = call->cols - t.col < k.tile ? call->cols - t.col : k.tile;
        tile_pass(call, &t, &room, &sums);
    }
    *out = sums;
}
