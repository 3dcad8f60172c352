/* A block's input in scratch, padded, a plane for each channel or channels side by side: strides become phases, padding
 * becomes zeros or copies, so that a tap is only another start address. Included by isa.c after product.h. */

/* Pixels of one channel of a strip. */
static i64 NAME(plane_size)(const fc_conv *p)
{
    return p->d.taps * p->w.phases * strip_rows(p, p->rows) * (p->cols + p->w.reach);
}

/* From one channel to the next where these lie one behind the other: an odd number of 64-byte lines, so that they do not
 * share cache sets. */
static i64 NAME(plane_pitch)(const fc_conv *p)
{
    return ((NAME(plane_size)(p) * (i64)sizeof(T) + 63) / 64 | 1) * 64 / (i64)sizeof(T);
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

static T NAME(pixel)(const char *from, i64 step, const fc_axis *w, i64 i)
{
    const i64 at = i < w->source_len ? w->source[i] : -1;
    return at < 0 ? 0 : *(const T *)(from + at * step);
}

/* One row of one channel: what lies outside its regular run [lo, hi), and what lies inside. */
static void NAME(pack_edges)(T *to, const char *from, i64 step, const fc_axis *w, i64 start, i64 count, i64 lo, i64 hi)
{
    for (i64 k = 0; k < lo; k++) to[k] = NAME(pixel)(from, step, w, start + k * w->stride);
    for (i64 k = hi; k < count; k++) to[k] = NAME(pixel)(from, step, w, start + k * w->stride);
}

static void NAME(pack_run)(T *to, const char *from, i64 step, const fc_axis *w, i64 start, i64 lo, i64 hi)
{
    if (lo >= hi) return;
    const char *first = from + w->source[start + lo * w->stride] * step;
    const i64 stride = w->stride * step;
    if (stride == sizeof(T))
        NAME(copy)(to + lo, (const T *)first, hi - lo);
    else if (stride == 2 * sizeof(T))
        NAME(copy_every_second)(to + lo, (const T *)first, hi - lo);
    else if (stride == 4 * sizeof(T))
        NAME(copy_every_fourth)(to + lo, (const T *)first, hi - lo);
    else
        for (i64 k = 0; k < hi - lo; k++) to[lo + k] = *(const T *)(first + k * stride);
}

/* `count` pixels, a vector at least, of channels up to `channels`, VL / parts at a time, VL pixels by so many channels
 * transposed; returns the channel behind the last. */
static inline __attribute__((always_inline)) i64 NAME(turn_channels)(T *to, i64 pitch, const char *from, i64 step, const i64 *source,
                                                                     i64 stride, i64 count, i64 first, i64 channels, int parts)
{
    const i64 together = VL / parts;
    for (; first + together <= channels; first += together)
        for (i64 from_pixel = 0; from_pixel < count; from_pixel += VL) {
            const i64 k = least(from_pixel, count - VL); /* the last ones again rather than a part of a vector */
            vec row[VECTOR_BYTES / T_BYTES];
#pragma GCC unroll 16
            for (int i = 0; i < VL / parts; i++) {
                const T *at[4];
#pragma GCC unroll 4
                for (int part = 0; part < parts; part++)
                    at[part] = (const T *)(from + source[(k + i + part * together) * stride] * step) + first;
                row[i] = NAME(load_parts)(at, parts);
            }
            NAME(transpose_parts)(row, parts);
#pragma GCC unroll 16
            for (int i = 0; i < VL / parts; i++) *(loose_vec *)(to + (first + i) * pitch + k) = row[i];
        }
    return first;
}

/* The runs of all channels where these follow each other in x: squares of pixels by channels are transposed, so that neither side
 * is touched an element at a time. */
static void NAME(pack_run_last)(T *to, i64 pitch, const char *from, i64 step, const fc_axis *w, i64 start, i64 lo, i64 hi,
                                i64 channels)
{
    const i64 *const source = w->source + start + lo * w->stride;
    i64 c = 0;
    if (hi - lo >= VL) {
        c = NAME(turn_channels)(to + lo, pitch, from, step, source, w->stride, hi - lo, c, channels, 1);
        if (MOST_PARTS > 1) c = NAME(turn_channels)(to + lo, pitch, from, step, source, w->stride, hi - lo, c, channels, 2);
        if (MOST_PARTS > 2) c = NAME(turn_channels)(to + lo, pitch, from, step, source, w->stride, hi - lo, c, channels, 4);
    }
    for (; c < channels; c++) NAME(pack_run)(to + c * pitch, from + c * (i64)sizeof(T), step, w, start, lo, hi);
}

/* A row of a strip from pixel `at` on (or several that follow each other without a gap in x, too): where the run [lo, hi) of
 * its first channel and the pixels around it come from, `from` NULL: zeros; what is to be fetched of x, in bytes. */
#define strip_row NAME(strip_row)
typedef struct {
    const char *from;
    i64 at, width, start, lo, hi, first, bytes;
} strip_row;

/* Whether a row follows another one, both in the strip and in x, where a pixel takes `step` bytes. */
static int NAME(follows)(const strip_row *v, const strip_row *row, i64 step)
{
    return row->from && v->from == row->from + row->width * step && v->at == row->at + row->width && row->lo == 0
           && row->hi == row->width && v->hi - v->lo == v->width;
}

/* Rows of all channels; those of a channel one after the other, as they lie together in x. `squares`: see pack_run_last. */
static void NAME(pack_rows)(T *strip, const strip_row *rows, i64 count, i64 pitch, const i64 *step, const fc_axis *w,
                            i64 channels, int squares)
{
    i64 later = AHEAD % count, channel = AHEAD / count; /* the row that is fetched */
    for (i64 c = 0; c < channels; c++)
        for (i64 i = 0; i < count; i++) {
            const strip_row *const v = rows + i, *const fetched = rows + later;
            for (i64 at = 0; channel < channels && at < fetched->bytes; at += 64)
                __builtin_prefetch(fetched->from + channel * step[1] + fetched->first + at);
            if (++later == count) later = 0, channel++;
            T *const to = strip + v->at + c * pitch;
            if (!v->from) {
                memset(to, 0, v->width * sizeof(T));
                continue;
            }
            const char *const line = v->from + c * step[1];
            NAME(pack_edges)(to, line, step[4], w, v->start, v->width, v->lo, v->hi);
            if (!squares) NAME(pack_run)(to, line, step[4], w, v->start, v->lo, v->hi);
        }
    for (const strip_row *v = rows; squares && v < rows + count; v++)
        if (v->from) NAME(pack_run_last)(strip + v->at, pitch, v->from, step[4], w, v->start, v->lo, v->hi, channels);
}

/* A vector of pixels that lie `apart` bytes, or the first n of them. */
static inline __attribute__((always_inline)) vec NAME(load_apart)(const char *from, i64 apart, i64 n)
{
    const T *const pixels = (const T *)from;
    if (apart == sizeof(T)) return n == VL ? (vec) * (const loose_vec *)pixels : NAME(load_lanes)(pixels, n);
    if (apart == 2 * sizeof(T) && n == VL) return NAME(every_second)(pixels);
    vec v = {0};
    for (i64 i = 0; i < n; i++) v[i] = *(const T *)(from + i * apart);
    return v;
}

/* A vector of pixels of as many channels, `channel` bytes from each other, or the first n of m channels: these side by side,
 * `pixel` elements from one pixel to the next. Touches what comes behind. */
static inline __attribute__((always_inline)) void NAME(turn_square)(T *to, i64 pixel, const char *from, i64 channel,
                                                                    i64 apart, i64 n, i64 m)
{
    vec row[VECTOR_BYTES / T_BYTES];
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++) {
        const char *const line = from + least(i, m - 1) * channel;
        __builtin_prefetch(line + TURN_AHEAD, 0, 2);
        row[i] = NAME(load_apart)(line, apart, n);
    }
    NAME(transpose)(row);
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++)
        if (m == VL && i < n)
            *(loose_vec *)(to + i * pixel) = row[i];
        else if (i < n)
            NAME(store_lanes)(to + i * pixel, row[i], m);
}

