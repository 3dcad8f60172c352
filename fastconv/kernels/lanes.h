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

/* Rows become columns, N x N, or within each N lanes of longer ones: in step s, element (i, l) changes places with (i ^ s, l ^ s)
 * where bit s of i and l differs. */
#define EXCHANGE(N, S)                                                                       \
    if ((S) < (N))                                                                           \
        _Pragma("GCC unroll 16") for (int i = 0; i < (N); i++)                               \
            if (!(i & (S))) {                                                                \
                const vec a = row[i], b = row[(i + (S)) % (N)];                              \
                row[i] = __builtin_shuffle(a, b, (lane_index){EACH_LANE(LOW, S)});           \
                row[(i + (S)) % (N)] = __builtin_shuffle(a, b, (lane_index){EACH_LANE(HIGH, S)}); \
            }

#define HALF (VECTOR_BYTES / T_BYTES / 2)

/* A vector whose halves lie in two places. */
static inline __attribute__((always_inline)) vec NAME(load_halves)(const T *low, const T *high)
{
#if VECTOR_BYTES == 64
    return (vec)_mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)low)),
                                   _mm256_loadu_si256((const __m256i *)high), 1);
#elif VECTOR_BYTES == 32
    return (vec)_mm256_loadu2_m128i((const __m128i *)high, (const __m128i *)low);
#else
    vec v;
    __builtin_memcpy(&v, low, HALF * sizeof(T));
    __builtin_memcpy((T *)&v + HALF, high, HALF * sizeof(T));
    return v;
#endif
}

static inline __attribute__((always_inline)) void NAME(store_halves)(T *low, T *high, vec v)
{
#if VECTOR_BYTES == 64
    _mm256_storeu_si256((__m256i *)low, _mm512_castsi512_si256((__m512i)v));
    _mm256_storeu_si256((__m256i *)high, _mm512_extracti64x4_epi64((__m512i)v, 1));
#elif VECTOR_BYTES == 32
    _mm256_storeu2_m128i((__m128i *)high, (__m128i *)low, (__m256i)v);
#else
    __builtin_memcpy(low, &v, HALF * sizeof(T));
    __builtin_memcpy(high, (const T *)&v + HALF, HALF * sizeof(T));
#endif
}

/* Rows become columns of half as many rows, within each half of the vectors. */
#if VECTOR_BYTES == 32
/* Interleaving the rows of one half of them with those of the other turns one bit of the lane's number into one of the row's
 * at a time. */
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
#undef LOWER_OF
#undef UPPER_OF
#else
static inline __attribute__((always_inline)) void NAME(transpose_half)(vec *row)
{
    EXCHANGE(HALF, 1)
    EXCHANGE(HALF, 2)
    EXCHANGE(HALF, 4)
}
#endif

/* Rows become columns, VL x VL. */
static inline __attribute__((always_inline)) void NAME(transpose)(vec *row)
{
    NAME(transpose_half)(row);
    NAME(transpose_half)(row + HALF);
    EXCHANGE(VL, HALF)
}

/* A vector in one part, two or four: from and to as many places, and as so many squares beside each other whose rows become
 * columns. */
static inline __attribute__((always_inline)) vec NAME(load_parts)(const T *const *from, int parts)
{
#if MOST_PARTS == 4
    if (parts == 4) {
        __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)from[0]));
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)from[1]), 1);
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)from[2]), 2);
        return (vec)_mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)from[3]), 3);
    }
#endif
    return parts == 2 ? NAME(load_halves)(from[0], from[1]) : (vec) * (const loose_vec *)from[0];
}

static inline __attribute__((always_inline)) void NAME(store_parts)(T *const *to, vec v, int parts)
{
#if MOST_PARTS == 4
    if (parts == 4) {
        _mm_storeu_si128((__m128i *)to[0], _mm512_castsi512_si128((__m512i)v));
        _mm_storeu_si128((__m128i *)to[1], _mm512_extracti32x4_epi32((__m512i)v, 1));
        _mm_storeu_si128((__m128i *)to[2], _mm512_extracti32x4_epi32((__m512i)v, 2));
        _mm_storeu_si128((__m128i *)to[3], _mm512_extracti32x4_epi32((__m512i)v, 3));
        return;
    }
#endif
    if (parts == 2)
        NAME(store_halves)(to[0], to[1], v);
    else
        *(loose_vec *)to[0] = v;
}

static inline __attribute__((always_inline)) void NAME(transpose_parts)(vec *row, int parts)
{
    if (parts == 1) NAME(transpose)(row);
    if (parts == 2) NAME(transpose_half)(row);
#if MOST_PARTS == 4
    if (parts == 4) {
        EXCHANGE(HALF / 2, 1)
        EXCHANGE(HALF / 2, 2)
    }
#endif
}
#undef EXCHANGE

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
