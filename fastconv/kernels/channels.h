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

/* A worker's scratch: pixels of the `held` channels, sums, the tiling. Sums are those of all output channels of the task where
 * not all input channels are held, of one block where these come in several blocks, else of the tiles that are stored
 * together. */
static i64 NAME(strip_size)(const fc_conv *p) { return round_up(p->held * NAME(plane_pitch)(p), VL); }

static i64 NAME(sums_size)(const fc_conv *p)
{
    if (p->held < p->icg) return p->rows * p->cols * round_up(p->oc_step, LANES);
    return (p->icg > p->ic_block ? p->rows * p->cols : 2 * STORED_COLUMNS) * LANES;
}

static i64 NAME(channels_scratch)(const fc_conv *p)
{
    const i64 elements = NAME(strip_size)(p) + NAME(sums_size)(p);
    return round_up(elements * (i64)sizeof(T) + NAME(tiling_bytes)(p), 64);
}

/* What stays the same over the blocks of output channels of one task. */
#define tile_work NAME(tile_work)
typedef struct {
    const fc_conv *p;
    block b;
    i64 rows, cols; /* of the outputs, perhaps all rows as one */
    int kernel; /* of `tiles`, for the distance between pixels: 0: channels lie there */
    steps s;
    tiling t;
    const T *pixels;
    const char *fetch; /* x that is read where it lies, for the first time; or NULL */
    T *sums;
    int direct; /* sums of full blocks may go straight to `out` */
    char *out; /* the group's channel 0, first pixel of the block */
    const char *residual;
} tile_work;

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
    const int finished = plain_epilogue(p), relu = finished && activation == FC_RELU;
    for (i64 j = 0; j < channels; j += VL) {
        const i64 last = least(VL, channels - j);
        vec shift = -(T)0 - (vec){0}; /* changes no bit */
        if (bias) shift = *(const loose_vec *)(bias + j);
        if (finished && last == VL && cols >= HALF && step[4] == sizeof(T)) {
            for (i64 i = 0; i < rows; i++)
                NAME(store_turned_row)(out + j * step[1] + i * step[3], step[1] / (i64)sizeof(T), c + i * cols * lanes + j, lanes, cols, shift, relu);
            continue;
        }
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
            T flat[VECTOR_BYTES / T_BYTES * VECTOR_BYTES / T_BYTES] __attribute__((aligned(VECTOR_BYTES)));
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) *(loose_vec *)(flat + i * VL) = row[i];
            for (i64 i = 0, n; i < count; i += n, q = 0, r++) { /* what lies in each row */
                n = least(count - i, cols - q);
                char *const to = out + j * step[1] + r * step[3] + q * step[4];
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

/* One block of output channels and one of input channels: what stays the same over their tiles. */
#define channel_block NAME(channel_block)
typedef struct {
    const T *weights;
    i64 nv, o;
    int direct;            /* sums of a full block go straight to `out`, whose channels follow each other */
    const char *next;      /* the weights of the next block: so many bytes of them are wanted, and touched already */
    i64 wanted, touched;
    const char *line, *end; /* of x that is read where it lies, channel 0, in the rows after the next: what is to be touched */
    i64 ends; /* from the first output of a tile to those at the end of the lines in which it lies, in bytes */
    tile_end e;
} channel_block;

/* Row y, or two, of tiles [i, end), which all have q pixels and begin at x; sums of the first go to c. Those that all taps
 * reach are multiplied in one call. */
static void NAME(multiply_row)(tile_work *k, channel_block *v, i64 i, i64 end, i64 y, i64 x, i64 high, i64 q, T *c)
{
    const i64 channel = k->p->x_stride[1], *const step = k->p->out_stride;
    tile_end *const e = &v->e;
    while (i < end) {
        const steps *const s = NAME(tile_steps)(&k->t, &k->s, i, y, x, high, q);
        e->ahead = (const char *)v->weights;
        e->ahead_step = e->ahead_tap = 0;
        e->tiles = 1;
        if (v->line < v->end) {
            e->ahead = v->line;
            e->ahead_step = channel;
            e->ahead_tap = 64 - k->s.channels * channel;
            v->line += s->taps * 64;
        } else if (v->touched < v->wanted) {
            e->ahead = v->next + v->touched;
            e->ahead_step = 64;
            v->touched += s->products * 64;
        } else if (k->t.spaced && s == &k->s)
            while (i + e->tiles < end && x + (e->tiles + 1) * q <= k->t.all_cols.end) e->tiles++;
        e->out = k->out + v->o * step[1] + y * step[3] + x * step[4] + v->ends;
        NAME(touch_outputs)(e, 0, high);
        NAME(tiles)[k->kernel][v->nv - 1][high][q](v->weights, k->pixels + y * k->s.b_row + x * k->s.b_col, s, c, e);
        i += e->tiles;
        x += e->tiles * q;
        c += e->tiles * q * e->c_col;
    }
}

/* How sums of a block leave the registers; `last`: they are finished. */
static tile_end NAME(way_out)(const tile_work *k, const channel_block *v, int add, int last, const T *bias)
{
    const fc_conv *const p = k->p;
    const i64 *const step = p->out_stride, lanes = v->nv * VL;
    tile_end e = {.c_col = lanes, .add = add, .out_row = step[3]};
    if (v->direct) {
        e.c_row = step[3] / (i64)sizeof(T);
        e.c_col = step[4] / (i64)sizeof(T);
        e.relu = last && p->activation == FC_RELU;
        e.bias = last ? bias : NULL;
        e.stream = p->stream && !add && last && lanes == LANES && ((intptr_t)k->out | step[3] | step[4]) % 64 == 0;
    }
    return e;
}

/* All tiles of the task for one block of output channels and one of input channels. */
static void NAME(multiply_block)(tile_work *k, const T *weights, i64 nv, i64 o, i64 c0, const T *bias)
{
    const fc_conv *const p = k->p;
    const int first = c0 == 0, last = c0 + p->ic_block >= p->icg;
    const i64 lanes = nv * VL, bytes = k->s.products * lanes * (i64)sizeof(T), *const step = p->out_stride;
    channel_block v = {.weights = weights, .nv = nv, .o = o, .direct = k->direct && o + lanes <= p->ocg,
                       .next = (const char *)weights + bytes, .wanted = last && o + LANES >= p->ocg ? 0 : bytes};
    v.e = NAME(way_out)(k, &v, !first, last, bias);
    /* Input that is read where it lies: later rows come a line of every channel a tap; where no loop is over channels, at
     * once. */
    const int by_line = k->fetch && p->d.taps == 1 && k->s.channels > 1;
    /* Sums of several blocks of input channels lie as the outputs do; else those of some tiles, until they are stored. */
    const int whole = !(first && last), chained = k->t.spaced && k->s.products <= MOST_CHAINED;
    for (i64 y0 = 0; y0 < k->rows; y0 += 2) {
        const i64 y1 = least(y0 + 2, k->rows);
        v.line = v.end = NULL;
        if (by_line && y0 + 2 < k->rows) v.line = NAME(input_rows)(p, k->fetch, &k->b, y0 + 2, y0 + 4, &v.end);
        if (k->fetch && !(by_line && y0)) NAME(fetch_rows)(p, k->fetch, k->s.channels, &k->b, y0 ? y0 + 2 : 0, y0 + 2 + 2 * !by_line);
        for (i64 i = 0, from = 0, behind; i < k->t.count; from = behind) {
            i64 tile = i + 1;
            while (tile < k->t.count && (whole || k->t.ends[tile] - from <= STORED_COLUMNS)) tile++;
            behind = k->t.ends[tile - 1];
            const i64 width = behind - from;
            T *const sums = k->sums + (whole ? y0 * width * lanes : 0);
            if (!v.direct) v.e.c_row = width * lanes;
            for (i64 x = from, same; i < tile; i = same) {
                const i64 q = k->t.ends[i] - x, high = 1 + (PAIRED(q) && y1 - y0 == 2);
                for (same = i + 1; chained && same < tile && k->t.ends[same] - k->t.ends[same - 1] == q;) same++;
                v.e.out_tile = q * step[4];
                if (v.e.stream)
                    v.e.lines = 0;
                else if (v.direct)
                    v.e.lines = q, v.e.line_step = step[4], v.ends = lanes * (i64)sizeof(T) - 1;
                else if (last && step[4] == sizeof(T))
                    v.e.lines = least(lanes, p->ocg - o), v.e.line_step = step[1], v.ends = (q - 1) * step[4];
                for (i64 y = y0; y < y1; y += high) {
                    T *const to = v.direct ? (T *)(k->out + o * step[1] + y * step[3] + x * step[4])
                                           : sums + ((y - y0) * width + x - from) * lanes;
                    NAME(multiply_row)(k, &v, i, same, y, x, high, q, to);
                }
                x = k->t.ends[same - 1];
            }
            if (last && !v.direct) NAME(store_tile)(k, sums, nv, o, y0, from, y1 - y0, width, bias);
        }
    }
}

/* Whether a task that leaves out all padding may read x where it lies: pixels follow each other, what it spans is hardly more
 * than what a strip would take, and spreads over all sets of L2, whatever the distance between channels; for narrow tiles,
 * which read a line every few cycles, over sets of L1, too, and pixels share lines, channels pages. Or channels follow each
 * other. */
static int NAME(near)(const fc_conv *p, const block *b)
{
    if (!p->dense && (!p->finite || p->d.before < 0 || p->h.before < 0 || p->w.before < 0)) return 0;
    if (p->x_stride[1] == sizeof(T)) return 1;
    if (p->dense && WIDE) return p->x_stride[4] == sizeof(T);
    const i64 channel = p->x_stride[1], row = p->x_stride[3];
    const i64 rows = (b->rows + p->h.reach) * p->h.stride, cols = (b->cols + p->w.reach) * p->w.stride;
    const i64 packed = p->w.phases * strip_rows(p, b->rows) * (b->cols + p->w.reach);
    return p->w.stride <= MOST_STRIDE && p->x_stride[4] == sizeof(T) && channel <= MOST_CHANNEL
           && (channel & -channel) <= least(rows * row, MOST_SPAN) && rows * cols <= packed * 3 / 2 + 16;
}

/* One block of outputs; see pixels_task. */
static void NAME(channels_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    const block b = block_of(p, task);
    char *const scratch = p->scratch + worker * p->scratch_bytes;
    T *const strip = (T *)scratch, *const sums = strip + NAME(strip_size)(p);
    const char *const x = p->x + b.n * p->x_stride[0] + b.g * p->icg * p->x_stride[1];
    const i64 item = sizeof(T);
    tile_work k = {.p = p, .b = b, .rows = b.rows, .cols = b.cols,
                   .t = NAME(place_tiling)(p, scratch + p->scratch_bytes - NAME(tiling_bytes)(p)),
                   .out = FIRST_PIXEL(p->out, p->out_stride, p, b),
                   .residual = p->residual ? FIRST_PIXEL(p->residual, p->residual_stride, p, b) : NULL};
    const int last = p->x_stride[1] == item, near = NAME(near)(p, &b), here = p->dense && near;
    const int joined = b.cols == p->w.out && p->w.reach + p->h.reach == 0 && rows_joined(p, b.cols)
                       && (here ? p->x_stride[3] == b.cols * p->x_stride[4] : !last);
    if (joined) k.cols *= k.rows, k.rows = 1;
    NAME(cut_task)(&k.t, &b, k.rows, k.cols, joined);
    const int close = p->x_stride[3] <= 2 * p->w.source_len * item; /* between rows is little else, which would be fetched, too */
    const int in_place = here || (!joined && k.t.exact && near);
    /* A strip has channels between its pixels: a tile of six reads whole lines, half as many, and of lines next to each
     * other. 64 to 64 3x3 at 56x56 on a Zen 3, percent of the peak: 85 with a plane for each channel, 90. (14 pixels fill
     * a line as they are.) */
    const int beside = !WIDE && !in_place;
    const i64 col = in_place ? p->w.stride * p->x_stride[4] / item : p->interleaved ? 2 : 1;
    const i64 row = in_place ? p->h.stride * p->x_stride[3] / item : col * (b.cols + p->w.reach);
    const i64 channel = in_place ? p->x_stride[1] / item : beside ? 1 : NAME(plane_pitch)(p);
    k.t.spaced = beside || (in_place && last);
    k.kernel = k.t.spaced ? 0 : col;
    k.direct = k.t.spaced && p->out_stride[1] == item && plain_epilogue(p);

    for (i64 h0 = 0, h1; h0 < p->icg; h0 = h1) {
        h1 = least(h0 + p->held, p->icg);
        if (!in_place) NAME(pack_strip)(strip, p, x + h0 * p->x_stride[1], h1 - h0, &b, 0, beside ? p->ic_block : 0);
        for (i64 o = b.o0; o < b.o1; o += LANES) {
            const i64 nv = o + VL < p->ocg ? 2 : 1;
            T lanes_of_bias[2 * VECTOR_BYTES / T_BYTES];
            const T *const bias = NAME(block_bias)(p, b.g, o, lanes_of_bias);
            k.sums = sums + (p->held < p->icg ? (o - b.o0) * b.rows * b.cols : 0);
            for (i64 c0 = h0; c0 < h1; c0 += p->ic_block) {
                const i64 channels = least(p->ic_block, h1 - c0), pixel = beside ? channels : 1;
                k.s = (steps){.start = k.t.starts, .b_channel = channel, .b_row = row * pixel, .b_col = col * pixel};
                NAME(fill_steps)(p, &k.s, k.t.starts, &b, channels, pixel, in_place, 0);
                NAME(join_all)(&k.t, &k.s);
                k.pixels = strip + (c0 - h0) * (beside ? NAME(plane_size)(p) : channel);
                if (in_place)
                    k.pixels = (const T *)(x + c0 * p->x_stride[1] + (b.y0 * p->h.stride - p->h.before) * p->x_stride[3]
                                           + (b.x0 * p->w.stride - p->w.before) * p->x_stride[4]);
                k.fetch = in_place && !last && !joined && close && o == b.o0 ? x + c0 * p->x_stride[1] : NULL;
                i64 lanes;
                NAME(multiply_block)(&k, NAME(packed_at)(p, b.g, o, c0, &lanes), nv, o, c0, bias);
            }
        }
    }
    if (p->stream) STREAMED();
}
