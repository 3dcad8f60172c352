/* Depthwise layers with channels in the lanes: the rows of VL channels become one row of vectors, a pixel each, with zeros
 * around them; what is multiplied becomes rows of channels again. For rows so narrow that vectors of pixels would be mostly
 * ends; and for pixels whose channels follow each other, which are read and written where they lie. Included by depthwise.h.
 *
 * Floors: a multiply-add and a load for each tap of VL outputs, whatever the window. On top come both transpositions, about
 * four operations for VL elements, which is why wide rows of small windows are better off in window.h. */

/* Where a row of pixels and of results is: rows `pitch` elements apart; and from one pixel to the next, in x and in `to`. */
#define pixel_places NAME(pixel_places)
typedef struct {
    i64 pitch, apart, to_apart;
    int stream; /* results go past the caches */
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
            if (at->stream)                                                                                     \
                STREAM((vec *)(to + q * (TO_APART)), v);                                                        \
            else                                                                                                \
                *(loose_vec *)(to + q * (TO_APART)) = v;                                                        \
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

/* Outputs that are done at a time, whose pixels, as vectors, take BAND_BYTES at most: rows of a task, or parts of them. */
static void NAME(band_size)(const fc_conv *p, i64 *rows, i64 *cols)
{
    enum { PIXELS = BAND_BYTES / VECTOR_BYTES, LEAST_ROWS = 8 };
    const fc_axis *const h = &p->h, *const w = &p->w;
    const i64 high = NAME(span_of)(h, least(LEAST_ROWS, p->rows)), wide = (PIXELS / high - w->taps) / w->stride + 1;
    *cols = wide < p->cols ? wide / MOST_ABREAST * MOST_ABREAST : p->cols;
    *rows = least((PIXELS / NAME(span_of)(w, *cols) - h->taps) / h->stride + 1, p->rows);
}

/* What convolve_abreast takes of scratch: pixels, sums and weights. */
static i64 NAME(abreast_bytes)(const fc_conv *p)
{
    if (!NAME(dense_windows)(p)) return 0;
    i64 rows, cols;
    NAME(band_size)(p, &rows, &cols);
    return (NAME(span_of)(&p->h, rows) * NAME(span_of)(&p->w, cols) + rows * cols + taps_of(p)) * VECTOR_BYTES;
}

/* Whether a layer has its channels in the lanes: they follow each other, or rows are so narrow that it is worth turning them.
 * Where vectors shift, by the width of windows and their stride: outputs of a row up to which it is, on a Zen 4 with AVX-512. */
static int NAME(goes_abreast)(const fc_conv *p)
{
    static const i64 most[MOST_WINDOW + 1][MOST_WINDOW_STRIDE + 1] = {[3] = {0, 14, 7}, [5] = {0, 25, 20}, [7] = {0, 49}};
    if (p->ocg != 1 || p->g_step == 1 || !NAME(dense_windows)(p) || p->h.before < 0) return 0;
    const i64 narrow = SHIFTS ? most[p->w.taps][p->w.stride] : MOST_NARROW * p->h.taps;
    return p->x_stride[1] == sizeof(T) || (p->x_stride[4] == sizeof(T) && 2 * p->g_step > VL && p->w.out <= narrow);
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

/* HALF pixels, which follow each other in each channel, from x to vectors of channels. */
static inline __attribute__((always_inline)) void NAME(turn)(vec *pixels, const char *x, const places *channels)
{
#pragma GCC unroll 8
    for (int c = 0; c < HALF; c++)
        pixels[c] = NAME(load_halves)((const T *)(x + channels->at[c]), (const T *)(x + channels->at[c + HALF]));
    NAME(transpose_half)(pixels);
}

/* A row of n of them; x may be read up to x_end. */
static void NAME(row_abreast)(T *to, const char *x, const places *channels, i64 n, const char *x_end)
{
    vec pixels[HALF];
    for (i64 i = 0; i < n && n >= HALF; i += HALF) {
        const i64 at = least(i, n - HALF); /* the last ones again rather than a part */
        NAME(turn)(pixels, x + at * (i64)sizeof(T), channels);
#pragma GCC unroll 8
        for (int j = 0; j < HALF; j++) ((vec *)to)[at + j] = pixels[j];
    }
    if (n >= HALF) return;
    T few[HALF * VECTOR_BYTES / T_BYTES];
    places copied;
    const i64 read = VECTOR_BYTES / 2;
    if (x + channels->at[0] + read > x_end || x + channels->at[VL - 1] + read > x_end) {
        for (i64 c = 0; c < VL; c++) NAME(copy_few)(few + c * HALF, (const T *)(x + channels->at[c]), n);
        copied = NAME(place_channels)(VL, read);
        channels = &copied;
        x = (const char *)few;
    }
    NAME(turn)(pixels, x, channels);
#pragma GCC unroll 8
    for (int j = 0; j < HALF; j++)
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

/* n pixels of `channels` channels to `out`. */
static void NAME(store_abreast)(char *out, const i64 *step, const T *sums, i64 channels, i64 n)
{
    if (step[1] == sizeof(T)) {
        for (i64 i = 0; i < n; i++) NAME(copy_few)((T *)(out + i * step[4]), sums + i * VL, channels);
        return;
    }
    if (n >= HALF && channels == VL && step[4] == sizeof(T)) {
        NAME(store_turned_row)(out, step[1] / (i64)sizeof(T), sums, VL, n, -(T)0 - (vec){0}, 0); /* -0 changes no bit */
        return;
    }
    for (i64 i = 0; i < n; i += HALF) {
        const i64 pixels = least(n - i, HALF);
        vec row[HALF];
        T few[HALF * VECTOR_BYTES / T_BYTES];
#pragma GCC unroll 8
        for (int j = 0; j < HALF; j++) row[j] = *(const vec *)(sums + (i + least(j, pixels - 1)) * VL);
        NAME(transpose_half)(row);
#pragma GCC unroll 8
        for (int c = 0; c < HALF; c++) NAME(store_halves)(few + c * HALF, few + (c + HALF) * HALF, row[c]);
        for (i64 c = 0; c < channels; c++) NAME(put)(out + c * step[1] + i * step[4], step[4], few + c * HALF, pixels);
    }
}

/* What is done at a time. */
#define band NAME(band)
typedef struct {
    i64 y0, x0, rows, cols; /* outputs, from the first one of the task on */
    i64 high, width;        /* pixels that they read */
    const i64 *row;         /* [high] of x, -1: zeros; NULL: all are zeros */
    i64 left, first, end;   /* column of x that is read first; columns of the strip that are in x */
} band;

static band NAME(band_at)(const fc_conv *p, const block *b, i64 y0, i64 x0, i64 rows, i64 cols)
{
    band d = {.y0 = y0, .x0 = x0, .rows = least(rows, b->rows - y0), .cols = least(cols, b->cols - x0)};
    d.high = NAME(span_of)(&p->h, d.rows);
    d.width = NAME(span_of)(&p->w, d.cols);
    d.row = depth_at(p, b->z, 0) < 0 ? NULL : p->h.source + (b->y0 + y0) * p->h.stride;
    d.left = (b->x0 + x0) * p->w.stride - p->w.before;
    d.first = d.left < 0 ? least(-d.left, d.width) : 0;
    d.end = least(d.width, input_size(&p->w) - d.left);
    if (d.end < d.first) d.end = d.first;
    return d;
}

static inline i64 NAME(row_of)(const band *d, i64 i) { return d->row ? d->row[i] : -1; }

/* Zeros around the pixels of a band, for all channels. */
static void NAME(clear_around)(T *strip, const band *d)
{
    for (i64 j = 0; j < d->high; j++, strip += d->width * VL) {
        const int zeros = NAME(row_of)(d, j) < 0;
        memset(strip, 0, (zeros ? d->width : d->first) * VECTOR_BYTES);
        if (!zeros) memset(strip + d->end * VL, 0, (d->width - d->end) * VECTOR_BYTES);
    }
}

/* Columns [from, behind) of a band of VL channels, or fewer, from a slice of x to the strip. */
static void NAME(pack_band)(const fc_conv *p, const band *d, T *strip, const char *x, i64 from, i64 behind, const places *of_x,
                            i64 channels, const char *x_end)
{
    const i64 *const step = p->x_stride, first = from > d->first ? from : d->first, end = least(behind, d->end);
    for (i64 j = 0; j < d->high && first < end; j++) {
        const i64 row = NAME(row_of)(d, j);
        if (row < 0) continue;
        T *const to = strip + (j * d->width + first) * VL;
        const char *const line = x + row * step[3] + (d->left + first) * step[4];
        if (step[1] == sizeof(T))
            NAME(copy_abreast)(to, line, step[4], channels, end - first);
        else
            NAME(row_abreast)(to, line, of_x, end - first, x_end);
    }
}

/* The part of an epilogue that kernels do not know, on sums that are in `out`. */
static void NAME(finish_abreast)(const fc_conv *p, const group *at, const band *d, i64 channels)
{
    const i64 *const step = p->out_stride, *const add = p->residual_stride;
    const run_end end = {.last = 1, .activation = p->activation, .parameter = (T)p->parameter};
    const int last = step[1] == sizeof(T); /* runs are channels of a pixel, or pixels of a channel */
    const i64 runs = last ? d->cols : channels, length = last ? channels : d->cols;
    const int axis = last ? 4 : 1, along = last ? 1 : 4;
    for (i64 r = 0; r < d->rows; r++)
        for (i64 i = 0; i < runs; i++) {
            const i64 y = d->y0 + r;
            NAME(store)(at->out + y * step[3] + d->x0 * step[4] + i * step[axis], step[along], NULL, length, &end, 0,
                        at->residual ? at->residual + y * add[3] + d->x0 * add[4] + i * add[axis] : NULL, add[along]);
        }
}

/* Weights and bias of `channels` groups from `at` on, side by side; of fewer than a vector holds the last one again. `follow`:
 * those of a channel follow each other. */
static vec NAME(weights_abreast)(const channel_work *k, T *weights, const group *at, i64 channels, int follow)
{
    const fc_conv *const p = k->p;
    const i64 a = NAME(group_behind)(p, *at, 1).weights - at->weights, taps = k->s.taps, item = sizeof(T);
    const places of_weights = NAME(place_channels)(channels, a * item);
    if (follow)
        NAME(row_abreast)(weights, (const char *)at->weights, &of_weights, taps,
                          (const char *)(at->weights + (a > 0 ? (channels - 1) * a : 0) + taps));
    vec bias = -(T)0 - (vec){0}; /* changes no bit */
    for (i64 c = 0; c < VL; c++) {
        const i64 channel = least(c, channels - 1);
        for (i64 t = 0; !follow && t < taps; t++) weights[t * VL + c] = at->weights[channel * a + k->s.start[t].a];
        if (p->bias) bias[c] = ((const T *)p->bias)[at->g + channel];
    }
    return bias;
}

/* Groups up to `end`, VL at a time, a band of outputs after the other. */
static void NAME(convolve_abreast)(channel_work *k, step_start *starts, T *strip, i64 end)
{
    NAME(weights_of)(k, starts, 0);
    const fc_conv *const p = k->p;
    const fc_axis *const h = &p->h, *const w = &p->w;
    const i64 item = sizeof(T), *const step = p->out_stride, depth = depth_at(p, k->b.z, 0);
    i64 most_rows, most_cols;
    NAME(band_size)(p, &most_rows, &most_cols);
    T *const sums = strip + NAME(span_of)(h, most_rows) * NAME(span_of)(w, most_cols) * VL;
    T *const weights = sums + most_rows * most_cols * VL;
    const abreast_fn *const kernels = NAME(abreast)[1][h->taps][h->stride], *const there = NAME(abreast)[0][h->taps][h->stride];
    const int plain = plain_epilogue(p), relu = plain && p->activation == FC_RELU;
    const int last = step[1] == item;
    int follow = 1;
    for (i64 t = 0; t < k->s.taps; t++) follow = follow && k->s.start[t].a == t;
    const char *const x_end = NAME(x_bounds)(p).end;
    for (i64 y0 = 0; y0 < k->b.rows; y0 += most_rows)
        for (i64 x0 = 0; x0 < k->b.cols; x0 += most_cols) {
            const band d = NAME(band_at)(p, &k->b, y0, x0, most_rows, most_cols);
            const i64 parts = (d.cols + MOST_ABREAST - 1) / MOST_ABREAST;
            NAME(clear_around)(strip, &d);
            for (group at = k->at; at.g < end; at = NAME(group_behind)(p, at, VL)) {
                /* The last vector steps back rather than being a part of one. */
                if (end - at.g < VL && end - k->at.g >= VL) at = NAME(group_behind)(p, at, end - VL - at.g);
                const i64 channels = least(VL, end - at.g);
                const vec bias = NAME(weights_abreast)(k, weights, &at, channels, follow);
                const char *const x = at.x + depth * p->x_stride[2];
                const places of_x = NAME(place_channels)(channels, p->x_stride[1]);
                /* In channels-last arrays results go where they belong, and only tiles with padding at an end are packed. */
                const int direct = last && channels == VL;
                const int in_place = direct && p->finite && p->x_stride[1] == item;
                const int stream = VECTOR_BYTES == 64 && p->stream && direct && plain
                                   && ((intptr_t)at.out | step[3] | step[4]) % VECTOR_BYTES == 0; /* whole lines */
                const pixel_places packed = {d.width * VL, VL, direct ? step[4] / item : VL, stream};
                const pixel_places here = {p->x_stride[3] / item, p->x_stride[4] / item, step[4] / item, stream};
                if (!in_place) NAME(pack_band)(p, &d, strip, x, 0, d.width, &of_x, channels, x_end);
                for (i64 i = 0, from = 0, next; i < parts; i++, from = next) {
                    next = d.cols * (i + 1) / parts;
                    const i64 begin = from * w->stride, behind = begin + NAME(span_of)(w, next - from);
                    const int inside = in_place && begin >= d.first && behind <= d.end;
                    if (in_place && !inside) NAME(pack_band)(p, &d, strip, x, begin, behind, &of_x, channels, x_end);
                    for (i64 y = 0; y < d.rows; y++) {
                        i64 top = 0, below = h->taps; /* taps whose rows are in x */
                        while (p->finite && top < below && NAME(row_of)(&d, y * h->stride + top) < 0) top++;
                        while (p->finite && top < below && NAME(row_of)(&d, y * h->stride + below - 1) < 0) below--;
                        const T *const taps = weights + top * w->taps * VL;
                        const T *pixels = strip + ((y * h->stride + top) * d.width + begin) * VL;
                        if (inside && top < below)
                            pixels = (const T *)(x + d.row[y * h->stride + top] * p->x_stride[3] + (d.left + begin) * p->x_stride[4]);
                        if (direct)
                            there[next - from](taps, pixels, inside ? &here : &packed, below - top,
                                               (T *)(at.out + (y0 + y) * step[3] + (x0 + from) * step[4]), bias, relu);
                        else
                            kernels[next - from](taps, pixels, &packed, below - top, sums + (y * d.cols + from) * VL, bias, relu);
                    }
                }
                if (!direct) {
                    const int joined = step[3] == d.cols * step[4];
                    for (i64 y = 0; y < d.rows; y += joined ? d.rows : 1)
                        NAME(store_abreast)(at.out + (y0 + y) * step[3] + x0 * step[4], step, sums + y * d.cols * VL, channels,
                                            joined ? d.rows * d.cols : d.cols);
                }
                if (!plain) NAME(finish_abreast)(p, &at, &d, channels);
            }
        }
}
