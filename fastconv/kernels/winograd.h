/* Winograd F(m, 3) x F(m, 3), m = 2 or 4, for one element type T. Included by isa.c after strip.h.
 *
 * A tile of m x m outputs is A^T [ sum over channels of (G w G^T) * (B^T d B) ] A, d being the alpha x alpha
 * inputs below it. Tiles are laid out as the outputs of a layer of stride m (lowering.lower_winograd), so that
 * element (i, j) of neighbouring tiles is contiguous and the lanes run over tiles. A task transforms the
 * input of its tiles once, then, for a few output channels at a time, multiplies and transforms back.
 * Source: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308. */

/* Tiles of a task, with room for the widest panel behind the last. */
static i64 NAME(winograd_pitch)(const fc_conv *p)
{
    const i64 tiles = p->rows * (p->cols + p->w.reach);
    return (tiles + VL - 1) / VL * VL + MOST_VECTORS * VL;
}

static i64 NAME(winograd_scratch)(const fc_conv *p)
{
    const i64 square = (p->m + 2) * (p->m + 2);
    const i64 strip = least(p->ic_block, p->icg) * NAME(plane_pitch)(p) + MOST_VECTORS * VL;
    const i64 transformed = square * p->icg * NAME(winograd_pitch)(p);
    const i64 products = square * (WINOGRAD_CHUNK + MOST_ROWS) * MOST_VECTORS * VL;
    return ((strip + transformed + products) * (i64)sizeof(T) + 4 * 64) / 64 * 64;
}

/* v[i * alpha + j][0..VL) = (B^T d B)[i][j] for VL tiles; d[i][j] lies at x + offset[i] + column[j]. */
static inline __attribute__((always_inline)) void NAME(transform_input)(
    const int alpha, const T *x, const i64 *row, const i64 *column, const T *bt, T *v, i64 v_step)
{
    vec half[6][6];
    for (int j = 0; j < alpha; j++) {
        vec d[6];
        for (int i = 0; i < alpha; i++) d[i] = *(const loose_vec *)(x + row[i * alpha + j] + column[j]);
        for (int i = 0; i < alpha; i++) {
            vec sum = d[0] * bt[i * alpha];
            for (int k = 1; k < alpha; k++) sum += d[k] * bt[i * alpha + k];
            half[i][j] = sum;
        }
    }
    for (int i = 0; i < alpha; i++)
        for (int j = 0; j < alpha; j++) {
            vec sum = half[i][0] * bt[j * alpha];
            for (int k = 1; k < alpha; k++) sum += half[i][k] * bt[j * alpha + k];
            *(loose_vec *)(v + (i * alpha + j) * v_step) = sum;
        }
}

