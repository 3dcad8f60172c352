/* K x K windows of one input channel, read where they lie: every column of a row that is loaded goes to all rows of outputs
 * that it reaches, and what a window reads beyond the image are lanes that are zero. The columns beside a vector are
 * shifted out of its neighbour; AVX2, which shifts within halves of a vector only, loads them. Included by depthwise.h.
 *
 * Floors for 3x3, four rows of two vectors of outputs: 72 multiply-adds, 18 loads, 24 shifts, or 36 loads. No copy is made,
 * so what comes next is the bandwidth of whatever cache holds x and out. */

/* Which of the VL elements from `c` on lie within a row of `width`. */
#define lanes_inside NAME(lanes_inside)
#ifdef __AVX512F__
typedef unsigned lanes_inside;
#else
typedef lane_index lanes_inside;
#endif

#if SHIFTS
static inline __attribute__((always_inline)) lanes_inside NAME(lanes_within)(i64 c, i64 width)
{
    const i64 lo = least(c < 0 ? -c : 0, VL), hi = least(c < width ? width - c : 0, VL);
#ifdef __AVX512F__
    return FIRST_LANES(hi) & ~FIRST_LANES(lo);
#else
    const lane_index lane = {EACH_LANE(BESIDE, 0)};
    return (lane >= (LANE_INT)lo) & (lane < (LANE_INT)hi);
#endif
}

static inline __attribute__((always_inline)) vec NAME(load_inside)(const T *from, lanes_inside inside)
{
#ifdef LOAD_INSIDE
    return LOAD_INSIDE(from, inside);
#else
    vec v = {0};
    for (i64 l = 0; l < VL; l++)
        if (inside[l]) v[l] = from[l];
    return v;
#endif
}
#endif

/* The vector stays in a register: as an operand in memory it would be loaded again for each row. Volatile, so that rows are
 * summed in their order; gcc moves all sums of a row to its last one, where each waits for the one before. */
#if defined(__x86_64__)
#define IN_REGISTER(V) __asm__ volatile("" : "+v"(V))
#elif defined(__aarch64__)
#define IN_REGISTER(V) __asm__ volatile("" : "+w"(V))
#else
#define IN_REGISTER(V)
#endif

/* From the first element of x to behind its last one, whatever lies between. */
#define bounds NAME(bounds)
typedef struct {
    const char *first, *end;
} bounds;

static bounds NAME(x_bounds)(const fc_conv *p)
{
    bounds x = {p->x, p->x + sizeof(T)};
    const i64 size[] = {p->n, p->g * p->icg, input_size(&p->d), input_size(&p->h), input_size(&p->w)};
    for (i64 i = 0; i < 5; i++) {
        const i64 span = size[i] > 1 ? (size[i] - 1) * p->x_stride[i] : 0;
        *(span < 0 ? &x.first : &x.end) += span;
    }
    return x;
}

/* Where an output channel's windows lie in x, and where its outputs go. */
#define window_work NAME(window_work)
typedef struct {
    const i64 *offset; /* [rows of x and more] of the first column that is read, in bytes; or NO_ROW */
    const T *zeros;    /* what is read for NO_ROW */
    i64 left, width;   /* where outputs begin in a row of x, and its elements, with zeros around them */
    i64 rows, length;  /* of outputs */
    int stream;        /* these are written past the caches */
#if !SHIFTS
    bounds x; /* what may be read */
#endif
} window_work;

/* What is done with every column of a row of x: it goes to all rows of outputs that it reaches. */
#define MULTIPLY_COLUMN(K, S, NV)                                                                               \
    _Pragma("GCC unroll 4") for (int r = 0; r < WINDOW_ROWS; r++) {                                             \
        const int tap_row = row_of_x - r * (S);                                                                 \
        if (tap_row < 0 || tap_row >= (K)) continue;                                                            \
        vec weight = w[tap_row * (K) + tap];                                                                    \
        if ((K) * (K) > MOST_HELD) IN_REGISTER(weight);                                                         \
        _Pragma("GCC unroll 4") for (int n = 0; n < (NV); n++) acc[r][n] += weight * column[n];                 \
    }

#if SHIFTS
/* Vectors that hold the columns of one phase of a row, for NV vectors of outputs. */
#define HELD_VECTORS(K, S, NV) ((NV) + (((K) - 1) / (S) + VECTOR_BYTES / T_BYTES - 1) / (VECTOR_BYTES / T_BYTES))

