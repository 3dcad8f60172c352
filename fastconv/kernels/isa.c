/* Every kernel for one instruction set. Compiled once per set with -DISA=<name> -DVECTOR_BYTES=<width>;
 * whatever is not the table is static, so code of one set cannot be linked into another. */
#include "engine.h"

#include <math.h>
#include <string.h>

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define STRING_(a) #a
#define STRING(a) STRING_(a)

#if VECTOR_BYTES == 64 || defined(__aarch64__)
#define WIDE 1 /* 32 vector registers */
#else
#define WIDE 0
#endif

/* The register blocks: X(MR, NV) for every panel width NV that goes with MR rows. MR x NV accumulators
 * plus NV pixels plus one weight stay within the registers. */
#if WIDE
#define BLOCKS_8(X) X(8, 1) X(8, 2) X(8, 3)
#define BLOCKS_4(X) X(4, 1) X(4, 2) X(4, 3) X(4, 4) X(4, 5) X(4, 6)
#define BLOCKS_2(X) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7) X(2, 8)
#else
#define BLOCKS_8(X)
#if VECTOR_BYTES > 16
#define BLOCKS_4(X) X(4, 1) X(4, 2) X(4, 3)
#else
#define BLOCKS_4(X) X(4, 1) X(4, 2) /* no fused multiply-add: the product needs a register, too */
#endif
#define BLOCKS_2(X) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5)
#endif
#define BLOCKS_1(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8)
#define BLOCKS(X) BLOCKS_8(X) BLOCKS_4(X) BLOCKS_2(X) BLOCKS_1(X)
enum { MOST_ROWS = 8, MOST_VECTORS = 8, MOST_COLUMNS = MOST_VECTORS * VECTOR_BYTES / 4 };

/* Widest panel, in vectors, that goes with a register block of `mr` rows. */
static i64 widest_panel(i64 mr)
{
    switch (mr) {
    case 8: return 3;
    case 4: return WIDE ? 6 : VECTOR_BYTES > 16 ? 3 : 2;
    case 2: return WIDE ? 8 : 5;
    default: return 8;
    }
}

/* The register tiles with channels in the lanes: X(R, Q), R rows of Q pixels, by one or two vectors of channels. */
#if WIDE
#define ROW_TILES(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8) X(1, 9) X(1, 10) X(1, 11) X(1, 12) \
    X(1, 13) X(1, 14)
#define TILES(X) ROW_TILES(X) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7)
enum { MOST_PIXELS = 14, MOST_SPAN = 1 << 16, MOST_CHANNEL = INT32_MAX, MOST_STRIDE = 2 };
#else
#define ROW_TILES(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6)
#define TILES(X) ROW_TILES(X) X(2, 2) X(2, 3)
enum { MOST_PIXELS = 6, MOST_SPAN = 1 << 11, MOST_CHANNEL = 1 << 11, MOST_STRIDE = 1 };
#endif
enum { STORED_BYTES = 1 << 13, KEPT_BYTES = 1 << 15 }; /* sums of tiles that are stored together, of L1; steps of tiles */
#define PAIRED(Q) ((Q) > 1 && 2 * (Q) <= MOST_PIXELS) /* tiles of two rows of so many pixels are there */

/* Rows by vectors of pixels of one channel: X(R, NV). Sums of one block, and one more, fit the registers. */
#define DEPTHWISE(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) \
    X(2, 6) DEPTHWISE_WIDE(X) X(4, 1) X(4, 2) X(4, 3)
#if WIDE
#define DEPTHWISE_WIDE(X) X(2, 7) X(2, 8) X(4, 4)
enum { MOST_DEPTHWISE = 16 };
#else
#define DEPTHWISE_WIDE(X)
enum { MOST_DEPTHWISE = 12 };
#endif

/* Windows that are read where they lie: X(K, S), K x K taps with stride S, for WINDOW_ROWS rows of outputs at a time.
 * Weights of more taps than fit the registers are loaded each time. */
