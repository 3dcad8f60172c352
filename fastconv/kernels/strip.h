/* A block's input as padded planes in scratch: strides become phases, padding becomes zeros or copies, so that a tap
 * is only another start address. Included by isa.c after product.h. */

/* Bytes of one channel of a strip: an odd number of 64-byte lines, so that channels do not share cache sets. */
static i64 NAME(plane_pitch)(const fc_conv *p)
{
    const i64 pixels = p->d.taps * p->h.phases * p->w.phases * (p->rows + p->h.reach) * (p->cols + p->w.reach);
    return ((pixels * (i64)sizeof(T) + 63) / 64 | 1) * 64 / (i64)sizeof(T);
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

static void NAME(pack_row)(T *to, const char *from, i64 step, const fc_axis *w, i64 start, i64 count, i64 lo, i64 hi)
{
#define EDGE(k)                                                                              \
    do {                                                                                     \
        const i64 i = start + (k) * w->stride, at = i < w->source_len ? w->source[i] : -1;   \
        to[k] = at < 0 ? 0 : *(const T *)(from + at * step);                                 \
    } while (0)
    for (i64 k = 0; k < lo; k++) EDGE(k);
    for (i64 k = hi; k < count; k++) EDGE(k);
#undef EDGE
    if (lo >= hi) return;
    const char *first = from + w->source[start + lo * w->stride] * step;
    const i64 stride = w->stride * step;
    if (stride == sizeof(T))
        memcpy(to + lo, first, (hi - lo) * sizeof(T));
    else if (stride == 2 * sizeof(T))
        for (i64 k = 0; k < hi - lo; k++) to[lo + k] = ((const T *)first)[2 * k];
    else
        for (i64 k = 0; k < hi - lo; k++) to[lo + k] = *(const T *)(first + k * stride);
}

/* Copy `channels` channels of x, from the address `x` on, into padded planes: strip[channel][kd tap]
 * [h phase][w phase][rows + reach][cols + reach], channels plane_pitch apart. Whatever lies between them
 * and the slack of one panel behind the last is set to zero: it is read, though never stored, and
 * denormals would be slow. */
static void NAME(pack_strip)(T *strip, const fc_conv *p, const char *x, i64 channels, i64 z, i64 y0, i64 x0,
                             i64 rows, i64 cols, i64 slack)
{
    const i64 pitch = NAME(plane_pitch)(p), height = rows + p->h.reach, width = cols + p->w.reach;
    for (i64 pw = 0; pw < p->w.phases; pw++) {
        const i64 start = x0 * p->w.stride + p->w.phase[pw];
        i64 lo, hi;
        NAME(regular_run)(&p->w, start, width, &lo, &hi);
        for (i64 r = 0; r < p->d.taps; r++) {
            const i64 depth = p->d.source[(z + p->d.tap_offset[r]) * p->d.stride + p->d.phase[p->d.tap_phase[r]]];
            for (i64 ph = 0; ph < p->h.phases; ph++)
                for (i64 j = 0; j < height; j++) {
                    const i64 i = (y0 + j) * p->h.stride + p->h.phase[ph];
                    const i64 row = i < p->h.source_len ? p->h.source[i] : -1;
                    T *to = strip + (((r * p->h.phases + ph) * p->w.phases + pw) * height + j) * width;
                    const char *from = x + depth * p->x_stride[2] + row * p->x_stride[3];
                    for (i64 c = 0; c < channels; c++, to += pitch, from += p->x_stride[1]) {
                        if (depth < 0 || row < 0)
                            memset(to, 0, width * sizeof(T));
                        else
                            NAME(pack_row)(to, from, p->x_stride[4], &p->w, start, width, lo, hi);
                    }
                }
        }
    }
    const i64 used = p->d.taps * p->h.phases * p->w.phases * height * width;
    for (i64 c = 0; c < channels; c++)
        memset(strip + c * pitch + used, 0, (pitch - used + (c == channels - 1 ? slack : 0)) * sizeof(T));
}
