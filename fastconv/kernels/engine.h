/* The engine's C side: what the compiled kernels are told, and how they are chosen and run.
 *
 * Every kernel file is compiled once per instruction set; engine.c holds the table of what was
 * compiled and the thread pool. Nothing here knows Python. */
#ifndef FASTCONV_ENGINE_H
#define FASTCONV_ENGINE_H

#include <stddef.h>
#include <stdint.h>

typedef int64_t i64;

enum fc_activation {
    FC_NONE, FC_RELU, FC_RELU6, FC_SILU, FC_GELU, FC_GELU_TANH, FC_HARDSWISH, FC_LEAKY_RELU
};

/* What the lanes of a vector are: neighbouring pixels of one output channel (depthwise: of one input channel, too), or output
 * channels of one pixel. */
enum fc_algorithm { FC_PIXELS, FC_CHANNELS, FC_DEPTHWISE, FC_WINOGRAD, FC_ALGORITHMS };

/* One spatial axis of a lowered layer; see fastconv/lowering.py for the meaning of the tables. */
typedef struct {
    i64 out, stride, taps, phases, reach, source_len;
    i64 before; /* where what lies around the input is zeros: the padded position of input 0; else -1 */
    const i64 *source;     /* [source_len] input position of a padded position, -1 = zero */
    const i64 *phase;      /* [phases] */
    const i64 *tap_phase;  /* [taps] index into phase */
    const i64 *tap_offset; /* [taps] */
} fc_axis;

/* Winograd's F(m, r) along one axis: m outputs from alpha = m + r - 1 inputs; m = alpha = 1: the axis is left as it is. */
typedef struct {
    i64 m, alpha, out;   /* outputs of a tile, and of the layer: the last tile hangs over */
    const void *bt, *at; /* [alpha][alpha] and [m][alpha] of T */
} fc_transform;

/* One layer on one set of arrays. Strides are in bytes, axes (n, c, d, h, w), and may have any sign.
 * `out` overlaps nothing else. */
typedef struct {
    i64 n, g, icg, ocg;
    fc_axis d, h, w;
    i64 rows, cols, oc_step; /* a task: rows x cols outputs of one d-slice, oc_step channels */
    i64 g_step;              /* of so many groups; 1 but for depthwise kernels */
    i64 n_step;              /* of so many images; 1 but for Winograd */
    i64 ic_block;            /* channels summed from zero before they are added; part of the algorithm */
    i64 held;                /* channels in the lanes: input channels packed at a time, all or a number of blocks */
    i64 few;                 /* input channels up to which each is a step of its own */
    i64 mr;                  /* output channels of a register block of the kernels with pixels in the lanes */
    i64 lanes, lane_unit;    /* packed weights: output channels of a block; the last one is rounded up to units */
    int interleaved;         /* the two phases of a stride of 2 lie side by side in a strip, as in x; else one behind the other */
    int stream;              /* results go past the caches, which would not hold them */
    int dense;               /* no padding, stride 1: every tap is another start address in x */
    const char *x;
    i64 x_stride[5];
    char *out;
    i64 out_stride[5];
    const char *residual; /* or NULL */
    i64 residual_stride[5];
    const void *bias;   /* [g * ocg] or NULL */
    const void *packed; /* weights [g][oc block][ic block][tap][channel][lane], or NULL: there are only `weights`, which none but
                         * depthwise kernels read */
    int finite;           /* no weight is an infinity or NaN: its product with a zero of the padding is zero */
    const char *weights;
    i64 weight_stride[5]; /* (oc, ic, kd, kh, kw), multiples of the element size */
    int activation;
    double parameter;
    char *scratch; /* scratch_bytes for every worker, aligned to 64 */
    i64 scratch_bytes;
    /* Winograd only; there h.out and w.out count tiles, packed is [g][oc block][element of a tile][channel][lane] */
    fc_transform th, tw;
    const char *ran;     /* set by the kernels: the name of the instruction set that really ran */
} fc_conv;

