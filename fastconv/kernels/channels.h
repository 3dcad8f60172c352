/* The shifted product, output channels in the lanes: tiles of pixels by one or two vectors of channels. Included by
 * isa.c once per element type T. For narrow rows, where no pixel is thrown away, and for channels-last outputs.
 *
 * A task packs its pixels of all input channels once (of as many as fit, where images have a wide halo); then, a block of
 * output channels at a time, the tiles of one block of input channels after the other, so that a slice of the weights
 * stays in L2 while all tiles go over it.
 * Floors as in pixels.h; what comes on top is packing and, where `out` has its pixels in a row, a transposition. */

#define LANES (2 * VL) /* output channels of a full block */

/* The micro-kernel, R rows of Q pixels by NV vectors of channels:
 *   c[i][j] (+)= sum over taps t, channels k of a[t][k][j] * b[b_tap[t] + k * b_channel + (i / Q) * b_row + i % Q]
 * for i < R * Q, j < NV * VL; summed as in product.h, so that both give the same bits. Touches `ahead`, too, a line a
 * step, for the next block's weights. */
#define TILE_BODY(R, Q, NV)                                                                          \
    const i64 taps = s->taps, channels = s->channels, b_channel = s->b_channel;                      \
    vec acc[(R) * (Q)][NV];                                                                          \
    for (int i = 0; i < (R) * (Q); i++)                                                              \
        for (int j = 0; j < NV; j++) acc[i][j] = (vec){0};                                           \
    for (i64 t = 0; t < taps; t++) {                                                                 \
        const T *bp = b + s->b_tap[t];                                                               \
        for (i64 k = 0; k < channels; k++) {                                                         \
            vec av[NV];                                                                              \
            _Pragma("GCC unroll 2") for (int j = 0; j < NV; j++) av[j] = *(const loose_vec *)(a + j * VL); \
            __builtin_prefetch(ahead, 0, 2);                                                          \
            _Pragma("GCC unroll 14") for (int i = 0; i < (R) * (Q); i++)                             \
                _Pragma("GCC unroll 2") for (int j = 0; j < NV; j++)                                 \
                    acc[i][j] += av[j] * bp[i / (Q) * b_row + i % (Q)];                              \
            a += NV * VL;                                                                            \
            bp += b_channel;                                                                         \
            ahead += ahead_step;                                                                     \
        }                                                                                            \
    }                                                                                                \
    _Pragma("GCC unroll 14") for (int i = 0; i < (R) * (Q); i++)                                     \
        _Pragma("GCC unroll 2") for (int j = 0; j < NV; j++) {                                       \
            loose_vec *const to = (loose_vec *)(c + (i * NV + j) * VL);                                          \
            if (add)                                                                                 \
                *to += acc[i][j];                                                                    \
            else                                                                                     \
                *to = acc[i][j];                                                                     \
        }

#define TILE(R, Q)                                                                                     \
    static void NAME(tile_##R##x##Q##x1)(const T *a, const T *b, i64 b_row, const steps *s, T *c, int add, \
                                         const char *ahead, i64 ahead_step)                            \
    {                                                                                                  \
        (void)b_row;                                                                                   \
        TILE_BODY(R, Q, 1)                                                                             \
    }                                                                                                  \
    static void NAME(tile_##R##x##Q##x2)(const T *a, const T *b, i64 b_row, const steps *s, T *c, int add, \
                                         const char *ahead, i64 ahead_step)                            \
    {                                                                                                  \
        (void)b_row;                                                                                   \
        TILE_BODY(R, Q, 2)                                                                             \
    }
TILES(TILE)
#undef TILE

#define tile_fn NAME(tile_fn)
typedef void (*tile_fn)(const T *, const T *, i64, const steps *, T *, int, const char *, i64);

/* tiles[vectors - 1][rows][pixels of a row] */
static const tile_fn NAME(tiles)[2][3][MOST_PIXELS + 1] = {
#define ENTRY(R, Q) [0][R][Q] = NAME(tile_##R##x##Q##x1), [1][R][Q] = NAME(tile_##R##x##Q##x2),
    TILES(ENTRY)
#undef ENTRY
};

