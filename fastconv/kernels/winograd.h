/* Winograd F(m, 3) x F(m, 3), m = 2 or 4, for one element type T. Included by isa.c after channels.h.
 *
 * A tile of m x m outputs is A^T [ sum over channels of (G w G^T) * (B^T d B) ] A, d being the alpha x alpha
 * inputs below it. Channels are in the lanes throughout, so that no lane is lost to a row's end: a task turns its pixels
 * into vectors of input channels, transforms them tile by tile, and then, a block of output channels at a time, multiplies
 * tiles by vectors of output channels (tiles.h) and transforms back. The layer is lowered as one of stride m whose outputs
 * are tiles (lowering.lower_winograd).
 * Floors: alpha^2 / 9 m^2 of the direct products (a quarter for m = 4), and alpha^2 / 9 of the bytes of the weights.
 * Source: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308. */

/* Numbers of the transforms, see `transform_line` and `restore_line`. */
#define numbers NAME(numbers)
typedef struct {
    T a, b, a2, b2, a3, b3; /* points and their powers */
    T of_a, of_b, sum, product; /* -b^2, -a^2, -(a^2 + b^2), a^2 b^2 */
} numbers;

static numbers NAME(numbers_of)(const fc_conv *p)
{
    const T *const at = p->at, *const bt = p->bt;
    if (p->m == 2) return (numbers){.a = at[5], .product = bt[0]};
    return (numbers){at[7], at[9], at[13], at[15], at[19], at[21], bt[8], bt[20], bt[2], bt[0]};
}

/* v = B^T d. Rows of B^T are products of (x - point) over the other points, so those of a and -a are the same even part
 * plus and minus the same odd part. */
static inline __attribute__((always_inline)) void NAME(transform_line)(const int m, const numbers *n, const vec *d, vec *v)
{
    if (m == 2) {
        v[0] = d[2] + d[0] * n->product;
        v[1] = d[2] + d[1] * n->a;
        v[2] = d[2] - d[1] * n->a;
        v[3] = d[3] + d[1] * n->product;
        return;
    }
    const vec even_a = d[4] + d[2] * n->of_a, odd_a = d[3] + d[1] * n->of_a;
    const vec even_b = d[4] + d[2] * n->of_b, odd_b = d[3] + d[1] * n->of_b;
    v[0] = d[4] + d[2] * n->sum + d[0] * n->product;
    v[1] = even_a + odd_a * n->a;
    v[2] = even_a - odd_a * n->a;
    v[3] = even_b + odd_b * n->b;
    v[4] = even_b - odd_b * n->b;
    v[5] = d[5] + d[3] * n->sum + d[1] * n->product;
}

/* y = A^T p. */
static inline __attribute__((always_inline)) void NAME(restore_line)(const int m, const numbers *n, const vec *p, vec *y)
{
    const vec sum_a = p[1] + p[2], difference_a = p[1] - p[2];
    if (m == 2) {
        y[0] = p[0] + sum_a;
        y[1] = p[3] + difference_a * n->a;
        return;
    }
    const vec sum_b = p[3] + p[4], difference_b = p[3] - p[4];
    y[0] = p[0] + sum_a + sum_b;
    y[1] = difference_a * n->a + difference_b * n->b;
    y[2] = sum_a * n->a2 + sum_b * n->b2;
    y[3] = p[5] + difference_a * n->a3 + difference_b * n->b3;
}

/* One output by the definition: for tiles in which the transforms met Inf or NaN, or overflowed. */
static T NAME(direct_output)(const fc_conv *p, const char *x, i64 g, i64 o, i64 row, i64 col)
{
    T sum = 0;
    for (i64 c = 0; c < p->icg; c++)
        for (i64 r = 0; r < 3; r++)
            for (i64 s = 0; s < 3; s++) {
                const i64 y = p->h.source[row + r], z = p->w.source[col + s];
                const T value = y < 0 || z < 0
                    ? 0 : *(const T *)(x + c * p->x_stride[1] + y * p->x_stride[3] + z * p->x_stride[4]);
                const i64 *const ws = p->weight_stride;
                sum += value * *(const T *)(p->weights + (g * p->ocg + o) * ws[0] + c * ws[1] + r * ws[3] + s * ws[4]);
            }
    return sum;
}

/* A task's scratch, in elements. */
static i64 NAME(window_size)(const fc_conv *p) { return (p->rows * p->m + 2) * (p->cols * p->m + 2) * VL; }
static i64 NAME(channel_blocks)(const fc_conv *p) { return (p->icg + VL - 1) / VL; }

