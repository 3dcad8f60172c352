/* Register tiles of pixels by one or two vectors of output channels: their micro-kernels, how a row is cut into them, and
 * what they leave out of a padding of zeros. Included by channels.h. */

#define LANES (2 * VL) /* output channels of a full block */

/* One channel of a tap: the products of rows ROW0 to ROW1 and columns COL0 to COL1, each added by MULTIPLY. */
#define STEP(R, Q, NV, COL, ROW0, ROW1, COL0, COL1, MULTIPLY, TOUCH)                                           \
    {                                                                                                          \
        vec av[NV];                                                                                            \
        _Pragma("GCC unroll 2") for (int j = 0; j < NV; j++) av[j] = *(const loose_vec *)(ap + j * VL);        \
        TOUCH;                                                                                                 \
        _Pragma("GCC unroll 14") for (int i = 0; i < (R) * (Q); i++)                                           \
            _Pragma("GCC unroll 2") for (int j = 0; j < NV; j++)                                               \
                if (i / (Q) >= (ROW0) && i / (Q) < (ROW1) && i % (Q) >= (COL0) && i % (Q) < (COL1))            \
                    MULTIPLY(acc[i][j], av[j], bp[i / (Q) * b_row + i % (Q) * (COL)]);                         \
        ap += NV * VL;                                                                                         \
        bp += b_channel;                                                                                       \
    }

#define ADD_PRODUCT(sum, a, b) sum += (a) * (b)
#define STEPS(R, Q, NV, COL, ROW0, ROW1, COL0, COL1)                                                           \
    for (i64 k = 0; k < channels; k++) {                                                                       \
        STEP(R, Q, NV, COL, ROW0, ROW1, COL0, COL1, ADD_PRODUCT, __builtin_prefetch(ahead, 0, 2))              \
        ahead += ahead_step;                                                                                   \
    }

/* All products of a tap with nothing to touch, UNROLLED steps a round, whose end the processor foresees. On AVX2, which has
 * 16 registers, with the instruction itself: gcc would move sums between registers and spill some. 64->64 3x3 at 56x56 on a
 * Zen 1, percent of the peak, 91 -> 93; with gcc's own choice 85. (Not in STEPS: F(4,3) would lose 6 %.) */
#if defined(__AVX2__) && !WIDE
#define ADD_BY_INSTRUCTION(sum, a, b) __asm__ volatile(FMA " %1, %2, %0" : "+x"(sum) : "x"(a), "x"((b) - (vec){0}))
#define UNROLLED 4
#else
#define ADD_BY_INSTRUCTION ADD_PRODUCT
#define UNROLLED 1
#endif
#define WHOLE_STEP(R, Q, NV, COL) STEP(R, Q, NV, COL, 0, R, 0, Q, ADD_BY_INSTRUCTION, )
#define WHOLE_STEPS(R, Q, NV, COL, REST)                                                                       \
    {                                                                                                          \
        const i64 rest = (REST) ? channels % UNROLLED : 0;                                                     \
        for (i64 k = 0; k < channels - rest; k += UNROLLED)                                                    \
            _Pragma("GCC unroll 4") for (int u = 0; u < UNROLLED; u++) WHOLE_STEP(R, Q, NV, COL)               \
        for (i64 k = 0; k < rest; k++) WHOLE_STEP(R, Q, NV, COL)                                               \
    }

/* Parts PART.. of rows ROW0 to ROW1; with fewer columns than are left out nothing remains of the loops. */
#define PARTS_OF_ROWS(R, Q, NV, COL, PART, ROW0, ROW1)                                         \
    case (PART): STEPS(R, Q, NV, COL, ROW0, ROW1, 0, Q) break;                                 \
    case (PART) + LEFT: STEPS(R, Q, NV, COL, ROW0, ROW1, 1, Q) break;                          \
    case (PART) + LEFT + 1: STEPS(R, Q, NV, COL, ROW0, ROW1, 2, Q) break;                      \
    case (PART) + LEFT + 2: STEPS(R, Q, NV, COL, ROW0, ROW1, 3, Q) break;                      \
    case (PART) + RIGHT: STEPS(R, Q, NV, COL, ROW0, ROW1, 0, (Q) - 1) break;                   \
    case (PART) + RIGHT + 1: STEPS(R, Q, NV, COL, ROW0, ROW1, 0, (Q) - 2) break;               \
    case (PART) + RIGHT + 2: STEPS(R, Q, NV, COL, ROW0, ROW1, 0, (Q) - 3) break;