#if WIDE || VECTOR_BYTES > 16
#define WINDOWS(X) X(3, 1) X(3, 2) X(5, 1) X(5, 2) X(7, 1)
#else
#define WINDOWS(X) X(3, 1) X(3, 2) X(5, 1) X(5, 2)
#endif
#define SHIFTS (VECTOR_BYTES != 32) /* any lane of two vectors can be shifted to the first place in one go */
#define NO_ROW INT64_MIN /* an offset: of a row of the padding, or of no window; others may have any sign */
enum { WINDOW_ROWS = 4, MOST_WINDOW_ROWS = 7, MOST_WINDOW = 7, MOST_WINDOW_STRIDE = 2, MOST_HELD = 9 };
enum { MOST_WINDOW_SPAN = SHIFTS ? 0 : 64 }; /* elements that are read of a row of zeros beyond its width */
enum { PACKED_OUTPUTS = 4 }; /* of one channel, from which on windows are packed where masks are dear */

/* Depthwise layers with channels in the lanes: pixels of a register tile, bytes of a strip, and outputs of a row, for each row
 * of taps, up to which this is the quicker way where vectors do not shift (else see goes_abreast). */
enum { MOST_ABREAST = 8, BAND_BYTES = 128 << 10, MOST_NARROW = 14 };

/* Parts of a register tile that a tap can be for: all of it (0); LEFT.. without 1 to LEAVES columns at the left end, RIGHT..
 * at the right end; of two rows only the UPPER or the LOWER one, again of all columns or without some. */
enum { LEAVES = 3, LEFT = 1, RIGHT = LEFT + LEAVES, UPPER = RIGHT + LEAVES, LOWER = 2 * UPPER };

enum { EVENLY, FULL, AT_EDGES }; /* how a row is cut into register tiles */

#define VL ((i64)(VECTOR_BYTES / sizeof(T))) /* lanes of a vector */
#define MOST_PARTS (VECTOR_BYTES > 16 ? VECTOR_BYTES / 16 : 1) /* of a vector, in which squares of pixels by channels are turned */
#define LEAST_TURNED (VL / MOST_PARTS) /* channels that follow each other from which on they are */

/* Pools: vectors of columns that are combined together, so that one does not wait for another; and how. The processor's
 * maximum forgets NaN, so LARGEST is right where there is none, of which a sum tells; NAN_WINS is right everywhere. */
enum { AT_ONCE = 4 };
enum { LARGEST, NAN_WINS, SUM };
/* Pools: outputs of a row, for each column of a window, up to which planes lie side by side in lanes, and bytes that they may
 * take of L1; planes that are pooled together otherwise, and bytes of their rows. */
enum { MOST_ACROSS = 5, ACROSS_BYTES = 1 << 14, MOST_GROUP = 16, GROUP_BYTES = 1 << 12 };

enum { GROUP = 16, MOST_ALPHA = 8 }; /* Winograd: columns of outputs stored together, inputs of a tile along an axis */

static i64 least(i64 a, i64 b) { return a < b ? a : b; }
static i64 round_up(i64 a, i64 unit) { return (a + unit - 1) / unit * unit; }
static i64 taps_of(const fc_conv *p) { return p->d.taps * p->h.taps * p->w.taps; }

/* Starts that a micro-kernel is given: one a tap; with few channels one for each of them, too, as the loop over them
 * would be too short. Narrow tiles of channels have longer steps: 6->16 5x5 on a Zen 1 59 % of the peak with a start for each
 * channel, 72 with one for all six; tiles of pixels gain nothing, and 8->8 at 16x16 loses 12 %. */
enum { FEW_CHANNELS = 8, FEW_FOR_TILES = 3 };
/* Products of a register tile up to which several side by side are one call. Longer ones go down two rows before the next
 * column, whose rows are then in L1: with all in one call 64->64 3x3 at 224x224 loses 2 % on a Zen 1, where 3->64 in
 * channels-last takes 6.3 ms in place of 9.3. */
