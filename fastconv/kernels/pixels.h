/* The shifted product, pixels in the lanes: the loop nest around micro-kernel, strip and store. Included by isa.c
 * once per element type T. For wide rows, few output channels, and 1x1 kernels, whose x it reads where it lies.
 *
 * Floors of a layer: FLOPs over the FMA peak, and bytes of x, w and out over the bandwidth; what comes on top is
 * packing (a strip is read once per channel block), the columns thrown away at the end of rows, and the output
 * read and written once per channel block. */

static i64 NAME(pixels_scratch)(const fc_conv *p)
{
    const i64 strip = (least(p->ic_block, p->icg) * NAME(plane_pitch)(p) + MOST_VECTORS * VL) * (i64)sizeof(T);
    return (strip + steps_of(p) * (i64)sizeof(step_start) + 64 + 63) / 64 * 64;
}

/* What stays the same over the panels of one task and one channel block. */
#define panel_work NAME(panel_work)
typedef struct {
    const fc_conv *p;
    block b;
    run_shape shape;
    steps s;
    const T *pixels; /* the first one */
    i64 packed;      /* see packed_channels */
    i64 c0;          /* first input channel of this channel block */
    char *out;                 /* channel 0, first pixel of the block */
    const char *residual;
    run_end end;
    int unit, joined; /* out: pixels follow each other; rows follow each other */
    T *gathered; /* where the pixels of one panel are put together; or NULL */
} panel_work;

/* Pixels of a run, in nv vectors; where they go is cut into segments. `whole`: one segment takes all of them. */
#define panel NAME(panel)
typedef struct {
    const T *pixels;
    i64 channel, nv; /* elements between the channels of `pixels` */
    const segment *segments;
    int pieces, whole;
} panel;

/* A register block that was multiplied: `rows` output channels from `first` on, in `out` itself where `direct`. */
#define register_block NAME(register_block)
typedef struct {
    const panel *of;
    i64 first, rows, pitch;
    int direct;
    const T *sums;
} register_block;

/* VL / parts output channels, which follow each other in `out`: `length` pixels, a vector of them at a time; what lies behind
 * the last sums may be read. */
static inline __attribute__((always_inline)) void NAME(store_turned)(char *out, i64 step, const T *sums, i64 pitch, i64 length,
                                                                     const T *bias, int relu, int parts)
{
    const i64 rows = VL / parts;
    for (i64 k = 0; k < length; k += VL, out += VL * step) {
        vec row[VECTOR_BYTES / T_BYTES];
#pragma GCC unroll 16
        for (int i = 0; i < VL / parts; i++) {
            row[i] = *(const loose_vec *)(sums + i * pitch + k) + ((bias ? bias[i] : -(T)0) - (vec){0}); /* -0 changes no bit */
            if (relu) row[i] = RECTIFIED(row[i]);
        }
        NAME(transpose_parts)(row, parts);
        if (length - k < VL) {
            for (i64 i = 0; i < length - k; i++)
                __builtin_memcpy(out + i * step, (const T *)(row + i % rows) + i / rows * rows, rows * sizeof(T));
            return;
        }
#pragma GCC unroll 16
        for (int i = 0; i < VL / parts; i++) {
            T *to[4];
#pragma GCC unroll 4
            for (int part = 0; part < parts; part++) to[part] = (T *)(out + (i + part * rows) * step);
            NAME(store_parts)(to, row[i], parts);
        }
    }
}

