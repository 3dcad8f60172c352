/* Between memory and vectors: copies, stores of a few lanes, transposition. Included by isa.c after product.h. */

/* The first n lanes, the others 0; n lanes: without masks element by element. */
static inline vec NAME(load_lanes)(const T *from, i64 n)
{
#ifdef __AVX512F__
    return LOAD_MASKED(from, FIRST_LANES(n));
#else
    vec v = {0};
    for (i64 i = 0; i < n; i++) v[i] = from[i];
    return v;
#endif
}

static inline void NAME(store_lanes)(T *to, vec v, i64 n)
{
#ifdef __AVX512F__
    STORE_MASKED(to, v, FIRST_LANES(n));
#else
    for (i64 i = 0; i < n; i++) to[i] = v[i];
#endif
}

static inline void NAME(copy)(T *to, const T *from, i64 n)
{
    for (; n >= VL; n -= VL, to += VL, from += VL) *(loose_vec *)to = *(const loose_vec *)from;
    if (n) NAME(store_lanes)(to, NAME(load_lanes)(from, n), n);
}

/* n elements, at most a vector, to `to`, `step` bytes apart. */
static inline void NAME(put)(char *to, i64 step, const T *from, i64 n)
{
#ifdef __AVX512F__
    if (step == sizeof(T)) {
        STORE_MASKED(to, LOAD_MASKED(from, FIRST_LANES(n)), FIRST_LANES(n));
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

/* The lanes of even and of odd numbers in two vectors. */
#define EVEN(L, S) (2 * (L))
#define ODD(L, S) (2 * (L) + 1)
static inline __attribute__((always_inline)) vec NAME(even_lanes)(vec a, vec b)
{
    return __builtin_shuffle(a, b, (lane_index){EACH_LANE(EVEN, 0)});
}

static inline __attribute__((always_inline)) vec NAME(odd_lanes)(vec a, vec b)
{
    return __builtin_shuffle(a, b, (lane_index){EACH_LANE(ODD, 0)});
}

/* Lane l is the element l + j of a and b one after the other. */
#define BESIDE(L, S) ((L) + (S))
#ifdef __AVX512F__
#define SHIFTED(L) case L: return (vec)ALIGN_LANES(b, a, (L) % (VECTOR_BYTES / T_BYTES));
#else
#define SHIFTED(L) case L: return __builtin_shuffle(a, b, (lane_index){EACH_LANE(BESIDE, L)});
#endif
static inline __attribute__((always_inline)) vec NAME(shifted)(vec a, vec b, int j)
{
    switch (j) {
        SHIFTED(1) SHIFTED(2) SHIFTED(3) SHIFTED(4) SHIFTED(5) SHIFTED(6) SHIFTED(7) SHIFTED(8)
        SHIFTED(9) SHIFTED(10) SHIFTED(11) SHIFTED(12) SHIFTED(13) SHIFTED(14) SHIFTED(15)
    default: return a;
    }
}
#undef SHIFTED

/* Every second element from `from` on, n of them: two vectors are read for one, nothing behind the last element. */
static inline void NAME(copy_every_second)(T *to, const T *from, i64 n)
{
    for (; n > VL; n -= VL, to += VL, from += 2 * VL) {
        const vec a = *(const loose_vec *)from, b = *(const loose_vec *)(from + VL);
        *(loose_vec *)to = NAME(even_lanes)(a, b);
    }
#ifdef __AVX512F__
    const i64 last = 2 * n - 1;
    const vec a = NAME(load_lanes)(from, least(last, VL)), b = NAME(load_lanes)(from + VL, last > VL ? last - VL : 0);
    NAME(store_lanes)(to, NAME(even_lanes)(a, b), n);
#else
    for (i64 k = 0; k < n; k++) to[k] = from[2 * k];
#endif
}

/* n elements, those of even numbers to one place, those of odd ones to another. */
static inline void NAME(separate)(T *even, T *odd, const T *from, i64 n)
{
    for (; n >= 2 * VL; n -= 2 * VL, even += VL, odd += VL, from += 2 * VL) {
        const vec a = *(const loose_vec *)from, b = *(const loose_vec *)(from + VL);
        *(loose_vec *)even = NAME(even_lanes)(a, b);
        *(loose_vec *)odd = NAME(odd_lanes)(a, b);
    }
#ifdef __AVX512F__
    if (n) {
        const vec a = NAME(load_lanes)(from, least(n, VL)), b = NAME(load_lanes)(from + VL, n > VL ? n - VL : 0);
        NAME(store_lanes)(even, NAME(even_lanes)(a, b), (n + 1) / 2);
        NAME(store_lanes)(odd, NAME(odd_lanes)(a, b), n / 2);
    }
#else
    for (i64 k = 0; k < n; k++) *(k % 2 ? odd + k / 2 : even + k / 2) = from[k];
#endif
}
#undef LOW
#undef HIGH
#undef EVEN
#undef ODD