/* A worker's scratch: pixels of the `held` channels, sums, weights packed on the way where the plan has none; the starts of
 * the taps are at its end. Sums are those of all output channels of the task where not all input channels are held, of one
 * block where these come in several blocks, else of one tile. */
static i64 NAME(strip_size)(const fc_conv *p) { return round_up(p->held * NAME(plane_pitch)(p), VL); }

static i64 NAME(sums_size)(const fc_conv *p)
{
    if (p->held < p->icg) return p->rows * p->cols * round_up(p->oc_step, LANES);
    return (p->icg > p->ic_block ? p->rows * p->cols : MOST_PIXELS) * LANES;
}

static i64 NAME(channels_scratch)(const fc_conv *p)
{
    const i64 packed = p->borrowed ? least(p->icg, p->ic_block) * taps_of(p) * LANES : 0;
    const i64 elements = NAME(strip_size)(p) + NAME(sums_size)(p) + packed;
    return round_up(elements * (i64)sizeof(T) + 2 * steps_of(p) * (i64)sizeof(i64), 64);
}

/* What stays the same over the blocks of output channels of one task. */
#define tile_work NAME(tile_work)
typedef struct {
    const fc_conv *p;
    block b;
    i64 rows, cols, width; /* of the outputs, perhaps all rows as one; of a row of pixels */
    steps s;
    const T *pixels;
    T *sums;
    char *out; /* the group's channel 0, first pixel of the block */
    const char *residual;
} tile_work;

/* Touch what a tile will be stored to, so that it is there when the sums are. */
static void NAME(fetch_tile)(const tile_work *k, i64 o, i64 channels, i64 y, i64 x, i64 rows, i64 cols)
{
    const i64 *const step = k->p->out_stride;
    if (step[4] != sizeof(T)) return;
    for (i64 r = 0; r < rows; r++) {
        const char *const to = k->out + o * step[1] + (y + r) * step[3] + x * step[4];
        for (i64 c = 0; c < channels; c++) {
            __builtin_prefetch(to + c * step[1], 1);
            __builtin_prefetch(to + c * step[1] + (cols - 1) * step[4], 1);
        }
    }
}

/* Finished sums c[row][col][lane] of channels o.. to `out`. */
static void NAME(store_tile)(const tile_work *k, T *c, i64 nv, i64 o, i64 y, i64 x, i64 rows, i64 cols, const T *bias)
{
    const fc_conv *const p = k->p;
    const i64 lanes = nv * VL, channels = least(lanes, p->ocg - o), pixels = rows * cols;
    const i64 *const step = p->out_stride, *const add_step = p->residual_stride;
    const T parameter = (T)p->parameter;
    const int activation = p->activation;
    char *const out = k->out + o * step[1] + y * step[3] + x * step[4];
    const char *const residual = !k->residual ? NULL : k->residual + o * add_step[1] + y * add_step[3] + x * add_step[4];
    if (bias)
        for (i64 i = 0; i < pixels; i++)
            for (i64 j = 0; j < lanes; j += VL) *(loose_vec *)(c + i * lanes + j) += *(const loose_vec *)(bias + j);

    if (step[1] == sizeof(T)) { /* channels follow each other */
        if (residual)
            for (i64 i = 0; i < pixels; i++)
                for (i64 l = 0; l < channels; l++)
                    c[i * lanes + l] += *(const T *)(residual + l * add_step[1] + i / cols * add_step[3] + i % cols * add_step[4]);
#define EACH for (i64 i = 0; i < pixels * lanes; i++)
        ACTIVATE(EACH, c[i], activation, parameter)
#undef EACH
        for (i64 i = 0; i < pixels; i++)
            for (i64 j = 0; j < channels; j += VL)
                NAME(put)(out + i / cols * step[3] + i % cols * step[4] + j * step[1], sizeof(T), c + i * lanes + j,
                          least(VL, channels - j));
        return;
    }
    for (i64 j = 0; j < channels; j += VL)
        for (i64 p0 = 0; p0 < pixels; p0 += VL) {
            const i64 end = least(p0 + VL, pixels), last = least(VL, channels - j);
            vec row[VECTOR_BYTES / T_BYTES];
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) {
                row[i] = (vec){0};
                if (p0 + i < pixels) row[i] = *(const loose_vec *)(c + (p0 + i) * lanes + j);
            }
            NAME(transpose)(row);
            T flat[VECTOR_BYTES / T_BYTES * VECTOR_BYTES / T_BYTES] __attribute__((aligned(VECTOR_BYTES)));
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) *(loose_vec *)(flat + i * VL) = row[i];
            for (i64 i = p0, n; residual && i < end; i += n) {
                n = least(end - i, cols - i % cols);
                for (i64 l = 0; l < last; l++)
                    for (i64 q = 0; q < n; q++)
                        flat[l * VL + i - p0 + q] += *(const T *)(residual + (j + l) * add_step[1] + i / cols * add_step[3]
                                                            + (i % cols + q) * add_step[4]);
            }
