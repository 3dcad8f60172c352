/* The shifted product of one input channel: rows of pixels in the lanes, one output channel at a time. For depthwise layers
 * and single filters. Included by isa.c once per element type T.
 *
 * Common kernels read their windows in x itself (window.h; narrow.h where a row fits a vector) or a vector of channels at a
 * time (abreast.h: narrow rows, and pixels whose channels follow each other). For all others rows are packed: a load and a
 * store for a vector that 3x3 taps load nine times. Floors there: two loads and two multiply-adds a cycle, so at most half of
 * the peak with whole lines and less with the taps between them. Wide images are bound by the memory's bandwidth in any way. */

#include "window.h"
#if SHIFTS
#include "narrow.h"
#endif

/* The micro-kernel, R rows of NV vectors of pixels, the last with `last` lanes:
 *   to[r][j] = act(sum over taps t of a[start[t].a] * b[start[t].b + r * b_row + j] + shift)
 * where act is a rectification or nothing. Summed as in product.h: the same bits. */
#define ROWS_BODY(R, NV)                                                                              \
    vec acc[R][NV];                                                                                   \
    _Pragma("GCC unroll 4") for (int r = 0; r < R; r++)                                               \
        _Pragma("GCC unroll 8") for (int j = 0; j < NV; j++) acc[r][j] = (vec){0};                    \
    for (i64 t = 0; t < s->taps; t++) {                                                               \
        const T *const bp = b + s->start[t].b, w = a[s->start[t].a];                                  \
        _Pragma("GCC unroll 4") for (int r = 0; r < R; r++)                                           \
            _Pragma("GCC unroll 8") for (int j = 0; j < NV; j++)                                      \
                acc[r][j] += w * *(const loose_vec *)(bp + r * b_row + j * VL);                       \
    }                                                                                                 \
    const vec by = shift - (vec){0};                                                                  \
    _Pragma("GCC unroll 4") for (int r = 0; r < R; r++)                                               \
        _Pragma("GCC unroll 8") for (int j = 0; j < NV; j++) {                                        \
            vec v = acc[r][j] + by;                                                                   \
            if (relu) v = RECTIFIED(v);                         \
            T *const at = (T *)(to + r * to_row) + j * VL;                                            \
            if (j < NV - 1 || last == VL)                                                             \
                *(loose_vec *)at = v;                                                                 \
            else                                                                                      \
                NAME(store_lanes)(at, v, last);                                                       \
        }

#define ROWS_OF(R, NV)                                                                                              \
    static void NAME(rows_##R##x##NV)(const T *a, const T *b, i64 b_row, const steps *s, char *to, i64 to_row, i64 last, \
                                      T shift, int relu)                                                            \
    {                                                                                                               \
        ROWS_BODY(R, NV)                                                                                            \
    }
DEPTHWISE(ROWS_OF)
#undef ROWS_OF

#define rows_fn NAME(rows_fn)
typedef void (*rows_fn)(const T *, const T *, i64, const steps *, char *, i64, i64, T, int);

/* rows_of[rows][vectors] */
static const rows_fn NAME(rows_of)[5][MOST_VECTORS + 1] = {
#define ENTRY(R, NV) [R][NV] = NAME(rows_##R##x##NV),
    DEPTHWISE(ENTRY)
#undef ENTRY
};

/* Rows of a strip that have pixels of x: where they go, where they come from, and how many. */
#define row_copy NAME(row_copy)
typedef struct {
    i64 to, from, count;
} row_copy;

static i64 NAME(rows_packed)(const fc_conv *p) { return p->d.taps * p->w.phases * strip_rows(p, p->rows); }

