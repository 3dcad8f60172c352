/* Winograd F(m, r) on either axis or on both, for one element type T. Included by isa.c after channels.h.
 *
 * A tile of m x m outputs is A^T [ sum over channels of (G w G^T) * (B^T d B) ] A, d being the alpha x alpha
 * inputs below it, alpha = m + r - 1; an axis whose kernel is 1 is left as it is (m = alpha = 1). Channels are in the lanes
 * throughout, so that no lane is lost to a row's end: a task turns its pixels into vectors of input channels, transforms
 * them tile by tile, and then, a block of output channels at a time, multiplies tiles by vectors of output channels
 * (tiles.h) and transforms back. Small images of a batch share a task. The layer is lowered as one of stride m whose
 * outputs are tiles (lowering.lower_winograd).
 * Floors: alpha^2 / r^2 m^2 of the direct products (a quarter for F(4, 3)), and alpha^2 / r^2 of the bytes of the weights.
 * Source: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308. */

/* Numbers of an axis' transforms, from the points 0, +-p_0, +-p_1.. and infinity, see `transform_line`: powers of p_i, and
 * coefficients of the product of x^2 - p_j^2 over all j, and over all but i. */
#define numbers NAME(numbers)
typedef struct {
    T power[MOST_ALPHA / 2 - 1][MOST_ALPHA - 2], all[MOST_ALPHA / 2], but[MOST_ALPHA / 2 - 1][MOST_ALPHA / 2 - 1];
} numbers;

static numbers NAME(numbers_of)(const fc_transform *t)
{
    const T *const at = t->at, *const bt = t->bt;
    const i64 alpha = t->alpha, pairs = alpha / 2 - 1;
    numbers n = {0};
    for (i64 i = 0; i < pairs; i++) {
        for (i64 k = 0; k < t->m; k++) n.power[i][k] = at[k * alpha + 1 + 2 * i];
        for (i64 k = 0; k < pairs; k++) n.but[i][k] = bt[(1 + 2 * i) * alpha + 2 + 2 * k];
    }
    for (i64 k = 0; k < pairs; k++) n.all[k] = bt[2 * k];
    return n;
}

#define UNROLL _Pragma("GCC unroll 8")

/* v = B^T d. Rows of B^T are products of (x - point) over the other points, so those of p and -p are the same even part
 * plus and minus the same odd part. */
static inline __attribute__((always_inline)) void NAME(transform_line)(const int alpha, const numbers *n, const vec *d, vec *v)
{
    const int pairs = alpha / 2 - 1;
    v[0] = d[alpha == 1 ? 0 : 2 * pairs];
    if (alpha == 1) return;
    v[alpha - 1] = d[alpha - 1];
    UNROLL for (int k = pairs - 1; k >= 0; k--) {
        v[0] += d[2 * k] * n->all[k];
        v[alpha - 1] += d[2 * k + 1] * n->all[k];
    }
    UNROLL for (int i = 0; i < pairs; i++) {
        vec even = d[2 * pairs], odd = d[2 * pairs - 1];
        UNROLL for (int k = pairs - 2; k >= 0; k--) {
            even += d[2 * k + 2] * n->but[i][k];
            odd += d[2 * k + 1] * n->but[i][k];
        }
        v[1 + 2 * i] = even + odd * n->power[i][1];
        v[2 + 2 * i] = even - odd * n->power[i][1];
    }
}

/* y = A^T p. */
static inline __attribute__((always_inline)) void NAME(restore_line)(const int m, const int alpha, const numbers *n, const vec *p,
                                                                     vec *y)
{
    const int pairs = alpha / 2 - 1;
    y[0] = p[0];
    if (alpha == 1) return;
    vec sum[MOST_ALPHA / 2 - 1], difference[MOST_ALPHA / 2 - 1];
    UNROLL for (int i = 0; i < pairs; i++) {
        sum[i] = p[1 + 2 * i] + p[2 + 2 * i];
        difference[i] = p[1 + 2 * i] - p[2 + 2 * i];
        y[0] += sum[i];
    }
    UNROLL for (int k = 1; k < m; k++) {
        y[k] = (k % 2 ? difference[0] : sum[0]) * n->power[0][k];
        if (k == m - 1) y[k] = p[alpha - 1] + (k % 2 ? difference[0] : sum[0]) * n->power[0][k];
        UNROLL for (int i = 1; i < pairs; i++) y[k] += (k % 2 ? difference[i] : sum[i]) * n->power[i][k];
    }
}