#define SUM_WINDOWS(K, S, NV)                                                                                   \
    enum { HELD = HELD_VECTORS(K, S, NV), LANES_OF_V = VECTOR_BYTES / T_BYTES };                                \
    lanes_inside inside[2 * HELD];                                                                              \
    _Pragma("GCC unroll 6") for (int n = 0; n < (S) * HELD; n++) inside[n] = NAME(lanes_within)(c + n * VL, k->width); \
    _Pragma("GCC unroll 16") for (int row_of_x = 0; row_of_x < INPUTS; row_of_x++) {                            \
        vec v[2 * HELD], held[S][HELD];                                                                         \
        _Pragma("GCC unroll 6") for (int n = 0; n < (S) * HELD; n++)                                            \
            v[n] = NAME(load_inside)(row[row_of_x] + c + n * VL, inside[n]);                                    \
        _Pragma("GCC unroll 6") for (int n = 0; n < HELD; n++) {                                                \
            held[0][n] = (S) == 1 ? v[n] : NAME(even_lanes)(v[2 * n], v[2 * n + 1]);                            \
            held[(S) - 1][n] = (S) == 1 ? v[n] : NAME(odd_lanes)(v[2 * n], v[2 * n + 1]);                       \
        }                                                                                                       \
        _Pragma("GCC unroll 8") for (int tap = 0; tap < (K); tap++) {                                           \
            vec column[NV];                                                                                     \
            _Pragma("GCC unroll 4") for (int n = 0; n < (NV); n++) {                                            \
                const int by = tap / (S), from = n + by / LANES_OF_V;                                           \
                column[n] = NAME(shifted)(held[tap % (S)][from], held[tap % (S)][from + (from + 1 < HELD)], by % LANES_OF_V); \
                IN_REGISTER(column[n]);                                                                         \
            }                                                                                                   \
            MULTIPLY_COLUMN(K, S, NV)                                                                           \
        }                                                                                                       \
    }
#else
/* Columns c to c + n of a row that begins at `from`, zeros around it, in `to`. */
static const T *NAME(copy_inside)(T *to, const T *from, i64 c, i64 n, i64 width)
{
    for (i64 i = 0; i < n; i++) to[i] = c + i < 0 || c + i >= width ? 0 : from[c + i];
    return to;
}

/* Where n elements may be read from column c of a row on: in x, or copied to `room`. */
static inline const T *NAME(readable)(const window_work *k, const T *row, i64 c, i64 n, T *room)
{
    if (row == k->zeros) return row;
    if ((const char *)(row + c) >= k->x.first && (const char *)(row + c + n) <= k->x.end) return row + c;
    return NAME(copy_inside)(room, row, c, n, k->width);
}

/* As a lane's number, which no distance from a lane exceeds. */
static inline LANE_INT NAME(near_zero)(i64 v)
{
    enum { FAR = 1 << 20 };
    return (LANE_INT)(v < -FAR ? -FAR : least(v, FAR));
}

/* One of two ways to LOAD: between the ends of a row, and there. Masks of AVX2 are dear in some processors (10 cycles a load
 * in Zen 1), so what lies beyond a row is read, as long as it is in x, and cleared. */
#define LOAD_PLAIN(FROM, I) *(const loose_vec *)(FROM)
#define LOAD_END(FROM, I) (vec)((lane_index)*(const loose_vec *)(FROM) & inside[I])
#define SUM_COLUMNS(K, S, NV, LOAD, FROM)                                                                       \
    _Pragma("GCC unroll 16") for (int row_of_x = 0; row_of_x < INPUTS; row_of_x++) {                            \
        const T *const from = FROM;                                                                             \
        _Pragma("GCC unroll 8") for (int tap = 0; tap < (K); tap++) {                                           \
            vec column[NV];                                                                                     \
            _Pragma("GCC unroll 4") for (int n = 0; n < (NV); n++) {                                            \
                enum { LANES_OF_V = VECTOR_BYTES / T_BYTES };                                                   \
                const T *const at = from + tap / (S) * (S) + n * (S) * LANES_OF_V;                              \
                const vec a = LOAD(at, (tap / (S) * (NV) + n) * (S));                                           \
                const vec b = LOAD(at + ((S) - 1) * LANES_OF_V, (tap / (S) * (NV) + n) * (S) + (S) - 1);        \
                column[n] = (S) == 1 ? a : tap % 2 ? ODD_OF_HALVES(a, b) : EVEN_OF_HALVES(a, b);                \
                IN_REGISTER(column[n]);                                                                         \
            }                                                                                                   \
            MULTIPLY_COLUMN(K, S, NV)                                                                           \
        }                                                                                                       \
    }

