/* Poolings: the largest element or the mean of each window, a row of outputs at a time: first what the rows of its windows
 * give for each column of x, which stays in L1, then what the columns of each window give. Sums are taken in the order of
 * fastconv/pooling/reduction.py: the same bits. Included by isa.c once per element type T.
 *
 * Floors for 3x3: a load and an operation for each row and column that an output reads, six of either; and the bandwidth of
 * whatever holds x. */

static inline __attribute__((always_inline)) vec NAME(combined)(vec a, vec b, const int how)
{
    if (how == SUM) return a + b;
    if (how == LARGEST) return (vec)LARGER_OF(a, b);
    const lane_index first = (lane_index)(a > b) | (lane_index)(a != a);
    return (vec)(((lane_index)a & first) | ((lane_index)b & ~first));
}

/* What groups of `each` rows give for a number of vectors of columns from `at` on, each group by itself first. Returns,
 * for LARGEST, a vector that is NaN wherever one of the elements is. */
static inline __attribute__((always_inline)) vec NAME(combine)(T *to, const T *const *rows, i64 groups, i64 each, i64 at,
                                                               const int vectors, const int how)
{
    vec all[AT_ONCE], sum = {0};
    for (i64 g = 0; g < groups; g++) {
        vec some[AT_ONCE];
        for (i64 r = 0; r < each; r++)
            for (int v = 0; v < vectors; v++) {
                const vec next = *(const loose_vec *)(rows[g * each + r] + at + v * VL);
                some[v] = r ? NAME(combined)(some[v], next, how) : next;
                if (how == LARGEST) sum += next;
            }
        for (int v = 0; v < vectors; v++) all[v] = g ? NAME(combined)(all[v], some[v], how) : some[v];
    }
    for (int v = 0; v < vectors; v++) *(loose_vec *)(to + at + v * VL) = all[v];
    return sum;
}

/* The same for all columns, a vector of them at least. Returns whether, for LARGEST, there may be a NaN. */
static inline __attribute__((always_inline)) int NAME(combine_rows)(T *to, const T *const *rows, i64 groups, i64 each, i64 columns,
                                                                    const int how)
{
    vec sum = {0};
    i64 at = 0;
    for (; at + AT_ONCE * VL <= columns; at += AT_ONCE * VL) sum += NAME(combine)(to, rows, groups, each, at, AT_ONCE, how);
    for (; at + 2 * VL <= columns; at += 2 * VL) sum += NAME(combine)(to, rows, groups, each, at, 2, how);
    for (; at < columns; at += VL) /* the last vector steps back */
        sum += NAME(combine)(to, rows, groups, each, least(at, columns - VL), 1, how);
    T all = 0;
    for (i64 i = 0; i < VL; i++) all += sum[i];
    return all != all;
}

/* Every stride-th element from `from` on; where stride is 2, in the order that IN_ORDER mends. */
static inline __attribute__((always_inline)) vec NAME(every)(const T *from, i64 stride)
{
    if (stride == 1) return *(const loose_vec *)from;
    if (stride == 2) {
        const vec a = *(const loose_vec *)from, b = *(const loose_vec *)(from + VL);
#if SHIFTS
        return NAME(even_lanes)(a, b);
#else
        return EVEN_OF_HALVES(a, b);
#endif
    }
    vec v;
    for (i64 i = 0; i < VL; i++) v[i] = from[i * stride];
    return v;
}
#if SHIFTS
#define IN_ORDER(V) (V)
#else
#define IN_ORDER(V) HALVES_IN_ORDER(V)
#endif

/* A row of outputs from a line of what the rows of its windows gave; means are divided by number * divisors[column]. */
static inline __attribute__((always_inline)) void NAME(combine_columns)(char *to, i64 step, const T *line, const fc_pool_axis *w,
                                                                        i64 stride, T number, const T *divisors, const int how)
{
    for (i64 j = 0; j < w->out; j += VL) {
        const T *const from = line + j * stride;
        vec v = NAME(every)(from, stride);
        if (how == SUM) v += 0; /* -0 becomes 0, where sums begin */
        for (i64 k = 1; k < w->kernel; k++) v = NAME(combined)(v, NAME(every)(from + k * w->dilation, stride), how);
        if (stride == 2) v = IN_ORDER(v);
        if (how == SUM) v /= number * *(const loose_vec *)(divisors + j);
        if (w->out - j >= VL && step == sizeof(T))
            *(loose_vec *)(to + j * step) = v;
        else
            NAME(put)(to + j * step, step, (const T *)&v, least(VL, w->out - j));
    }
}

/* The same with strides that are common as constants. */
static inline __attribute__((always_inline)) void NAME(store_row)(char *to, i64 step, const T *line, const fc_pool_axis *w, T number,
                                                                  const T *divisors, const int how)
{
    if (w->stride == 1 || w->out == 1)
        NAME(combine_columns)(to, step, line, w, 1, number, divisors, how);
    else if (w->stride == 2)
        NAME(combine_columns)(to, step, line, w, 2, number, divisors, how);
    else
        NAME(combine_columns)(to, step, line, w, w->stride, number, divisors, how);
}

