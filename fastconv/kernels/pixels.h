/* The shifted product, pixels in the lanes: the loop nest around micro-kernel, strip and store. Included by isa.c
 * last, once per element type T.
 *
 * Floors of a layer: FLOPs over the FMA peak, and bytes of x, w and out over the bandwidth; what comes on top is
 * packing (a strip is read once per channel block), the columns thrown away at the end of rows, and the output
 * read and written once per channel block. */

static i64 NAME(shifted_scratch)(const fc_conv *p)
{
    const i64 slack = MOST_VECTORS * VL, pad = 64;
    const i64 strip = (least(p->ic_block, p->icg) * NAME(plane_pitch)(p) + slack) * (i64)sizeof(T);
    const i64 taps = p->d.taps * p->h.taps * p->w.taps;
    return (strip + 2 * taps * (i64)sizeof(i64) + pad + 63) / 64 * 64;
}

/* Where each tap starts: in the strip (or in x itself) and in the weights. */
static void NAME(fill_taps)(const fc_conv *p, i64 *a_tap, i64 *b_tap, i64 z, i64 height, i64 width, i64 packed_step,
                            int in_place)
{
    i64 t = 0;
    for (i64 r = 0; r < p->d.taps; r++)
        for (i64 i = 0; i < p->h.taps; i++)
            for (i64 j = 0; j < p->w.taps; j++, t++) {
                const i64 *const ws = p->weight_stride;
                a_tap[t] = p->packed ? t * packed_step : (r * ws[2] + i * ws[3] + j * ws[4]) / (i64)sizeof(T);
                if (in_place) {
                    const i64 at = (z + p->d.tap_offset[r]) * p->d.stride + p->d.phase[p->d.tap_phase[r]];
                    const i64 depth = p->d.source[at];
                    b_tap[t] = (depth * p->x_stride[2] + p->h.tap_offset[i] * p->x_stride[3]) / (i64)sizeof(T)
                               + p->w.tap_offset[j];
                } else {
                    const i64 plane = (r * p->h.phases + p->h.tap_phase[i]) * p->w.phases + p->w.tap_phase[j];
                    b_tap[t] = (plane * height + p->h.tap_offset[i]) * width + p->w.tap_offset[j];
                }
            }
}

/* What stays the same over the panels of one task and one channel block. */
#define panel_work NAME(panel_work)
typedef struct {
    const fc_conv *p;
    block b;
    run_shape shape;
    steps s;
    const T *pixels, *weights; /* the first pixel; the weights of the group's channel 0 and this channel block */
    i64 weights_block;         /* from one register block of weights to the next, elements; 0: `weights` has strides */
    char *out;                 /* channel 0, first pixel of the block */
    const char *residual;
    run_end end;
    int unit, joined; /* out: pixels follow each other; rows follow each other */
} panel_work;

/* Pixels [q, next) of a run, from `start` on in nv vectors, for all output channels of the task. */
static void NAME(multiply_panel)(const panel_work *k, i64 run, i64 start, i64 q, i64 next, i64 nv)
{
    const fc_conv *const p = k->p;
    const i64 mr = p->mr, *const out_stride = p->out_stride, *const add_stride = p->residual_stride;
    const i64 group = k->b.g * p->ocg;
    _Alignas(64) T tile[MOST_ROWS * MOST_COLUMNS];
    segment segments[MOST_COLUMNS];
    const int pieces = NAME(cut)(segments, &k->shape, run, start, q, next, k->b.cols, k->joined);
    const int whole = k->unit && pieces == 1 && segments[0].length == nv * VL;
    const int finish = k->end.last && (k->end.bias || k->residual || k->end.activation);
    const product_fn product = NAME(products)[k->weights_block != 0][mr][nv];
    const T *const pixels = k->pixels + run * k->shape.width + start;

    for (i64 o = k->b.o0; o < k->b.o1; o += mr) {
        /* The last register block overlaps the one before it, so that all are full; only new rows are stored. */
        const i64 first = least(o, p->ocg - mr), new = o - first;
        const T *const a = k->weights + (k->weights_block ? o / mr * k->weights_block : first * k->s.a_row);
        char *const to = k->out + first * out_stride[1];
        const int direct = whole && new == 0;
        if (direct)
            product(a, pixels, &k->s, (T *)(to + segments[0].row * out_stride[3]) + segments[0].col,
                    out_stride[1] / (i64)sizeof(T), !k->end.first);
        else
            product(a, pixels, &k->s, tile, nv * VL, 0);
        if (direct && !finish) continue;
        for (i64 i = new; i < mr; i++)
            for (const segment *v = segments; v < segments + pieces; v++)
                NAME(store)(to + i * out_stride[1] + v->row * out_stride[3] + v->col * out_stride[4], out_stride[4],
                            direct ? NULL : tile + i * nv * VL + v->from, v->length, &k->end, group + first + i,
                            k->residual ? k->residual + (first + i) * add_stride[1] + v->row * add_stride[3]
                                              + v->col * add_stride[4]
                                        : NULL,
                            add_stride[4]);
    }
}