#define SUM_WINDOWS(K, S, NV)                                                                                   \
    enum { SPAN = (NV) * (S) * (VECTOR_BYTES / T_BYTES) + (K) - 1 };                                            \
    if (c >= 0 && c + SPAN <= k->width) {                                                                       \
        SUM_COLUMNS(K, S, NV, LOAD_PLAIN, row[row_of_x] + c)                                                    \
    } else {                                                                                                    \
        T room[SPAN];                                                                                           \
        const lane_index before = NAME(near_zero)(-c) - 1 - (lane_index){0}, behind = NAME(near_zero)(k->width - c) - (lane_index){0}; \
        lanes_inside inside[((K) + (S) - 1) * (NV)];                                                            \
        _Pragma("GCC unroll 16") for (int i = 0; i < ((K) + (S) - 1) / (S) * (NV) * (S); i++) {                 \
            const lane_index lane = (lane_index){EACH_LANE(BESIDE, 0)} + (LANE_INT)(i / ((NV) * (S)) * (S) + i % ((NV) * (S)) * VL); \
            inside[i] = (lane > before) & (lane < behind);                                                      \
        }                                                                                                       \
        SUM_COLUMNS(K, S, NV, LOAD_END, NAME(readable)(k, row[row_of_x], c, SPAN, room))                        \
    }
#endif

/* NV vectors of WINDOW_ROWS rows of outputs from column x on. */
#define WINDOW_BLOCK(K, S, NV)                                                                                  \
    {                                                                                                           \
        const i64 c = k->left + x * (S);                                                                        \
        vec acc[WINDOW_ROWS][NV];                                                                               \
        EACH_SUM(WINDOW_ROWS, NV, acc[i][j] = (vec){0})                                                         \
        SUM_WINDOWS(K, S, NV)                                                                                   \
        EACH_SUM(WINDOW_ROWS, NV, acc[i][j] = ((S) == 1 ? acc[i][j] : IN_ORDER(acc[i][j])) + bias)                \
        if (relu) EACH_SUM(WINDOW_ROWS, NV, acc[i][j] = RECTIFIED(acc[i][j]))                                   \
        _Pragma("GCC unroll 4") for (int n = 0; n < (NV); n++)                                                  \
            if (stream && length - x >= (n + 1) * VL) {                                                         \
                _Pragma("GCC unroll 4") for (int r = WINDOW_ROWS - 1; r >= 0; r--) STREAM((vec *)(to[r] + x + n * VL), acc[r][n]); \
            } else if (length - x >= (n + 1) * VL) {                                                            \
                _Pragma("GCC unroll 4") for (int r = WINDOW_ROWS - 1; r >= 0; r--) *(loose_vec *)(to[r] + x + n * VL) = acc[r][n]; \
            } else {                                                                                            \
                _Pragma("GCC unroll 4") for (int r = WINDOW_ROWS - 1; r >= 0; r--)                              \
                    NAME(store_lanes)(to[r] + x + n * VL, acc[r][n], length - x - n * VL);                      \
            }                                                                                                   \
    }

/* Rows of outputs, to_row bytes apart, whose windows are S elements of the channel at x apart:
 *   to[r][j] = act(sum over taps (i, k) of a[start[i * K + k].a] * x[offset[r * S + i]][left + j * S + k] + shift)
 * where act is a rectification or nothing. Summed as in product.h: the same bits. */