#define START_SUMS(R, Q, NV)                                                                                   \
    vec acc[(R) * (Q)][NV];                                                                                    \
    _Pragma("GCC unroll 14") for (int i = 0; i < (R) * (Q); i++)                                               \
        _Pragma("GCC unroll 2") for (int j = 0; j < NV; j++) acc[i][j] = (vec){0};

#define EACH_TILE_SUM(R, Q, NV, WHAT)                                                                          \
    _Pragma("GCC unroll 14") for (int i = 0; i < (R) * (Q); i++)                                               \
        _Pragma("GCC unroll 2") for (int j = 0; j < NV; j++) WHAT;

#define SUM_AT(Q, C_COL) (*(loose_vec *)(c + i / (Q) * c_row + i % (Q) * (C_COL) + j * VL))

/* Tiles side by side, whose steps are the same; what becomes of their sums, and what is touched: inputs, `ahead_step` bytes
 * further a step, and `ahead_tap` a tap; and, of each row of outputs, `lines` from `out` on, in which they end. */
#define tile_end NAME(tile_end)
typedef struct {
    i64 tiles;
    i64 c_row, c_col;
    int add, relu; /* to what is there; what is below 0 becomes 0 */
    int stream;    /* past the caches */
    const T *bias; /* added last; or NULL */
    const char *ahead;
    i64 ahead_step, ahead_tap;
    const char *out; /* of the first tile */
    i64 lines, line_step, out_row, out_tile; /* in bytes */
} tile_end;

/* Outputs of a tile of `rows` rows, so that they are there when the sums are. (Where they begin, the tile before ends.) */
static void NAME(touch_outputs)(const tile_end *e, i64 tile, i64 rows)
{
    const char *row = e->out + tile * e->out_tile;
    for (; rows; rows--, row += e->out_row)
        for (i64 i = 0; i < e->lines; i++) __builtin_prefetch(row + i * e->line_step, 1);
}

/* The micro-kernel, R rows of Q pixels by NV vectors of channels:
 *   c[i / Q * c_row + i % Q * c_col + j] (+)= sum over steps t, their channels k of
 *                a[(start[t].a + k) * NV * VL + j] * b[start[t].b + k * b_channel + i / Q * b_row + i % Q * COL]
 * for j < NV * VL and those i < R * Q that are in part start[t].part; summed as in product.h, so that both give the same
 * bits. COL is 1 or 2, c_col NV * VL; or pixels have channels between them, SPACED: then b_channel is 1, steps differ in
 * length, there may be several tiles, and c may be `out` itself. */
