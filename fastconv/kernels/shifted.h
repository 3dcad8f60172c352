/* The shifted product in pixels-in-the-lanes order, for one element type T. Included by isa.c.
 *
 * Reading order: `product` is the micro-kernel; `pack_strip` brings a block's input into padded planes;
 * `store` takes finished sums to `out`; `shifted_task` is the loop nest around them. */

#define NAME(x) PASTE(PASTE(x, _), SUFFIX)
#define vec NAME(vec)
#define loose_vec NAME(loose_vec)
typedef T vec __attribute__((vector_size(VECTOR_BYTES)));
typedef T loose_vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias)); /* any address */

/* What one call of the micro-kernel sums over; distances in elements. */
#define steps NAME(steps)
typedef struct {
    i64 taps, channels;
    i64 a_row, a_channel, b_channel;
    const i64 *a_tap, *b_tap;
} steps;

/* The micro-kernel, MR x NV vectors:
 *   c[i * c_row + j] (+)= sum over taps t, channels k of
 *                         a[a_tap[t] + k * a_channel + i * a_row] * b[b_tap[t] + k * b_channel + j]
 * for i < MR, j < NV * VL. Reads exactly these elements, at any alignment. The sum starts from zero and
 * runs over t, then k, whatever the block, so every block gives the same bits. */
#define PRODUCT_BODY(MR, NV, A_ROW, A_CHANNEL)                                                      \
    vec acc[MR][NV];                                                                                \
    for (int i = 0; i < MR; i++)                                                                    \
        for (int j = 0; j < NV; j++) acc[i][j] = (vec){0};                                          \
    for (i64 t = 0; t < s->taps; t++) {                                                             \
        const T *ap = a + s->a_tap[t], *bp = b + s->b_tap[t];                                       \
        for (i64 k = 0; k < s->channels; k++) {                                                     \
            vec bv[NV];                                                                             \
            _Pragma("GCC unroll 8") for (int j = 0; j < NV; j++) bv[j] = *(const loose_vec *)(bp + j * VL); \
            _Pragma("GCC unroll 8") for (int i = 0; i < MR; i++)                                    \
                _Pragma("GCC unroll 8") for (int j = 0; j < NV; j++) acc[i][j] += bv[j] * ap[i * (A_ROW)]; \
            ap += (A_CHANNEL);                                                                      \
            bp += s->b_channel;                                                                     \
        }                                                                                           \
    }                                                                                               \
    _Pragma("GCC unroll 8") for (int i = 0; i < MR; i++)                                            \
        _Pragma("GCC unroll 8") for (int j = 0; j < NV; j++) {                                      \
            loose_vec *const to = (loose_vec *)(c + i * c_row + j * VL);                            \
            if (add)                                                                                \
                *to += acc[i][j];                                                                   \
            else                                                                                    \
                *to = acc[i][j];                                                                    \
        }