#define EACH for (i64 i = 0; i < last * VL; i++)
            ACTIVATE(EACH, flat[i], activation, parameter)
#undef EACH
            for (i64 i = p0, n; i < end; i += n) {
                n = least(end - i, cols - i % cols);
                char *const to = out + j * step[1] + i / cols * step[3] + i % cols * step[4];
                for (i64 l = 0; l < last; l++) NAME(put)(to + l * step[1], step[4], flat + l * VL + i - p0, n);
            }
        }
}

/* Plain weights of output channels o.. and input channels c0.. as packed ones, [tap][channel][lane]. */
static void NAME(pack_weights)(const fc_conv *p, T *to, i64 g, i64 o, i64 c0, i64 channels, i64 lanes)
{
    const i64 *const ws = p->weight_stride, valid = least(lanes, p->ocg - o);
    const char *const from = p->weights + (g * p->ocg + o) * ws[0] + c0 * ws[1];
    const i64 taps = taps_of(p), item = sizeof(T), run = channels * taps;
    const int joined = ws[4] == item && ws[3] == p->w.taps * item && ws[2] == p->h.taps * ws[3] && ws[1] == taps * item;
    i64 done = 0;
    for (; joined && done + VL <= run; done += VL)
        for (i64 j = 0; j < lanes; j += VL) {
            vec row[VECTOR_BYTES / T_BYTES];
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) {
                row[i] = (vec){0};
                if (j + i < valid) row[i] = *(const loose_vec *)(from + (j + i) * ws[0] + done * item);
            }
            NAME(transpose)(row);
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) {
                const i64 c = (done + i) / taps, t = (done + i) % taps;
                *(loose_vec *)(to + (t * channels + c) * lanes + j) = row[i];
            }
        }
    for (i64 e = done; e < run; e++) {
        const i64 c = e / taps, t = e % taps, r = t / (p->h.taps * p->w.taps), i = t / p->w.taps % p->h.taps;
        const char *const at = from + c * ws[1] + r * ws[2] + i * ws[3] + t % p->w.taps * ws[4];
        for (i64 l = 0; l < lanes; l++) to[(t * channels + c) * lanes + l] = l < valid ? *(const T *)(at + l * ws[0]) : 0;
    }
}

