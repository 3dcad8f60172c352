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
                a_tap[t] = p->packed ? t * packed_step
                                     : (r * p->weight_stride[2] + i * p->weight_stride[3] + j * p->weight_stride[4]) / (i64)sizeof(T);
                if (in_place) {
                    const i64 depth = p->d.source[(z + p->d.tap_offset[r]) * p->d.stride + p->d.phase[p->d.tap_phase[r]]];
                    b_tap[t] = (depth * p->x_stride[2] + p->h.tap_offset[i] * p->x_stride[3]) / (i64)sizeof(T)
                               + p->w.tap_offset[j];
                } else {
                    const i64 plane = (r * p->h.phases + p->h.tap_phase[i]) * p->w.phases + p->w.tap_phase[j];
                    b_tap[t] = (plane * height + p->h.tap_offset[i]) * width + p->w.tap_offset[j];
                }
            }
}

/* One block of outputs: (image, group, depth, rows, cols, output channels), the last varying fastest.
 * Tasks write disjoint parts of `out` and read nothing that is written. */
static void NAME(shifted_task)(void *context, i64 task, int worker)
{
    const fc_conv *const p = context;
    ((fc_conv *)context)->ran = STRING(ISA);
    const i64 splits = (p->ocg + p->oc_step - 1) / p->oc_step, across = (p->w.out + p->cols - 1) / p->cols,
              down = (p->h.out + p->rows - 1) / p->rows;
    const i64 o0 = task % splits * p->oc_step, o1 = least(o0 + p->oc_step, p->ocg);
    const i64 x0 = (task /= splits) % across * p->cols, cols = least(p->cols, p->w.out - x0);
    const i64 y0 = (task /= across) % down * p->rows, rows = least(p->rows, p->h.out - y0);
    const i64 z = (task /= down) % p->d.out, g = (task /= p->d.out) % p->g, n = task / p->g;

    const i64 taps = p->d.taps * p->h.taps * p->w.taps, mr = p->mr, blocks = (p->ocg + mr - 1) / mr;
    const i64 widest = widest_panel(mr);
    T *strip = (T *)(p->scratch + worker * p->scratch_bytes);
    i64 *b_tap = (i64 *)((char *)strip + p->scratch_bytes) - taps, *a_tap = b_tap - taps;

    const run_shape shape = NAME(shape_runs)(p, rows, cols);
    const i64 height = rows + p->h.reach, width = shape.width;
    const int in_place = shape.in_place;
    const char *const x = p->x + n * p->x_stride[0] + g * p->icg * p->x_stride[1];
    char *const out = p->out + n * p->out_stride[0] + z * p->out_stride[2] + y0 * p->out_stride[3] + x0 * p->out_stride[4];
    const char *const residual = !p->residual ? NULL
        : p->residual + n * p->residual_stride[0] + z * p->residual_stride[2] + y0 * p->residual_stride[3]
          + x0 * p->residual_stride[4];

    const int joined = width == cols && p->out_stride[3] == cols * p->out_stride[4]
                       && (!residual || p->residual_stride[3] == cols * p->residual_stride[4]);
    const int unit = p->out_stride[4] == sizeof(T) && p->out_stride[1] % (i64)sizeof(T) == 0;
    const i64 run_length = shape.length;

    _Alignas(64) T tile[MOST_ROWS * MOST_COLUMNS];
    segment segments[MOST_COLUMNS];
    run_end end = {.activation = p->activation, .bias = p->bias, .parameter = (T)p->parameter};

    for (i64 c0 = 0; c0 < p->icg; c0 += p->ic_block) {
        const i64 channels = least(p->ic_block, p->icg - c0);
        const T *pixels = strip;
        steps s = {taps, channels, .a_tap = a_tap, .b_tap = b_tap};
        if (in_place) {
            pixels = (const T *)(x + c0 * p->x_stride[1] + y0 * p->x_stride[3] + x0 * p->x_stride[4]);
            s.b_channel = p->x_stride[1] / (i64)sizeof(T);
        } else {
            NAME(pack_strip)(strip, p, x + c0 * p->x_stride[1], channels, z, y0, x0, rows, cols, MOST_VECTORS * VL);
            s.b_channel = NAME(plane_pitch)(p);
        }
        NAME(fill_taps)(p, a_tap, b_tap, z, height, width, channels * mr, in_place);
        s.a_row = p->weight_stride[0] / (i64)sizeof(T);
        s.a_channel = p->weight_stride[1] / (i64)sizeof(T);
        end.first = c0 == 0;
        end.last = c0 + channels == p->icg;
        const int finish = end.last && (end.bias || residual || end.activation);

        for (i64 run = 0; run < shape.runs; run++) {
            const i64 base = run * width; /* position of the run's first pixel */
            for (i64 q = 0, next; q < run_length; q = next) {
                /* Equal panels rather than full ones and a rest. */
                const i64 vectors = (run_length - q + VL - 1) / VL, panels = (vectors + widest - 1) / widest;
                i64 nv = (vectors + panels - 1) / panels, start = q;
                if (in_place && start + nv * VL > run_length) {
                    /* Nothing behind the run may be read: step back over pixels that are done already. */
                    nv = least(nv, run_length / VL);
                    start = least(q, run_length - nv * VL);
                }
                next = least(start + nv * VL, run_length);
                const int pieces = NAME(cut)(segments, &shape, run, start, q, next, cols, joined);
                const int whole = unit && pieces == 1 && segments[0].length == nv * VL;
                const product_fn product = NAME(products)[p->packed != NULL][mr][nv];

                for (i64 o = o0; o < o1; o += mr) {
                    /* The last block overlaps the one before it, so that all are full; only new rows are stored. */
                    const i64 first = least(o, p->ocg - mr), new = o - first;
                    const T *a = p->packed
                        ? (const T *)p->packed + (g * p->icg + c0) * blocks * mr * taps + o / mr * channels * taps * mr
                        : (const T *)(p->weights + (g * p->ocg + first) * p->weight_stride[0] + c0 * p->weight_stride[1]);
                    const int direct = whole && new == 0;
                    char *const to = out + (g * p->ocg + first) * p->out_stride[1];
                    if (direct)
                        product(a, pixels + base + start, &s,
                                (T *)(to + segments[0].row * p->out_stride[3]) + segments[0].col,
                                p->out_stride[1] / (i64)sizeof(T), !end.first);
                    else
                        product(a, pixels + base + start, &s, tile, nv * VL, 0);
                    if (direct && !finish) continue;
                    for (i64 i = new; i < mr; i++)
                        for (int k = 0; k < pieces; k++) {
                            const segment *const v = &segments[k];
                            const i64 channel = g * p->ocg + first + i;
                            NAME(store)(to + i * p->out_stride[1] + v->row * p->out_stride[3] + v->col * p->out_stride[4],
                                        p->out_stride[4], direct ? NULL : tile + i * nv * VL + v->from, v->length, &end,
                                        channel,
                                        !residual ? NULL
                                                  : residual + channel * p->residual_stride[1]
                                                        + v->row * p->residual_stride[3] + v->col * p->residual_stride[4],
                                        p->residual_stride[4]);
                        }
                }
            }
        }
    }
}