#define PRODUCT(MR, NV)                                                                                      \
    static void NAME(product_packed_##MR##x##NV)(const T *a, const T *b, const steps *s, T *c, i64 c_row, int add) \
    {                                                                                                        \
        PRODUCT_BODY(MR, NV, 1, MR)                                                                          \
    }                                                                                                        \
    static void NAME(product_strided_##MR##x##NV)(const T *a, const T *b, const steps *s, T *c, i64 c_row, int add) \
    {                                                                                                        \
        const i64 a_row = s->a_row, a_channel = s->a_channel;                                                \
        PRODUCT_BODY(MR, NV, a_row, a_channel)                                                               \
    }
BLOCKS(PRODUCT)
#undef PRODUCT

#define product_fn NAME(product_fn)
typedef void (*product_fn)(const T *, const T *, const steps *, T *, i64, int);

/* product[packed][MR][NV] */
static const product_fn NAME(products)[2][MOST_ROWS + 1][MOST_VECTORS + 1] = {
#define ENTRY(MR, NV) [0][MR][NV] = NAME(product_strided_##MR##x##NV), [1][MR][NV] = NAME(product_packed_##MR##x##NV),
    BLOCKS(ENTRY)
#undef ENTRY
};

static T NAME(activate)(T v, int activation, T parameter)
{
    switch (activation) {
    case FC_RELU: return v < 0 ? 0 : v;
    case FC_RELU6: return v < 0 ? 0 : v > 6 ? 6 : v;
    case FC_LEAKY_RELU: return v < 0 ? v * parameter : v;
    case FC_HARDSWISH: {
        const T gate = v + 3;
        return v <= -3 ? 0 : v * (gate > 6 ? 6 : gate) / 6;
    }
    case FC_SILU: return v / (1 + EXP(-v));
    case FC_GELU: return v * ((T)0.5 * (1 + ERF(v * (T)0.70710678118654752440)));
    case FC_GELU_TANH: return v * ((T)0.5 * (1 + TANH((T)0.79788456080286535588 * (v + (T)0.044715 * v * v * v))));
    default: return v;
    }
}

/* One run of `length` sums of channel `o` to `out`, `step` bytes apart; `sums` NULL: they are in `out` already.
 * `first`: out holds nothing yet. `last`: all channels are summed, so the epilogue follows. */
#define run_end NAME(run_end)
typedef struct {
    int first, last, activation;
    const T *bias;
    T parameter;
} run_end;

static inline __attribute__((always_inline)) void NAME(store_run)(
    char *out, i64 step, const T *sums, i64 length, const run_end *end, T bias, const char *residual, i64 residual_step)
{
#define EACH for (i64 i = 0; i < length; i++)
#define OUT (*(T *)(out + i * step))
    if (sums && end->first)
        EACH OUT = sums[i];
    else if (sums)
        EACH OUT += sums[i];
    if (!end->last) return;
    if (end->bias) EACH OUT += bias;
    if (residual) EACH OUT += *(const T *)(residual + i * residual_step);
    const T p = end->parameter;
    switch (end->activation) { /* outside the loop, so that the cheap ones vectorise */
    case FC_NONE: break;
    case FC_RELU: EACH OUT = NAME(activate)(OUT, FC_RELU, p); break;
    case FC_RELU6: EACH OUT = NAME(activate)(OUT, FC_RELU6, p); break;
    case FC_LEAKY_RELU: EACH OUT = NAME(activate)(OUT, FC_LEAKY_RELU, p); break;
    case FC_HARDSWISH: EACH OUT = NAME(activate)(OUT, FC_HARDSWISH, p); break;
    default: EACH OUT = NAME(activate)(OUT, end->activation, p);
    }
#undef EACH
#undef OUT
}

static void NAME(store)(char *out, i64 step, const T *sums, i64 length, const run_end *end, i64 o,
                        const char *residual, i64 residual_step)
{
    const T bias = end->bias ? end->bias[o] : 0;
    if (step == sizeof(T)) /* two copies: the unit stride is what vectorises */
        NAME(store_run)(out, sizeof(T), sums, length, end, bias, residual, residual_step);
    else
        NAME(store_run)(out, step, sums, length, end, bias, residual, residual_step);
}

/* ---- packing ---- */

/* Bytes of one channel of a strip: an odd number of 64-byte lines, so that channels do not share cache sets. */
static i64 NAME(plane_pitch)(const fc_conv *p)
{
    const i64 pixels = p->d.taps * p->h.phases * p->w.phases * (p->rows + p->h.reach) * (p->cols + p->w.reach);
    return ((pixels * (i64)sizeof(T) + 63) / 64 | 1) * 64 / (i64)sizeof(T);
}

/* The longest run of [0, count) along which the source of pixel k is regular: source(k) = source(lo) + (k - lo) * s. */
static void NAME(regular_run)(const fc_axis *w, i64 start, i64 count, i64 *lo, i64 *hi)
{
    *lo = *hi = 0;
    for (i64 k = 0; k < count;) {
        i64 end = k;
        while (end < count) {
            const i64 i = start + end * w->stride;
            if (i >= w->source_len || w->source[i] < 0) break;
            if (end > k && w->source[i] != w->source[i - w->stride] + w->stride) break;
            end++;
        }
        if (end - k > *hi - *lo) *lo = k, *hi = end;
        k = end > k ? end : k + 1;
    }
}

static void NAME(pack_row)(T *to, const char *from, i64 step, const fc_axis *w, i64 start, i64 count, i64 lo, i64 hi)
{
#define EDGE(k)                                                                              \
    do {                                                                                     \
        const i64 i = start + (k) * w->stride, at = i < w->source_len ? w->source[i] : -1;   \
        to[k] = at < 0 ? 0 : *(const T *)(from + at * step);                                 \
    } while (0)
    for (i64 k = 0; k < lo; k++) EDGE(k);
    for (i64 k = hi; k < count; k++) EDGE(k);
#undef EDGE
    if (lo >= hi) return;
    const char *first = from + w->source[start + lo * w->stride] * step;
    const i64 stride = w->stride * step;
    if (stride == sizeof(T))
        memcpy(to + lo, first, (hi - lo) * sizeof(T));
    else if (stride == 2 * sizeof(T))
        for (i64 k = 0; k < hi - lo; k++) to[lo + k] = ((const T *)first)[2 * k];
    else
        for (i64 k = 0; k < hi - lo; k++) to[lo + k] = *(const T *)(first + k * stride);
}

/* Copy `channels` channels of x, from the address `x` on, into padded planes: strip[channel][kd tap]
 * [h phase][w phase][rows + reach][cols + reach], channels plane_pitch apart. Whatever lies between them
 * and the slack of one panel behind the last is set to zero: it is read, though never stored, and
 * denormals would be slow. */
static void NAME(pack_strip)(T *strip, const fc_conv *p, const char *x, i64 channels, i64 z, i64 y0, i64 x0,
                             i64 rows, i64 cols, i64 slack)
{
    const i64 pitch = NAME(plane_pitch)(p), height = rows + p->h.reach, width = cols + p->w.reach;
    for (i64 pw = 0; pw < p->w.phases; pw++) {
        const i64 start = x0 * p->w.stride + p->w.phase[pw];
        i64 lo, hi;
        NAME(regular_run)(&p->w, start, width, &lo, &hi);
        for (i64 r = 0; r < p->d.taps; r++) {
            const i64 depth = p->d.source[(z + p->d.tap_offset[r]) * p->d.stride + p->d.phase[p->d.tap_phase[r]]];
            for (i64 ph = 0; ph < p->h.phases; ph++)
                for (i64 j = 0; j < height; j++) {
                    const i64 i = (y0 + j) * p->h.stride + p->h.phase[ph];
                    const i64 row = i < p->h.source_len ? p->h.source[i] : -1;
                    T *to = strip + (((r * p->h.phases + ph) * p->w.phases + pw) * height + j) * width;
                    const char *from = x + depth * p->x_stride[2] + row * p->x_stride[3];
                    for (i64 c = 0; c < channels; c++, to += pitch, from += p->x_stride[1]) {
                        if (depth < 0 || row < 0)
                            memset(to, 0, width * sizeof(T));
                        else
                            NAME(pack_row)(to, from, p->x_stride[4], &p->w, start, width, lo, hi);
                    }
                }
        }
    }
    const i64 used = p->d.taps * p->h.phases * p->w.phases * height * width;
    for (i64 c = 0; c < channels; c++)
        memset(strip + c * pitch + used, 0, (pitch - used + (c == channels - 1 ? slack : 0)) * sizeof(T));
}

/* ---- the loop nest ---- */

/* A piece of a panel that lies in one piece in `out`. */
#define segment NAME(segment)
typedef struct {
    i64 from, row, col, length;
} segment;

/* How a block of outputs is laid out along its pixels: either one flat run over all rows, in which the
 * width - cols columns at the end of each row are computed and thrown away, or a run for every row. */
#define run_shape NAME(run_shape)
typedef struct {
    int in_place, by_row;
    i64 width, runs, length;
} run_shape;

static run_shape NAME(shape_runs)(const fc_conv *p, i64 rows, i64 cols)
{
    run_shape s;
    for (s.in_place = p->in_place;; s.in_place = 0) {
        s.width = s.in_place ? p->x_stride[3] / (i64)sizeof(T) : cols + p->w.reach;
        const i64 flat = (rows - 1) * s.width + cols;
        s.by_row = s.width < cols || rows * ((cols + VL - 1) / VL) < (flat + VL - 1) / VL;
        s.runs = s.by_row ? rows : 1;
        s.length = s.by_row ? cols : flat;
        if (!s.in_place || s.length >= VL) return s; /* in x itself nothing may be read behind the run */
    }
}

/* Cut pixels [q, next) of a run into pieces of valid outputs; `start` is the panel's first pixel. `joined`:
 * rows follow each other in `out` without a gap. */
static int NAME(cut)(segment *segments, const run_shape *s, i64 run, i64 start, i64 q, i64 next, i64 cols, int joined)
{
    int count = 0;
    if (s->by_row) {
        segments[0] = (segment){q - start, run, q, next - q};
        return 1;
    }
    while (q < next) {
        const i64 row = q / s->width, col = q % s->width;
        if (col >= cols) {
            q = (row + 1) * s->width;
            continue;
        }
        const i64 length = joined ? next - q : least(cols - col, next - q);
        segments[count++] = (segment){q - start, row, col, length};
        q += length;
    }
    return count;
}

static i64 NAME(shifted_scratch)(const fc_conv *p)
{
    const i64 slack = MOST_VECTORS * VL, pad = 64;
    const i64 strip = (least(p->ic_block, p->icg) * NAME(plane_pitch)(p) + slack) * (i64)sizeof(T);
    const i64 taps = p->d.taps * p->h.taps * p->w.taps;
    return (strip + 2 * taps * (i64)sizeof(i64) + pad + 63) / 64 * 64;
}

/* Where each tap starts: in the strip (or in x itself) and in the weights. */
static void NAME(fill_taps)(const fc_conv *p, i64 *a_tap, i64 *b_tap, i64 z, i64 height, i64 width, i64 packed_step,
                            int in_place)
{
    i64 t = 0;
    for (i64 r = 0; r < p->d.taps; r++)
        for (i64 i = 0; i < p->h.taps; i++)
            for (i64 j = 0; j < p->w.taps; j++, t++) {
                a_tap[t] = p->packed ? t * packed_step
                                     : (r * p->weight_stride[2] + i * p->weight_stride[3] + j * p->weight_stride[4]) / (i64)sizeof(T);
                if (in_place) {
                    const i64 depth = p->d.source[(z + p->d.tap_offset[r]) * p->d.stride + p->d.phase[p->d.tap_phase[r]]];
                    b_tap[t] = (depth * p->x_stride[2] + p->h.tap_offset[i] * p->x_stride[3]) / (i64)sizeof(T)
                               + p->w.tap_offset[j];
                } else {
                    const i64 plane = (r * p->h.phases + p->h.tap_phase[i]) * p->w.phases + p->w.tap_phase[j];
                    b_tap[t] = (plane * height + p->h.tap_offset[i]) * width + p->w.tap_offset[j];
                }
            }
}

/* One block of outputs: (image, group, depth, rows, cols, output channels), the last varying fastest.
 * Tasks write disjoint parts of `out` and read nothing that is written. */
static void NAME(shifted_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    const i64 splits = (p->ocg + p->oc_step - 1) / p->oc_step, across = (p->w.out + p->cols - 1) / p->cols,
              down = (p->h.out + p->rows - 1) / p->rows;
    const i64 o0 = task % splits * p->oc_step, o1 = least(o0 + p->oc_step, p->ocg);
    const i64 x0 = (task /= splits) % across * p->cols, cols = least(p->cols, p->w.out - x0);
    const i64 y0 = (task /= across) % down * p->rows, rows = least(p->rows, p->h.out - y0);
    const i64 z = (task /= down) % p->d.out, g = (task /= p->d.out) % p->g, n = task / p->g;

    const i64 taps = p->d.taps * p->h.taps * p->w.taps, mr = p->mr, blocks = (p->ocg + mr - 1) / mr;
    const i64 widest = widest_panel(mr);
    T *strip = (T *)(p->scratch + worker * p->scratch_bytes);
    i64 *b_tap = (i64 *)((char *)strip + p->scratch_bytes) - taps, *a_tap = b_tap - taps;

    const run_shape shape = NAME(shape_runs)(p, rows, cols);
    const i64 height = rows + p->h.reach, width = shape.width;
    const int in_place = shape.in_place;
    const char *const x = p->x + n * p->x_stride[0] + g * p->icg * p->x_stride[1];
    char *const out = p->out + n * p->out_stride[0] + z * p->out_stride[2] + y0 * p->out_stride[3] + x0 * p->out_stride[4];
    const char *const residual = !p->residual ? NULL
        : p->residual + n * p->residual_stride[0] + z * p->residual_stride[2] + y0 * p->residual_stride[3]
          + x0 * p->residual_stride[4];

    const int joined = width == cols && p->out_stride[3] == cols * p->out_stride[4]
                       && (!residual || p->residual_stride[3] == cols * p->residual_stride[4]);
    const int unit = p->out_stride[4] == sizeof(T) && p->out_stride[1] % (i64)sizeof(T) == 0;
    const i64 run_length = shape.length;

    _Alignas(64) T tile[MOST_ROWS * MOST_COLUMNS];
    segment segments[MOST_COLUMNS];
    run_end end = {.activation = p->activation, .bias = p->bias, .parameter = (T)p->parameter};

    for (i64 c0 = 0; c0 < p->icg; c0 += p->ic_block) {
        const i64 channels = least(p->ic_block, p->icg - c0);
        const T *pixels = strip;
        steps s = {taps, channels, .a_tap = a_tap, .b_tap = b_tap};
        if (in_place) {
            pixels = (const T *)(x + c0 * p->x_stride[1] + y0 * p->x_stride[3] + x0 * p->x_stride[4]);
            s.b_channel = p->x_stride[1] / (i64)sizeof(T);
        } else {
            NAME(pack_strip)(strip, p, x + c0 * p->x_stride[1], channels, z, y0, x0, rows, cols, MOST_VECTORS * VL);
            s.b_channel = NAME(plane_pitch)(p);
        }
        NAME(fill_taps)(p, a_tap, b_tap, z, height, width, channels * mr, in_place);
        s.a_row = p->weight_stride[0] / (i64)sizeof(T);
        s.a_channel = p->weight_stride[1] / (i64)sizeof(T);
        end.first = c0 == 0;
        end.last = c0 + channels == p->icg;
        const int finish = end.last && (end.bias || residual || end.activation);

        for (i64 run = 0; run < shape.runs; run++) {
            const i64 base = run * width; /* position of the run's first pixel */
            for (i64 q = 0, next; q < run_length; q = next) {
                /* Equal panels rather than full ones and a rest. */
                const i64 vectors = (run_length - q + VL - 1) / VL, panels = (vectors + widest - 1) / widest;
                i64 nv = (vectors + panels - 1) / panels, start = q;
                if (in_place && start + nv * VL > run_length) {
                    /* Nothing behind the run may be read: step back over pixels that are done already. */
                    nv = least(nv, run_length / VL);
                    start = least(q, run_length - nv * VL);
                }
                next = least(start + nv * VL, run_length);
                const int pieces = NAME(cut)(segments, &shape, run, start, q, next, cols, joined);
                const int whole = unit && pieces == 1 && segments[0].length == nv * VL;
                const product_fn product = NAME(products)[p->packed != NULL][mr][nv];

                for (i64 o = o0; o < o1; o += mr) {
                    /* The last block overlaps the one before it, so that all are full; only new rows are stored. */
                    const i64 first = least(o, p->ocg - mr), new = o - first;
                    const T *a = p->packed
                        ? (const T *)p->packed + (g * p->icg + c0) * blocks * mr * taps + o / mr * channels * taps * mr
                        : (const T *)(p->weights + (g * p->ocg + first) * p->weight_stride[0] + c0 * p->weight_stride[1]);
                    const int direct = whole && new == 0;
                    char *const to = out + (g * p->ocg + first) * p->out_stride[1];
                    if (direct)
                        product(a, pixels + base + start, &s,
                                (T *)(to + segments[0].row * p->out_stride[3]) + segments[0].col,
                                p->out_stride[1] / (i64)sizeof(T), !end.first);
                    else
                        product(a, pixels + base + start, &s, tile, nv * VL, 0);
                    if (direct && !finish) continue;
                    for (i64 i = new; i < mr; i++)
                        for (int k = 0; k < pieces; k++) {
                            const segment *const v = &segments[k];
                            const i64 channel = g * p->ocg + first + i;
                            NAME(store)(to + i * p->out_stride[1] + v->row * p->out_stride[3] + v->col * p->out_stride[4],
                                        p->out_stride[4], direct ? NULL : tile + i * nv * VL + v->from, v->length, &end,
                                        channel,
                                        !residual ? NULL
                                                  : residual + channel * p->residual_stride[1]
                                                        + v->row * p->residual_stride[3] + v->col * p->residual_stride[4],
                                        p->residual_stride[4]);
                        }
                }
            }
        }
    }
}

/* FLOPs that `rounds` of independent multiply-adds take: the peak that a kernel is measured against.
 * `flops` is an array of doubles, one per task, given as rounds and returned as FLOPs. */
static void NAME(peak)(void *flops, i64 task, int worker)
{
    enum { CHAINS = WIDE ? 24 : 12 };
    (void)worker;
    double *const d = (double *)flops + task;
    const i64 rounds = (i64)*d;
    vec acc[CHAINS], m, b;
    for (int l = 0; l < VL; l++) m[l] = (T)0.5, b[l] = (T)1;
    for (int i = 0; i < CHAINS; i++) acc[i] = b * (T)i;
    for (i64 r = 0; r < rounds; r++) {
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * m + b;
    }
    T sum = 0;
    for (int i = 0; i < CHAINS; i++)
        for (int l = 0; l < VL; l++) sum += acc[i][l];
    *d = sum == 0 ? 0 : (double)rounds * CHAINS * VL * 2; /* uses the sum, so that the loop stays */
}