#define TILE_BODY(R, Q, NV, COL, SPACED)                                                                       \
    const i64 b_channel = (SPACED) ? 1 : s->b_channel, c_row = e->c_row, c_col = (SPACED) ? e->c_col : NV * VL; \
    const char *ahead = e->ahead;                                                                              \
    const i64 ahead_step = e->ahead_step;                                                                      \
    const int plain = UNROLLED > 1 && ahead_step == 0 && ((SPACED) || s->channels % UNROLLED == 0);            \
    for (i64 tile = 0; tile < ((SPACED) ? e->tiles : 1); tile++, b += (Q) * (COL), c += (Q) * c_col) {         \
        if (tile) NAME(touch_outputs)(e, tile, R);                                                             \
        START_SUMS(R, Q, NV)                                                                                   \
        for (i64 t = 0; t < s->taps; t++) {                                                                    \
            const T *bp = b + s->start[t].b, *ap = a + s->start[t].a * (NV * VL);                              \
            const i64 channels = (SPACED) ? s->start[t].channels : s->channels;                                \
            if (plain && s->start[t].part == 0) WHOLE_STEPS(R, Q, NV, COL, SPACED)                             \
            else if ((R) == 1 || s->start[t].part < UPPER) switch (s->start[t].part) {                         \
                PARTS_OF_ROWS(R, Q, NV, COL, 0, 0, R)                                                          \
            }                                                                                                  \
            else switch (s->start[t].part) {                                                                   \
                PARTS_OF_ROWS(R, Q, NV, COL, UPPER, 0, (R) - 1)                                                \
                PARTS_OF_ROWS(R, Q, NV, COL, LOWER, 1, R)                                                      \
            }                                                                                                  \
            ahead += e->ahead_tap;                                                                             \
        }                                                                                                      \
        if (e->add) EACH_TILE_SUM(R, Q, NV, acc[i][j] += SUM_AT(Q, c_col))                                     \
        if ((SPACED) && e->bias) EACH_TILE_SUM(R, Q, NV, acc[i][j] += *(const loose_vec *)(e->bias + j * VL))  \
        if ((SPACED) && e->relu) EACH_TILE_SUM(R, Q, NV, acc[i][j] = RECTIFIED(acc[i][j]))                     \
        if ((SPACED) && e->stream)                                                                             \
            EACH_TILE_SUM(R, Q, NV, STREAM((vec *)&SUM_AT(Q, c_col), acc[i][j]))                               \
        else                                                                                                   \
            EACH_TILE_SUM(R, Q, NV, SUM_AT(Q, c_col) = acc[i][j])                                              \
    }