/* All tiles of the task for one block of output channels and one of input channels. */
static void NAME(multiply_block)(const tile_work *k, const T *weights, i64 nv, i64 o, i64 c0, const T *bias)
{
    const fc_conv *const p = k->p;
    const int first = c0 == 0, last = c0 + p->ic_block >= p->icg;
    const i64 slice = k->s.taps * k->s.channels * 64; /* bytes that one tile touches ahead */
    const char *const next = (const char *)(weights + k->s.taps * k->s.channels * nv * VL);
    const i64 wanted = p->packed && !(last && o + LANES >= p->ocg) ? (next - (const char *)weights) : 0;
    T *c = k->sums;
    i64 touched = 0;
    for (i64 y = 0, high; y < k->rows; y += high) {
        high = k->cols >= LEAST_PAIR && 2 * k->cols <= MOST_PIXELS && y + 1 < k->rows ? 2 : 1;
        const i64 count = (k->cols + MOST_PIXELS - 1) / MOST_PIXELS;
        for (i64 i = 0; i < count; i++) {
            const i64 x = k->cols * i / count, q = k->cols * (i + 1) / count - x, ahead = touched < wanted;
            if (last) NAME(fetch_tile)(k, o, least(nv * VL, p->ocg - o), y, x, high, q);
            NAME(tiles)[nv - 1][high][q](weights, k->pixels + y * k->width + x, k->width, &k->s, c, !first,
                                         ahead ? next + touched : (const char *)weights, ahead * 64);
            touched += slice;
            if (last) NAME(store_tile)(k, c, nv, o, y, x, high, q, bias);
            if (!(first && last)) c += high * q * nv * VL;
        }
    }
}

/* One block of outputs; see pixels_task. */
static void NAME(channels_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    const block b = block_of(p, task);
    char *const scratch = p->scratch + worker * p->scratch_bytes;
    i64 *const b_tap = (i64 *)(scratch + p->scratch_bytes) - steps_of(p), *const a_tap = b_tap - steps_of(p);
    T *const strip = (T *)scratch, *const sums = strip + NAME(strip_size)(p), *const packed = sums + NAME(sums_size)(p);
    const char *const x = p->x + b.n * p->x_stride[0] + b.g * p->icg * p->x_stride[1];
    tile_work k = {.p = p, .b = b, .rows = b.rows, .cols = b.cols,
                   .out = FIRST_PIXEL(p->out, p->out_stride, p, b),
                   .residual = p->residual ? FIRST_PIXEL(p->residual, p->residual_stride, p, b) : NULL};
    k.width = p->in_place ? p->x_stride[3] / (i64)sizeof(T) : b.cols + p->w.reach;
    if (k.width == b.cols && p->h.reach == 0 && rows_joined(p, b.cols)) k.cols *= k.rows, k.rows = 1;

    for (i64 h0 = 0, h1; h0 < p->icg; h0 = h1) {
        h1 = least(h0 + p->held, p->icg);
        if (!p->in_place) NAME(pack_strip)(strip, p, x + h0 * p->x_stride[1], h1 - h0, &b, 0);
        for (i64 o = b.o0; o < b.o1; o += LANES) {
            const i64 nv = o + VL < p->ocg ? 2 : 1;
            T bias[2 * VECTOR_BYTES / T_BYTES] = {0};
            for (i64 l = 0; p->bias && l < least(LANES, p->ocg - o); l++)
                bias[l] = ((const T *)p->bias)[b.g * p->ocg + o + l];
            k.sums = sums + (p->held < p->icg ? (o - b.o0) * b.rows * b.cols : 0);
            for (i64 c0 = h0; c0 < h1; c0 += p->ic_block) {
                const i64 channels = least(p->ic_block, h1 - c0);
                k.s = (steps){.b_tap = b_tap, .a_tap = a_tap,
                              .b_channel = p->in_place ? p->x_stride[1] / (i64)sizeof(T) : NAME(plane_pitch)(p)};
                NAME(fill_steps)(p, &k.s, a_tap, b_tap, &b, channels, k.width, p->in_place);
                k.pixels = strip + (c0 - h0) * NAME(plane_pitch)(p);
                if (p->in_place)
                    k.pixels = (const T *)(x + c0 * p->x_stride[1] + b.y0 * p->x_stride[3] + b.x0 * p->x_stride[4]);
                const T *weights = packed;
                i64 lanes;
                if (p->packed)
                    weights = NAME(packed_at)(p, b.g, o, c0, &lanes);
                else
                    NAME(pack_weights)(p, packed, b.g, o, c0, channels, nv * VL);
                NAME(multiply_block)(&k, weights, nv, o, c0, p->bias ? bias : NULL);
            }
        }
    }
}