/* The panels of every run: equal ones rather than full ones and a rest. */
static void NAME(multiply_runs)(const panel_work *k)
{
    const i64 widest = widest_panel(k->p->mr), length = k->shape.length;
    for (i64 run = 0; run < k->shape.runs; run++)
        for (i64 q = 0, next; q < length; q = next) {
            const i64 vectors = (length - q + VL - 1) / VL, panels = (vectors + widest - 1) / widest;
            i64 nv = (vectors + panels - 1) / panels, start = q;
            if (k->shape.in_place && start + nv * VL > length) {
                /* Nothing behind the run may be read: step back over pixels that are done already. */
                nv = least(nv, length / VL);
                start = least(q, length - nv * VL);
            }
            next = least(start + nv * VL, length);
            NAME(multiply_panel)(k, run, start, q, next, nv);
        }
}

/* One block of outputs. Tasks write disjoint parts of `out` and read nothing that is written. */
static void NAME(shifted_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    const block b = block_of(p, task);
    const i64 taps = p->d.taps * p->h.taps * p->w.taps, mr = p->mr, rows = (p->ocg + mr - 1) / mr * mr;
    T *const strip = (T *)(p->scratch + worker * p->scratch_bytes);
    i64 *const b_tap = (i64 *)((char *)strip + p->scratch_bytes) - taps, *const a_tap = b_tap - taps;
    const char *const x = p->x + b.n * p->x_stride[0] + b.g * p->icg * p->x_stride[1];
#define AT(array, stride) /* channel 0 of the group, first pixel of the block */                           \
    (array + b.n * stride[0] + b.g * p->ocg * stride[1] + b.z * stride[2] + b.y0 * stride[3] + b.x0 * stride[4])
    panel_work k = {.p = p, .b = b, .shape = NAME(shape_runs)(p, b.rows, b.cols),
                    .out = AT(p->out, p->out_stride),
                    .residual = p->residual ? AT(p->residual, p->residual_stride) : NULL,
                    .end = {.activation = p->activation, .bias = p->bias, .parameter = (T)p->parameter}};
#undef AT
    k.unit = p->out_stride[4] == sizeof(T) && p->out_stride[1] % (i64)sizeof(T) == 0;
    k.joined = k.shape.width == b.cols && p->out_stride[3] == b.cols * p->out_stride[4]
               && (!k.residual || p->residual_stride[3] == b.cols * p->residual_stride[4]);

    for (i64 c0 = 0; c0 < p->icg; c0 += p->ic_block) {
        const i64 channels = least(p->ic_block, p->icg - c0);
        const char *const from = x + c0 * p->x_stride[1];
        k.s = (steps){taps, channels, .a_tap = a_tap, .b_tap = b_tap};
        if (k.shape.in_place) {
            k.pixels = (const T *)(from + b.y0 * p->x_stride[3] + b.x0 * p->x_stride[4]);
            k.s.b_channel = p->x_stride[1] / (i64)sizeof(T);
        } else {
            NAME(pack_strip)(strip, p, from, channels, b.z, b.y0, b.x0, b.rows, b.cols, MOST_VECTORS * VL);
            k.pixels = strip;
            k.s.b_channel = NAME(plane_pitch)(p);
        }
        NAME(fill_taps)(p, a_tap, b_tap, b.z, b.rows + p->h.reach, k.shape.width, channels * mr, k.shape.in_place);
        if (p->packed) {
            k.weights = (const T *)p->packed + (b.g * p->icg + c0) * rows * taps;
            k.weights_block = channels * taps * mr;
        } else {
            k.weights = (const T *)(p->weights + b.g * p->ocg * p->weight_stride[0] + c0 * p->weight_stride[1]);
            k.s.a_row = p->weight_stride[0] / (i64)sizeof(T);
            k.s.a_channel = p->weight_stride[1] / (i64)sizeof(T);
        }
        k.end.first = c0 == 0;
        k.end.last = c0 + channels == p->icg;
        NAME(multiply_runs)(&k);
    }
}