/* Its way to `out`, or where it is there already, the epilogue. */
static void NAME(store_block)(const panel_work *k, const register_block *r)
{
    const fc_conv *const p = k->p;
    const i64 *const out_stride = p->out_stride, *const add_stride = p->residual_stride;
    const i64 channel = k->b.g * p->ocg + r->first;
    for (const segment *v = r->of->segments; v < r->of->segments + r->of->pieces; v++) {
        char *const at = k->out + r->first * out_stride[1] + v->row * out_stride[3] + v->col * out_stride[4];
        const T *sums = r->sums + (r->direct ? 0 : v->from);
        run_end end = k->end;
        if (k->unit) {
            const int relu = end.last && end.activation == FC_RELU && !k->residual;
            NAME(store_rows)(at, out_stride[1], sums, r->pitch, r->rows, v->length, !r->direct && !end.first,
                             end.last && end.bias ? end.bias + channel : NULL, relu);
            if (!end.last || !(k->residual || (end.activation && !relu))) continue;
            sums = NULL;
            end.bias = NULL;
        }
        const int part = MOST_PARTS > 1 && r->rows * 2 == VL ? 2 : MOST_PARTS > 2 && r->rows * 4 == VL ? 4 : 0;
        if (part && !k->unit && out_stride[1] == sizeof(T) && end.first && end.last && plain_epilogue(p)) {
            const T *const bias = end.bias ? end.bias + channel : NULL;
            const int relu = end.activation == FC_RELU;
            if (part == 2) NAME(store_turned)(at, out_stride[4], sums, r->pitch, v->length, bias, relu, 2);
            if (part == 4) NAME(store_turned)(at, out_stride[4], sums, r->pitch, v->length, bias, relu, 4);
            continue;
        }
        for (i64 i = 0; i < r->rows; i++)
            NAME(store)(at + i * out_stride[1], out_stride[4], sums ? sums + i * r->pitch : NULL,
                        v->length, &end, channel + i,
                        k->residual ? k->residual + (r->first + i) * add_stride[1] + v->row * add_stride[3]
                                          + v->col * add_stride[4]
                                    : NULL,
                        add_stride[4]);
    }
}

/* The pixels of a panel whose channels lie far apart, without a gap; touches those of the next. */
static void NAME(gather)(const panel_work *k, const T *from, i64 nv)
{
    T *to = k->gathered;
    for (i64 c = 0; c < k->s.channels; c++, from += k->s.b_channel)
        for (i64 j = 0; j < nv; j++, to += VL) {
            __builtin_prefetch(from + (nv + j) * VL, 0, 2);
            *(vec *)to = *(const loose_vec *)(from + j * VL);
        }
}

/* Panels for all output channels of the task. A single one goes down the channels; of several a few register blocks of channels
 * are multiplied with every panel before the next, so that each of their rows of `out` is written in one go. */
static void NAME(multiply_panels)(const panel_work *k, const panel *panels, i64 count)
{
    const fc_conv *const p = k->p;
    const i64 mr = p->mr, *const out_stride = p->out_stride, c_row = out_stride[1] / (i64)sizeof(T);
    _Alignas(64) T tiles[2][MOST_ROWS * MOST_COLUMNS];
    /* What the micro-kernel itself can finish, and what has to be done to its sums. */
    const int fused = k->end.last && plain_epilogue(p);
    const int finish = k->end.last && !fused, relu = fused && k->end.activation == FC_RELU;
    const T *const bias = fused && k->end.bias ? k->end.bias + k->b.g * p->ocg : NULL;
    const product_fn *const products = NAME(products)[mr];
    const int streams = VECTOR_BYTES == 64 && p->stream && out_stride[1] % VECTOR_BYTES == 0; /* whole lines */

    register_block before = {0}; /* stored after the next product: sums are not read while they are being written */
    steps s = k->s;
    product_end e = {.ahead = count == 1 && !k->gathered ? panels->nv : 0, .last = 2 * panels->nv};
    i64 group = k->b.o0 / p->lanes * p->lanes; /* first of the channels of one stream of weights */
    int odd = 0;
    for (i64 o = k->b.o0, next; o < k->b.o1; o = next) {
        const i64 valid = least(mr, p->ocg - o); /* packed weights end with zeros */
        if (o == group + p->lanes) group = o;
        const T *const a = NAME(packed_block)(p, k->packed, k->b.g, group, k->c0, &s.a_channel) + o - group;
        const i64 stream = least(group + p->lanes, k->b.o1) - o;
        const i64 below = (count == 1 ? stream : least(stream, MOST_BELOW)) >> __builtin_ctzll(mr), blocks = below < 2 ? 1 : below;
        next = o + blocks * mr;
        for (const panel *v = panels; v < panels + count; v++) {
            const int direct = v->whole && valid == mr, done = direct && !finish;
            s.b_channel = v->channel;
            e.blocks = done ? blocks : 1;
            e.c_row = direct ? c_row : v->nv * VL;
            e.add = direct && !k->end.first;
            e.relu = done && relu;
            for (i64 i = 0; i < blocks; i += e.blocks) {
                const i64 at = o + i * mr;
                T *const to = direct ? (T *)(k->out + at * out_stride[1] + v->segments->row * out_stride[3]) + v->segments->col
                                     : tiles[odd];
                e.bias = done && bias ? bias + at : NULL;
                e.stream = streams && done && !e.add && (intptr_t)to % VECTOR_BYTES == 0;
                products[v->nv](a + i * mr, v->pixels, &s, to, &e);
                if (before.rows) NAME(store_block)(k, &before);
                before.rows = 0;
                if (done) continue;
                before = (register_block){v, at, valid, e.c_row, direct, to};
                odd = !odd;
            }
        }
    }
    if (before.rows) NAME(store_block)(k, &before);
}