/* One output by the definition: for tiles in which the transforms met Inf or NaN, or overflowed. */
static T NAME(direct_output)(const fc_conv *p, const char *x, i64 g, i64 o, i64 row, i64 col)
{
    T sum = 0;
    for (i64 c = 0; c < p->icg; c++)
        for (i64 r = 0; r <= p->th.alpha - p->th.m; r++)
            for (i64 s = 0; s <= p->tw.alpha - p->tw.m; s++) {
                const i64 y = p->h.source[row + r], z = p->w.source[col + s];
                const T value = y < 0 || z < 0
                    ? 0 : *(const T *)(x + c * p->x_stride[1] + y * p->x_stride[3] + z * p->x_stride[4]);
                const i64 *const ws = p->weight_stride;
                sum += value * *(const T *)(p->weights + (g * p->ocg + o) * ws[0] + c * ws[1] + r * ws[3] + s * ws[4]);
            }
    return sum;
}

/* A task's scratch, in elements; transformed and products take an odd number of lines from one element to the next. */
static i64 NAME(window_rows)(const fc_conv *p, i64 rows) { return rows * p->th.m + p->th.alpha - p->th.m; }
static i64 NAME(window_cols)(const fc_conv *p, i64 cols) { return cols * p->tw.m + p->tw.alpha - p->tw.m; }
static i64 NAME(channel_blocks)(const fc_conv *p) { return (p->icg + VL - 1) / VL; }

static i64 NAME(winograd_scratch)(const fc_conv *p)
{
    const i64 square = p->th.alpha * p->tw.alpha, tiles = p->n_step * p->rows * p->cols;
    const i64 elements = NAME(window_rows)(p, p->rows) * NAME(window_cols)(p, p->cols) * VL
                         + square * (NAME(channel_blocks)(p) * tiles | 1) * VL + square * (tiles | 1) * LANES
                         + p->th.m * GROUP * LANES;
    return round_up(elements * (i64)sizeof(T), 64);
}

#define winograd_work NAME(winograd_work)
typedef struct {
    const fc_conv *p;
    tile_work store;
    numbers h, w;
    i64 each, tiles, blocks;              /* tiles of an image and of all of the task; blocks of input channels */
    i64 step, pitch;                      /* from one element to the next, transformed; of products, in tiles: odd numbers of lines */
    i64 width, lo, hi;                    /* of the window, and of what follows each other in a row of x */
    T *window, *transformed, *sums, *outputs; /* [row][pixel][lane], [element][block][tile][lane], [element][tile][lane] */
    const char *x;                        /* the image's and the group's first channel */
} winograd_work;

/* One row of the window: pixels become vectors of channels; x NULL: a row of zeros. */
static void NAME(window_row)(const winograd_work *k, T *to, const char *x, i64 channels)
{
    const fc_conv *const p = k->p;
    const i64 *const source = p->w.source + k->store.b.x0 * p->tw.m, *const step = p->x_stride;
    const int last = step[1] == sizeof(T), unit = step[4] == sizeof(T) && !last;
    for (i64 i = 0, n; i < k->width; i += n) {
        n = 1;
        if (!x || source[i] < 0) {
            *(loose_vec *)(to + i * VL) = (vec){0};
        } else if (unit && i >= k->lo && i < k->hi) {
            vec row[VECTOR_BYTES / T_BYTES];
            n = least(VL, k->hi - i);
            const char *const from = x + source[i] * step[4];
#pragma GCC unroll 16
            for (int l = 0; l < VL; l++) {
                row[l] = (vec){0};
                if (l < channels && n == VL) row[l] = *(const loose_vec *)(from + l * step[1]);
                if (l < channels && n < VL) row[l] = NAME(load_lanes)((const T *)(from + l * step[1]), n);
            }
            NAME(transpose)(row);
#pragma GCC unroll 16
            for (int l = 0; l < VL; l++)
                if (l < n) *(loose_vec *)(to + (i + l) * VL) = row[l];
        } else if (last) {
            *(loose_vec *)(to + i * VL) = NAME(load_lanes)((const T *)(x + source[i] * step[4]), channels);
        } else {
            for (i64 l = 0; l < VL; l++) to[i * VL + l] = l < channels ? *(const T *)(x + source[i] * step[4] + l * step[1]) : 0;
        }
    }
}