static i64 NAME(winograd_scratch)(const fc_conv *p)
{
    const i64 square = (p->m + 2) * (p->m + 2), tiles = p->rows * p->cols;
    const i64 elements = NAME(window_size)(p) + square * (NAME(channel_blocks)(p) * tiles | 1) * VL + square * (tiles | 1) * LANES
                         + p->m * GROUP * LANES;
    return round_up(elements * (i64)sizeof(T), 64);
}

#define winograd_work NAME(winograd_work)
typedef struct {
    const fc_conv *p;
    tile_work store;
    numbers n;
    i64 tiles, blocks;                    /* of the task; blocks of input channels */
    i64 step, pitch;                      /* from one element to the next, transformed; of products, in tiles: odd numbers of lines */
    i64 width, lo, hi;                    /* of the window, and of what follows each other in a row of x */
    T *window, *transformed, *sums, *outputs; /* [row][pixel][lane], [element][block][tile][lane], [element][tile][lane] */
    const char *x;                        /* the group's first channel */
} winograd_work;

/* One row of the window: pixels become vectors of channels; x NULL: a row of zeros. */
static void NAME(window_row)(const winograd_work *k, T *to, const char *x, i64 channels)
{
    const fc_conv *const p = k->p;
    const i64 *const source = p->w.source + k->store.b.x0 * p->m, *const step = p->x_stride;
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

/* B^T d B of every tile of one block of input channels. */
static inline __attribute__((always_inline)) void NAME(transform_tiles)(const int m, const winograd_work *k, i64 block)
{
    const int alpha = m + 2;
    T *to = k->transformed + block * k->tiles * VL;
    for (i64 r = 0; r < k->store.b.rows; r++)
        for (i64 t = 0; t < k->store.b.cols; t++, to += VL) {
            const T *const from = k->window + (r * m * k->width + t * m) * VL;
            vec half[6][6];
#pragma GCC unroll 6
            for (int j = 0; j < alpha; j++) {
                vec d[6], v[6];
#pragma GCC unroll 6
                for (int i = 0; i < alpha; i++) d[i] = *(const loose_vec *)(from + (i * k->width + j) * VL);
                NAME(transform_line)(m, &k->n, d, v);
#pragma GCC unroll 6
                for (int i = 0; i < alpha; i++) half[i][j] = v[i];
            }
#pragma GCC unroll 6
            for (int i = 0; i < alpha; i++) {
                vec v[6];
                NAME(transform_line)(m, &k->n, half[i], v);
#pragma GCC unroll 6
                for (int j = 0; j < alpha; j++) *(loose_vec *)(to + (i * alpha + j) * k->step) = v[j];
            }
        }
}

/* A^T p A of one tile and one vector of output channels; y[i][j] goes to `to`, `row` and `col` elements apart, where i < rows
 * and j < cols. What it returns stays 0 unless something is Inf or NaN. */
static inline __attribute__((always_inline)) vec NAME(restore_tile)(const int m, const winograd_work *k, const T *sums,
                                                                    i64 step, T *to, i64 row, i64 col, i64 rows, i64 cols)
{
    const int alpha = m + 2;
    vec half[4][6], zero = {0};
#pragma GCC unroll 6
    for (int j = 0; j < alpha; j++) {
        vec d[6], v[4];
#pragma GCC unroll 6
        for (int i = 0; i < alpha; i++) d[i] = *(const loose_vec *)(sums + (i * alpha + j) * step);
        NAME(restore_line)(m, &k->n, d, v);
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) half[i][j] = v[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) {
        vec v[4];
        NAME(restore_line)(m, &k->n, half[i], v);
#pragma GCC unroll 4
        for (int j = 0; j < m; j++)
            if (i < rows && j < cols) {
                *(loose_vec *)(to + i * row + j * col) = v[j];
                zero += v[j] * (T)0;
            }
    }
    return zero;
}

/* Products of all tiles with one block of output channels: a slice of weights for each element of the tiles. */
static void NAME(multiply_tiles)(const winograd_work *k, i64 square, const T *weights, i64 nv)
{
    const fc_conv *const p = k->p;
    const i64 lanes = nv * VL, groups = (k->tiles + MOST_PIXELS - 1) / MOST_PIXELS, most = p->ic_block / VL;
    step_start starts[64 / (VECTOR_BYTES / T_BYTES)];
    for (i64 t = 0; t < most; t++) starts[t] = (step_start){t * VL, t * k->tiles * VL, 0};
    for (i64 e = 0; e < square; e++, weights += k->blocks * VL * lanes) {
        const char *next = (const char *)(weights + k->blocks * VL * lanes);
        const char *const end = e + 1 < square ? next + k->blocks * VL * lanes * (i64)sizeof(T) : next;
        for (i64 i = 0; i < groups; i++) {
            const i64 t = k->tiles * i / groups, q = k->tiles * (i + 1) / groups - t;
            for (i64 c = 0; c < k->blocks; c += most) {
                const steps s = {.taps = least(most, k->blocks - c), .channels = VL, .b_channel = 1, .start = starts};
                const i64 ahead = next < end;
                NAME(product_tiles)[nv - 1][q](weights + c * VL * lanes, k->transformed + e * k->step + (c * k->tiles + t) * VL, 0,
                                               &s, k->sums + (e * k->pitch + t) * lanes, c > 0, ahead ? next : (const char *)weights,
                                               ahead * 64, 0);
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

/* From products to outputs, some tiles of a row at a time. */
static inline __attribute__((always_inline)) void NAME(restore_tiles)(const int m, const winograd_work *k, i64 nv, i64 o, const T *bias)
{
    const i64 lanes = nv * VL;
    const block *const b = &k->store.b;
    for (i64 r = 0; r < b->rows; r++)
        for (i64 t = 0; t < b->cols; t += GROUP / m) {
            const i64 y = (b->y0 + r) * m, x = (b->x0 + t) * m, end = least(t + GROUP / m, b->cols);
            const i64 rows = least(m, k->p->out_h - y), cols = least((end - t) * m, k->p->out_w - x);
            vec zero = {0};
            for (i64 i = t; i < end; i++)
                for (i64 j = 0; j < lanes; j += VL)
                    zero += NAME(restore_tile)(m, k, k->sums + (r * b->cols + i) * lanes + j, k->pitch * lanes,
                                               k->outputs + (i - t) * m * lanes + j, cols * lanes, lanes, rows, cols - (i - t) * m);
            T total = 0;
            for (int l = 0; l < VL; l++) total += zero[l];
            if (total != 0) NAME(mend)(k, o, lanes, y, x, rows, cols);
            NAME(store_tile)(&k->store, k->outputs, nv, o, y, x, rows, cols, bias);
        }
}

static inline __attribute__((always_inline)) void NAME(winograd_block)(const int m, const fc_conv *p, block b, int worker)
{
    const i64 square = (m + 2) * (m + 2), icp = NAME(channel_blocks)(p) * VL, ocp = round_up(p->ocg, VL);
    winograd_work k = {.p = p, .n = NAME(numbers_of)(p), .tiles = b.rows * b.cols, .blocks = NAME(channel_blocks)(p),
                       .width = b.cols * m + 2, .x = p->x + b.n * p->x_stride[0] + b.g * p->icg * p->x_stride[1]};
    k.store = (tile_work){.p = p, .b = b, .out = p->out + b.n * p->out_stride[0] + b.g * p->ocg * p->out_stride[1],
                          .residual = !p->residual ? NULL : p->residual + b.n * p->residual_stride[0]
                                                            + b.g * p->ocg * p->residual_stride[1]};
    k.step = (k.blocks * k.tiles | 1) * VL;
    k.pitch = k.tiles | 1;
    k.window = (T *)(p->scratch + worker * p->scratch_bytes);
    k.transformed = k.window + NAME(window_size)(p);
    k.sums = k.transformed + square * (k.blocks * p->rows * p->cols | 1) * VL;
    k.outputs = k.sums + square * (p->rows * p->cols | 1) * LANES;
    const i64 *const source = p->w.source + b.x0 * m;
    while (k.lo < k.width && source[k.lo] < 0) k.lo++;
    for (k.hi = k.lo; k.hi < k.width && source[k.hi] == source[k.lo] + k.hi - k.lo;) k.hi++;

    for (i64 block = 0; block < k.blocks; block++) {
        const char *const x = k.x + block * VL * p->x_stride[1];
        for (i64 i = 0; i < b.rows * m + 2; i++) {
            const i64 row = p->h.source[b.y0 * m + i];
            NAME(window_row)(&k, k.window + i * k.width * VL, row < 0 ? NULL : x + row * p->x_stride[3], least(VL, p->icg - block * VL));
        }
        NAME(transform_tiles)(m, &k, block);
    }
    for (i64 o = b.o0; o < b.o1; o += LANES) {
        const i64 nv = o + VL < p->ocg ? 2 : 1;
        T lanes_of_bias[2 * VECTOR_BYTES / T_BYTES];
        NAME(multiply_tiles)(&k, square, (const T *)p->packed + (b.g * ocp + o) * square * icp, nv);
        NAME(restore_tiles)(m, &k, nv, o, NAME(block_bias)(p, b.g, o, lanes_of_bias));
    }
}

/* One block of tiles; see pixels_task. */
static void NAME(winograd_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    if (p->m == 2)
        NAME(winograd_block)(2, p, block_of(p, task), worker);
    else
        NAME(winograd_block)(4, p, block_of(p, task), worker);
}
