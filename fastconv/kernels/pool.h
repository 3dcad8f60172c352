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

/* The rows that a row of outputs is made of: `groups` of `each`; the first starts `offset` behind the plane, a vector in the
 * last ends `span` behind that. Bytes. */
#define pooled_rows NAME(pooled_rows)
typedef struct {
    i64 offset, span, groups, group_step, each, step;
} pooled_rows;

/* What those from x on give for a number of vectors of columns, the last `last` elements behind the first; each group by itself
 * first. Returns, for LARGEST, a vector that is NaN wherever one of the elements is. */
static inline __attribute__((always_inline)) vec NAME(combine)(vec *all, const char *x, const pooled_rows *rows, i64 last,
                                                               const int vectors, const int how)
{
    vec sum[AT_ONCE] = {{0}};
    for (i64 g = 0; g < rows->groups; g++, x += rows->group_step) {
        vec some[AT_ONCE];
        const char *from = x;
        for (int v = 0; v < vectors; v++) {
            some[v] = *(const loose_vec *)((const T *)from + (v == vectors - 1 ? last : v * VL));
            if (how == LARGEST) sum[v] += some[v];
        }
        for (i64 r = 1; r < rows->each; r++) {
            from += rows->step;
            for (int v = 0; v < vectors; v++) {
                const vec next = *(const loose_vec *)((const T *)from + (v == vectors - 1 ? last : v * VL));
                some[v] = NAME(combined)(some[v], next, how);
                if (how == LARGEST) sum[v] += next;
            }
        }
        for (int v = 0; v < vectors; v++) all[v] = g ? NAME(combined)(all[v], some[v], how) : some[v];
    }
    for (int v = 1; v < vectors; v++) sum[0] += sum[v];
    return sum[0];
}

/* The same, stored. */
static inline __attribute__((always_inline)) vec NAME(combine_to)(T *to, const char *x, const pooled_rows *rows, i64 last,
                                                                  const int vectors, const int how)
{
    vec all[AT_ONCE];
    const vec sum = NAME(combine)(all, x, rows, last, vectors, how);
    for (int v = 0; v < vectors; v++) *(loose_vec *)(to + (v == vectors - 1 ? last : v * VL)) = all[v];
    return sum;
}

/* The same for all columns, a vector of them at least; the last one steps back. */
static inline __attribute__((always_inline)) vec NAME(combine_rows)(T *to, const char *x, const pooled_rows *rows,
                                                                    i64 columns, const int how)
{
    vec sum = {0};
    for (; columns > AT_ONCE * VL; columns -= AT_ONCE * VL, to += AT_ONCE * VL, x += AT_ONCE * VECTOR_BYTES)
        sum += NAME(combine_to)(to, x, rows, (AT_ONCE - 1) * VL, AT_ONCE, how);
    switch ((columns + VL - 1) / VL) {
    case 1: return sum + NAME(combine_to)(to, x, rows, columns - VL, 1, how);
    case 2: return sum + NAME(combine_to)(to, x, rows, columns - VL, 2, how);
    case 3: return sum + NAME(combine_to)(to, x, rows, columns - VL, 3, how);
    default: return sum + NAME(combine_to)(to, x, rows, columns - VL, AT_ONCE, how);
    }
}

