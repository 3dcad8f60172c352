/* Windows of images so narrow that a row of outputs fits a vector, or half of one: then two channels share it. A row is
 * loaded once; what a tap reads of it is the vector turned by some lanes, with a mask in place of the padding. Included
 * by depthwise.h after window.h.
 *
 * Floors for 3x3, seven rows of two channels: 63 multiply-adds, 18 loads, 36 turns and joins, 14 stores. */

#define HALVES (VECTOR_BYTES / T_BYTES >= 16) /* whether there are kernels for two channels a vector */

/* v turned by `by` lanes, those that are not inside 0. */
static inline __attribute__((always_inline)) vec NAME(turned)(vec v, int by, lanes_inside inside)
{
#ifdef __AVX512F__
    switch (by) {
#define TURNED(BY) \
    case BY: return (vec)ALIGN_INSIDE(inside, v, v, ((BY) + VECTOR_BYTES / T_BYTES) % (VECTOR_BYTES / T_BYTES));
        TURNED(-3) TURNED(-2) TURNED(-1) TURNED(1) TURNED(2) TURNED(3)
#undef TURNED
    default: return (vec)ALIGN_INSIDE(inside, v, v, 0);
    }
#else
    return (vec)((lane_index)NAME(shifted)(v, v, (by + VECTOR_BYTES / T_BYTES) % (VECTOR_BYTES / T_BYTES)) & inside);
#endif
}

/* The lower halves of a and b. */
#define IN_LOWER(L, S) ((L) < VECTOR_BYTES / T_BYTES / 2 ? (L) : (L) + VECTOR_BYTES / T_BYTES / 2)
static inline __attribute__((always_inline)) vec NAME(lower_halves)(vec a, vec b)
{
    return __builtin_shuffle(a, b, (lane_index){EACH_LANE(IN_LOWER, 0)});
}
#undef IN_LOWER

/* One or two channels whose outputs share a vector. */
#define narrow_work NAME(narrow_work)
typedef struct {
    const i64 *offset; /* [rows of x and more], in bytes; or NO_ROW */
    i64 rows, length;  /* of outputs */
    lanes_inside loaded[2], tap[MOST_WINDOW]; /* lanes of the vectors that are loaded; lanes for which a tap reads x */
} narrow_work;

/* R rows of outputs at a time of P channels, summed as in window.h: w[taps] and bias in the lanes of each channel. */
#define NARROW_OF(K, S, R, P)                                                                                   \
    static void NAME(narrow_##K##s##S##_##R##x##P)(const narrow_work *k, const char *x, const char *beside, const vec *w, \
                                                   char *to, char *to_beside, i64 to_row, vec bias, int relu)   \
    {                                                                                                           \
        enum { INPUTS = ((R) - 1) * (S) + (K), BEFORE = (K) / 2, POSITIVE = 4 * (S) };                          \
        for (i64 y = 0; y < k->rows; y += (R)) {                                                                \
            vec acc[R];                                                                                         \
            _Pragma("GCC unroll 8") for (int r = 0; r < (R); r++) acc[r] = (vec){0};                            \
            _Pragma("GCC unroll 20") for (int i = 0; i < INPUTS; i++) {                                         \
                const i64 offset = k->offset[y * (S) + i], at = offset == NO_ROW ? 0 : offset;                        \
                const T *const next = (const T *)((P) == 2 ? beside + at : x + at) + ((P) == 2 ? 0 : VL);       \
                const lanes_inside nothing = {0};                                                               \
                vec first = NAME(load_inside)((const T *)(x + at), offset == NO_ROW ? nothing : k->loaded[0]), second = first; \
                if ((S) == 2 || (P) == 2) second = NAME(load_inside)(next, offset == NO_ROW ? nothing : k->loaded[1]); \
                vec phase[2] = {first, second};                                                                 \
                if ((S) == 2) phase[0] = NAME(even_lanes)(first, second), phase[1] = NAME(odd_lanes)(first, second); \
                else if ((P) == 2) phase[0] = NAME(lower_halves)(first, second);                                \
                _Pragma("GCC unroll 8") for (int tap = 0; tap < (K); tap++) {                                   \
                    const int from = tap - BEFORE + POSITIVE;                                                   \
                    vec column = NAME(turned)(phase[from % (S)], (from - from % (S) - POSITIVE) / (S), k->tap[tap]); \
                    IN_REGISTER(column);                                                                        \
                    _Pragma("GCC unroll 8") for (int r = 0; r < (R); r++)                                       \
                        if (i - r * (S) >= 0 && i - r * (S) < (K)) acc[r] += w[(i - r * (S)) * (K) + tap] * column; \
                }                                                                                               \
                _Pragma("GCC unroll 8") for (int r = 0; r < (R); r++)                                           \
                    if (i - r * (S) >= 0 && i - r * (S) < (K)) IN_REGISTER(acc[r]);                             \
            }                                                                                                   \
            const i64 length = k->length, left = k->rows - y;                                                   \
            _Pragma("GCC unroll 8") for (int r = 0; r < (R); r++) {                                             \
                if (r >= left) continue;                                                                        \
                vec v = acc[r] + bias;                                                                          \
                if (relu) v = RECTIFIED(v);                               \
                NAME(store_lanes)((T *)(to + (y + r) * to_row), v, length);                            \
                if ((P) == 2)                                                                                   \
                    NAME(store_lanes)((T *)(to_beside + (y + r) * to_row), NAME(shifted)(v, v, VL / 2), length); \
            }                                                                                                   \
        }                                                                                                       \
    }
