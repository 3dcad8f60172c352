/* Between memory and vectors: copies, stores of a few lanes, transposition. Included by isa.c after product.h. */

static inline void NAME(copy)(T *to, const T *from, i64 n)
{
    if (n < VL) {
        for (i64 i = 0; i < n; i++) to[i] = from[i];
        return;
    }
    for (i64 i = 0; i < n - VL; i += VL) *(loose_vec *)(to + i) = *(const loose_vec *)(from + i);
    *(loose_vec *)(to + n - VL) = *(const loose_vec *)(from + n - VL);
}

/* n elements, at most a vector, to `to`, `step` bytes apart. */
static inline void NAME(put)(char *to, i64 step, const T *from, i64 n)
{
#ifdef __AVX512F__
    if (step == sizeof(T)) {
        PUT_MASKED(to, from, n);
        return;
    }
#endif
    for (i64 i = 0; i < n; i++) *(T *)(to + i * step) = from[i];
}

/* Rows become columns, VL x VL: in step s, element (i, l) changes places with (i ^ s, l ^ s) where bit s of i and l
 * differs. LOW and HIGH name the lanes of two rows, the second one's from VL on. */
#if VECTOR_BYTES / T_BYTES == 16
#define EACH_LANE(F, S) F(0, S), F(1, S), F(2, S), F(3, S), F(4, S), F(5, S), F(6, S), F(7, S), F(8, S), F(9, S), \
    F(10, S), F(11, S), F(12, S), F(13, S), F(14, S), F(15, S)
#elif VECTOR_BYTES / T_BYTES == 8
#define EACH_LANE(F, S) F(0, S), F(1, S), F(2, S), F(3, S), F(4, S), F(5, S), F(6, S), F(7, S)
#elif VECTOR_BYTES / T_BYTES == 4
#define EACH_LANE(F, S) F(0, S), F(1, S), F(2, S), F(3, S)
#else
#define EACH_LANE(F, S) F(0, S), F(1, S)
#endif
#define LOW(L, S) ((L) & (S) ? (L) - (S) + VECTOR_BYTES / T_BYTES : (L))
#define HIGH(L, S) ((L) & (S) ? (L) + VECTOR_BYTES / T_BYTES : (L) + (S))

static inline __attribute__((always_inline)) void NAME(transpose)(vec *row)
{
#define STEP(S)                                                                              \
    if ((S) < VL)                                                                            \
        _Pragma("GCC unroll 16") for (int i = 0; i < VL; i++)                                \
            if (!(i & (S))) {                                                                \
                const vec a = row[i], b = row[(i + (S)) % VL];                               \
                row[i] = __builtin_shuffle(a, b, (lane_index){EACH_LANE(LOW, S)});           \
                row[(i + (S)) % VL] = __builtin_shuffle(a, b, (lane_index){EACH_LANE(HIGH, S)}); \
            }
    STEP(1)
    STEP(2)
    STEP(4)
    STEP(8)
#undef STEP
}

/* Every second element from `from` on, n of them: two vectors are read for one, the last pair an element earlier, so that
 * nothing behind the last element is touched. */
#define EVEN(L, S) (2 * (L))
#define ODD(L, S) (2 * (L) + 1)
static inline void NAME(copy_every_second)(T *to, const T *from, i64 n)
{
    if (n <= VL) {
        for (i64 k = 0; k < n; k++) to[k] = from[2 * k];
        return;
    }
    for (i64 k = 0; k < n - VL; k += VL) {
        const vec a = *(const loose_vec *)(from + 2 * k), b = *(const loose_vec *)(from + 2 * k + VL);
        *(loose_vec *)(to + k) = __builtin_shuffle(a, b, (lane_index){EACH_LANE(EVEN, 0)});
    }
    const i64 k = n - VL;
    const vec a = *(const loose_vec *)(from + 2 * k - 1), b = *(const loose_vec *)(from + 2 * k - 1 + VL);
    *(loose_vec *)(to + k) = __builtin_shuffle(a, b, (lane_index){EACH_LANE(ODD, 0)});
}
#undef EACH_LANE
#undef LOW
#undef HIGH
#undef EVEN
#undef ODD
