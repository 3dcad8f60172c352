/* Poolings: the largest element or the mean of each window, a row of outputs at a time: first what the rows of its windows
 * give for each column of x, which stays in L1, then what the columns of each window give. Sums are taken in the order of
 * fastconv/pooling/reduction.py: the same bits. Included by isa.c once per element type T.
 *
 * Floors for 3x3: a load and an operation for each row and column that an output reads, six of either; and the bandwidth of
 * whatever holds x. */

static inline __attribute__((always_inline)) vec NAME(combined)(vec a, vec b, const int how)
{
    if (how == SUM) return a + b;
#ifdef LARGER_OF
    if (how == LARGEST) return (vec)LARGER_OF(a, b);
#endif
    const lane_index first = (lane_index)(a > b) | (lane_index)(a != a);
    return (vec)(((lane_index)a & first) | ((lane_index)b & ~first));
}

/* The rows that a row of outputs is made of: `groups` of `each`, from x on. Steps in bytes. */
#define pooled_rows NAME(pooled_rows)
typedef struct {
    const char *x;
    i64 groups, group_step, each, step;
} pooled_rows;

/* What they give for a number of vectors of columns from `at` on, each group by itself first. Returns, for LARGEST, a vector
 * that is NaN wherever one of the elements is. */
static inline __attribute__((always_inline)) vec NAME(combine)(T *to, const pooled_rows *rows, i64 at, const int vectors, const int how)
{
    vec all[AT_ONCE], sum = {0};
    const char *group = rows->x + at * (i64)sizeof(T);
    for (i64 g = 0; g < rows->groups; g++, group += rows->group_step) {
        vec some[AT_ONCE];
        for (i64 r = 0; r < rows->each; r++)
            for (int v = 0; v < vectors; v++) {
                const vec next = ((const loose_vec *)(group + r * rows->step))[v];
                some[v] = r ? NAME(combined)(some[v], next, how) : next;
                if (how == LARGEST) sum += next;
            }
        for (int v = 0; v < vectors; v++) all[v] = g ? NAME(combined)(all[v], some[v], how) : some[v];
    }
    for (int v = 0; v < vectors; v++) *(loose_vec *)(to + at + v * VL) = all[v];
    return sum;
}

