/* The shifted product, output channels in the lanes: tiles of pixels by one or two vectors of channels. Included by
 * isa.c once per element type T. For narrow rows, where no pixel is thrown away, and for channels-last outputs.
 *
 * A task packs its pixels of all input channels once (of as many as fit, where images have a wide halo); then, a block of
 * output channels at a time, the tiles of one block of input channels after the other, so that a slice of the weights
 * stays in L2 while all tiles go over it.
 * Floors as in pixels.h; what comes on top is packing and, where `out` has its pixels in a row, a transposition. */

#include "tiles.h"

/* Columns of at most two rows that are stored together: several tiles, whose ends would be parts of vectors. */
#define STORED_COLUMNS ((i64)(STORED_BYTES / (2 * LANES * sizeof(T))))

/* A worker's scratch: pixels of the `held` channels, sums, weights packed on the way where the plan has none, the tiling. Sums are those of all output channels of the task where not all input channels are held, of one
 * block where these come in several blocks, else of the tiles that are stored together. */
static i64 NAME(strip_size)(const fc_conv *p) { return round_up(p->held * NAME(plane_pitch)(p), VL); }

static i64 NAME(sums_size)(const fc_conv *p)
{
    if (p->held < p->icg) return p->rows * p->cols * round_up(p->oc_step, LANES);
    return (p->icg > p->ic_block ? p->rows * p->cols : 2 * STORED_COLUMNS) * LANES;
}

static i64 NAME(channels_scratch)(const fc_conv *p)
{
    const i64 packed = p->borrowed ? least(p->icg, p->ic_block) * taps_of(p) * LANES : 0;
    const i64 elements = NAME(strip_size)(p) + NAME(sums_size)(p) + packed;
    return round_up(elements * (i64)sizeof(T) + NAME(tiling_bytes)(p), 64);
}

/* What stays the same over the blocks of output channels of one task. */
#define tile_work NAME(tile_work)
typedef struct {
    const fc_conv *p;
    block b;
    i64 rows, cols; /* of the outputs, perhaps all rows as one */
    i64 row, col;   /* from one output's pixel to that below it and beside it, in elements */
    steps s;
    tiling t;
    const T *pixels;
    const char *fetch; /* x that is read where it lies, for the first time; or NULL */
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

    if (step[1] == sizeof(T)) { /* channels follow each other */
        if (bias)
            for (i64 i = 0; i < pixels; i++)
                for (i64 j = 0; j < lanes; j += VL) *(loose_vec *)(c + i * lanes + j) += *(const loose_vec *)(bias + j);
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
    const int relu = activation == FC_RELU && !residual, finished = relu || (activation == FC_NONE && !residual);
    for (i64 j = 0; j < channels; j += VL) {
        const i64 last = least(VL, channels - j);
        vec shift = -(T)0 - (vec){0}; /* changes no bit */
        if (bias) shift = *(const loose_vec *)(bias + j);
        i64 r = 0, q = 0; /* row and column of the first pixel */
        for (i64 p0 = 0; p0 < pixels; p0 += VL) {
            const i64 count = least(VL, pixels - p0);
            vec row[VECTOR_BYTES / T_BYTES];
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) {
                row[i] = *(const loose_vec *)(c + (p0 + least(i, count - 1)) * lanes + j) + shift;
                if (relu) row[i] = RECTIFIED(row[i]);
            }
            NAME(transpose)(row);
            char *to = out + j * step[1] + r * step[3] + q * step[4];
            if (finished && count == VL && last == VL && q + VL <= cols && step[4] == sizeof(T)) {
#pragma GCC unroll 16
                for (int l = 0; l < VL; l++) *(loose_vec *)(to + l * step[1]) = row[l];
                if ((q += VL) == cols) q = 0, r++;
                continue;
            }
            T flat[VECTOR_BYTES / T_BYTES * VECTOR_BYTES / T_BYTES] __attribute__((aligned(VECTOR_BYTES)));
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) *(loose_vec *)(flat + i * VL) = row[i];
            for (i64 i = 0, n; i < count; i += n, q = 0, r++) { /* what lies in each row */
                n = least(count - i, cols - q);
                to = out + j * step[1] + r * step[3] + q * step[4];
                for (i64 l = 0; l < last; l++) {
                    T *const sums = flat + l * VL + i;
                    for (i64 m = 0; residual && m < n; m++)
                        sums[m] += *(const T *)(residual + (j + l) * add_step[1] + r * add_step[3] + (q + m) * add_step[4]);
#define EACH for (i64 m = 0; m < n; m++)
                    if (!finished) ACTIVATE(EACH, sums[m], activation, parameter)
#undef EACH
                    NAME(put)(to + l * step[1], step[4], sums, n);
                }
                if (q + n < cols) {
                    q += n;
                    break;
                }
            }
        }
    }
}