/* y[i * m + j][0..VL) = (A^T p A)[i][j]; returns whether all of them are finite. */
static inline __attribute__((always_inline)) int NAME(transform_output)(
    const int m, const T *products, i64 step, const T *at, T *y, i64 y_step)
{
    const int alpha = m + 2;
    vec half[4][6], zero = {0};
    for (int j = 0; j < alpha; j++) {
        vec p[6];
        for (int i = 0; i < alpha; i++) p[i] = *(const loose_vec *)(products + (i * alpha + j) * step);
        for (int i = 0; i < m; i++) {
            vec sum = p[0] * at[i * alpha];
            for (int k = 1; k < alpha; k++) sum += p[k] * at[i * alpha + k];
            half[i][j] = sum;
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j++) {
            vec sum = half[i][0] * at[j * alpha];
            for (int k = 1; k < alpha; k++) sum += half[i][k] * at[j * alpha + k];
            *(loose_vec *)(y + (i * m + j) * y_step) = sum;
            zero += sum * (T)0; /* stays 0 unless something is Inf or NaN */
        }
    T total = 0;
    for (int l = 0; l < VL; l++) total += zero[l];
    return total == 0;
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

/* Finished tiles of one output channel, y[i * m + j][tile], to `out`: their rows are woven together first. */
static inline __attribute__((always_inline)) void NAME(store_tiles)(
    const int m, const fc_conv *p, const T *y, i64 y_step, const segment *v, i64 y0, i64 x0, char *out,
    const char *residual, const run_end *end, i64 channel)
{
    T line[4 * MOST_COLUMNS];
    const i64 col = (x0 + v->col) * m, length = least(v->length * m, p->out_w - col);
    for (int i = 0; i < m && (y0 + v->row) * m + i < p->out_h; i++) {
        const T *const from = y + i * m * y_step + v->from;
        for (i64 k = 0; k < v->length; k++)
            for (int j = 0; j < m; j++) line[k * m + j] = from[j * y_step + k];
        const i64 row = (y0 + v->row) * m + i;
        NAME(store)(out + row * p->out_stride[3] + col * p->out_stride[4], p->out_stride[4], line, length, end, channel,
                    !residual ? NULL : residual + row * p->residual_stride[3] + col * p->residual_stride[4],
                    p->residual_stride[4]);
    }
}

/* Scratch of one task: packed input, its transforms [element][channel][tile], products [element][row][lane]. */
#define tiles_work NAME(tiles_work)
typedef struct {
    const fc_conv *p;
    block b;
    i64 width, tiles, pitch;
    T *strip, *transformed, *products;
    const char *x; /* the group's first channel */
} tiles_work;

static inline __attribute__((always_inline)) void NAME(transform_block)(const int m, const tiles_work *k)
{
    const int alpha = m + 2;
    const fc_conv *const p = k->p;
    const i64 height = strip_rows(p, k->b.rows), plane = NAME(plane_pitch)(p);
    i64 row[36], column[6];
    for (int i = 0; i < alpha; i++)
        for (int j = 0; j < alpha; j++) {
            row[i * alpha + j] = (p->w.tap_phase[j] * height + tap_row(p, k->b.rows, i)) * k->width;
        }
    for (int j = 0; j < alpha; j++) column[j] = p->w.tap_offset[j];
    for (i64 c0 = 0; c0 < p->icg; c0 += p->ic_block) {
        const i64 channels = least(p->ic_block, p->icg - c0);
        NAME(pack_strip)(k->strip, p, k->x + c0 * p->x_stride[1], channels, &k->b, MOST_VECTORS * VL);
        for (i64 c = 0; c < channels; c++)
            for (i64 q = 0; q < k->tiles; q += VL)
                NAME(transform_input)(alpha, k->strip + c * plane + q, row, column, p->bt,
                                      k->transformed + (c0 + c) * k->pitch + q, p->icg * k->pitch);
    }
}

/* Products of tiles [q, q + nv * VL) and output channels [chunk, stop): row o - chunk + MOST_ROWS, so that the last
 * register block, which overlaps the one before it, may begin before `chunk`. */
static void NAME(multiply_tiles)(const tiles_work *k, i64 square, i64 q, i64 nv, i64 chunk, i64 stop)
{
    const fc_conv *const p = k->p;
    const i64 mr = p->mr, blocks = (p->ocg + mr - 1) / mr, lanes = nv * VL;
    const step_start none = {0};
    const product_fn product = NAME(products)[1][mr][nv];
    for (i64 e = 0; e < square; e++)
        for (i64 o = chunk; o < stop; o += mr) {
            const i64 first = least(o, p->ocg - mr);
            const T *const a = (const T *)p->packed + ((k->b.g * square + e) * blocks + o / mr) * p->icg * mr;
            T *const c = k->products + (e * (WINOGRAD_CHUNK + MOST_ROWS) + first - chunk + MOST_ROWS) * lanes;
            for (i64 c0 = 0; c0 < p->icg; c0 += p->ic_block) {
                const steps s = {1, least(p->ic_block, p->icg - c0), 1, mr, k->pitch, &none};
                product(a + c0 * mr, k->transformed + (e * p->icg + c0) * k->pitch + q, &s, c, lanes, c0 > 0, 0);
            }
        }
}

/* Redo by the definition what came out non-finite in one piece of a panel. */
static void NAME(mend_tiles)(const int m, const tiles_work *k, T *y, i64 lanes, const segment *v, i64 o)
{
    for (i64 t = 0; t < v->length; t++)
        for (int e = 0; e < m * m; e++) {
            const i64 row = (k->b.y0 + v->row) * m + e / m, col = (k->b.x0 + v->col + t) * m + e % m;
            T *const value = y + e * lanes + v->from + t;
            if (*value - *value != 0 && row < k->p->out_h && col < k->p->out_w)
                *value = NAME(direct_output)(k->p, k->x, k->b.g, o, row, col);
        }
}

static inline __attribute__((always_inline)) void NAME(winograd_block)(
    const int m, const fc_conv *p, block b, int worker)
{
    tiles_work k = {p, b, b.cols + p->w.reach, .pitch = NAME(winograd_pitch)(p)};
    k.tiles = (b.rows - 1) * k.width + b.cols;
    k.strip = (T *)(p->scratch + worker * p->scratch_bytes);
    k.transformed = k.strip
                    + (least(p->ic_block, p->icg) * NAME(plane_pitch)(p) + MOST_VECTORS * VL + VL - 1) / VL * VL;
    k.products = k.transformed + (m + 2) * (m + 2) * p->icg * k.pitch;
    k.x = p->x + b.n * p->x_stride[0] + b.g * p->icg * p->x_stride[1];
    NAME(transform_block)(m, &k);

    const i64 widest = widest_panel(p->mr);
    const run_shape shape = {.width = k.width, .runs = 1, .length = k.tiles};
    const run_end end = {1, 1, p->activation, p->bias, (T)p->parameter};
    for (i64 chunk = b.o0; chunk < b.o1; chunk += WINOGRAD_CHUNK)
        for (i64 q = 0, next; q < k.tiles; q = next) {
            const i64 vectors = (k.tiles - q + VL - 1) / VL, panels = (vectors + widest - 1) / widest;
            const i64 nv = (vectors + panels - 1) / panels, lanes = nv * VL, stop = least(chunk + WINOGRAD_CHUNK, b.o1);
            next = least(q + lanes, k.tiles);
            NAME(multiply_tiles)(&k, (m + 2) * (m + 2), q, nv, chunk, stop);
            segment segments[MOST_COLUMNS];
            const int pieces = NAME(cut)(segments, &shape, 0, q, q, next, b.cols, 0);
            for (i64 o = chunk; o < stop; o++) {
                T y[16 * MOST_COLUMNS];
                int finite = 1;
                for (i64 v = 0; v < lanes; v += VL)
                    finite &= NAME(transform_output)(m, k.products + (o - chunk + MOST_ROWS) * lanes + v,
                                                     (WINOGRAD_CHUNK + MOST_ROWS) * lanes, p->at, y + v, lanes);
                const i64 channel = b.g * p->ocg + o;
                char *const out = p->out + b.n * p->out_stride[0] + channel * p->out_stride[1];
                const char *const residual = !p->residual ? NULL
                    : p->residual + b.n * p->residual_stride[0] + channel * p->residual_stride[1];
                for (const segment *v = segments; v < segments + pieces; v++) {
                    if (!finite) NAME(mend_tiles)(m, &k, y, lanes, v, o);
                    NAME(store_tiles)(m, p, y, lanes, v, b.y0, b.x0, out, residual, &end, channel);
                }
            }
        }
}

/* One block of tiles; see shifted_task. */
static void NAME(winograd_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    if (p->m == 2)
        NAME(winograd_block)(2, p, block_of(p, task), worker);
    else
        NAME(winograd_block)(4, p, block_of(p, task), worker);
}