#define NARROW(K, S) NARROW_OF(K, S, 4, 1) NARROW_OF(K, S, 7, 1)
WINDOWS(NARROW)
#undef NARROW
#if HALVES
#define NARROW(K, S) NARROW_OF(K, S, 4, 2) NARROW_OF(K, S, 7, 2)
WINDOWS(NARROW)
#undef NARROW
#endif
#undef NARROW_OF

#define narrow_fn NAME(narrow_fn)
typedef void (*narrow_fn)(const narrow_work *, const char *, const char *, const vec *, char *, char *, i64, vec, int);

/* narrow[K][stride][seven rows][channels - 1] */
static const narrow_fn NAME(narrow)[MOST_WINDOW + 1][MOST_WINDOW_STRIDE + 1][2][2] = {
#if HALVES
#define ENTRY(K, S) [K][S] = {{NAME(narrow_##K##s##S##_4x1), NAME(narrow_##K##s##S##_4x2)}, \
                              {NAME(narrow_##K##s##S##_7x1), NAME(narrow_##K##s##S##_7x2)}},
#else
#define ENTRY(K, S) [K][S] = {{NAME(narrow_##K##s##S##_4x1)}, {NAME(narrow_##K##s##S##_7x1)}},
#endif
    WINDOWS(ENTRY)
#undef ENTRY
};

/* How a layer's windows are read, if a row of its outputs fits a vector: by which kernel, of how many channels at a time. */
#define narrow_way NAME(narrow_way)
typedef struct {
    narrow_fn kernel; /* NULL: not at all */
    i64 channels;
} narrow_way;

/* `width`: of x; the windows are such as has_windows says. */
static narrow_way NAME(narrow_for)(const fc_conv *p, i64 width)
{
    const i64 taps = p->h.taps, stride = p->h.stride, rows = p->rows, cols = p->w.out;
    if (p->cols < cols || p->w.before != taps / 2 || cols > VL || width > stride * VL) return (narrow_way){0};
    const int two = HALVES && p->g_step > 1 && 2 * cols <= VL && 2 * width <= stride * VL;
    if (WIDE && !two && stride == 1 && taps < 7) return (narrow_way){0};
    const int seven = round_up(rows, 7) <= round_up(rows, 4);
    return (narrow_way){NAME(narrow)[taps][stride][seven][two], 1 + two};
}

/* What stays the same for all channels of a task whose windows are placed. */
static narrow_work NAME(place_narrow)(const fc_conv *p, const window_work *windows, i64 channels)
{
    const i64 width = windows->width, part = channels == 2 ? VL / 2 : VL;
    narrow_work k = {.offset = windows->offset, .rows = windows->rows, .length = windows->length};
    k.loaded[0] = NAME(lanes_within)(0, width);
    k.loaded[1] = channels == 2 ? k.loaded[0] : NAME(lanes_within)(0, width > VL ? width - VL : 0);
    reached taps[MOST_WINDOW];
    NAME(reach)(&p->w, 0, p->w.out, 1, taps);
    for (i64 tap = 0; tap < p->w.taps; tap++) {
        const i64 first = taps[tap].first, count = taps[tap].end - first;
        k.tap[tap] = NAME(lanes_within)(-first, count);
        if (channels == 2) k.tap[tap] |= NAME(lanes_within)(-first - part, count);
    }
    return k;
}

/* The same of each channel, side by side in a vector. */
static inline vec NAME(side_by_side)(T a, T b) { return NAME(lower_halves)(a - (vec){0}, b - (vec){0}); }

/* The outputs of the channel at x and, where two share a vector, of that at `beside`. */
static void NAME(convolve_narrow)(narrow_way way, const fc_conv *p, const narrow_work *k, const steps *s, const char *x,
                                  const char *beside, const output_channel to[2])
{
    const i64 *const step = p->out_stride, *const add = p->residual_stride;
    const T *const bias = p->bias;
    const vec none = -(T)0 - (vec){0}; /* changes no bit */
    vec w[MOST_WINDOW * MOST_WINDOW];
    for (i64 t = 0; t < s->taps; t++) w[t] = NAME(side_by_side)(to[0].a[s->start[t].a], to[1].a[s->start[t].a]);
    if (NAME(finished)(p)) {
        way.kernel(k, x, beside, w, to[0].out, to[1].out, step[3],
                   bias ? NAME(side_by_side)(bias[to[0].number], bias[to[1].number]) : none, p->activation == FC_RELU);
        return;
    }
    enum { ROWS = 28 }; /* a multiple of both heights */
    T sums[2][ROWS * VECTOR_BYTES / T_BYTES];
    const run_end end = {1, 1, p->activation, bias, (T)p->parameter};
    narrow_work part = *k;
    for (i64 y = 0; y < k->rows; y += ROWS) {
        part.offset = k->offset + y * p->h.stride;
        part.rows = least(ROWS, k->rows - y);
        way.kernel(&part, x, beside, w, (char *)sums[0], (char *)sums[1], VECTOR_BYTES, none, 0);
        for (i64 i = 0; i < way.channels; i++)
            for (i64 r = 0; r < part.rows; r++)
                NAME(store)(to[i].out + (y + r) * step[3], step[4], sums[i] + r * VL, k->length, &end, to[i].number,
                            to[i].residual ? to[i].residual + (y + r) * add[3] : NULL, add[4]);
    }
}