/* The bias of a full block of output channels from o on, zeros behind the last, in `to`; NULL: there is none. */
static const T *NAME(block_bias)(const fc_conv *p, i64 g, i64 o, T *to)
{
    for (i64 l = 0; p->bias && l < LANES; l++) to[l] = o + l < p->ocg ? ((const T *)p->bias)[g * p->ocg + o + l] : 0;
    return p->bias ? to : NULL;
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
static void NAME(multiply_block)(tile_work *k, const T *weights, i64 nv, i64 o, i64 c0, const T *bias)
{
    const fc_conv *const p = k->p;
    const int first = c0 == 0, last = c0 + p->ic_block >= p->icg;
    const i64 all = k->s.taps * k->s.channels; /* steps of a tile, each of which touches a line ahead */
    const char *const next = (const char *)(weights + all * nv * VL);
    const i64 wanted = p->packed && !(last && o + LANES >= p->ocg) ? next - (const char *)weights : 0;
    /* Input that is read where it lies: later rows come a line of every channel a tap; where no loop is over channels, at
     * once. */
    const int by_line = k->fetch && p->d.taps == 1 && k->s.channels > 1;
    /* Sums of several blocks of input channels lie as the outputs do; else those of some tiles, until they are stored. */
    const int whole = !(first && last);
    const i64 lanes = nv * VL;
    i64 touched = 0;
    for (i64 y0 = 0; y0 < k->rows; y0 += 2) {
        const i64 y1 = least(y0 + 2, k->rows);
        const char *line = NULL, *end = NULL; /* of channel 0, in the rows after the next */
        if (by_line && y0 + 2 < k->rows) line = NAME(input_rows)(p, k->fetch, &k->b, y0 + 2, y0 + 4, &end);
        if (k->fetch && !(by_line && y0)) NAME(fetch_rows)(p, k->fetch, k->s.channels, &k->b, y0 ? y0 + 2 : 0, y0 + 2 + 2 * !by_line);
        for (i64 i = 0, from = 0, behind; i < k->t.count; from = behind) {
            i64 tile = i + 1;
            while (tile < k->t.count && (whole || k->t.ends[tile] - from <= STORED_COLUMNS)) tile++;
            behind = k->t.ends[tile - 1];
            const i64 width = behind - from;
            T *const sums = k->sums + (whole ? y0 * width * lanes : 0);
            for (i64 x = from; i < tile; x = k->t.ends[i++]) {
                const i64 q = k->t.ends[i] - x, high = 1 + (PAIRED(q) && y1 - y0 == 2);
                for (i64 y = y0; y < y1; y += high) {
                    const steps *const s = NAME(tile_steps)(&k->t, &k->s, i, y, x, high, q);
                    const char *ahead = (const char *)weights;
                    i64 step = 0, tap = 0;
                    if (line < end) {
                        ahead = line;
                        step = p->x_stride[1];
                        tap = 64 - k->s.channels * step;
                        line += s->taps * 64;
                    } else {
                        if (touched < wanted) ahead = next + touched, step = 64;
                        touched += s->taps * s->channels * 64;
                    }
                    if (last) NAME(fetch_tile)(k, o, least(lanes, p->ocg - o), y, x, high, q);
                    NAME(tiles)[k->col - 1][nv - 1][high][q](weights, k->pixels + y * k->row + x * k->col, k->row, s,
                                                             sums + ((y - y0) * width + x - from) * lanes, width * lanes, !first,
                                                             ahead, step, tap);
                }
            }
            if (last) NAME(store_tile)(k, sums, nv, o, y0, from, y1 - y0, width, bias);
        }
    }
}

/* Whether a task that leaves out all padding may read x where it lies: pixels follow each other, what it spans is hardly more
 * than what a strip would take, and spreads over all sets of L2, whatever the distance between channels; for narrow tiles,
 * which read a line every few cycles, over sets of L1, too, and channels share pages. */
static int NAME(near)(const fc_conv *p, const block *b)
{
    const i64 channel = p->x_stride[1], row = p->x_stride[3];
    const i64 rows = (b->rows + p->h.reach) * p->h.stride, cols = (b->cols + p->w.reach) * p->w.stride;
    const i64 packed = p->w.phases * strip_rows(p, b->rows) * (b->cols + p->w.reach);
    return p->finite && p->w.stride <= 2 && p->x_stride[4] == sizeof(T) && p->d.before >= 0 && p->h.before >= 0
           && p->w.before >= 0 && channel <= MOST_CHANNEL && (channel & -channel) <= least(rows * row, MOST_SPAN)
           && rows * cols <= packed * 3 / 2 + 16;
}

/* One block of outputs; see pixels_task. */
static void NAME(channels_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    const block b = block_of(p, task);
    char *const scratch = p->scratch + worker * p->scratch_bytes;
    T *const strip = (T *)scratch, *const sums = strip + NAME(strip_size)(p), *const packed = sums + NAME(sums_size)(p);
    const char *const x = p->x + b.n * p->x_stride[0] + b.g * p->icg * p->x_stride[1];
    const i64 item = sizeof(T);
    tile_work k = {.p = p, .b = b, .rows = b.rows, .cols = b.cols,
                   .t = NAME(place_tiling)(p, scratch + p->scratch_bytes - NAME(tiling_bytes)(p)),
                   .out = FIRST_PIXEL(p->out, p->out_stride, p, b),
                   .residual = p->residual ? FIRST_PIXEL(p->residual, p->residual_stride, p, b) : NULL};
    const int joined = b.cols == p->w.out && p->w.reach + p->h.reach == 0 && rows_joined(p, b.cols)
                       && (!p->in_place || p->x_stride[3] == b.cols * item);
    if (joined) k.cols *= k.rows, k.rows = 1;
    NAME(cut_task)(&k.t, &b, k.rows, k.cols, joined);
    const int close = p->x_stride[3] <= 2 * p->w.source_len * item; /* between rows is little else, which would be fetched, too */
    const int in_place = p->in_place || (!joined && k.t.exact && NAME(near)(p, &b));
    k.col = in_place ? p->w.stride : p->interleaved ? 2 : 1;
    k.row = in_place ? p->h.stride * p->x_stride[3] / item : k.col * (b.cols + p->w.reach);

    for (i64 h0 = 0, h1; h0 < p->icg; h0 = h1) {
        h1 = least(h0 + p->held, p->icg);
        if (!in_place) NAME(pack_strip)(strip, p, x + h0 * p->x_stride[1], h1 - h0, &b, 0);
        for (i64 o = b.o0; o < b.o1; o += LANES) {
            const i64 nv = o + VL < p->ocg ? 2 : 1;
            T lanes_of_bias[2 * VECTOR_BYTES / T_BYTES];
            const T *const bias = NAME(block_bias)(p, b.g, o, lanes_of_bias);
            k.sums = sums + (p->held < p->icg ? (o - b.o0) * b.rows * b.cols : 0);
            for (i64 c0 = h0; c0 < h1; c0 += p->ic_block) {
                const i64 channels = least(p->ic_block, h1 - c0);
                k.s = (steps){.start = k.t.starts, .b_channel = in_place ? p->x_stride[1] / item : NAME(plane_pitch)(p)};
                NAME(fill_steps)(p, &k.s, k.t.starts, &b, channels, in_place, 0);
                k.pixels = strip + (c0 - h0) * NAME(plane_pitch)(p);
                if (in_place)
                    k.pixels = (const T *)(x + c0 * p->x_stride[1] + (b.y0 * p->h.stride - p->h.before) * p->x_stride[3]
                                           + (b.x0 * p->w.stride - p->w.before) * item);
                k.fetch = in_place && !joined && close && o == b.o0 ? x + c0 * p->x_stride[1] : NULL;
                const T *weights = packed;
                i64 lanes;
                if (p->packed)
                    weights = NAME(packed_at)(p, b.g, o, c0, &lanes);
                else
                    NAME(pack_weights)(p, packed, b.g, o, c0, channels, nv * VL);
                NAME(multiply_block)(&k, weights, nv, o, c0, bias);
            }
        }
    }
}
