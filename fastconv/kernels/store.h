/* Finished sums on their way to `out`: which pieces of a panel are valid, and act(sum + bias + residual). Included
 * by isa.c after product.h. */

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

/* OUT = act(OUT) for every element that EACH goes over; the choice is outside the loop, so that the cheap ones vectorise. */
#define ACTIVATE(EACH, OUT, activation, parameter)                                    \
    switch (activation) {                                                             \
    case FC_NONE: break;                                                              \
    case FC_RELU: EACH OUT = NAME(activate)(OUT, FC_RELU, parameter); break;          \
    case FC_RELU6: EACH OUT = NAME(activate)(OUT, FC_RELU6, parameter); break;        \
    case FC_LEAKY_RELU: EACH OUT = NAME(activate)(OUT, FC_LEAKY_RELU, parameter); break; \
    case FC_HARDSWISH: EACH OUT = NAME(activate)(OUT, FC_HARDSWISH, parameter); break; \
    default: EACH OUT = NAME(activate)(OUT, activation, parameter);                   \
    }

/* Whether kernels of one output channel may write its pixels to `out` themselves. */
static inline int NAME(finished)(const fc_conv *p)
{
    return p->out_stride[4] == sizeof(T) && plain_epilogue(p);
}

/* A row of pixels, half a vector of them at least, a vector of channels each, `lanes` elements apart, to as many rows of `out`. */
static inline __attribute__((always_inline)) void NAME(store_turned_row)(char *out, i64 apart, const T *c, i64 lanes, i64 cols,
                                                                         vec shift, int relu)
{
    for (i64 i = 0; i < cols; i += HALF) {
        const i64 at = least(i, cols - HALF); /* the last ones again rather than a part */
        vec row[HALF];
#pragma GCC unroll 8
        for (int l = 0; l < HALF; l++) {
            row[l] = *(const loose_vec *)(c + (at + l) * lanes) + shift;
            if (relu) row[l] = RECTIFIED(row[l]);
        }
        NAME(transpose_half)(row);
        T *const to = (T *)out + at;
#pragma GCC unroll 8
        for (int l = 0; l < HALF; l++) NAME(store_halves)(to + l * apart, to + (l + HALF) * apart, row[l]);
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
    if (end->last && end->bias) EACH OUT += bias;
    if (!end->last) return;
    if (residual) EACH OUT += *(const T *)(residual + i * residual_step);
    ACTIVATE(EACH, OUT, end->activation, end->parameter)
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

/* Rows of sums, `pitch` apart, to rows of `out` whose pixels follow each other, with bias and `relu`. */
static void NAME(store_rows)(char *out, i64 out_step, const T *sums, i64 pitch, i64 rows, i64 length, int add, const T *bias,
                             int relu)
{
    const i64 whole = length / VL * VL, rest = length - whole;
    for (i64 row = 0; row < rows; row++, out += out_step, sums += pitch) {
        const vec shift = (bias ? bias[row] : -(T)0) - (vec){0}; /* -0 changes no bit */
        T *const to = (T *)out;
#define FINISH(V)                                                             \
        V += shift;                                                           \
        if (relu) V = RECTIFIED(V);
        for (i64 i = 0; i < whole; i += VL) {
            vec v = *(const loose_vec *)(sums + i);
            if (add) v += *(const loose_vec *)(to + i);
            FINISH(v)
            *(loose_vec *)(to + i) = v;
        }
        if (rest) {
            vec v = NAME(load_lanes)(sums + whole, rest);
            if (add) v += NAME(load_lanes)(to + whole, rest);
            FINISH(v)
            NAME(store_lanes)(to + whole, v, rest);
        }
#undef FINISH
    }
}

/* A piece of a panel that lies in one piece in `out`. */
#define segment NAME(segment)
typedef struct {
    i64 from, row, col, length;
} segment;

/* How a block of outputs is laid out along its pixels: either one flat run over all rows, in which the
 * width - cols columns at the end of each row are computed and thrown away, or a run for every row; where outputs may be
 * written `again`, to the same bits, a row's last panel steps back, so that all of them are whole. */
#define run_shape NAME(run_shape)
typedef struct {
    int in_place, by_row, again;
    i64 width, runs, length;
} run_shape;

static run_shape NAME(shape_runs)(const fc_conv *p, i64 rows, i64 cols, int in_place, int again)
{
    run_shape s = {.again = again};
    for (s.in_place = in_place;; s.in_place = 0) {
        s.width = s.in_place ? p->x_stride[3] / (i64)sizeof(T) : cols + p->w.reach;
        const i64 flat = (rows - 1) * s.width + cols;
        const i64 row_vectors = rows * ((cols + VL - 1) / VL), flat_vectors = (flat + VL - 1) / VL;
        s.by_row = s.width < cols || row_vectors < flat_vectors || (again && s.width > cols && cols >= VL && row_vectors <= flat_vectors * 17 / 16);
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