enum { MOST_CHAINED = 256 };
enum { FAR_IMAGES = 1 << 21, FEW_OUTPUTS = 64, MANY_PAGES = 64, FAR_CHANNELS = 1 << 13, PAGE_BYTES = 1 << 12, L1_WAYS = 8 }; /* see `stays` in pixels.h */
/* Panels that are multiplied together, from three on that take half an L1 at most, and channels with each of them. */
enum { MOST_PANELS = 16, PANEL_BYTES = 1 << 14, MOST_BELOW = 16 };
enum { PACKED_AHEAD = 512 }; /* bytes of the weights of each output channel that are fetched ahead of packing them */
enum { AHEAD = 8, ROWS_TOGETHER = 64, MOST_PHASES = 64 }; /* packing: rows fetched ahead; rows and phases done together */
enum { TURN_AHEAD = 512 }; /* bytes of each channel that are fetched ahead of turning them; to L2, as 16 channels may share a set of L1 */
static i64 steps_of(const fc_conv *p)
{
    return taps_of(p) * (p->icg <= least(p->few, p->ic_block) ? p->icg : 1);
}

/* Where a step starts, in weights and in pixels, in elements; the part of a register tile that it is for, and how many
 * channels it goes over. */
typedef struct {
    i64 a, b;
    int part, channels;
} step_start;

/* What one call of a micro-kernel sums over; distances in elements. */
typedef struct {
    i64 taps, channels; /* steps, and channels of each; where these are in the lanes see join_steps */
    i64 products;       /* there: of all steps and channels */
    i64 a_channel, b_channel, b_row, b_col;
    const step_start *start;
} steps;

/* A task: one d-slice z of image n and group g (depthwise: and those behind it), rows x cols outputs (or tiles) from (y0, x0), channels [o0, o1). */
typedef struct {
    i64 n, g, z, y0, x0, rows, cols, o0, o1;
} block;

/* The channels vary fastest: tasks that follow each other read the same input. */
static block block_of(const fc_conv *p, i64 task)
{
    const i64 splits = (p->ocg + p->oc_step - 1) / p->oc_step, across = (p->w.out + p->cols - 1) / p->cols;
    const i64 down = (p->h.out + p->rows - 1) / p->rows;
    block b = {.o0 = task % splits * p->oc_step};
    b.x0 = (task /= splits) % across * p->cols;
    b.y0 = (task /= across) % down * p->rows;
    b.z = (task /= down) % p->d.out;
    const i64 groups = (p->g + p->g_step - 1) / p->g_step;
    b.g = (task /= p->d.out) % groups * p->g_step;
    b.n = task / groups * p->n_step;
    b.o1 = least(b.o0 + p->oc_step, p->ocg);
    b.cols = least(p->cols, p->w.out - b.x0);
    b.rows = least(p->rows, p->h.out - b.y0);
    return b;
}

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* The larger ones of two vectors' elements, where none is NaN. */
#if defined(__AVX512F__)
#define LARGER_F32(a, b) _mm512_max_ps((__m512)(a), (__m512)(b))
#define LARGER_F64(a, b) _mm512_max_pd((__m512d)(a), (__m512d)(b))
#elif defined(__AVX2__)
#define LARGER_F32(a, b) _mm256_max_ps((__m256)(a), (__m256)(b))
#define LARGER_F64(a, b) _mm256_max_pd((__m256d)(a), (__m256d)(b))
#elif defined(__x86_64__)
#define LARGER_F32(a, b) _mm_max_ps((__m128)(a), (__m128)(b))
#define LARGER_F64(a, b) _mm_max_pd((__m128d)(a), (__m128d)(b))
#elif defined(__aarch64__)
#define LARGER_F32(a, b) vmaxq_f32((float32x4_t)(a), (float32x4_t)(b))
#define LARGER_F64(a, b) vmaxq_f64((float64x2_t)(a), (float64x2_t)(b))
#endif

/* What EVEN_OF_HALVES and ODD_OF_HALVES leave out of order; whole vectors are in order. */
#if SHIFTS
#define IN_ORDER(v) (v)
#else
#define IN_ORDER(v) (vec)_mm256_permute4x64_pd((__m256d)(v), 0xd8)
#endif

/* Rows of a strip, of one phase of the columns: every phase of the rows with what the taps reach beyond, or, where that is
 * less, a band of rows for each tap. */
static int in_bands(const fc_conv *p) { return p->h.taps * p->rows < p->h.phases * (p->rows + p->h.reach); }