/* A run of `count` pixels of m channels, a vector at most. */
static void NAME(turn_run)(T *to, i64 pixel, const char *from, i64 channel, i64 apart, i64 count, i64 m)
{
    const i64 item = sizeof(T);
    for (i64 k = 0; k < count; k += VL) {
        const i64 at = count < VL ? 0 : least(k, count - VL); /* the last ones again rather than a part of a vector */
        T *const there = to + at * pixel;
        const char *const here = from + at * apart;
        if (m < VL || count < VL)
            NAME(turn_square)(there, pixel, here, channel, apart, least(count, VL), m);
        else if (apart == item)
            NAME(turn_square)(there, pixel, here, channel, item, VL, VL);
        else
            NAME(turn_square)(there, pixel, here, channel, apart, VL, VL);
    }
}

/* Rows of pixels whose channels lie side by side, one block of channels behind the other, `size` pixels each. */
static void NAME(pack_pixels)(T *strip, const strip_row *rows, i64 count, i64 size, const i64 *step, const fc_axis *w,
                              i64 channels, i64 block)
{
    const int last = step[1] == sizeof(T) && step[4] != sizeof(T); /* in x, too */
    for (i64 c0 = 0; c0 < channels; c0 += block) {
        const i64 n = least(block, channels - c0), together = last ? n : 2 * VL; /* what a line holds on AVX2 */
        T *const pixels = strip + c0 * size;
        for (const strip_row *v = rows; v < rows + count; v++) {
            if (!v->from) memset(pixels + v->at * n, 0, v->width * n * sizeof(T));
            for (i64 k = 0; v->from && k < v->width; k++) {
                if (k == v->lo) k = v->hi; /* around the run */
                for (i64 c = 0; c < n && k < v->width; c++)
                    pixels[(v->at + k) * n + c] = NAME(pixel)(v->from + (c0 + c) * step[1], step[4], w, v->start + k * w->stride);
            }
        }
        for (i64 c = 0; c < n; c += together)
            for (const strip_row *v = rows; v < rows + count; v++) {
                if (!v->from || v->lo >= v->hi) continue;
                T *const to = pixels + (v->at + v->lo) * n;
                const char *const from = v->from + c0 * step[1];
                const i64 *const source = w->source + v->start + v->lo * w->stride;
                for (i64 k = 0; last && k < v->hi - v->lo; k++)
                    NAME(copy)(to + k * n, (const T *)(from + source[k * w->stride] * step[4]), n);
                for (i64 j = c; !last && j < least(c + together, n); j += VL)
                    NAME(turn_run)(to + j, n, from + j * step[1] + *source * step[4], step[1], w->stride * step[4],
                                   v->hi - v->lo, least(VL, n - j));
            }
    }
}