#define TILE_OF(R, Q, NV, APART, COL, SPACED)                                                                  \
    static void NAME(tile_##R##x##Q##x##NV##s##APART)(const T *a, const T *b, const steps *s, T *c, const tile_end *e) \
    {                                                                                                          \
        const i64 b_row = s->b_row, b_col = s->b_col;                                                          \
        (void)b_row, (void)b_col;                                                                              \
        TILE_BODY(R, Q, NV, COL, SPACED)                                                                       \
    }
#define TILE_BY(R, Q, APART, COL, SPACED) TILE_OF(R, Q, 1, APART, COL, SPACED) TILE_OF(R, Q, 2, APART, COL, SPACED)
#if WIDE
#define TILE(R, Q) TILE_BY(R, Q, 1, 1, 0) TILE_BY(R, Q, 2, 2, 0) TILE_BY(R, Q, n, b_col, 1)
#else
#define TILE(R, Q) TILE_BY(R, Q, 1, 1, 0) TILE_BY(R, Q, n, b_col, 1)
#endif
TILES(TILE)
#undef TILE
#undef TILE_BY
#undef TILE_OF

/* The same for Winograd's products, whose b holds a vector of channels of each tile. */
#define PRODUCT_TILE_OF(R, Q, NV)                                                                              \
    static void NAME(product_tile_##Q##x##NV)(const T *a, const T *b, const steps *s, T *c, int add, const char *ahead, \
                                              i64 ahead_step)                                                  \
    {                                                                                                          \
        const i64 channels = s->channels, b_channel = s->b_channel, b_row = 0, c_row = 0;                      \
        START_SUMS(R, Q, NV)                                                                                   \
        for (i64 t = 0; t < s->taps; t++) {                                                                    \
            const T *bp = b + s->start[t].b, *ap = a + s->start[t].a * (NV * VL);                              \
            STEPS(R, Q, NV, VL, 0, R, 0, Q)                                                                    \
        }                                                                                                      \
        if (add) EACH_TILE_SUM(R, Q, NV, acc[i][j] += SUM_AT(Q, NV * VL))                                      \
        EACH_TILE_SUM(R, Q, NV, SUM_AT(Q, NV * VL) = acc[i][j])                                                \
    }
#define PRODUCT_TILE(R, Q) PRODUCT_TILE_OF(R, Q, 1) PRODUCT_TILE_OF(R, Q, 2)
ROW_TILES(PRODUCT_TILE)
#undef PRODUCT_TILE
#undef PRODUCT_TILE_OF

#define tile_fn NAME(tile_fn)
#define product_tile_fn NAME(product_tile_fn)
typedef void (*tile_fn)(const T *, const T *, const steps *, T *, const tile_end *);
typedef void (*product_tile_fn)(const T *, const T *, const steps *, T *, int, const char *, i64);

/* tiles[elements between pixels of a row: any, 1, 2 where a strip has no channels there][vectors - 1][rows][pixels of a row] */
static const tile_fn NAME(tiles)[WIDE ? 3 : 2][2][3][MOST_PIXELS + 1] = {
#define ENTRY_OF(I, R, Q, APART) \
    [I][0][R][Q] = NAME(tile_##R##x##Q##x1s##APART), [I][1][R][Q] = NAME(tile_##R##x##Q##x2s##APART),
#define ENTRY(R, Q) ENTRY_OF(0, R, Q, n) ENTRY_OF(1, R, Q, 1)
    TILES(ENTRY)
#undef ENTRY
#if WIDE
#define ENTRY(R, Q) ENTRY_OF(2, R, Q, 2)
    TILES(ENTRY)
#undef ENTRY
#endif
#undef ENTRY_OF
};

/* product_tiles[vectors - 1][tiles] */
static const product_tile_fn NAME(product_tiles)[2][MOST_PIXELS + 1] = {
#define ENTRY(R, Q) [0][Q] = NAME(product_tile_##Q##x1), [1][Q] = NAME(product_tile_##Q##x2),
    ROW_TILES(ENTRY)
#undef ENTRY
};

/* Outputs [first, end) of one axis of a task that a tap reaches inside the image; around it are zeros, whose products may
 * be left out. */
#define reached NAME(reached)
typedef struct {
    i64 first, end;
} reached;

/* How a task's rows are cut into tiles, and what these leave out. */
#define tiling NAME(tiling)
typedef struct {
    const fc_conv *p;
    const block *b;
    reached *rows, *cols; /* [taps of h], [taps of w] */
    reached all_rows, all_cols; /* that every tap reaches; empty where a tap of d reaches none */
    i64 *ends, count;           /* the column behind each tile */
    int rows_paired;            /* there are two rows for tiles of two */
    int exact;                  /* no padding is multiplied */
    int spaced;                 /* pixels have channels between them */
    step_start *starts, *whole; /* of all steps; the same joined, see join_steps */
    step_start *some;           /* of those of a tile at the edge: one that is not kept, then those that are */
    steps last, *known;         /* of the same tiles, where start is not NULL; known for so many `channels` */
    i64 kept, channels;
} tiling;

/* Tiles whose steps are kept while all blocks of channels go over them. */
static i64 NAME(tiles_kept)(const fc_conv *p)
{
    return least(KEPT_BYTES / (i64)(sizeof(steps) + steps_of(p) * sizeof(step_start)), p->rows * p->cols);
}

/* What a tiling takes of a worker's scratch. */
static i64 NAME(tiling_bytes)(const fc_conv *p)
{
    const i64 ends = p->cols + p->rows * p->cols / MOST_PIXELS + 1, kept = NAME(tiles_kept)(p);
    return (3 + kept) * steps_of(p) * (i64)sizeof(step_start) + kept * (i64)sizeof(steps)
           + (p->h.taps + p->w.taps) * (i64)sizeof(reached) + ends * (i64)sizeof(i64);
}

/* A tiling in scratch that begins at `scratch`. */
static tiling NAME(place_tiling)(const fc_conv *p, char *scratch)
{
    const i64 kept = NAME(tiles_kept)(p);
    step_start *const starts = (step_start *)scratch, *const whole = starts + steps_of(p), *const some = whole + steps_of(p);
    steps *const known = (steps *)(some + (1 + kept) * steps_of(p));
    reached *const rows = (reached *)(known + kept), *const cols = rows + p->h.taps;
    return (tiling){.p = p, .rows = rows, .cols = cols, .ends = (i64 *)(cols + p->w.taps), .starts = starts,
                    .whole = whole, .some = some, .known = known, .kept = kept};
}

static int NAME(in_depth)(const tiling *t, i64 tap)
{
    return !t->p->finite || depth_at(t->p, t->b->z, tap) >= 0;
}

/* What the taps of an axis reach of `count` outputs from `start` on; returns what all of them reach. */
static reached NAME(reach)(const fc_axis *axis, i64 start, i64 count, int finite, reached *to)
{
    reached all = {0, count};
    for (i64 tap = 0; tap < axis->taps; tap++) {
        const i64 at = start * axis->stride + tap_at(axis, tap);
        i64 first = 0, end = count;
        while (finite && first < end && axis->source[at + first * axis->stride] < 0) first++;
        while (finite && first < end && axis->source[at + (end - 1) * axis->stride] < 0) end--;
        to[tap] = (reached){first, end};
        if (all.first < first) all.first = first;
        all.end = least(all.end, end);
    }
    return all;
}

/* The part of columns x to x + q that a tap has to be multiplied for, in `part`; returns the number of columns, 0: none.
 * `exact` is cleared if there is padding among them. */
static i64 NAME(columns_left)(reached r, i64 x, i64 q, i64 *part, int *exact)
{
    const i64 left = r.first - x, right = x + q - r.end, most = left > right ? left : right;
    *part = 0;
    if (r.first >= r.end || most >= q) return 0;
    if (most <= 0) return q;
    if (most > LEAVES || (left > 0 && right > 0)) *exact = 0;
    *part = (left > right ? LEFT : RIGHT) + least(most, LEAVES) - 1;
    return q - least(most, LEAVES);
}

/* How a row is cut: evenly into the fewest tiles; into full ones and a rest; or evenly each part of it over which the same
 * taps reach. Returns the time that it takes, in half multiply-adds of two vectors: a tile's step takes one beyond its
 * sums, and four at least, the latency of a multiply-add. */
static i64 NAME(cut_row)(tiling *t, i64 cols, int how)
{
    i64 cost = 0, part;
    t->count = 0;
    t->exact = 1;
    for (i64 x = 0, end; x < cols; x = end) {
        end = cols;
        for (i64 tap = 0; how == AT_EDGES && tap < t->p->w.taps; tap++) {
            if (t->cols[tap].first > x) end = least(end, t->cols[tap].first);
            if (t->cols[tap].end > x) end = least(end, t->cols[tap].end);
        }
        const i64 tiles = (end - x + MOST_PIXELS - 1) / MOST_PIXELS;
        for (i64 i = 1, from = x, q; i <= tiles; from += q, i++) {
            q = how == FULL ? least(MOST_PIXELS, end - from) : x + (end - x) * i / tiles - from;
            t->ends[t->count++] = from + q;
            const int paired = t->rows_paired && PAIRED(q);
            for (i64 tap = 0; tap < t->p->w.taps; tap++) {
                const i64 columns = NAME(columns_left)(t->cols[tap], from, q, &part, &t->exact);
                const i64 time = 2 * columns + (paired ? 1 : 2), latency = paired ? 4 : 8;
                if (columns) cost += time > latency ? time : latency;
            }
        }
    }
    return cost;
}

/* The tiling of a task whose starts are filled; `joined`: all rows as one, with nothing around them. */
static void NAME(cut_task)(tiling *t, const block *b, i64 rows, i64 cols, int joined)
{
    const fc_conv *const p = t->p;
    const int finite = p->finite && !joined;
    t->b = b;
    t->rows_paired = rows > 1;
    t->all_rows = NAME(reach)(&p->h, b->y0, rows, finite, t->rows);
    t->all_cols = NAME(reach)(&p->w, b->x0, cols, finite, t->cols);
    for (i64 tap = 0; tap < p->d.taps; tap++)
        if (!NAME(in_depth)(t, tap)) t->all_rows.end = 0;
    i64 best = NAME(cut_row)(t, cols, EVENLY);
    int how = EVENLY, last = EVENLY;
    for (int other = FULL; other <= AT_EDGES; other++) {
        if (other == AT_EDGES && t->all_cols.first == 0 && t->all_cols.end == cols) break;
        const i64 time = NAME(cut_row)(t, cols, last = other);
        if (time < best) best = time, how = other;
    }
    if (how != last) NAME(cut_row)(t, cols, how);
}

/* Steps whose weights and pixels follow each other become one: a row of taps of an x whose channels do. Returns their number. */
static i64 NAME(join_steps)(step_start *s, i64 count, i64 b_channel)
{
    i64 n = 0;
    for (i64 i = 0; i < count; i++) {
        step_start *const last = s + n - 1;
        if (n && s[i].part == last->part && s[i].a == last->a + last->channels && s[i].b == last->b + last->channels * b_channel)
            last->channels += s[i].channels;
        else
            s[n++] = s[i];
    }
    return n;
}

/* The steps of all taps, joined where pixels have channels between them. */
static void NAME(join_all)(tiling *t, steps *s)
{
    s->products = s->taps * s->channels;
    if (!t->spaced) return;
    memcpy(t->whole, t->starts, s->taps * sizeof(step_start));
    s->start = t->whole;
    s->taps = NAME(join_steps)(t->whole, s->taps, s->b_channel);
}

/* Where the steps of tile i of row y are kept. Rows that all taps reach share theirs; the ends of a row come first. */
static i64 NAME(place_of)(const tiling *t, i64 i, i64 y, i64 high)
{
    const reached rows = t->all_rows;
    const i64 row = y < rows.first ? 1 + y : y + high > rows.end ? 2 + rows.first + y - rows.end : 0;
    return row * t->count + (2 * i < t->count ? 2 * i : 2 * (t->count - 1 - i) + 1);
}

/* The steps of a tile of `high` rows of q pixels, tile i of its row; `all`: those of a tile that all taps reach. */
static const steps *NAME(tile_steps)(tiling *t, const steps *all, i64 i, i64 y, i64 x, i64 high, i64 q)
{
    const fc_conv *const p = t->p;
    if (y >= t->all_rows.first && y + high <= t->all_rows.end && x >= t->all_cols.first && x + q <= t->all_cols.end)
        return all;
    if (t->channels != all->channels)
        for (i64 k = 0; k < t->kept; k++) t->known[k].start = NULL;
    t->channels = all->channels;
    const i64 number = NAME(place_of)(t, i, y, high), place = number < t->kept ? 1 + number : 0;
    steps *const found = place ? t->known + number : &t->last;
    if (place && found->start) return found;
    const i64 each = steps_of(p) / taps_of(p);
    const step_start *from = t->starts;
    step_start *const some = t->some + place * steps_of(p), *to = some;
    for (i64 r = 0; r < p->d.taps; r++)
        for (i64 k = 0; k < p->h.taps; k++) {
            const reached rows = t->rows[k];
            const int upper = y >= rows.first && y < rows.end, lower = high == 2 && y + 1 >= rows.first && y + 1 < rows.end;
            const i64 row_part = high == 1 || (upper && lower) ? 0 : upper ? UPPER : LOWER;
            const int none = (!upper && !lower) || !NAME(in_depth)(t, r);
            for (i64 j = 0; j < p->w.taps; j++, from += each) {
                i64 part;
                int exact;
                if (none || !NAME(columns_left)(t->cols[j], x, q, &part, &exact)) continue;
                for (i64 c = 0; c < each; c++) *to++ = (step_start){from[c].a, from[c].b, (int)(row_part + part), from[c].channels};
            }
        }
    *found = *all;
    found->start = some;
    found->products = (to - some) * all->channels;
    found->taps = t->spaced ? NAME(join_steps)(some, to - some, all->b_channel) : to - some;
    return found;
}