/* The transforms that are compiled: X(mh, ah, mw, aw), outputs and inputs of a tile along h and w. */
#define TRANSFORMS(X) X(2, 4, 2, 4) X(4, 6, 4, 6) X(6, 8, 6, 8) LINES(X, 2, 4) LINES(X, 4, 6) LINES(X, 6, 8) LINES(X, 2, 6) LINES(X, 4, 8)
#define LINES(X, M, ALPHA) X(1, 1, M, ALPHA) X(M, ALPHA, 1, 1)

/* B^T d B of every tile of the window, one block of input channels; `to`: the first tile's place. */
static inline __attribute__((always_inline)) void NAME(transform_tiles)(const int mh, const int ah, const int mw, const int aw,
                                                                        const winograd_work *k, T *to)
{
    for (i64 r = 0; r < k->store.b.rows; r++)
        for (i64 t = 0; t < k->store.b.cols; t++, to += VL) {
            const T *const from = k->window + (r * mh * k->width + t * mw) * VL;
            vec half[MOST_ALPHA][MOST_ALPHA];
            UNROLL for (int j = 0; j < aw; j++) {
                vec d[MOST_ALPHA], v[MOST_ALPHA];
                UNROLL for (int i = 0; i < ah; i++) d[i] = *(const loose_vec *)(from + (i * k->width + j) * VL);
                NAME(transform_line)(ah, &k->h, d, v);
                UNROLL for (int i = 0; i < ah; i++) half[i][j] = v[i];
            }
            UNROLL for (int i = 0; i < ah; i++) {
                vec v[MOST_ALPHA];
                NAME(transform_line)(aw, &k->w, half[i], v);
                UNROLL for (int j = 0; j < aw; j++) *(loose_vec *)(to + (i * aw + j) * k->step) = v[j];
            }
        }
}

/* A^T p A of one tile and one vector of output channels; y[i][j] goes to `to`, `row` and `col` elements apart, where i < rows
 * and j < cols. What it returns stays 0 unless something is Inf or NaN. */
static inline __attribute__((always_inline)) vec NAME(restore_tile)(const int mh, const int ah, const int mw, const int aw,
                                                                    const winograd_work *k, const T *sums, i64 step, T *to,
                                                                    i64 row, i64 col, i64 rows, i64 cols)
{
    vec half[MOST_ALPHA - 2][MOST_ALPHA], zero = {0};
    UNROLL for (int j = 0; j < aw; j++) {
        vec d[MOST_ALPHA], v[MOST_ALPHA];
        UNROLL for (int i = 0; i < ah; i++) d[i] = *(const loose_vec *)(sums + (i * aw + j) * step);
        NAME(restore_line)(mh, ah, &k->h, d, v);
        UNROLL for (int i = 0; i < mh; i++) half[i][j] = v[i];
    }
    UNROLL for (int i = 0; i < mh; i++) {
        vec v[MOST_ALPHA];
        NAME(restore_line)(mw, aw, &k->w, half[i], v);
        UNROLL for (int j = 0; j < mw; j++)
            if (i < rows && j < cols) {
                *(loose_vec *)(to + i * row + j * col) = v[j];
                zero += v[j] * (T)0;
            }
    }
    return zero;
}

typedef void (*NAME(transform_fn))(const winograd_work *, T *);
typedef vec (*NAME(restore_fn))(const winograd_work *, const T *, i64, T *, i64, i64, i64, i64);