/* One way or the other, see pack_strip. */
static void NAME(pack_listed)(T *strip, const strip_row *rows, i64 count, const fc_conv *p, const fc_axis *w, i64 channels,
                              int squares, i64 beside)
{
    if (beside)
        NAME(pack_pixels)(strip, rows, count, NAME(plane_size)(p), p->x_stride, w, channels, beside);
    else
        NAME(pack_rows)(strip, rows, count, NAME(plane_pitch)(p), p->x_stride, w, channels, squares);
}

/* Copy `channels` channels of x, from the address `x` on, into padded planes: strip[channel][kd tap][w phase]
 * [strip_rows][cols + reach], channels plane_pitch apart. Whatever lies between them and the slack of one panel behind
 * the last is set to zero: it is read, though never stored, and denormals would be slow. Or, where `beside` is not 0, side by
 * side in pixels, so many at a time: strip[block of channels][kd tap][w phase][strip_rows][cols + reach][channel]. */
static void NAME(pack_strip)(T *strip, const fc_conv *p, const char *x, i64 channels, const block *b, i64 slack, i64 beside)
{
    const i64 height = strip_rows(p, b->rows), x0 = b->x0 * p->w.stride;
    fc_axis w = p->w;
    i64 width = b->cols + w.reach;
    if (p->interleaved) w.phases = w.stride = 1, width *= 2;
    const i64 *const step = p->x_stride, apart = w.stride * step[4];
    const int squares = step[1] == sizeof(T) && channels >= LEAST_TURNED && !beside; /* which go by a table that is as long as one row */
    const int fetch = !squares && apart > 0 && apart <= 64; /* far apart or backwards: not fetched */
    const int flat = !squares && apart == sizeof(T) && w.phases == 1;
    strip_row rows[ROWS_TOGETHER];
    i64 count = 0;
    for (i64 first = 0; first < w.phases; first += MOST_PHASES) {
        const i64 end = least(first + MOST_PHASES, w.phases);
        i64 lo[MOST_PHASES], hi[MOST_PHASES];
        for (i64 pw = first; pw < end; pw++)
            NAME(regular_run)(&w, x0 + w.phase[pw], width, lo + pw - first, hi + pw - first);
        for (i64 r = 0; r < p->d.taps; r++) {
            const i64 depth = depth_at(p, b->z, r);
            for (i64 j = 0; j < height; j++) {
                const i64 i = padded_row(p, b->rows, b->y0, j), row = i < p->h.source_len ? p->h.source[i] : -1;
                const char *const from = depth < 0 || row < 0 ? NULL : x + depth * step[2] + row * step[3];
                for (i64 pw = first; pw < end; pw++) { /* inside: all phases of a row while it is in L1 */
                    strip_row v = {.from = from, .at = ((r * w.phases + pw) * height + j) * width, .width = width,
                                   .start = x0 + w.phase[pw], .lo = lo[pw - first], .hi = hi[pw - first]};
                    if (fetch && from && pw == first && v.lo < v.hi)
                        v.first = w.source[v.start + v.lo * w.stride] * step[4], v.bytes = (v.hi - v.lo) * apart;
                    if (flat && count && NAME(follows)(&v, rows + count - 1, step[4])) {
                        rows[count - 1].width += width;
                        rows[count - 1].hi += width;
                        rows[count - 1].bytes += v.bytes;
                        continue;
                    }
                    if (count == ROWS_TOGETHER) {
                        NAME(pack_listed)(strip, rows, count, p, &w, channels, squares, beside);
                        count = 0;
                    }
                    rows[count++] = v;
                }
            }
        }
    }
    if (count) NAME(pack_listed)(strip, rows, count, p, &w, channels, squares, beside);
    const i64 pitch = NAME(plane_pitch)(p), used = p->d.taps * w.phases * height * width;
    for (i64 c = 0; !beside && c < channels; c++)
        memset(strip + c * pitch + used, 0, (pitch - used + (c == channels - 1 ? slack : 0)) * sizeof(T));
}

