/* Depthwise layers with channels in the lanes: the rows of VL channels become one row of vectors, a pixel each, with zeros
 * around them; what is multiplied becomes rows of channels again. For rows so narrow that vectors of pixels would be mostly
 * ends. Included by depthwise.h.
 *
 * Floors: a multiply-add and a load for each tap of VL outputs, whatever the window. On top come both transpositions, about
 * four operations for VL elements, which is why wide rows of small windows are better off in window.h. */

/* Where a row of pixels and of results is: rows `pitch` elements apart; and from one pixel to the next, in x and in `to`. */
#define pixel_places NAME(pixel_places)
typedef struct {
    i64 pitch, apart, to_apart;
} pixel_places;

/* The micro-kernel, Q pixels of a row, S apart in x:
 *   to[q * to_apart] = act(sum over rows r, columns s < K of w[r * K + s] * x[r * pitch + (q * S + s) * apart] + bias)
 * in vectors of channels, where act is a rectification or nothing. A pixel is loaded once for all columns. Summed as in
 * product.h: the same bits. APART and TO_APART are VL where both are PACKED. */
#define ABREAST_OF(Q, K, S, WHERE, APART, TO_APART)                                                             \
    static void NAME(abreast_##Q##x##K##s##S##WHERE)(const T *w, const T *x, const pixel_places *at, i64 rows, T *to, \
                                                     vec bias, int relu)                                        \
    {                                                                                                           \
        const i64 pitch = at->pitch, apart = at->apart, to_apart = at->to_apart;                                \
        (void)apart, (void)to_apart;                                                                            \
        vec acc[Q];                                                                                             \
        _Pragma("GCC unroll 8") for (int q = 0; q < (Q); q++) acc[q] = (vec){0};                                \
        for (i64 r = 0; r < rows; r++, w += (K) * VL, x += pitch) {                                             \
            vec weight[K];                                                                                      \
            _Pragma("GCC unroll 8") for (int s = 0; s < (K); s++) weight[s] = *(const vec *)(w + s * VL);       \
            _Pragma("GCC unroll 20") for (int j = 0; j < ((Q) - 1) * (S) + (K); j++) {                          \
                vec pixel = *(const loose_vec *)(x + j * (APART));                                              \
                IN_REGISTER(pixel);                                                                             \
                _Pragma("GCC unroll 8") for (int s = 0; s < (K); s++)                                           \
                    if (j >= s && (j - s) % (S) == 0 && (j - s) / (S) < (Q)) acc[(j - s) / (S)] += weight[s] * pixel; \
            }                                                                                                   \
        }                                                                                                       \
        _Pragma("GCC unroll 8") for (int q = 0; q < (Q); q++) {                                                 \
            vec v = acc[q] + bias;                                                                              \
            if (relu) v = RECTIFIED(v);                                                                         \
            *(loose_vec *)(to + q * (TO_APART)) = v;                                                            \
        }                                                                                                       \
    }
#define BOTH_PLACES(Q, K, S) ABREAST_OF(Q, K, S, packed, VL, VL) ABREAST_OF(Q, K, S, here, apart, to_apart)
#define EACH_WIDTH(K, S) \
    BOTH_PLACES(1, K, S) BOTH_PLACES(2, K, S) BOTH_PLACES(3, K, S) BOTH_PLACES(4, K, S) BOTH_PLACES(5, K, S) BOTH_PLACES(6, K, S) \
    BOTH_PLACES(7, K, S) BOTH_PLACES(8, K, S)
WINDOWS(EACH_WIDTH)
#undef BOTH_PLACES
#undef EACH_WIDTH
#undef ABREAST_OF

#define abreast_fn NAME(abreast_fn)
typedef void (*abreast_fn)(const T *, const T *, const pixel_places *, i64, T *, vec, int);