static inline int NAME(any_nan)(vec v)
{
    typedef int64_t pairs __attribute__((vector_size(VECTOR_BYTES)));
    const pairs nan = (pairs)(v != v);
    int64_t any = 0;
    for (size_t i = 0; i < VECTOR_BYTES / sizeof(int64_t); i++) any |= nan[i];
    return any != 0;
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

/* The columns that windows show. */
static i64 NAME(pooled_columns)(const fc_pool_axis *w, i64 *first)
{
    *first = w->start > 0 ? w->start : 0;
    return least(w->size, w->start + (w->out - 1) * w->stride + (w->kernel - 1) * w->dilation + 1) - *first;
}

/* Whether rows of outputs are so short that each plane has a lane of its own. */
static int NAME(pools_across)(const fc_pool *p)
{
    const i64 read = p->axis[0].kernel * p->axis[1].kernel * VL * 64, columns = NAME(pool_line)(p) * VECTOR_BYTES;
    return p->axis[2].out <= MOST_ACROSS * p->axis[2].kernel && 2 * p->n * p->c > VL && read <= ACROSS_BYTES && columns <= ACROSS_BYTES;
}

/* Planes that are pooled together, so that what a row needs is worked out once for all: as many as L1 holds rows of. */
static i64 NAME(pool_group)(const fc_pool *p)
{
    i64 first;
    if (NAME(pools_across)(p)) return VL;
    const i64 shown = NAME(pooled_columns)(&p->axis[2], &first) * p->axis[0].kernel * p->axis[1].kernel;
    return least(MOST_GROUP, 1 + GROUP_BYTES / (1 + (shown > 0 ? shown : 0) * (i64)sizeof(T)));
}

/* A worker's scratch: rows of less than a vector, as vectors; divisors; a line, of elements or of vectors. */
static i64 NAME(few_bytes)(const fc_pool *p) { return round_up(p->axis[0].kernel * p->axis[1].kernel * VECTOR_BYTES, 64); }

static i64 NAME(pool_scratch)(const fc_pool *p)
{
    const i64 lines = NAME(pools_across)(p) ? VL : 1;
    return round_up(NAME(few_bytes)(p) + (round_up(p->axis[2].out, VL) + lines * NAME(pool_line)(p)) * (i64)sizeof(T), 64);
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
static pooled_rows NAME(copy_short)(T *few, const char *x, const pooled_rows *rows, i64 columns)
{
    for (i64 g = 0; g < rows->groups; g++)
        for (i64 r = 0; r < rows->each; r++)
            NAME(copy_few)(few + (g * rows->each + r) * VL, (const T *)(x + g * rows->group_step + r * rows->step), columns);
    return (pooled_rows){0, 0, rows->groups, rows->each * VECTOR_BYTES, rows->each, VECTOR_BYTES};
}

/* What the rows of outputs of some planes are made of and with. */
#define pool_work NAME(pool_work)
typedef struct {
    const fc_pool *p;
    i64 first, columns, planes; /* the columns that windows show; planes that are pooled together, */
    const char *x[MOST_GROUP];  /* where each of them begins, */
    char *to[MOST_GROUP];       /* and where its row of outputs does */
    T number;                   /* what means are divided by, but for the columns */
    int together;               /* one behind the other */
    T *few, *divisors, *line;
} pool_work;

static pool_work NAME(start_pool)(const fc_pool *p, int worker, const int mean)
{
    const fc_pool_axis *const w = &p->axis[2];
    const i64 vectors = round_up(w->out, VL), length = NAME(pool_line)(p) * (NAME(pools_across)(p) ? VL : 1);
    pool_work k = {.p = p, .few = (T *)(p->scratch + worker * p->scratch_bytes), .number = 1};
    k.columns = NAME(pooled_columns)(w, &k.first);
    k.divisors = (T *)((char *)k.few + NAME(few_bytes)(p));
    k.line = k.divisors + vectors;
    for (i64 i = 0; i < vectors; i++) k.divisors[i] = i < w->out && w->count ? (T)w->count[i] : 1;
    for (i64 i = 0; i < length; i++) k.line[i] = mean ? 0 : -(T)INFINITY;
    if (k.columns < VL) memset(k.few, 0, NAME(few_bytes)(p));
    return k;
}

/* The rows for outputs (z, y), from the first of a plane on. */
static pooled_rows NAME(rows_for)(pool_work *k, i64 z, i64 y, const int mean)
{
    const fc_pool *const p = k->p;
    const fc_pool_axis *const d = &p->axis[0], *const h = &p->axis[1];
    i64 slice, top;
    pooled_rows rows = {.each = NAME(shown)(d, z, &slice), .step = d->dilation * p->x_stride[2],
                        .groups = NAME(shown)(h, y, &top), .group_step = h->dilation * p->x_stride[3]};
    if (mean) k->number = p->divisor ? (T)p->divisor : (T)(d->count[z] * h->count[y]);
    if (!rows.each || k->columns <= 0) rows.groups = 0;
    if (rows.each == 1 && rows.groups) { /* the long loop is the inner one */
        rows.each = rows.groups, rows.step = rows.group_step;
        rows.groups = 1;
    }
    if (!rows.groups) return rows;
    rows.offset = slice * p->x_stride[2] + top * p->x_stride[3] + k->first * (i64)sizeof(T);
    const i64 down = (rows.groups - 1) * rows.group_step, deep = (rows.each - 1) * rows.step;
    rows.span = (down > 0 ? down : 0) + (deep > 0 ? deep : 0) + VECTOR_BYTES;
    return rows;
}

/* Whether the last of a plane's rows, which are shorter than a vector, has none that may be read. */
static inline int NAME(ends_short)(const pool_work *k, const char *x, const pooled_rows *rows)
{
    return k->columns < VL && x + rows->span > k->p->x_end;
}

/* What the rows of a plane give for each column; see combine. */
static inline __attribute__((always_inline)) vec NAME(pool_columns)(T *to, const pool_work *k, i64 plane, const pooled_rows *rows, const int how)
{
    const char *const x = k->x[plane] + rows->offset;
    if (!rows->groups) {
        for (i64 i = 0; i < k->columns; i++) to[i] = how == SUM ? 0 : -(T)INFINITY;
        return (vec){0};
    }
    if (!NAME(ends_short)(k, x, rows)) return NAME(combine_rows)(to, x, rows, k->columns < VL ? VL : k->columns, how);
    const pooled_rows copied = NAME(copy_short)(k->few, x, rows, k->columns);
    return NAME(combine_to)(to, (const char *)k->few, &copied, 0, 1, how);
}

/* A row of outputs of each plane, one after the other. */
static inline __attribute__((always_inline)) void NAME(pool_along)(const pool_work *k, const pooled_rows *rows, const int mean)
{
    const fc_pool_axis *const w = &k->p->axis[2];
    const i64 apart = k->p->out_stride[4];
    T *const inside = k->line + k->first - w->start;
    for (i64 plane = 0; plane < k->planes; plane++) {
        int how = mean ? SUM : LARGEST;
        if (NAME(any_nan)(NAME(pool_columns)(inside, k, plane, rows, mean ? SUM : LARGEST)) && !mean) {
            NAME(pool_columns)(inside, k, plane, rows, NAN_WINS);
            how = NAN_WINS;
        }
        for (i64 i = k->columns; i < VL && k->columns > 0; i++) inside[i] = mean ? 0 : -(T)INFINITY; /* lanes behind a short row */
        if (mean)
            NAME(store_row)(k->to[plane], apart, k->line, w, k->number, k->divisors, SUM);
        else if (how == LARGEST)
            NAME(store_row)(k->to[plane], apart, k->line, w, k->number, k->divisors, LARGEST);
        else
            NAME(store_row)(k->to[plane], apart, k->line, w, k->number, k->divisors, NAN_WINS);
    }
}

/* The same from vectors of columns, a plane in each lane. */
static inline __attribute__((always_inline)) void NAME(combine_lanes)(const pool_work *k, const int how)
{
    const fc_pool_axis *const w = &k->p->axis[2];
    const i64 apart = k->p->out_stride[4];
    for (i64 j = 0; j < w->out; j++) {
        const vec *const from = (const vec *)k->line + j * w->stride;
        vec v = *from;
        if (how == SUM) v += 0; /* as above */
        for (i64 i = 1; i < w->kernel; i++) v = NAME(combined)(v, from[i * w->dilation], how);
        if (how == SUM) v /= k->number * k->divisors[j];
        if (k->together)
            *(loose_vec *)(k->to[0] + j * apart) = v;
        else
            for (i64 l = 0; l < k->planes; l++) *(T *)(k->to[l] + j * apart) = v[l];
    }
}

/* The columns of the rows of all planes; see combine. */
static inline __attribute__((always_inline)) vec NAME(turn_columns)(const pool_work *k, const pooled_rows *rows, const int how)
{
    vec *const inside = (vec *)k->line + k->first - k->p->axis[2].start, sum = {0};
    for (i64 i = 0; i < k->columns; i += VL) {
        const i64 at = k->columns < VL ? 0 : least(i, k->columns - VL); /* the last vectors step back */
        vec part[VECTOR_BYTES / T_BYTES];
        for (i64 l = 0; l < VL; l++) {
            const char *const x = k->x[l] + rows->offset;
            if (!NAME(ends_short)(k, x, rows)) {
                sum += NAME(combine)(part + l, x + at * (i64)sizeof(T), rows, 0, 1, how);
                continue;
            }
            const pooled_rows copied = NAME(copy_short)(k->few, x, rows, k->columns);
            sum += NAME(combine)(part + l, (const char *)k->few, &copied, 0, 1, how);
        }
        NAME(transpose)(part);
#pragma GCC unroll 16
        for (int l = 0; l < VL; l++)
            if (l < k->columns) inside[at + l] = part[l];
    }
    return sum;
}

static inline __attribute__((always_inline)) void NAME(pool_across)(const pool_work *k, const pooled_rows *rows, const int mean)
{
    int nan = 0;
    if (!rows->groups)
        for (i64 i = 0; i < k->columns; i++) ((vec *)k->line)[k->first - k->p->axis[2].start + i] = (vec){0} + (mean ? 0 : -(T)INFINITY);
    else if (NAME(any_nan)(NAME(turn_columns)(k, rows, mean ? SUM : LARGEST)) && !mean) {
        NAME(turn_columns)(k, rows, NAN_WINS);
        nan = 1;
    }
    if (mean)
        NAME(combine_lanes)(k, SUM);
    else if (nan)
        NAME(combine_lanes)(k, NAN_WINS);
    else
        NAME(combine_lanes)(k, LARGEST);
}

/* Some rows of outputs of some planes. Tasks write disjoint parts of `out` and read nothing that is written. */
static inline __attribute__((always_inline)) void NAME(pool_task)(const fc_pool *p, i64 task, int worker, const int mean)
{
    const i64 high = p->axis[1].out, rows = p->axis[0].out * high, group = NAME(pool_group)(p);
    const i64 begin = task % p->bands * rows / p->bands, end = (task % p->bands + 1) * rows / p->bands;
    const i64 first = task / p->bands * p->planes, last = least(first + p->planes, p->n * p->c);
    const int across = NAME(pools_across)(p);
    i64 n = first / p->c, c = first % p->c;
    pool_work k = NAME(start_pool)(p, worker, mean);
    for (i64 plane = first; plane < last; plane += group) {
        char *out[MOST_GROUP];
        k.planes = least(group, last - plane);
        for (i64 l = 0; l < k.planes; l++) {
            k.x[l] = p->x + n * p->x_stride[0] + c * p->x_stride[1];
            out[l] = p->out + n * p->out_stride[0] + c * p->out_stride[1];
            if (++c == p->c) c = 0, n++;
        }
        for (i64 l = k.planes; across && l < VL; l++) k.x[l] = k.x[l - 1];
        k.together = k.planes == VL;
        for (i64 l = 1; l < k.planes; l++) k.together &= out[l] == out[l - 1] + sizeof(T);
        for (i64 row = begin, z = begin / high, y = begin % high; row < end; row++) {
            const pooled_rows from = NAME(rows_for)(&k, z, y, mean);
            for (i64 l = 0; l < k.planes; l++) k.to[l] = out[l] + z * p->out_stride[2] + y * p->out_stride[3];
            if (across)
                NAME(pool_across)(&k, &from, mean);
            else
                NAME(pool_along)(&k, &from, mean);
            if (++y == high) y = 0, z++;
        }
    }
}

static void NAME(max_pool)(void *context, i64 task, int worker) { NAME(pool_task)(context, task, worker, 0); }
static void NAME(mean_pool)(void *context, i64 task, int worker) { NAME(pool_task)(context, task, worker, 1); }
