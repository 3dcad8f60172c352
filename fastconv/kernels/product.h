/* The micro-kernel: a register block of outputs, summed over taps and channels. Included by isa.c, once per
 * element type T. Both algorithms on it (shifted.h, winograd.h) are packing, offsets and a store around it. */

#define NAME(x) PASTE(PASTE(x, _), SUFFIX)
#define vec NAME(vec)
#define loose_vec NAME(loose_vec)
typedef T vec __attribute__((vector_size(VECTOR_BYTES)));
typedef T loose_vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias)); /* any address */
#define lane_index NAME(lane_index)
typedef LANE_INT lane_index __attribute__((vector_size(VECTOR_BYTES)));

/* What is below 0 becomes 0; NaN stays. */
#define RECTIFIED(V) ((vec)((lane_index)(V) & ~(lane_index)((V) < (vec){0})))

#define EACH_SUM(MR, NV, WHAT)                                  \
    _Pragma("GCC unroll 8") for (int i = 0; i < MR; i++)        \
        _Pragma("GCC unroll 8") for (int j = 0; j < NV; j++) WHAT;

/* What register blocks of the micro-kernel are part of, and what becomes of their sums. */
#define product_end NAME(product_end)
typedef struct {
    i64 blocks; /* register blocks one below the other */
    i64 c_row;
    int add, relu; /* to what is there; what is below 0 becomes 0 */
    int stream;    /* past the caches */
    const T *bias; /* added last; or NULL */
    i64 ahead, last; /* vectors from here that a block touches, 0: none; the next one's are one more, before the last */
} product_end;

/* One channel of a tap. */
#define PRODUCT_STEP(MR, NV)                                                                        \
    vec bv[NV];                                                                                     \
    __builtin_prefetch(bp + ahead, 0, 2);                                                           \
    _Pragma("GCC unroll 8") for (int j = 0; j < NV; j++) bv[j] = *(const loose_vec *)(bp + j * VL); \
    _Pragma("GCC unroll 8") for (int i = 0; i < MR; i++)                                            \
        _Pragma("GCC unroll 8") for (int j = 0; j < NV; j++) acc[i][j] += bv[j] * ap[i];            \
    ap += a_channel;

/* The micro-kernel with pixels in the lanes, MR x NV vectors:
 *   c[i * c_row + j] (+)= sum over taps t, channels k of
 *                         a[(t * channels + k) * a_channel + i] * b[start[t].b + k * b_channel + j]
 * for i < MR, j < NV * VL. Reads exactly these elements, at any alignment. The sum starts from zero and
 * runs over t, then k, whatever the block, so every block gives the same bits. Touches the pixels that lie `ahead` of
 * those it reads, and what the next panel of the same channels will be written to. Blocks in one call, as what a call takes is a tenth of
 * the products of 64 channels on a Zen 1. */
#define PRODUCT(MR, NV)                                                                                        \
    static void NAME(product_##MR##x##NV)(const T *a, const T *b, const steps *s, T *c, product_end *e)        \
    {                                                                                                          \
        const i64 a_channel = s->a_channel;                                                                    \
        const T *bias = e->bias;                                                                               \
        const i64 c_row = e->c_row;                                                                            \
        for (i64 block = 0; block < e->blocks; block++, a += MR, c += MR * c_row) {                            \
            const i64 ahead = e->ahead * VL;                                                                   \
            const T *ap = a;                                                                                   \
            vec acc[MR][NV];                                                                                   \
            for (int i = 0; i < MR && !e->stream; i++)                                                         \
                for (int j = 0; j < NV; j += 64 / VECTOR_BYTES) __builtin_prefetch(c + i * c_row + (j + NV) * VL, 1); \
            for (int i = 0; i < MR; i++)                                                                       \
                for (int j = 0; j < NV; j++) acc[i][j] = (vec){0};                                             \
            if (s->channels == 1)                                                                              \
                for (i64 t = 0; t < s->taps; t++) {                                                            \
                    const T *bp = b + s->start[t].b;                                                           \
                    PRODUCT_STEP(MR, NV)                                                                       \
                }                                                                                              \
            else                                                                                               \
                for (i64 t = 0; t < s->taps; t++) {                                                            \
                    const T *bp = b + s->start[t].b;                                                           \
                    for (i64 k = 0; k < s->channels; k++) {                                                    \
                        PRODUCT_STEP(MR, NV)                                                                   \
                        bp += s->b_channel;                                                                    \
                    }                                                                                          \
                }                                                                                              \
            if (e->add) EACH_SUM(MR, NV, acc[i][j] += *(const loose_vec *)(c + i * c_row + j * VL))            \
            if (bias) {                                                                                        \
                EACH_SUM(MR, NV, acc[i][j] += bias[i] - (vec){0})                                              \
                bias += MR;                                                                                    \
            }                                                                                                  \
            if (e->relu) EACH_SUM(MR, NV, acc[i][j] = RECTIFIED(acc[i][j]))                                    \
            if (e->stream)                                                                                     \
                EACH_SUM(MR, NV, STREAM((vec *)(c + i * c_row + j * VL), acc[i][j]))                           \
            else                                                                                               \
                EACH_SUM(MR, NV, *(loose_vec *)(c + i * c_row + j * VL) = acc[i][j])                           \
            if (ahead) e->ahead = e->ahead + 1 < e->last ? e->ahead + 1 : 0;                                   \
        }                                                                                                      \
    }
BLOCKS(PRODUCT)
#undef PRODUCT

#define product_fn NAME(product_fn)
typedef void (*product_fn)(const T *, const T *, const steps *, T *, product_end *);

/* products[MR][NV] */
static const product_fn NAME(products)[MOST_ROWS + 1][MOST_VECTORS + 1] = {
#define ENTRY(MR, NV) [MR][NV] = NAME(product_##MR##x##NV),
    BLOCKS(ENTRY)
#undef ENTRY
};

/* FLOPs that `rounds` of independent multiply-adds take: the peak that a kernel is measured against.
 * `flops` is an array of doubles, one per task, given as rounds and returned as FLOPs. */
static void NAME(peak)(void *flops, i64 task, int worker)
{
    enum { CHAINS = WIDE ? 24 : 12 };
    (void)worker;
    double *const d = (double *)flops + task;
    const i64 rounds = (i64)*d;
    volatile T factor = (T)0.5, term = (T)1; /* unknown: a chain that starts at its fixed point, 2, would be left out */
    const vec m = factor - (vec){0}, b = term - (vec){0};
    vec acc[CHAINS];
    for (int i = 0; i < CHAINS; i++) acc[i] = b * (T)i;
    for (i64 r = 0; r < rounds; r++) {
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * m + b;
    }
    T sum = 0;
    for (int i = 0; i < CHAINS; i++)
        for (int l = 0; l < VL; l++) sum += acc[i][l];
    *d = sum == 0 ? 0 : (double)rounds * CHAINS * VL * 2; /* uses the sum, so that the loop stays */
}