/* What has to be copied for each channel where the rest of a strip is zeros and stays so; returns the number of rows. */
static i64 NAME(list_rows)(const fc_conv *p, const block *b, row_copy *rows)
{
    const i64 height = strip_rows(p, b->rows), width = b->cols + p->w.reach, *const step = p->x_stride;
    i64 count = 0;
    for (i64 pw = 0; pw < p->w.phases; pw++) {
        const i64 start = b->x0 * p->w.stride + p->w.phase[pw];
        i64 lo, hi;
        NAME(regular_run)(&p->w, start, width, &lo, &hi);
        if (lo >= hi) continue;
        for (i64 r = 0; r < p->d.taps; r++) {
            const i64 depth = depth_at(p, b->z, r);
            for (i64 j = 0; j < height && depth >= 0; j++) {
                const i64 i = padded_row(p, b->rows, b->y0, j), row = i < p->h.source_len ? p->h.source[i] : -1;
                if (row < 0) continue;
                rows[count++] = (row_copy){((r * p->w.phases + pw) * height + j) * width + lo,
                                           depth * step[2] + row * step[3] + p->w.source[start + lo * p->w.stride] * step[4], hi - lo};
            }
        }
    }
    return count;
}

static void NAME(copy_rows)(T *strip, const fc_conv *p, const char *x, const row_copy *rows, i64 count)
{
    const i64 step = p->w.stride * p->x_stride[4], half = count / 2, item = sizeof(T);
    if (step == 2 * item && p->w.phases == 2 && count % 2 == 0 && count) {
        /* Both phases of a row together, the one that begins first and the one beside it. */
        const row_copy *const even = rows[0].from < rows[half].from ? rows : rows + half, *const odd = even == rows ? rows + half : rows;
        const i64 more = even->count - odd->count;
        if (odd->from - even->from == item && (more == 0 || more == 1)) {
            for (i64 i = 0; i < half; i++)
                NAME(separate)(strip + even[i].to, strip + odd[i].to, (const T *)(x + even[i].from), even[i].count + odd[i].count);
            return;
        }
    }
    if (step == sizeof(T))
        for (i64 i = 0; i < count; i++) NAME(copy)(strip + rows[i].to, (const T *)(x + rows[i].from), rows[i].count);
    else if (step == 2 * sizeof(T))
        for (i64 i = 0; i < count; i++) NAME(copy_every_second)(strip + rows[i].to, (const T *)(x + rows[i].from), rows[i].count);
    else
        for (i64 i = 0; i < count; i++)
            for (i64 k = 0; k < rows[i].count; k++) strip[rows[i].to + k] = *(const T *)(x + rows[i].from + k * step);
}

/* A group: its input channel, and the weights and first pixels of its output channel 0. */
#define group NAME(group)
typedef struct {
    i64 g;
    const char *x;
    const T *weights;
    char *out;
    const char *residual; /* or NULL */
} group;

/* What stays the same over one task, and the group it is at. */
#define channel_work NAME(channel_work)
typedef struct {
    const fc_conv *p;
    block b;
    steps s;
    const T *pixels; /* of the strip */
    i64 width;       /* of a row of pixels */
    i64 lanes;       /* packed weights: from one tap to the next, as the steps have it */
    group at;
} channel_work;

/* Where the weights of output channel o begin behind those of channel 0 of its group; the steps are made to fit the block
 * of packed ones that it is in, whose last is narrower. */
static inline i64 NAME(weights_of)(channel_work *k, step_start *starts, i64 o)
{
    const fc_conv *const p = k->p;
    if (!p->packed) return o * (p->weight_stride[0] / (i64)sizeof(T));
    const i64 first = p->ocg > p->lanes ? o / p->lanes * p->lanes : 0;
    const i64 lanes = least(p->lanes, round_up(p->ocg, p->lane_unit) - first);
    for (i64 t = 0; lanes != k->lanes && t < k->s.taps; t++) starts[t].a = t * lanes;
    k->lanes = lanes;
    return first * k->s.taps + o - first;
}

static group NAME(first_group)(const fc_conv *p, const block *b)
{
    const T *const plain = (const T *)(p->weights + b->g * p->ocg * p->weight_stride[0]);
    return (group){b->g, p->x + b->n * p->x_stride[0] + b->g * p->x_stride[1],
                   p->packed ? (const T *)p->packed + b->g * round_up(p->ocg, p->lane_unit) * taps_of(p) : plain,
                   FIRST_PIXEL(p->out, p->out_stride, p, *b),
                   p->residual ? FIRST_PIXEL(p->residual, p->residual_stride, p, *b) : NULL};
}