/* abreast[packed or not][K][stride][pixels] */
static const abreast_fn NAME(abreast)[2][MOST_WINDOW + 1][MOST_WINDOW_STRIDE + 1][MOST_ABREAST + 1] = {
#define ENTRY_OF(I, K, S, WHERE) \
    [I][K][S] = {NULL, NAME(abreast_1x##K##s##S##WHERE), NAME(abreast_2x##K##s##S##WHERE), NAME(abreast_3x##K##s##S##WHERE), \
                 NAME(abreast_4x##K##s##S##WHERE), NAME(abreast_5x##K##s##S##WHERE), NAME(abreast_6x##K##s##S##WHERE), \
                 NAME(abreast_7x##K##s##S##WHERE), NAME(abreast_8x##K##s##S##WHERE)},
#define ENTRY(K, S) ENTRY_OF(0, K, S, here) ENTRY_OF(1, K, S, packed)
    WINDOWS(ENTRY)
#undef ENTRY
#undef ENTRY_OF
};

/* Elements that a number of outputs of an axis read. */
static i64 NAME(span_of)(const fc_axis *axis, i64 outputs) { return (outputs - 1) * axis->stride + axis->taps; }

/* Rows of outputs whose pixels, as vectors, take BAND_BYTES at most; 0: not even one. */
static i64 NAME(band_rows)(const fc_conv *p)
{
    const i64 fit = BAND_BYTES / (NAME(span_of)(&p->w, p->w.out) * VECTOR_BYTES);
    return fit < p->h.taps ? 0 : least(p->rows, (fit - p->h.taps) / p->h.stride + 1);
}

static i64 NAME(strip_vectors)(const fc_conv *p, i64 rows)
{
    return NAME(span_of)(&p->h, rows) * NAME(span_of)(&p->w, p->w.out);
}

/* What convolve_abreast takes of scratch: pixels, sums and weights. */
static i64 NAME(abreast_bytes)(const fc_conv *p)
{
    const i64 rows = NAME(dense_windows)(p) ? NAME(band_rows)(p) : 0;
    return rows ? (NAME(strip_vectors)(p, rows) + rows * p->w.out + taps_of(p)) * VECTOR_BYTES : 0;
}

/* Whether a layer has its channels in the lanes. */
static int NAME(goes_abreast)(const fc_conv *p)
{
    const int side_by_side = p->x_stride[1] == sizeof(T), follow = p->x_stride[4] == sizeof(T);
    return p->ocg == 1 && NAME(dense_windows)(p) && p->h.before >= 0 && p->cols == p->w.out && 2 * p->g_step > VL
           && (side_by_side || (follow && p->w.out <= MOST_NARROW * p->h.taps)) && NAME(band_rows)(p);
}

/* Where the channels of a vector lie: bytes from the first one to each, those beyond the last being it again. */
#define places NAME(places)
typedef struct {
    i64 at[VECTOR_BYTES / T_BYTES];
} places;

static places NAME(place_channels)(i64 count, i64 step)
{
    places k;
    for (i64 c = 0; c < VL; c++) k.at[c] = least(c, count - 1) * step;
    return k;
}

/* VL pixels, which follow each other in each channel, from x to vectors of channels. */
static inline __attribute__((always_inline)) void NAME(turn)(vec *pixels, const char *x, const places *channels)
{
#pragma GCC unroll 4
    for (int c = 0; c < HALF; c++) {
        const T *const lower = (const T *)(x + channels->at[c]), *const upper = (const T *)(x + channels->at[c + HALF]);
        pixels[c] = LOAD_HALVES(lower, upper);
        pixels[c + HALF] = LOAD_HALVES(lower + HALF, upper + HALF);
    }
    NAME(transpose_halves)(pixels);
}

/* A row of n of them; x may be read up to x_end. */
static void NAME(row_abreast)(T *to, const char *x, const places *channels, i64 n, const char *x_end)
{
    vec pixels[VECTOR_BYTES / T_BYTES];
    for (i64 i = 0; i < n && n >= VL; i += VL) {
        const i64 at = least(i, n - VL); /* the last vector steps back */
        NAME(turn)(pixels, x + at * (i64)sizeof(T), channels);
#pragma GCC unroll 8
        for (int j = 0; j < VL; j++) ((vec *)to)[at + j] = pixels[j];
    }
    if (n >= VL) return;
    T few[VECTOR_BYTES / T_BYTES * VECTOR_BYTES / T_BYTES];
    places copied;
    if (x + channels->at[0] + VECTOR_BYTES > x_end || x + channels->at[VL - 1] + VECTOR_BYTES > x_end) {
        for (i64 c = 0; c < VL; c++) NAME(copy_few)(few + c * VL, (const T *)(x + channels->at[c]), n);
        copied = NAME(place_channels)(VL, VECTOR_BYTES);
        channels = &copied;
        x = (const char *)few;
    }
    NAME(turn)(pixels, x, channels);
#pragma GCC unroll 8
    for (int j = 0; j < VL; j++)
        if (j < n) ((vec *)to)[j] = pixels[j];
}

/* The same where the channels of a pixel follow each other. */
static void NAME(copy_abreast)(T *to, const char *x, i64 step, i64 channels, i64 n)
{
    for (i64 i = 0; i < n; i++)
        if (channels == VL)
            *(vec *)(to + i * VL) = *(const loose_vec *)(x + i * step);
        else
            NAME(copy_few)(to + i * VL, (const T *)(x + i * step), channels);
}

/* n finished pixels of `channels` channels, which follow each other in both, to `out`. */
static void NAME(store_abreast)(char *out, const i64 *step, const T *sums, i64 channels, i64 n)
{
    if (step[1] == sizeof(T)) {
        for (i64 i = 0; i < n; i++) NAME(copy_few)((T *)(out + i * step[4]), sums + i * VL, channels);
        return;
    }
    T few[VECTOR_BYTES / T_BYTES * VECTOR_BYTES / T_BYTES];
    const int all = n >= VL && channels == VL;
    for (i64 i = 0; i < n; i += VL) {
        const i64 at = n < VL ? 0 : least(i, n - VL), pixels = least(n, VL);
        vec row[VECTOR_BYTES / T_BYTES];
#pragma GCC unroll 8
        for (int j = 0; j < VL; j++) row[j] = *(const vec *)(sums + (at + least(j, pixels - 1)) * VL);
        NAME(transpose_halves)(row);
        T *const to = all ? (T *)out + at : few;
        const i64 apart = all ? step[1] / (i64)sizeof(T) : VL;
#pragma GCC unroll 4
        for (int c = 0; c < HALF; c++) {
            STORE_HALVES(to + c * apart, to + (c + HALF) * apart, row[c]);
            STORE_HALVES(to + c * apart + HALF, to + (c + HALF) * apart + HALF, row[c + HALF]);
        }
        for (i64 c = 0; !all && c < channels; c++) NAME(copy_few)((T *)(out + c * step[1]) + at, few + c * VL, pixels);
    }
}

/* The same with an epilogue that kernels do not know. */
static void NAME(finish_abreast)(const fc_conv *p, const group *at, i64 y, const T *sums, i64 channels, i64 rows)
{
    const i64 *const step = p->out_stride, *const add = p->residual_stride;
    const run_end end = {1, 1, p->activation, p->bias, (T)p->parameter};
    T flat[VECTOR_BYTES / T_BYTES];
    for (i64 c = 0; c < channels; c++)
        for (i64 r = 0; r < rows; r++)
            for (i64 i = 0, n; i < p->w.out; i += n) {
                n = least(VL, p->w.out - i);
                for (i64 j = 0; j < n; j++) flat[j] = sums[(r * p->w.out + i + j) * VL + c];
                NAME(store)(at->out + c * step[1] + (y + r) * step[3] + i * step[4], step[4], flat, n, &end, at->g + c,
                            at->residual ? at->residual + c * add[1] + (y + r) * add[3] + i * add[4] : NULL, add[4]);
            }
}

/* Groups up to `end`, VL at a time, a band of rows after the other. */
static void NAME(convolve_abreast)(channel_work *k, step_start *starts, T *scratch, i64 end)
{
    NAME(weights_of)(k, starts, 0);
    const fc_conv *const p = k->p;
    const fc_axis *const h = &p->h, *const w = &p->w;
    const block *const b = &k->b;
    const i64 most = NAME(band_rows)(p), width = NAME(span_of)(w, w->out), taps = taps_of(p), item = sizeof(T), *const step = p->out_stride;
    const i64 pixels = least(input_size(w), width - w->before), depth = depth_at(p, b->z, 0);
    T *const strip = scratch, *const sums = strip + NAME(strip_vectors)(p, most) * VL, *const weights = sums + most * w->out * VL;
    const abreast_fn *const kernels = NAME(abreast)[1][h->taps][h->stride], *const there = NAME(abreast)[0][h->taps][h->stride];
    const int relu = p->activation == FC_RELU, fused = !p->residual && (p->activation == FC_NONE || relu)
                                                      && (step[4] == item || step[1] == item);
    const int joined = step[3] == w->out * step[4], side_by_side = p->x_stride[1] == item;
    const char *const x_end = NAME(x_bounds)(p).end;
    int follow = 1; /* weights of a channel, one another */
    for (i64 t = 0; t < taps; t++) follow = follow && k->s.start[t].a == t;
    for (i64 y0 = 0; y0 < b->rows; y0 += most) {
        const i64 rows = least(most, b->rows - y0), high = NAME(span_of)(h, rows), top = (b->y0 + y0) * h->stride;
        memset(strip, 0, high * width * VECTOR_BYTES);
        group at = k->at;
        for (; at.g < end; at = NAME(group_behind)(p, at, VL)) {
            const i64 channels = least(VL, end - at.g), a = NAME(group_behind)(p, at, 1).weights - at.weights;
            vec bias = -(T)0 - (vec){0}; /* changes no bit */
            const places of_x = NAME(place_channels)(channels, p->x_stride[1]), of_weights = NAME(place_channels)(channels, a * item);
            if (follow)
                NAME(row_abreast)(weights, (const char *)at.weights, &of_weights, taps,
                                  (const char *)(at.weights + (a > 0 ? (channels - 1) * a : 0) + taps));
            for (i64 c = 0; c < VL; c++) {
                const T *const from = at.weights + least(c, channels - 1) * a;
                for (i64 t = 0; !follow && t < taps; t++) weights[t * VL + c] = from[k->s.start[t].a];
                if (fused && p->bias) bias[c] = ((const T *)p->bias)[at.g + least(c, channels - 1)];
            }
            /* In channels-last arrays results go where they belong, and only tiles with padding at an end are packed. */
            const int direct = side_by_side && fused && step[1] == item && channels == VL;
            const int in_place = direct && p->finite && depth >= 0;
            const pixel_places packed = {width * VL, VL, direct ? step[4] / item : VL};
            const pixel_places here = {p->x_stride[3] / item, p->x_stride[4] / item, step[4] / item};
            const i64 parts = (w->out + MOST_ABREAST - 1) / MOST_ABREAST;
            for (i64 i = 0, x = 0, next; i < parts; i++, x = next) { /* what of a row of x each tile reads */
                next = in_place ? w->out * (i + 1) / parts : w->out;
                const i64 from = x * w->stride - w->before, behind = from + NAME(span_of)(w, next - x);
                if (in_place && from >= 0 && behind <= pixels) continue;
                const i64 left = from > 0 ? from : 0, right = least(behind, pixels);
                for (i64 j = 0; j < high && right > left && depth >= 0; j++) {
                    const i64 row = h->source[top + j];
                    if (row < 0) continue;
                    T *const to = strip + (j * width + w->before + left) * VL;
                    const char *const line = at.x + depth * p->x_stride[2] + row * p->x_stride[3]
                                             + left * p->x_stride[4];
                    if (side_by_side)
                        NAME(copy_abreast)(to, line, p->x_stride[4], channels, right - left);
                    else
                        NAME(row_abreast)(to, line, &of_x, right - left, x_end);
                }
                if (!in_place) break;
            }
            for (i64 y = 0; y < rows; y++) {
                i64 first = 0, last = h->taps; /* taps whose rows are in x */
                const i64 *const source = h->source + top + y * h->stride;
                while (p->finite && first < last && source[first] < 0) first++;
                while (p->finite && first < last && source[last - 1] < 0) last--;
                const T *const row_weights = weights + first * w->taps * VL;
                const T *const packed_row = strip + (y * h->stride + first) * width * VL;
                const char *const row = at.x + depth * p->x_stride[2] + (first < last ? source[first] : 0) * p->x_stride[3];
                for (i64 i = 0, x = 0, next; i < parts; i++, x = next) {
                    next = w->out * (i + 1) / parts;
                    if (!direct) {
                        kernels[next - x](row_weights, packed_row + x * w->stride * VL, &packed, last - first,
                                          sums + (y * w->out + x) * VL, bias, fused && relu);
                        continue;
                    }
                    const i64 from = x * w->stride - w->before;
                    const int inside = in_place && from >= 0 && from + NAME(span_of)(w, next - x) <= pixels;
                    const T *const line = inside ? (const T *)(row + from * p->x_stride[4]) : packed_row + x * w->stride * VL;
                    there[next - x](row_weights, line, inside ? &here : &packed, last - first,
                                    (T *)(at.out + (y0 + y) * step[3] + x * step[4]), bias, relu);
                }
            }
            if (direct) continue;
            if (!fused)
                NAME(finish_abreast)(p, &at, y0, sums, channels, rows);
            else
                for (i64 y = 0; y < rows; y += joined ? rows : 1)
                    NAME(store_abreast)(at.out + (y0 + y) * step[3], step, sums + y * w->out * VL, channels,
                                        joined ? rows * w->out : w->out);
        }
    }
}