#define TRANSFORM(MH, AH, MW, AW)                                                                            \
    static void NAME(transform_##MH##AH##MW##AW)(const winograd_work *k, T *to)                              \
    {                                                                                                        \
        NAME(transform_tiles)(MH, AH, MW, AW, k, to);                                                        \
    }                                                                                                        \
    static vec NAME(restore_##MH##AH##MW##AW)(const winograd_work *k, const T *sums, i64 step, T *to, i64 row, i64 col, \
                                              i64 rows, i64 cols)                                            \
    {                                                                                                        \
        return NAME(restore_tile)(MH, AH, MW, AW, k, sums, step, to, row, col, rows, cols);                  \
    }
TRANSFORMS(TRANSFORM)
#undef TRANSFORM

static const struct {
    int mh, ah, mw, aw;
    NAME(transform_fn) transform;
    NAME(restore_fn) restore;
} NAME(transforms)[] = {
#define ENTRY(MH, AH, MW, AW) {MH, AH, MW, AW, NAME(transform_##MH##AH##MW##AW), NAME(restore_##MH##AH##MW##AW)},
    TRANSFORMS(ENTRY)
#undef ENTRY
};
#undef TRANSFORMS
#undef LINES
#undef UNROLL

/* Products of all tiles with one block of output channels: a slice of weights for each element of the tiles. */
static void NAME(multiply_tiles)(const winograd_work *k, i64 square, const T *weights, i64 nv)
{
    const fc_conv *const p = k->p;
    const i64 lanes = nv * VL, groups = (k->tiles + MOST_PIXELS - 1) / MOST_PIXELS, most = p->ic_block / VL;
    step_start starts[64 / (VECTOR_BYTES / T_BYTES)];
    for (i64 t = 0; t < most; t++) starts[t] = (step_start){t * VL, t * k->tiles * VL, 0, VL};
    for (i64 e = 0; e < square; e++, weights += k->blocks * VL * lanes) {
        const char *next = (const char *)(weights + k->blocks * VL * lanes);
        const char *const end = e + 1 < square ? next + k->blocks * VL * lanes * (i64)sizeof(T) : next;
        for (i64 i = 0; i < groups; i++) {
            const i64 t = k->tiles * i / groups, q = k->tiles * (i + 1) / groups - t;
            for (i64 c = 0; c < k->blocks; c += most) {
                const steps s = {.taps = least(most, k->blocks - c), .channels = VL, .b_channel = 1, .start = starts};
                const i64 ahead = next < end;
                NAME(product_tiles)[nv - 1][q](weights + c * VL * lanes, k->transformed + e * k->step + (c * k->tiles + t) * VL, &s,
                                               k->sums + (e * k->pitch + t) * lanes, c > 0, ahead ? next : (const char *)weights,
                                               ahead * 64);
                next += s.taps * VL * 64;
            }
        }
    }
}

/* Redo by the definition what came out non-finite. */
static void NAME(mend)(const winograd_work *k, i64 o, i64 lanes, i64 y, i64 x, i64 rows, i64 cols)
{
    for (i64 i = 0; i < rows * cols; i++)
        for (i64 l = 0; l < least(lanes, k->p->ocg - o); l++) {
            T *const value = k->outputs + i * lanes + l;
            if (*value - *value != 0) *value = NAME(direct_output)(k->p, k->x, k->store.b.g, o + l, y + i / cols, x + i % cols);
        }
}

/* From products to outputs of one image, some tiles of a row at a time. */
static void NAME(restore_tiles)(const winograd_work *k, NAME(restore_fn) restore, i64 image, i64 nv, i64 o, const T *bias)
{
    const fc_conv *const p = k->p;
    const i64 lanes = nv * VL, mh = p->th.m, mw = p->tw.m, together = GROUP / mw;
    const block *const b = &k->store.b;
    for (i64 r = 0; r < b->rows; r++)
        for (i64 t = 0; t < b->cols; t += together) {
            const i64 y = (b->y0 + r) * mh, x = (b->x0 + t) * mw, end = least(t + together, b->cols);
            const i64 rows = least(mh, p->th.out - y), cols = least((end - t) * mw, p->tw.out - x);
            vec zero = {0};
            for (i64 i = t; i < end; i++)
                for (i64 j = 0; j < lanes; j += VL)
                    zero += restore(k, k->sums + (image * k->each + r * b->cols + i) * lanes + j, k->pitch * lanes,
                                    k->outputs + (i - t) * mw * lanes + j, cols * lanes, lanes, rows, cols - (i - t) * mw);
            T total = 0;
            for (int l = 0; l < VL; l++) total += zero[l];
            if (total != 0) NAME(mend)(k, o, lanes, y, x, rows, cols);
            NAME(store_tile)(&k->store, k->outputs, nv, o, y, x, rows, cols, bias);
        }
}

/* Point the work at one image of the task. */
static void NAME(to_image)(winograd_work *k, i64 n)
{
    const fc_conv *const p = k->p;
    const i64 first = k->store.b.g * p->ocg;
    k->x = p->x + n * p->x_stride[0] + k->store.b.g * p->icg * p->x_stride[1];
    k->store.out = p->out + n * p->out_stride[0] + first * p->out_stride[1];
    if (p->residual) k->store.residual = p->residual + n * p->residual_stride[0] + first * p->residual_stride[1];
}

/* One block of tiles, of one image or of several; see pixels_task. */
static void NAME(winograd_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    const block b = block_of(p, task);
    const i64 square = p->th.alpha * p->tw.alpha, icp = NAME(channel_blocks)(p) * VL, ocp = round_up(p->ocg, VL);
    const i64 images = least(p->n_step, p->n - b.n);
    winograd_work k = {.p = p, .store = {.p = p, .b = b}, .h = NAME(numbers_of)(&p->th), .w = NAME(numbers_of)(&p->tw),
                       .each = b.rows * b.cols, .blocks = NAME(channel_blocks)(p),
                       .width = NAME(window_cols)(p, b.cols)};
    int kind = 0;
    while (NAME(transforms)[kind].mh != p->th.m || NAME(transforms)[kind].ah != p->th.alpha
           || NAME(transforms)[kind].mw != p->tw.m || NAME(transforms)[kind].aw != p->tw.alpha)
        kind++;
    k.tiles = images * k.each;
    k.step = (k.blocks * k.tiles | 1) * VL;
    k.pitch = k.tiles | 1;
    k.window = (T *)(p->scratch + worker * p->scratch_bytes);
    k.transformed = k.window + NAME(window_rows)(p, p->rows) * NAME(window_cols)(p, p->cols) * VL;
    k.sums = k.transformed + square * (k.blocks * p->n_step * p->rows * p->cols | 1) * VL;
    k.outputs = k.sums + square * (p->n_step * p->rows * p->cols | 1) * LANES;
    const i64 *const source = p->w.source + b.x0 * p->tw.m;
    while (k.lo < k.width && source[k.lo] < 0) k.lo++;
    for (k.hi = k.lo; k.hi < k.width && source[k.hi] == source[k.lo] + k.hi - k.lo;) k.hi++;

    for (i64 image = 0; image < images; image++) {
        NAME(to_image)(&k, b.n + image);
        for (i64 block = 0; block < k.blocks; block++) {
            const char *const x = k.x + block * VL * p->x_stride[1];
            for (i64 i = 0; i < NAME(window_rows)(p, b.rows); i++) {
                const i64 row = p->h.source[b.y0 * p->th.m + i];
                NAME(window_row)(&k, k.window + i * k.width * VL, row < 0 ? NULL : x + row * p->x_stride[3],
                                 least(VL, p->icg - block * VL));
            }
            NAME(transforms)[kind].transform(&k, k.transformed + (block * k.tiles + image * k.each) * VL);
        }
    }
    for (i64 o = b.o0; o < b.o1; o += LANES) {
        const i64 nv = o + VL < p->ocg ? 2 : 1;
        T lanes_of_bias[2 * VECTOR_BYTES / T_BYTES];
        const T *const bias = NAME(block_bias)(p, b.g, o, lanes_of_bias);
        NAME(multiply_tiles)(&k, square, (const T *)p->packed + (b.g * ocp + o) * square * icp, nv);
        for (i64 image = 0; image < images; image++) {
            NAME(to_image)(&k, b.n + image);
            NAME(restore_tiles)(&k, NAME(transforms)[kind].restore, image, nv, o, bias);
        }
    }
}
