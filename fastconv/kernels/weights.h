/* Weights as they are given, packed for a single call. Included by isa.c once per element type T, after strip.h. */

/* Those of output channels o.. and input channels c0.. of a group as [tap][channel][lane], with zeros behind the last output
 * channel. Returns whether all of them are finite. */
static int NAME(pack_weights)(const fc_conv *p, T *to, i64 g, i64 o, i64 c0, i64 channels, i64 lanes)
{
    const i64 *const ws = p->weight_stride, valid = least(lanes, p->ocg - o);
    const char *const from = p->weights + (g * p->ocg + o) * ws[0] + c0 * ws[1];
    const i64 taps = taps_of(p), item = sizeof(T), run = channels * taps;
    const int joined = lanes % VL == 0 && (p->w.taps == 1 || ws[4] == item) && (p->h.taps == 1 || ws[3] == p->w.taps * item)
                       && (p->d.taps == 1 || ws[2] == p->h.taps * p->w.taps * item) && (channels == 1 || ws[1] == taps * item);
    vec zeros = {0}; /* of products with zero, unless one is not finite */
    T zero = 0;
    i64 done = 0, c = 0, t = 0;
    for (; joined && done + VL <= run; done += VL) {
        const i64 first_c = c, first_t = t;
        for (i64 j = 0; j < lanes; j += VL) {
            vec row[VECTOR_BYTES / T_BYTES];
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) {
                row[i] = (vec){0};
                const char *const at = from + (j + i) * ws[0] + done * item;
                __builtin_prefetch(at + PACKED_AHEAD);
                if (j + i < valid) row[i] = *(const loose_vec *)at;
                zeros += row[i] * (T)0;
            }
            NAME(transpose)(row);
            c = first_c, t = first_t;
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) {
                *(loose_vec *)(to + (t * channels + c) * lanes + j) = row[i];
                if (++t == taps) t = 0, c++;
            }
        }
    }
    for (i64 e = done; e < run; e++) {
        const i64 r = t / (p->h.taps * p->w.taps), i = t / p->w.taps % p->h.taps;
        const char *const at = from + c * ws[1] + r * ws[2] + i * ws[3] + t % p->w.taps * ws[4];
        T *const lane = to + (t * channels + c) * lanes;
        for (i64 l = 0; l < lanes; l++) {
            lane[l] = l < valid ? *(const T *)(at + l * ws[0]) : 0;
            zero += lane[l] * 0;
        }
        if (++t == taps) t = 0, c++;
    }
    for (int l = 0; l < VL; l++) zero += zeros[l];
    return zero == 0;
}

/* A block of output channels, into the `packed` weights of the layer; clears `finite` if one is not. */
static void NAME(pack_task)(void *context, i64 task, int worker)
{
    fc_conv *const p = context;
    (void)worker;
    const i64 all = NAME(packed_channels)(p), blocks = (all + p->lanes - 1) / p->lanes;
    const i64 g = task / blocks, o = task % blocks * p->lanes;
    i64 lanes;
    T *const to = (T *)NAME(packed_block)(p, all, g, o, 0, &lanes);
    for (i64 c0 = 0; c0 < p->icg; c0 += p->ic_block)
        if (!NAME(pack_weights)(p, to + c0 * taps_of(p) * lanes, g, o, c0, least(p->ic_block, p->icg - c0), lanes))
            __atomic_store_n(&p->finite, 0, __ATOMIC_RELAXED);
}
