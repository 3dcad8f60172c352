/* Runs one layer on the kernels without Python, so that an emulator can run them for another processor.
 * Reads a layer from standard input (int64 numbers, then arrays, in the order below; written by
 * tests/test_emulated.py) and writes the result and the name of the instruction set to standard output.
 * Argument: the name of an instruction set; default: the first one present. */
#include "../fastconv/kernels/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *read_bytes(size_t count)
{
    void *data = aligned_alloc(64, (count + 127) / 64 * 64);
    if (!data || fread(data, 1, count, stdin) != count) exit(2);
    return data;
}

static i64 number(void)
{
    i64 value;
    if (fread(&value, sizeof value, 1, stdin) != 1) exit(2);
    return value;
}

/* Five strides, then how many bytes, then these; none: NULL. */
static char *array(i64 stride[5], i64 *bytes)
{
    for (int i = 0; i < 5; i++) stride[i] = number();
    *bytes = number();
    return *bytes ? read_bytes(*bytes) : NULL;
}

static fc_axis axis(void)
{
    fc_axis a = {.out = number()};
    a.stride = number();
    a.before = number();
    a.reach = number();
    a.source_len = number();
    a.source = read_bytes(a.source_len * sizeof(i64));
    a.phases = number();
    a.phase = read_bytes(a.phases * sizeof(i64));
    a.taps = number();
    a.tap_phase = read_bytes(a.taps * sizeof(i64));
    a.tap_offset = read_bytes(a.taps * sizeof(i64));
    return a;
}

int main(int argc, char **argv)
{
    const fc_isa *isa = NULL;
    for (int i = 0; fc_isas[i] && !isa; i++)
        if (argc > 1 ? !strcmp(argv[1], fc_isas[i]->name) : fc_isa_present(fc_isas[i])) isa = fc_isas[i];
    if (!isa || !fc_isa_present(isa)) return 3;

    const i64 item = number(), threads = number(), kind = item == 8;
    fc_conv p = {.n = number()};
    i64 room, dense, kind_of_lanes;
    i64 *const fields[] = {&p.g,         &p.icg,    &p.ocg,    &p.rows, &p.cols,  &p.oc_step, &p.g_step, &p.n_step, &p.ic_block, &p.held, &p.mr, &p.lanes,
                           &p.lane_unit, &room, &dense, &kind_of_lanes, &p.th.m, &p.th.alpha, &p.th.out, &p.tw.m, &p.tw.alpha, &p.tw.out};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) *fields[i] = number();
    p.dense = (int)dense;
    p.stream = 1; /* which only large results do */
    p.finite = (int)number();
    p.activation = (int)number();
    memcpy(&p.parameter, &(i64){number()}, sizeof p.parameter);
    p.d = axis();
    p.h = axis();
    p.w = axis();
    i64 bytes, out_bytes, unused[5];
    p.x = array(p.x_stride, &bytes);
    p.out = array(p.out_stride, &out_bytes);
    p.residual = array(p.residual_stride, &bytes);
    p.bias = array(unused, &bytes);
    p.packed = array(unused, &bytes);
    p.weights = array(p.weight_stride, &bytes);
    for (int i = 0; i < 2; i++) {
        fc_transform *const t = i ? &p.tw : &p.th;
        t->bt = array(unused, &bytes);
        t->at = array(unused, &bytes);
    }
    const int algorithm = p.tw.m ? FC_WINOGRAD : (int)kind_of_lanes;
    p.few = isa->few[algorithm];
    p.interleaved = fc_interleaves(&p, algorithm);
    p.scratch_bytes = isa->scratch[algorithm][kind](&p);
    p.scratch = aligned_alloc(64, (size_t)(threads * p.scratch_bytes + room));
    fc_convolve(&p, isa, algorithm, kind, p.scratch + threads * p.scratch_bytes, p.packed ? 0 : room, (int)threads);
    fwrite(p.out, 1, (size_t)out_bytes, stdout);
    fputs(p.ran ? p.ran : "nothing", stdout);
    return 0;
}