/* Where channel 0 of what outputs [y, end) of a task read begins, in one slice of x that begins at x; but for the rows that
 * outputs before y read, too. It ends at *behind. */
static const char *NAME(input_rows)(const fc_conv *p, const char *x, const block *b, i64 y, i64 end, const char **behind)
{
    const i64 *const step = p->x_stride, high = (p->h.reach + 1) * p->h.stride, wide = (p->w.reach + 1) * p->w.stride;
    const i64 top = b->y0 * p->h.stride - p->h.before, left = b->x0 * p->w.stride - p->w.before;
    const i64 row = y ? top + (y - 1) * p->h.stride + high : top, last = top + (end - 1) * p->h.stride + high;
    const i64 first = row > 0 ? row : 0, rows = least(last, p->h.source_len - p->h.before) - first, col = left > 0 ? left : 0;
    const char *const from = x + first * step[3] + col * step[4];
    *behind = rows > 0 ? from + (rows - 1) * step[3] + (left + (b->cols - 1) * p->w.stride + wide - col) * step[4] : from;
    return from;
}

/* In place of packing: touch these rows of all channels. */
static void NAME(fetch_rows)(const fc_conv *p, const char *x, i64 channels, const block *b, i64 y, i64 end)
{
    for (i64 r = 0; r < p->d.taps; r++) {
        const i64 depth = depth_at(p, b->z, r);
        for (i64 c = 0; c < channels && depth >= 0; c++) {
            const char *behind, *at = NAME(input_rows)(p, x + c * p->x_stride[1] + depth * p->x_stride[2], b, y, end, &behind);
            for (; at < behind; at += 64) __builtin_prefetch(at, 0, 2);
        }
    }
}