#define WINDOW_OF(K, S)                                                                                         \
    static void NAME(window_##K##s##S)(const window_work *k, const char *channel, const T *a, const steps *s, char *out, \
                                       i64 to_row, T shift, int relu)                                           \
    {                                                                                                           \
        enum { INPUTS = (WINDOW_ROWS - 1) * (S) + (K) };                                                        \
        vec w[(K) * (K)];                                                                                       \
        _Pragma("GCC unroll 49") for (int t = 0; t < (K) * (K); t++) w[t] = a[s->start[t].a] - (vec){0};        \
        const vec bias = shift - (vec){0};                                                                      \
        const i64 length = k->length;                                                                           \
        const int lines = k->stream && ((intptr_t)out | to_row) % 64 == 0;                                      \
        for (i64 y = 0; y < k->rows; y += WINDOW_ROWS) {                                                        \
            const T *row[INPUTS];                                                                               \
            T *to[WINDOW_ROWS]; /* what lies behind the last row is written before it, to its place */          \
            const int stream = lines && k->rows - y >= WINDOW_ROWS; /* in no order */                           \
            for (i64 i = 0; i < INPUTS; i++) {                                                                  \
                const i64 offset = k->offset[y * (S) + i];                                                      \
                row[i] = offset == NO_ROW ? k->zeros : (const T *)(channel + offset);                                    \
            }                                                                                                   \
            for (i64 r = 0; r < WINDOW_ROWS; r++) to[r] = (T *)(out + least(y + r, k->rows - 1) * to_row); \
            i64 x = 0;                                                                                          \
            for (; length - x > VL; x += 2 * VL) WINDOW_BLOCK(K, S, 2)                                          \
            if (x < length) WINDOW_BLOCK(K, S, 1)                                                               \
        }                                                                                                       \
    }
WINDOWS(WINDOW_OF)
#undef WINDOW_OF
#undef WINDOW_BLOCK
#undef SUM_WINDOWS
#undef SUM_COLUMNS
#undef LOAD_PLAIN
#undef LOAD_END
#undef HELD_VECTORS
#undef MULTIPLY_COLUMN

#define window_fn NAME(window_fn)
typedef void (*window_fn)(const window_work *, const char *, const T *, const steps *, char *, i64, T, int);

/* windows[K][stride] */
static const window_fn NAME(windows)[MOST_WINDOW + 1][MOST_WINDOW_STRIDE + 1] = {
#define ENTRY(K, S) [K][S] = NAME(window_##K##s##S),
    WINDOWS(ENTRY)
#undef ENTRY
};

static int NAME(has_windows)(i64 taps, i64 stride)
{
    return taps <= MOST_WINDOW && stride <= MOST_WINDOW_STRIDE && NAME(windows)[taps][stride];
}

/* Whether the layer's windows, in zeros, are such as there are kernels for. */
static int NAME(dense_windows)(const fc_conv *p)
{
    const fc_axis *const h = &p->h, *const w = &p->w;
    if (p->d.taps != 1 || w->before < 0 || h->taps != w->taps || h->stride != w->stride || !NAME(has_windows)(h->taps, h->stride))
        return 0;
    for (i64 i = 0; i < h->taps; i++)
        if (tap_at(h, i) != i || tap_at(w, i) != i) return 0;
    return 1;
}

/* The kernel for a layer whose windows may be read where they lie; else NULL. */
static window_fn NAME(window_for)(const fc_conv *p)
{
    return p->x_stride[4] == sizeof(T) && NAME(dense_windows)(p) ? NAME(windows)[p->h.taps][p->h.stride] : NULL;
}

/* Rows of x that a task's windows reach, with those of a block of rows behind the last. */
static i64 NAME(rows_reached)(const fc_conv *p, i64 rows) { return (rows + MOST_WINDOW_ROWS) * p->h.stride + p->h.taps; }

static i64 NAME(zeros_bytes)(const fc_conv *p)
{
    return round_up((p->cols * p->w.stride + p->w.taps + MOST_WINDOW_SPAN) * (i64)sizeof(T), 64);
}

#if !SHIFTS
/* Elements of a row of windows that no vector reads beyond. */
static i64 NAME(window_pitch)(const fc_conv *p, i64 cols) { return round_up(round_up(cols, 2 * VL) * p->w.stride + p->w.taps, VL); }
#endif

/* What place_windows takes of scratch; and pack_windows. */
static i64 NAME(placed_bytes)(const fc_conv *p)
{
    return round_up(NAME(zeros_bytes)(p) + NAME(rows_reached)(p, p->rows) * (i64)sizeof(i64), 64);
}

static i64 NAME(window_bytes)(const fc_conv *p)
{
#if !SHIFTS
    if (p->ocg >= PACKED_OUTPUTS)
        return NAME(placed_bytes)(p)
               + NAME(rows_reached)(p, p->rows) * (NAME(window_pitch)(p, p->cols) * (i64)sizeof(T) + (i64)sizeof(i64));
#endif
    return NAME(placed_bytes)(p);
}

