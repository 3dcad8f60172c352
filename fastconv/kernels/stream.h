/* The other probe of the machine: bytes per second between the core and whichever cache level the buffer fits.
 * Included by isa.c once, on float vectors. */

/* Task: `passes` times over the slice of its worker, so that a slice stays in that core's caches. Reads all of it, or,
 * where `half` is not 0, copies so many bytes to so far behind. bytes and half are multiples of 512. */
static void stream(void *context, i64 task, int worker)
{
    enum { AT_ONCE = 8 };
    const fc_stream *const s = context;
    float *const data = (float *)(s->data + worker * s->bytes);
    const i64 step = AT_ONCE * VECTOR_BYTES / (i64)sizeof(float), length = (s->half ? s->half : s->bytes) / (i64)sizeof(float);
    float *const to = data + s->half / (i64)sizeof(float);
    (void)task;
    vec_f32 sum[AT_ONCE] = {0};
    for (i64 pass = 0; pass < s->passes; pass++) {
        if (s->half)
            for (i64 i = 0; i < length; i += step) {
#pragma GCC unroll 8
                for (int j = 0; j < AT_ONCE; j++)
                    ((loose_vec_f32 *)(to + i))[j] = ((const loose_vec_f32 *)(data + i))[j];
            }
        else
            for (i64 i = 0; i < length; i += step) {
#pragma GCC unroll 8
                for (int j = 0; j < AT_ONCE; j++) sum[j] += ((const loose_vec_f32 *)(data + i))[j];
            }
        __asm__ volatile("" ::: "memory"); /* every pass is made */
    }
    for (int j = 1; j < AT_ONCE; j++) sum[0] += sum[j];
    if (!s->half) data[0] = sum[0][0] * 0; /* uses the sum, so that the loop stays */
}