/* Where channels are in the lanes: a tile reads every second pixel of a row as well as every one. */
static inline int fc_interleaves(const fc_conv *conv, int algorithm)
{
    return algorithm == FC_CHANNELS && conv->w.stride == 2 && conv->w.phases == 2;
}

/* The windows of a pooling along one axis: window o shows start + o * stride + k * dilation. */
typedef struct {
    i64 size, out, start, stride, kernel, dilation;
    const i64 *count; /* means: elements of each window; or NULL, where the divisor is given */
} fc_pool_axis;

/* A pooling. Strides are in bytes, axes (n, c, d, h, w); elements of a row of x follow each other. */
typedef struct {
    i64 n, c;
    fc_pool_axis axis[3];
    i64 planes, bands; /* a task is one of so many bands of rows of outputs, of so many planes */
    const char *x, *x_end; /* the last element ends there */
    i64 x_stride[5];
    char *out;
    i64 out_stride[5];
    double divisor; /* of means; 0: the product of the axes' counts */
    char *scratch;  /* as in fc_conv */
    i64 scratch_bytes;
} fc_pool;

typedef void (*task_fn)(void *context, i64 task, int worker);
typedef i64 (*scratch_fn)(const fc_conv *conv);

typedef struct {
    const char *name;
    int vector_bytes;
    i64 (*widest_panel)(i64 mr); /* with pixels in the lanes, in vectors */
    int most_pixels; /* of a register tile with channels in the lanes */
    i64 few[FC_ALGORITHMS]; /* see fc_conv */
    int (*has_windows)(i64 taps, i64 stride); /* whether windows of taps x taps may be read where they lie */
    /* [0] float32, [1] float64 */
    task_fn task[FC_ALGORITHMS][2];       /* the context is an fc_conv */
    scratch_fn scratch[FC_ALGORITHMS][2]; /* bytes that a worker needs */
    task_fn pack[2];                      /* writes a block of packed weights; the same */
    task_fn peak[2];
    task_fn pool[2][2]; /* largest elements, means; the context is an fc_pool */
    i64 (*pool_scratch[2])(const fc_pool *pool);
    i64 (*pool_group[2])(const fc_pool *pool); /* planes that are best pooled together */
    task_fn stream; /* the context is an fc_stream */
} fc_isa;

/* The probe of bandwidth: a slice of `bytes` for every worker from `data` on, gone over `passes` times a task: read, or `half` bytes copied. */
typedef struct {
    char *data;
    i64 bytes, half, passes;
} fc_stream;

/* Run the layer; with a `room`, its plain `weights` are packed first, those of as many output channels at a time as fit so
 * many bytes at `packed`, where one block must. Returns as fc_parallel_for. */
int fc_convolve(fc_conv *conv, const fc_isa *isa, int algorithm, int kind, void *packed, i64 room, int threads);

/* The instruction sets that were compiled in, best first; NULL ends. */
extern const fc_isa *const fc_isas[];
int fc_isa_present(const fc_isa *isa);

/* Run task(context, 0..count-1, worker) on up to `threads` threads, the caller among them; worker is
 * below `threads` and no two tasks run at once under one number. Serial when nested or when another
 * caller has the pool; survives fork. Returns whether `fc_interrupted` ended it early. */
int fc_parallel_for(task_fn task, void *context, i64 count, int threads);

/* Asked by the caller's thread between two tasks, when it was not asked for CHECK_NANOSECONDS; may be NULL. */
extern int (*fc_interrupted)(void);

/* Scratch that the engine owns, aligned to 64 bytes, kept between calls up to a bound. NULL: no memory. */
void *fc_borrow(i64 bytes);
void fc_give_back(void *scratch);
void fc_keep_at_most(i64 bytes); /* 0 also frees what is kept now */
i64 fc_kept(void);

#endif