/* The panels of every run: equal ones rather than full ones and a rest. */
static void NAME(multiply_runs)(const panel_work *k)
{
    const fc_conv *const p = k->p;
    const i64 widest = widest_panel(p->mr), length = k->shape.length;
    const i64 rows = p->d.taps * p->h.taps * p->w.phases * least(p->ic_block, p->icg) * (i64)sizeof(T);
    const i64 fitting = PANEL_BYTES / (rows * (widest * VL + p->w.reach));
    const i64 together = fitting < 3 || k->gathered ? 1 : least(fitting, MOST_PANELS);
    segment segments[MOST_PANELS + MOST_COLUMNS], *end = segments;
    panel panels[MOST_PANELS];
    i64 count = 0;
    for (i64 run = 0; run < k->shape.runs; run++)
        for (i64 q = 0, next; q < length; q = next) {
            const i64 vectors = (length - q + VL - 1) / VL, parts = (vectors + widest - 1) / widest;
            i64 nv = (vectors + parts - 1) / parts, start = q;
            const int again = k->shape.again && k->shape.by_row && length >= VL;
            if ((k->shape.in_place || again) && start + nv * VL > length) {
                /* Nothing behind the run may be read: step back over pixels that are done already. */
                nv = least(nv, length / VL);
                start = least(q, length - nv * VL);
            }
            next = least(start + nv * VL, length);
            const int pieces = NAME(cut)(end, &k->shape, run, start, again ? start : q, next, k->b.cols, k->joined);
            const T *const pixels = k->pixels + run * k->shape.width + start;
            panel *const v = panels + count++;
            *v = (panel){pixels, k->s.b_channel, nv, end, pieces, k->unit && pieces == 1 && end->length == nv * VL};
            if (k->gathered) {
                NAME(gather)(k, pixels, nv);
                v->pixels = k->gathered;
                v->channel = nv * VL;
            }
            end += pieces;
            if (count < together && end < segments + MOST_PANELS) continue;
            NAME(multiply_panels)(k, panels, count);
            count = 0;
            end = segments;
        }
    if (count) NAME(multiply_panels)(k, panels, count);
}

/* Whether a task reads x where it lies. Vectors that lie askew of their size cost narrow tiles, which load one every few
 * cycles, more than packing does where many output channels, or taps, read them; so do channels far apart, each in a page of
 * its own, and those whose distance puts all of them into the same sets of L1. Percent of the peak on a Zen 1, in place and
 * packed: 128 to 192 channels at 24x24, askew, 78, 85; 192 to 64 at 35x35, askew and on many pages, 70, 81; 37 to 53 at
 * 45x61, askew, 73, 69; 96 to 384 at 56x56, far apart, 79, 84; 256 to 64, 81, 78; 512 to 128 at 28x28, neither, 89, 86;
 * 256 to 256 at 32x32, same sets, 66, 90; 64 to 64 3x3 at 58x58 81, 87. But many channels of a single tap are read in place
 * wherever they lie, where a panel is put together for all output channels, which neither pages nor sets nor vectors then cost
 * anything (`gathers`): 256 to 64 at 56x56 79, 87, 192 to 64 at 35x35 80, 85. With wide tiles this pays where vectors lie askew
 * in images that no L2 holds: batch 16 on a Zen 4, in place and put together, ms, 128 to 192 at 26x26 5.97, 5.62, 192 to 192
 * at 35x35 16.5, 14.9, 256 to 512 at 14x14 8.0, 7.9; one image of the latter 0.48, 0.52. */