/* Where each step of a micro-kernel starts: in the strip (or in x itself), and in weights that lie `plain` or, in lanes of
 * channels, packed; `s` has the distances between channels, `pixel` is that between pixels of a strip. Few channels become
 * steps of their own, see steps_of. */
static void NAME(fill_steps)(const fc_conv *p, steps *s, step_start *to, const block *b, i64 channels, i64 pixel,
                             int in_place, int plain)
{
    const i64 *const ws = p->weight_stride, item = sizeof(T), height = strip_rows(p, b->rows);
    const i64 width = b->cols + p->w.reach;
    const i64 each = steps_of(p) / taps_of(p);
    i64 t = 0;
    for (i64 r = 0; r < p->d.taps; r++)
        for (i64 i = 0; i < p->h.taps; i++)
            for (i64 j = 0; j < p->w.taps; j++) {
                const i64 plane = p->interleaved ? r : r * p->w.phases + p->w.tap_phase[j];
                i64 at = (plane * height + tap_row(p, b->rows, i)) * width + p->w.tap_offset[j];
                if (p->interleaved) at = 2 * at + p->w.tap_phase[j];
                at *= pixel;
                if (in_place)
                    at = (depth_at(p, b->z, r) * p->x_stride[2] + tap_at(&p->h, i) * p->x_stride[3]
                          + tap_at(&p->w, j) * p->x_stride[4]) / item;
                const i64 weight = (r * ws[2] + i * ws[3] + j * ws[4]) / item;
                for (i64 c = 0; c < each; c++, t++)
                    to[t] = (step_start){plain ? weight + c * s->a_channel : t * (channels / each), at + c * s->b_channel, 0, (int)(channels / each)};
            }
    s->taps = t;
    s->channels = channels / each;
}

/* Output channels of a group as its packed weights hold them: in blocks that are full but for the last, which ends with zeros. */
static i64 NAME(packed_channels)(const fc_conv *p) { return round_up(p->ocg, p->lane_unit); }

/* The packed weights of the block that output channel `first` of a group, of `all` as above, begins; `lanes`: the distance from
 * one input channel to the next. Divides by nothing, which would take longer than a few products. */
static inline const T *NAME(packed_block)(const fc_conv *p, i64 all, i64 g, i64 first, i64 c0, i64 *lanes)
{
    *lanes = least(p->lanes, all - first);
    return (const T *)p->packed + ((g * all + first) * p->icg + c0 * *lanes) * taps_of(p);
}

/* Those of output channel o, and of those that follow it in its block. */
static const T *NAME(packed_at)(const fc_conv *p, i64 g, i64 o, i64 c0, i64 *lanes)
{
    const i64 first = o / p->lanes * p->lanes;
    return NAME(packed_block)(p, NAME(packed_channels)(p), g, first, c0, lanes) + o - first;
}