static inline group NAME(group_behind)(const fc_conv *p, group at, i64 count)
{
    const i64 weights = p->packed ? round_up(p->ocg, p->lane_unit) * taps_of(p) : p->ocg * p->weight_stride[0] / (i64)sizeof(T);
    return (group){at.g + count, at.x + count * p->x_stride[1], at.weights + count * weights,
                   at.out + count * p->ocg * p->out_stride[1],
                   at.residual ? at.residual + count * p->ocg * p->residual_stride[1] : NULL};
}

#include "abreast.h"

static i64 NAME(depthwise_scratch)(const fc_conv *p)
{
    const i64 strip = (NAME(plane_pitch)(p) + MOST_VECTORS * VL) * (i64)sizeof(T) + NAME(rows_packed)(p) * (i64)sizeof(row_copy);
    i64 most = NAME(window_bytes)(p);
    if (most < NAME(abreast_bytes)(p)) most = NAME(abreast_bytes)(p);
    return round_up((strip > most ? strip : most) + steps_of(p) * (i64)sizeof(step_start), 64);
}

/* `high` rows of `length` pixels, in nv vectors, of output channel o with the weights at `a`. */
static void NAME(multiply_rows)(const channel_work *k, const T *a, i64 o, i64 y, i64 x, i64 high, i64 nv, i64 length)
{
    const fc_conv *const p = k->p;
    const i64 *const step = p->out_stride, *const add = p->residual_stride, channel = k->at.g * p->ocg + o;
    const rows_fn rows = NAME(rows_of)[high][nv];
    const T *const pixels = k->pixels + y * k->width + x;
    char *const out = k->at.out + o * step[1] + y * step[3] + x * step[4];
    if (NAME(finished)(p)) {
        const T shift = p->bias ? ((const T *)p->bias)[channel] : -(T)0; /* -0 changes no bit */
        rows(a, pixels, k->width, &k->s, out, step[3], length - (nv - 1) * VL, shift, p->activation == FC_RELU);
        return;
    }
    T sums[MOST_DEPTHWISE * VECTOR_BYTES / T_BYTES];
    rows(a, pixels, k->width, &k->s, (char *)sums, nv * VECTOR_BYTES, VL, -(T)0, 0);
    const run_end end = {1, 1, p->activation, p->bias, (T)p->parameter};
    for (i64 r = 0; r < high; r++)
        NAME(store)(out + r * step[3], step[4], sums + r * nv * VL, length, &end, channel,
                    k->at.residual ? k->at.residual + o * add[1] + (y + r) * add[3] + x * add[4] : NULL, add[4]);
}

static inline output_channel NAME(output_of)(const fc_conv *p, const group *at, i64 o, i64 weights)
{
    return (output_channel){at->weights + weights, at->g * p->ocg + o, at->out + o * p->out_stride[1],
                            at->residual ? at->residual + o * p->residual_stride[1] : NULL};
}

#if SHIFTS
/* Groups up to `end`, whose rows of outputs fit a vector. */
static void NAME(convolve_in_vectors)(narrow_way narrow, const window_work *window, channel_work *k, step_start *starts, i64 end)
{
    const fc_conv *const p = k->p;
    const narrow_work rows = NAME(place_narrow)(p, window, narrow.channels);
    for (group at = k->at; at.g < end; at = NAME(group_behind)(p, at, narrow.channels)) {
        /* The last channel of an odd number goes beside itself. */
        const group beside = at.g + narrow.channels <= end ? NAME(group_behind)(p, at, narrow.channels - 1) : at;
        for (i64 o = k->b.o0; o < k->b.o1; o++) {
            const i64 weights = NAME(weights_of)(k, starts, o);
            const output_channel to[2] = {NAME(output_of)(p, &at, o, weights), NAME(output_of)(p, &beside, o, weights)};
            NAME(convolve_narrow)(narrow, p, &rows, &k->s, at.x, beside.x, to);
        }
    }
}
#endif