static i64 strip_rows(const fc_conv *p, i64 rows)
{
    return in_bands(p) ? p->h.taps * rows : p->h.phases * (rows + p->h.reach);
}

/* The row of the strip that tap i of the first row of outputs reads. */
static i64 tap_row(const fc_conv *p, i64 rows, i64 i)
{
    return in_bands(p) ? i * rows : p->h.tap_phase[i] * (rows + p->h.reach) + p->h.tap_offset[i];
}

/* The padded position that a tap of output 0 reads. */
static i64 tap_at(const fc_axis *axis, i64 tap)
{
    return axis->tap_offset[tap] * axis->stride + axis->phase[axis->tap_phase[tap]];
}

/* The slice of x that a tap reads for output slice z, -1: zeros. */
static i64 depth_at(const fc_conv *p, i64 z, i64 tap) { return p->d.source[z * p->d.stride + tap_at(&p->d, tap)]; }

/* Inputs along an axis, as far as they are read; zeros are around them. */
static i64 input_size(const fc_axis *axis)
{
    i64 behind = axis->source_len;
    while (behind && axis->source[behind - 1] < 0) behind--;
    return behind ? axis->source[behind - 1] + 1 : 0;
}

/* The padded position of row i of a strip that begins with row y0 of the outputs. */
static i64 padded_row(const fc_conv *p, i64 rows, i64 y0, i64 i)
{
    const fc_axis *const h = &p->h;
    if (in_bands(p)) {
        const i64 tap = i / rows;
        return (y0 + i % rows + h->tap_offset[tap]) * h->stride + h->phase[h->tap_phase[tap]];
    }
    const i64 height = rows + h->reach;
    return (y0 + i % height) * h->stride + h->phase[i / height];
}

/* Whether `cols` pixels of each row follow each other without a gap in what is written. */
static int rows_joined(const fc_conv *p, i64 cols)
{
    return p->out_stride[3] == cols * p->out_stride[4]
           && (!p->residual || p->residual_stride[3] == cols * p->residual_stride[4]);
}

/* Whether kernels themselves may do all that follows the sums: a bias, and a rectification or nothing. */
static int plain_epilogue(const fc_conv *p) { return !p->residual && (p->activation == FC_NONE || p->activation == FC_RELU); }

/* Address of channel 0 of the group and the first pixel of a block. */
#define FIRST_PIXEL(array, stride, p, b)                                                                       \
    ((array) + (b).n * (stride)[0] + (b).g * (p)->ocg * (stride)[1] + (b).z * (stride)[2] + (b).y0 * (stride)[3] \
     + (b).x0 * (stride)[4])

/* A whole vector, which fills a line or half of one, past the caches; what other threads see is in order after STREAMED. */
#if defined(__AVX512F__)
#define STREAM(at, v) _mm512_stream_si512((__m512i *)(at), (__m512i)(v))
#elif defined(__AVX2__)
#define STREAM(at, v) _mm256_stream_si256((__m256i *)(at), (__m256i)(v))
#endif
#ifdef STREAM
#define STREAMED() _mm_sfence()
#else
#define STREAM(at, v) *(at) = (v)
#define STREAMED()
#endif

#define FIRST_LANES(n) ((1u << (n)) - 1) /* as a mask */