/* Elements of a line of columns, with what lies beyond its ends and what the last vector reads behind it. */
static i64 NAME(pool_line)(const fc_pool *p)
{
    const fc_pool_axis *const w = &p->axis[2];
    return round_up((round_up(w->out, VL) + VL) * w->stride + w->kernel * w->dilation + VL, VL);
}

/* A worker's scratch: rows that are combined, and those of less than a vector as vectors; divisors; a line. */
static i64 NAME(pool_scratch)(const fc_pool *p)
{
    const i64 rows = p->axis[0].kernel * p->axis[1].kernel;
    return round_up(rows * (VECTOR_BYTES + (i64)sizeof(T *)), 64)
           + round_up((round_up(p->axis[2].out, VL) + NAME(pool_line)(p)) * (i64)sizeof(T), 64);
}

static inline __attribute__((always_inline)) void NAME(pool_rows)(const fc_pool *p, i64 task, int worker, const int mean)
{
    const fc_pool_axis *const d = &p->axis[0], *const h = &p->axis[1], *const w = &p->axis[2];
    const i64 taps = d->kernel * h->kernel, item = sizeof(T);
    T *const few = (T *)(p->scratch + worker * p->scratch_bytes);
    const T **const rows = (const T **)(few + taps * VL);
    T *const divisors = (T *)((char *)few + round_up(taps * (VECTOR_BYTES + (i64)sizeof(T *)), 64));
    T *const line = divisors + round_up(w->out, VL);
    const T nothing = mean ? 0 : -(T)INFINITY;
    const i64 span = (w->out - 1) * w->stride + (w->kernel - 1) * w->dilation + 1, first = w->start > 0 ? w->start : 0;
    const i64 columns = least(w->size, w->start + span) - first;
    for (i64 i = 0; i < NAME(pool_line)(p); i++) line[i] = nothing;
    for (i64 i = 0; mean && i < round_up(w->out, VL); i++) divisors[i] = i < w->out && w->count ? (T)w->count[i] : 1;
    for (i64 i = 0; columns < VL && i < taps * VL; i++) few[i] = 0;
    T *const inside = line + first - w->start;

    const i64 begin = task * p->rows, end = least(begin + p->rows, p->n * p->c * d->out * h->out);
    i64 y = begin % h->out, z = begin / h->out % d->out, c = begin / h->out / d->out % p->c, n = begin / h->out / d->out / p->c;
    for (i64 row = begin; row < end; row++) {
        const char *const x = p->x + n * p->x_stride[0] + c * p->x_stride[1] + first * item;
        i64 groups = 0, each = 0;
        for (i64 i = 0; i < h->kernel && columns > 0; i++) {
            const i64 at = h->start + y * h->stride + i * h->dilation;
            if (at < 0 || at >= h->size) continue;
            i64 found = 0;
            for (i64 r = 0; r < d->kernel; r++) {
                const i64 slice = d->start + z * d->stride + r * d->dilation;
                if (slice < 0 || slice >= d->size) continue;
                const i64 number = groups * each + found++;
                rows[number] = (const T *)(x + slice * p->x_stride[2] + at * p->x_stride[3]);
                if ((const char *)(rows[number] + VL) <= p->x_end || columns >= VL) continue;
                NAME(copy_few)(few + number * VL, rows[number], columns);
                rows[number] = few + number * VL;
            }
            each = found;
            groups += found > 0;
        }
        const T number = !mean ? 1 : p->divisor ? (T)p->divisor : (T)(d->count[z] * h->count[y]);
        char *const to = p->out + n * p->out_stride[0] + c * p->out_stride[1] + z * p->out_stride[2] + y * p->out_stride[3];
        const i64 step = p->out_stride[4], wide = columns < VL ? VL : columns;
        int how = mean ? SUM : LARGEST;
        if (!groups)
            for (i64 i = 0; i < columns; i++) inside[i] = nothing;
        else if (mean)
            NAME(combine_rows)(inside, rows, groups, each, wide, SUM);
        else if (NAME(combine_rows)(inside, rows, groups, each, wide, LARGEST)) {
            NAME(combine_rows)(inside, rows, groups, each, wide, NAN_WINS);
            how = NAN_WINS;
        }
        for (i64 i = columns; groups && i < wide; i++) inside[i] = nothing; /* lanes behind a short row */
        if (mean)
            NAME(store_row)(to, step, line, w, number, divisors, SUM);
        else if (how == LARGEST)
            NAME(store_row)(to, step, line, w, number, divisors, LARGEST);
        else
            NAME(store_row)(to, step, line, w, number, divisors, NAN_WINS);
        if (++y < h->out) continue;
        y = 0;
        if (++z < d->out) continue;
        z = 0;
        if (++c < p->c) continue;
        c = 0, n++;
    }
}
#undef IN_ORDER

/* Some rows of outputs. Tasks write disjoint parts of `out` and read nothing that is written. */
static void NAME(max_pool)(void *context, i64 task, int worker) { NAME(pool_rows)(context, task, worker, 0); }
static void NAME(mean_pool)(void *context, i64 task, int worker) { NAME(pool_rows)(context, task, worker, 1); }
