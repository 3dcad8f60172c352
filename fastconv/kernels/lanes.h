/* Between memory and vectors: copies, stores of a few lanes, transposition. Included by isa.c after product.h. */

/* A constant vector of F(lane, S). */
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
#define BESIDE(L, S) ((L) + (S))

/* The first n lanes, the others 0. */
static inline vec NAME(load_lanes)(const T *from, i64 n)
{
#if defined(__AVX512F__)
    return LOAD_MASKED(from, FIRST_LANES(n));
#elif defined(__AVX2__)
    const lane_index lane = {EACH_LANE(BESIDE, 0)};
    return LOAD_INSIDE(from, lane < (LANE_INT)n);
#else
    vec v = {0};
    for (i64 i = 0; i < n; i++) v[i] = from[i];
    return v;
#endif
}

/* n elements, at most a vector: where there are no masks, a part for each bit of n. */
static inline __attribute__((always_inline)) void NAME(copy_few)(T *to, const T *from, i64 n)
{
#ifdef __AVX512F__
    STORE_MASKED(to, LOAD_MASKED(from, FIRST_LANES(n)), FIRST_LANES(n));
#else
#pragma GCC unroll 4
    for (i64 part = VL; part; part /= 2)
        if (n & part) {
            __builtin_memcpy(to, from, part * sizeof(T));
            to += part;
            from += part;
        }
#endif
}

static inline void NAME(store_lanes)(T *to, vec v, i64 n)
{
#ifdef __AVX512F__
    STORE_MASKED(to, v, FIRST_LANES(n));
#else
    NAME(copy_few)(to, (const T *)&v, n);
#endif
}

static inline void NAME(copy)(T *to, const T *from, i64 n)
{
    for (; n >= VL; n -= VL, to += VL, from += VL) *(loose_vec *)to = *(const loose_vec *)from;
    if (n) NAME(copy_few)(to, from, n);
}

/* n elements, at most a vector, to `to`, `step` bytes apart. */
static inline void NAME(put)(char *to, i64 step, const T *from, i64 n)
{
    if (step == sizeof(T))
        NAME(copy_few)((T *)to, from, n);
    else
        for (i64 i = 0; i < n; i++) *(T *)(to + i * step) = from[i];
}

/* The lanes of two rows that change places in step S of a transposition, the second one's from VL on. */
#define LOW(L, S) ((L) & (S) ? (L) - (S) + VECTOR_BYTES / T_BYTES : (L))
#define HIGH(L, S) ((L) & (S) ? (L) + VECTOR_BYTES / T_BYTES : (L) + (S))

#if VECTOR_BYTES == 32
/* Rows become columns within each half of the vectors: of half as many rows, or first in rows 0 to VL / 2, then in those
 * behind. Interleaving the rows of one half of them with those of the other turns one bit of the lane's number into one of
 * the row's at a time. */
#define HALF (VECTOR_BYTES / T_BYTES / 2)
#define LOWER_OF(L, S) ((L) / HALF * HALF + (L) % HALF / 2 + (L) % 2 * 2 * HALF)
#define UPPER_OF(L, S) (LOWER_OF(L, S) + HALF / 2)
static inline __attribute__((always_inline)) void NAME(transpose_half)(vec *row)
{
#pragma GCC unroll 2
    for (int bit = 1; bit < HALF; bit *= 2) {
        vec to[HALF];
#pragma GCC unroll 2
        for (int i = 0; i < HALF / 2; i++) {
            const vec a = row[i], b = row[i + HALF / 2];
            to[2 * i] = __builtin_shuffle(a, b, (lane_index){EACH_LANE(LOWER_OF, 0)});
            to[2 * i + 1] = __builtin_shuffle(a, b, (lane_index){EACH_LANE(UPPER_OF, 0)});
        }
#pragma GCC unroll 4
        for (int i = 0; i < HALF; i++) row[i] = to[i];
    }
}

static inline __attribute__((always_inline)) void NAME(transpose_halves)(vec *row)
{
    NAME(transpose_half)(row);
    NAME(transpose_half)(row + HALF);
}
#undef LOWER_OF
#undef UPPER_OF
#endif

/* Rows become columns, VL x VL: in step s, element (i, l) changes places with (i ^ s, l ^ s) where bit s of i and l
 * differs. */
static inline __attribute__((always_inline)) void NAME(transpose)(vec *row)
{
#define EXCHANGE(S)                                                                          \
    if ((S) < VL)                                                                            \
        _Pragma("GCC unroll 16") for (int i = 0; i < VL; i++)                                \
            if (!(i & (S))) {                                                                \
                const vec a = row[i], b = row[(i + (S)) % VL];                               \
                row[i] = __builtin_shuffle(a, b, (lane_index){EACH_LANE(LOW, S)});           \
                row[(i + (S)) % VL] = __builtin_shuffle(a, b, (lane_index){EACH_LANE(HIGH, S)}); \
            }
#if VECTOR_BYTES == 32
    NAME(transpose_halves)(row);
    EXCHANGE(HALF)
#else
    EXCHANGE(1)
    EXCHANGE(2)
    EXCHANGE(4)
    EXCHANGE(8)
#endif
#undef EXCHANGE
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

/* Every second element from `from` on, a vector of them; nothing behind the last is read. */
#define INSIDE(L, S) (2 * (L) + (2 * (L) >= VECTOR_BYTES / T_BYTES))
static inline __attribute__((always_inline)) vec NAME(every_second)(const T *from)
{
    const vec a = *(const loose_vec *)from, b = *(const loose_vec *)(from + VL - 1);
    return __builtin_shuffle(a, b, (lane_index){EACH_LANE(INSIDE, 0)});
}
#undef INSIDE

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

/* Every fourth element from `from` on, n of them; nothing behind the last is read. */
static inline void NAME(copy_every_fourth)(T *to, const T *from, i64 n)
{
    for (; n > VL; n -= VL, to += VL, from += 4 * VL) {
        const loose_vec *const v = (const loose_vec *)from;
        const vec low = NAME(even_lanes)(v[0], v[1]), high = NAME(even_lanes)(v[2], v[3]);
        *(loose_vec *)to = NAME(even_lanes)(low, high);
    }
    for (i64 k = 0; k < n; k++) to[k] = from[4 * k];
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