/* The same for all columns, a vector of them at least. Returns whether, for LARGEST, there may be a NaN. */
static inline __attribute__((always_inline)) int NAME(combine_rows)(T *to, const pooled_rows *rows, i64 columns, const int how)
{
    vec sum = {0};
    i64 at = 0;
    for (; at + AT_ONCE * VL <= columns; at += AT_ONCE * VL) sum += NAME(combine)(to, rows, at, AT_ONCE, how);
    for (; at + 2 * VL <= columns; at += 2 * VL) sum += NAME(combine)(to, rows, at, 2, how);
    for (; at < columns; at += VL) sum += NAME(combine)(to, rows, least(at, columns - VL), 1, how); /* the last steps back */
    T all = 0;
    for (i64 i = 0; how == LARGEST && i < VL; i++) all += sum[i];
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

/* A worker's scratch: rows of less than a vector, as vectors; divisors; a line. */
static i64 NAME(few_bytes)(const fc_pool *p) { return round_up(p->axis[0].kernel * p->axis[1].kernel * VECTOR_BYTES, 64); }

static i64 NAME(pool_scratch)(const fc_pool *p)
{
    return round_up(NAME(few_bytes)(p) + (round_up(p->axis[2].out, VL) + NAME(pool_line)(p)) * (i64)sizeof(T), 64);
}

/* The elements that window o shows: how many, and the first one in *at. */
static i64 NAME(shown)(const fc_pool_axis *axis, i64 o, i64 *at)
{
    const i64 start = axis->start + o * axis->stride, last = axis->size - 1;
    i64 first = 0, end = axis->kernel;
    if (start < 0) first = (-start + axis->dilation - 1) / axis->dilation;
    if (start + (end - 1) * axis->dilation > last) end = start > last ? 0 : (last - start) / axis->dilation + 1;
    *at = start + first * axis->dilation;
    return end > first ? end - first : 0;
}

/* Rows of less than a vector, copied to where a whole one may be read behind each. */
static void NAME(copy_short)(pooled_rows *rows, T *few, i64 columns)
{
    for (i64 g = 0; g < rows->groups; g++)
        for (i64 r = 0; r < rows->each; r++)
            NAME(copy_few)(few + (g * rows->each + r) * VL, (const T *)(rows->x + g * rows->group_step + r * rows->step), columns);
    *rows = (pooled_rows){(const char *)few, rows->groups, rows->each * VECTOR_BYTES, rows->each, VECTOR_BYTES};
}

static inline __attribute__((always_inline)) void NAME(pool_rows)(const fc_pool *p, i64 task, int worker, const int mean)
{
    const fc_pool_axis *const d = &p->axis[0], *const h = &p->axis[1], *const w = &p->axis[2];
    const i64 item = sizeof(T), *const step = p->x_stride;
    T *const few = (T *)(p->scratch + worker * p->scratch_bytes), *const divisors = (T *)((char *)few + NAME(few_bytes)(p));
    T *const line = divisors + round_up(w->out, VL);
    const T nothing = mean ? 0 : -(T)INFINITY;
    const i64 span = (w->out - 1) * w->stride + (w->kernel - 1) * w->dilation + 1, first = w->start > 0 ? w->start : 0;
    const i64 columns = least(w->size, w->start + span) - first;
    for (i64 i = 0; i < NAME(pool_line)(p); i++) line[i] = nothing;
    for (i64 i = 0; mean && i < round_up(w->out, VL); i++) divisors[i] = i < w->out && w->count ? (T)w->count[i] : 1;
    if (columns < VL) memset(few, 0, NAME(few_bytes)(p));
    T *const inside = line + first - w->start;

    const i64 begin = task * p->rows, end = least(begin + p->rows, p->n * p->c * d->out * h->out);
    i64 y = begin % h->out, z = begin / h->out % d->out, c = begin / h->out / d->out % p->c, n = begin / h->out / d->out / p->c;
    for (i64 row = begin; row < end; row++) {
        i64 slice, at;
        pooled_rows rows = {.each = NAME(shown)(d, z, &slice), .step = d->dilation * step[2],
                            .groups = columns > 0 ? NAME(shown)(h, y, &at) : 0, .group_step = h->dilation * step[3]};
        if (!rows.each) rows.groups = 0;
        if (rows.groups) {
            rows.x = p->x + n * step[0] + c * step[1] + slice * step[2] + at * step[3] + first * item;
            const i64 down = (rows.groups - 1) * rows.group_step, deep = (rows.each - 1) * rows.step;
            const char *const last = rows.x + (down > 0 ? down : 0) + (deep > 0 ? deep : 0) + VECTOR_BYTES;
            if (columns < VL && last > p->x_end) NAME(copy_short)(&rows, few, columns);
        }
        const T number = !mean ? 1 : p->divisor ? (T)p->divisor : (T)(d->count[z] * h->count[y]);
        char *const to = p->out + n * p->out_stride[0] + c * p->out_stride[1] + z * p->out_stride[2] + y * p->out_stride[3];
        const i64 apart = p->out_stride[4], wide = columns < VL ? VL : columns;
        int how = mean ? SUM : LARGEST;
        if (!rows.groups)
            for (i64 i = 0; i < columns; i++) inside[i] = nothing;
        else if (mean)
            NAME(combine_rows)(inside, &rows, wide, SUM);
        else if (NAME(combine_rows)(inside, &rows, wide, LARGEST)) {
            NAME(combine_rows)(inside, &rows, wide, NAN_WINS);
            how = NAN_WINS;
        }
        for (i64 i = columns; rows.groups && i < wide; i++) inside[i] = nothing; /* lanes behind a short row */
        if (mean)
            NAME(store_row)(to, apart, line, w, number, divisors, SUM);
        else if (how == LARGEST)
            NAME(store_row)(to, apart, line, w, number, divisors, LARGEST);
        else
            NAME(store_row)(to, apart, line, w, number, divisors, NAN_WINS);
        if (++y < h->out) continue;
        y = 0;
        if (++z < d->out) continue;
        z = 0;
        if (++c < p->c) continue;
        c = 0, n++;
    }
}

/* Some rows of outputs. Tasks write disjoint parts of `out` and read nothing that is written. */
static void NAME(max_pool)(void *context, i64 task, int worker) { NAME(pool_rows)(context, task, worker, 0); }
static void NAME(mean_pool)(void *context, i64 task, int worker) { NAME(pool_rows)(context, task, worker, 1); }