static int NAME(stays)(const fc_conv *p, const block *b, const char *x, int *gathers)
{
    const i64 *const step = p->x_stride;
    const int askew = ((intptr_t)(x + b->y0 * step[3] + b->x0 * step[4]) | step[1]) % VECTOR_BYTES != 0;
    const int far = step[1] > FAR_CHANNELS, same_sets = step[1] % PAGE_BYTES == 0 && p->icg > L1_WAYS;
    const int few = p->ocg * taps_of(p) <= (askew && p->icg > MANY_PAGES ? FEW_OUTPUTS / 2 : FEW_OUTPUTS);
    *gathers = taps_of(p) == 1 && p->icg >= MANY_PAGES && p->ocg >= FEW_OUTPUTS / 2
               && (WIDE ? askew && p->n * step[0] > FAR_IMAGES : askew || far || same_sets)
               && NAME(plane_pitch)(p) >= MOST_VECTORS * VL;
    return p->dense && step[4] == sizeof(T) && (WIDE || *gathers || (!same_sets && (few || !(askew || far))));
}

/* One block of outputs. Tasks write disjoint parts of `out` and read nothing that is written. */
static void NAME(pixels_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    const block b = block_of(p, task);
    T *const strip = (T *)(p->scratch + worker * p->scratch_bytes);
    step_start *const starts = (step_start *)((char *)strip + p->scratch_bytes) - steps_of(p);
    const char *const x = p->x + b.n * p->x_stride[0] + b.g * p->icg * p->x_stride[1];
    const int again = p->icg <= p->ic_block && plain_epilogue(p);
    int gathers;
    const int stays = NAME(stays)(p, &b, x, &gathers);
    panel_work k = {.p = p, .b = b, .shape = NAME(shape_runs)(p, b.rows, b.cols, stays, again),
                    .out = FIRST_PIXEL(p->out, p->out_stride, p, b),
                    .residual = p->residual ? FIRST_PIXEL(p->residual, p->residual_stride, p, b) : NULL,
                    .end = {.activation = p->activation, .bias = p->bias, .parameter = (T)p->parameter}};
    k.unit = p->out_stride[4] == sizeof(T) && p->out_stride[1] % (i64)sizeof(T) == 0;
    k.packed = NAME(packed_channels)(p);
    k.joined = k.shape.width == b.cols && rows_joined(p, b.cols);

    for (k.c0 = 0; k.c0 < p->icg; k.c0 += p->ic_block) {
        const i64 channels = least(p->ic_block, p->icg - k.c0);
        const char *const from = x + k.c0 * p->x_stride[1];
        k.s = (steps){.start = starts};
        if (k.shape.in_place) {
            k.pixels = (const T *)(from + b.y0 * p->x_stride[3] + b.x0 * p->x_stride[4]);
            k.s.b_channel = p->x_stride[1] / (i64)sizeof(T);
            if (gathers) k.gathered = strip;
        } else {
            NAME(pack_strip)(strip, p, from, channels, &b, MOST_VECTORS * VL, 0);
            k.pixels = strip;
            k.s.b_channel = NAME(plane_pitch)(p);
        }
        NAME(fill_steps)(p, &k.s, starts, &b, channels, 1, k.shape.in_place, 0);
        if (k.gathered) { /* from the slice that the only tap reads */
            k.pixels += starts->b;
            starts->b = 0;
        }
        k.end.first = k.c0 == 0;
        k.end.last = k.c0 + channels == p->icg;
        NAME(multiply_runs)(&k);
    }
    if (p->stream) STREAMED();
}