/* Groups up to `end`, from windows that are read where they lie. */
static void NAME(convolve_in_place)(window_fn windows, channel_work *k, step_start *starts, T *scratch, i64 end)
{
    const fc_conv *const p = k->p;
    const window_work window = NAME(place_windows)(p, &k->b, scratch);
#if SHIFTS
    const narrow_way narrow = NAME(narrow_for)(p, window.width);
    if (narrow.kernel) {
        NAME(convolve_in_vectors)(narrow, &window, k, starts, end);
        return;
    }
#endif
    for (group at = k->at; at.g < end; at = NAME(group_behind)(p, at, 1)) {
        const char *x = at.x;
        window_work read = window;
#if !SHIFTS
        if (k->b.o1 - k->b.o0 >= PACKED_OUTPUTS) {
            T *const room = (T *)((char *)scratch + NAME(placed_bytes)(p));
            read = NAME(pack_windows)(p, &window, at.x, room);
            x = (const char *)room;
        }
#endif
        for (i64 o = k->b.o0; o < k->b.o1; o++) {
            const i64 weights = NAME(weights_of)(k, starts, o);
            const output_channel to = NAME(output_of)(p, &at, o, weights);
            NAME(convolve_windows)(windows, p, &read, &k->s, x, &to);
        }
    }
}

/* One block of outputs of some groups; see pixels_task. */
static void NAME(depthwise_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    const block b = block_of(p, task);
    channel_work k = {.p = p, .b = b, .at = NAME(first_group)(p, &b)};
    T *const strip = (T *)(p->scratch + worker * p->scratch_bytes);
    step_start *const starts = (step_start *)((char *)strip + p->scratch_bytes) - steps_of(p);
    const i64 end = least(k.b.g + p->g_step, p->g);
    k.s = (steps){.start = starts};
    k.pixels = strip;
    k.width = k.b.cols + p->w.reach;
    NAME(fill_steps)(p, &k.s, starts, &k.b, 1, 1, 0, !p->packed);
    k.lanes = 1;

    if (NAME(goes_abreast)(p)) {
        NAME(convolve_abreast)(&k, starts, strip, end);
        if (p->stream) STREAMED();
        return;
    }
    const window_fn windows = NAME(window_for)(p);
    if (windows) {
        NAME(convolve_in_place)(windows, &k, starts, strip, end);
        if (p->stream) STREAMED();
        return;
    }
    const i64 vectors = (k.b.cols + VL - 1) / VL, panels = (vectors + MOST_VECTORS - 1) / MOST_VECTORS;
    const int zeros = p->h.before >= 0 && p->w.before >= 0;
    row_copy *const rows = (row_copy *)starts - NAME(rows_packed)(p);
    const i64 copies = zeros ? NAME(list_rows)(p, &k.b, rows) : 0;
    if (zeros) memset(strip, 0, (NAME(plane_pitch)(p) + MOST_VECTORS * VL) * sizeof(T));
    for (; k.at.g < end; k.at = NAME(group_behind)(p, k.at, 1)) {
        if (zeros)
            NAME(copy_rows)(strip, p, k.at.x, rows, copies);
        else
            NAME(pack_strip)(strip, p, k.at.x, 1, &k.b, MOST_VECTORS * VL, 0);
        for (i64 o = k.b.o0; o < k.b.o1; o++) {
            const T *const a = k.at.weights + NAME(weights_of)(&k, starts, o);
            for (i64 i = 0; i < panels; i++) {
                const i64 from = vectors * i / panels, nv = vectors * (i + 1) / panels - from, column = from * VL;
                const i64 length = least(nv * VL, k.b.cols - column);
                for (i64 y = 0, high; y < k.b.rows; y += high) {
                    for (high = 4; high > k.b.rows - y || !NAME(rows_of)[high][nv]; high /= 2) continue;
                    NAME(multiply_rows)(&k, a, o, y, column, high, nv, length);
                }
            }
        }
    }
}
#undef EACH_LANE
#undef BESIDE