#define T float
#define T_BYTES 4
#define FMA "vfmadd231ps"
#define LANE_INT int32_t
#define LOAD_MASKED(from, mask) (vec)_mm512_maskz_loadu_ps((__mmask16)(mask), from)
#define STORE_MASKED(to, value, mask) _mm512_mask_storeu_ps(to, (__mmask16)(mask), value)
#define ALIGN_LANES(high, low, by) _mm512_alignr_epi32((__m512i)(high), (__m512i)(low), by)
#define ALIGN_INSIDE(inside, high, low, by) _mm512_maskz_alignr_epi32((__mmask16)(inside), (__m512i)(high), (__m512i)(low), by)
#if defined(__AVX512F__)
#define LOAD_INSIDE LOAD_MASKED
#elif defined(__AVX2__)
#define LOAD_INSIDE(from, inside) (vec)_mm256_maskload_ps(from, (__m256i)(inside))
#endif
/* Lanes of even and of odd numbers of two vectors, half by half. */
#define EVEN_OF_HALVES(a, b) (vec)_mm256_shuffle_ps((__m256)(a), (__m256)(b), 0x88)
#define ODD_OF_HALVES(a, b) (vec)_mm256_shuffle_ps((__m256)(a), (__m256)(b), 0xdd)
#ifdef LARGER_F32
#define LARGER_OF LARGER_F32
#endif
#define SUFFIX f32
#define EXP expf
#define ERF erff
#define TANH tanhf
#include "product.h"
#include "lanes.h"
#include "store.h"
#include "strip.h"
#include "weights.h"
#include "pixels.h"
#include "channels.h"
#include "depthwise.h"
#include "winograd.h"
#include "pool.h"
#include "stream.h"
#undef T
#undef T_BYTES
#undef FMA
#undef LANE_INT
#undef LOAD_MASKED
#undef STORE_MASKED
#undef ALIGN_LANES
#undef ALIGN_INSIDE
#undef LOAD_INSIDE
#undef EVEN_OF_HALVES
#undef ODD_OF_HALVES
#undef LARGER_OF
#undef SUFFIX
#undef EXP
#undef ERF
#undef TANH

#define T double
#define T_BYTES 8
#define FMA "vfmadd231pd"
#define LANE_INT int64_t
#define LOAD_MASKED(from, mask) (vec)_mm512_maskz_loadu_pd((__mmask8)(mask), from)
#define STORE_MASKED(to, value, mask) _mm512_mask_storeu_pd(to, (__mmask8)(mask), value)
#define ALIGN_LANES(high, low, by) _mm512_alignr_epi64((__m512i)(high), (__m512i)(low), by)
#define ALIGN_INSIDE(inside, high, low, by) _mm512_maskz_alignr_epi64((__mmask8)(inside), (__m512i)(high), (__m512i)(low), by)
#if defined(__AVX512F__)
#define LOAD_INSIDE LOAD_MASKED
#elif defined(__AVX2__)
#define LOAD_INSIDE(from, inside) (vec)_mm256_maskload_pd(from, (__m256i)(inside))
#endif
#define EVEN_OF_HALVES(a, b) (vec)_mm256_unpacklo_pd((__m256d)(a), (__m256d)(b))
#define ODD_OF_HALVES(a, b) (vec)_mm256_unpackhi_pd((__m256d)(a), (__m256d)(b))
#ifdef LARGER_F64
#define LARGER_OF LARGER_F64
#endif
#define SUFFIX f64
#define EXP exp
#define ERF erf
#define TANH tanh
#include "product.h"
#include "lanes.h"
#include "store.h"
#include "strip.h"
#include "weights.h"
#include "pixels.h"
#include "channels.h"
#include "depthwise.h"
#include "winograd.h"
#include "pool.h"

const fc_isa PASTE(fc_isa_, ISA) = {
    STRING(ISA), VECTOR_BYTES, widest_panel, MOST_PIXELS,
    {[FC_PIXELS] = FEW_CHANNELS, [FC_CHANNELS] = FEW_FOR_TILES, [FC_DEPTHWISE] = FEW_CHANNELS, [FC_WINOGRAD] = FEW_CHANNELS},
    has_windows_f32,
    {{pixels_task_f32, pixels_task_f64}, {channels_task_f32, channels_task_f64}, {depthwise_task_f32, depthwise_task_f64},
     {winograd_task_f32, winograd_task_f64}},
    {{pixels_scratch_f32, pixels_scratch_f64}, {channels_scratch_f32, channels_scratch_f64},
     {depthwise_scratch_f32, depthwise_scratch_f64},     {winograd_scratch_f32, winograd_scratch_f64}},
    {pack_task_f32, pack_task_f64},
    {peak_f32, peak_f64},
    {{max_pool_f32, max_pool_f64}, {mean_pool_f32, mean_pool_f64}},
    {pool_scratch_f32, pool_scratch_f64},
    {pool_group_f32, pool_group_f64},
    stream,
};