/* Where the task's windows lie, but for the channel. */
static window_work NAME(place_windows)(const fc_conv *p, const block *b, T *scratch)
{
    const fc_axis *const h = &p->h, *const w = &p->w;
    const i64 left = b->x0 * w->stride - w->before, first = left > 0 ? left : 0, depth = depth_at(p, b->z, 0);
    const i64 end = least(left + (b->cols - 1) * w->stride + w->taps, input_size(w)), width = end > first ? end - first : 0;
    i64 *const offset = (i64 *)((char *)scratch + NAME(zeros_bytes)(p));
    for (i64 i = 0; i < NAME(rows_reached)(p, b->rows); i++) {
        const i64 row = i < (b->rows - 1) * h->stride + h->taps ? h->source[b->y0 * h->stride + i] : -1;
        offset[i] = row < 0 || depth < 0 ? NO_ROW : depth * p->x_stride[2] + row * p->x_stride[3] + first * p->x_stride[4];
    }
    memset(scratch, 0, (width + MOST_WINDOW_SPAN) * sizeof(T));
    window_work k = {.offset = offset, .zeros = scratch, .left = left - first, .width = width, .rows = b->rows, .length = b->cols,
                     .stream = p->stream && NAME(finished)(p)};
#if !SHIFTS
    k.x = NAME(x_bounds)(p);
#endif
    return k;
}

#if !SHIFTS
/* The same windows with their rows and zeros around them in `room`, where many output channels read them: no vector of theirs
 * needs a mask, and the ends of a row cost what its middle does. 1->32 3x3 at 28x28 on a Zen 1, us: 34 -> 28. */
static window_work NAME(pack_windows)(const fc_conv *p, const window_work *k, const char *x, T *room)
{
    const i64 pitch = NAME(window_pitch)(p, k->length), count = NAME(rows_reached)(p, k->rows), before = k->left < 0 ? -k->left : 0;
    i64 *const offset = (i64 *)(room + count * pitch);
    memset(room, 0, count * pitch * sizeof(T));
    for (i64 i = 0; i < count; i++) {
        offset[i] = k->offset[i] == NO_ROW ? NO_ROW : i * pitch * (i64)sizeof(T);
        if (offset[i] != NO_ROW) NAME(copy)(room + i * pitch + before, (const T *)(x + k->offset[i]), k->width);
    }
    window_work packed = *k;
    packed.offset = offset;
    packed.left = 0;
    packed.width = pitch;
    return packed;
}
#endif

/* An output channel: its weights, its number, where it goes, and what is added to it, or NULL. */
#define output_channel NAME(output_channel)
typedef struct {
    const T *a;
    i64 number;
    char *out;
    const char *residual;
} output_channel;

/* The outputs of one channel. */
static void NAME(convolve_windows)(window_fn windows, const fc_conv *p, const window_work *k, const steps *s, const char *x,
                                   const output_channel *o)
{
    const i64 *const step = p->out_stride, *const add = p->residual_stride;
    const T *const bias = p->bias;
    if (NAME(finished)(p)) {
        windows(k, x, o->a, s, o->out, step[3], bias ? bias[o->number] : -(T)0, p->activation == FC_RELU); /* -0 changes no bit */
        return;
    }
    const run_end end = {1, 1, p->activation, bias, (T)p->parameter};
    T sums[WINDOW_ROWS * MOST_VECTORS * VECTOR_BYTES / T_BYTES];
    window_work part = *k;
    for (i64 y = 0; y < k->rows; y += WINDOW_ROWS)
        for (i64 c = 0; c < k->length; c += MOST_VECTORS * VL) {
            part.offset = k->offset + y * p->h.stride;
            part.left = k->left + c * p->w.stride;
            part.rows = least(WINDOW_ROWS, k->rows - y);
            part.length = least(MOST_VECTORS * VL, k->length - c);
            windows(&part, x, o->a, s, (char *)sums, MOST_VECTORS * VECTOR_BYTES, -(T)0, 0);
            for (i64 r = 0; r < part.rows; r++)
                NAME(store)(o->out + (y + r) * step[3] + c * step[4], step[4], sums + r * MOST_VECTORS * VL, part.length, &end,
                            o->number, o->residual ? o->residual + (y + r) * add[3] + c * add[4] : NULL, add[4]);
        }
}
