"""The geometry of the shifted product, against slices of a padded array."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import pad

from fastconv.lowering import (
    choose_tile,
    gather,
    lower,
    lower_winograd,
    padded,
    row_chunks,
    source_table,
    strip_pixels,
)
from fastconv.spec import PADDING_MODES, parse_layer

LAYERS = [
    "ih5k3", "ih5k3s2p1", "n2ic3ih7iw6oc4kh3kw2s2pt1pb0pl2pr1", "ic4ih9oc6k3d2p2g2", "iw11k4s3d2pl3", "ic2iw6k1",
    "id5ih4iw6k2s2p1", "ic2id4ih5iw3kd3kh1kw2pf1pk1d1", "ih8k3s4", "ih6k5p4",
]  # fmt: skip


def volume(spec, rng):
    """An input with the axes (n, ic, d, h, w), and its padded form."""
    x = rng.integers(1, 100, (spec.n, spec.ic, *spec.input_size)).astype("float32")
    big = pad(x, spec.padding, spec.padding_mode)
    ones = (1,) * (3 - spec.ndim)
    return x.reshape(*x.shape[:2], *ones, *x.shape[2:]), big.reshape(*big.shape[:2], *ones, *big.shape[2:])


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("padding", [(0, 0), (1, 0), (0, 3), (3, 2)])
def test_source_table_is_numpy_pad_of_positions(mode, padding):
    expected = pad(np.arange(1, 5)[None, None], [padding], mode)[0, 0] - 1
    assert source_table(4, padding, mode).tolist() == expected.tolist()


def test_source_table_extends_with_zeros():
    assert source_table(2, (1, 1), "replicate", length=7).tolist() == [0, 0, 1, 1, -1, -1, -1]


@pytest.mark.parametrize("text", LAYERS)
def test_every_tap_reads_its_phase_at_its_offset(text, rng):
    spec = parse_layer(text)
    for axis, k, d in zip(lower(spec).axes[3 - spec.ndim :], spec.kernel_size, spec.dilation, strict=True):
        for tap in range(k):
            phase, offset = axis.phases[axis.tap_phase[tap]], axis.tap_offset[tap]
            assert phase < axis.stride
            assert phase + axis.stride * offset == tap * d
            assert axis.positions(0, axis.out)[tap].tolist() == [
                axis.source[o * axis.stride + tap * d] for o in range(axis.out)
            ]


@pytest.mark.parametrize("text", LAYERS)
def test_reach_stays_inside_the_phases(text):
    for axis in lower(parse_layer(text)).axes:
        for tap_phase, offset in zip(axis.tap_phase, axis.tap_offset, strict=True):
            assert axis.out + offset <= axis.source[axis.phases[tap_phase] :: axis.stride].size
            assert offset <= axis.reach


def test_phases_that_no_tap_reads_are_left_out():
    assert lower(parse_layer("ih9k1s3")).h.phases == (0,)
    assert lower(parse_layer("ih9k3s2d2")).h.phases == (0,)


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("text", LAYERS)
def test_padded_is_numpy_pad(text, mode, rng):
    spec = parse_layer(text) if text != "ih6k5p4" else parse_layer("ih6k5p4", padding_mode=mode)
    x, big = volume(spec, rng)
    assert np.array_equal(padded(x, lower(spec)), big)


@pytest.mark.parametrize("text", LAYERS)
def test_gather_writes_what_each_tap_reads(text, rng):
    spec = parse_layer(text)
    low, (x, big) = lower(spec), volume(spec, rng)
    lead = (1,) * (3 - spec.ndim)
    kernel, stride, dilation = (*lead, *spec.kernel_size), (*lead, *spec.stride), (*lead, *spec.dilation)
    size = tuple(axis.out for axis in low.axes)
    out = np.full((spec.ic, *kernel, *size), np.nan, "float32")
    gather(x[0], low, tuple(slice(0, s) for s in size), out)
    for tap in np.ndindex(*kernel):
        window = tuple(
            slice(r * d, r * d + (o - 1) * s + 1, s) for r, d, s, o in zip(tap, dilation, stride, size, strict=True)
        )
        assert np.array_equal(out[(slice(None), *tap)], big[(0, slice(None), *window)])


@pytest.mark.parametrize("limit", [1, 50, 200, 10**6])
@pytest.mark.parametrize("text", LAYERS)
def test_chunks_cover_every_output_once_within_the_limit(text, limit):
    low = lower(parse_layer(text))
    seen = np.zeros([axis.out for axis in low.axes], int)
    for block in row_chunks(low, limit):
        seen[block] += 1
        pixels = math.prod(s.stop - s.start for s in block)
        assert pixels == 1 or pixels * low.icg * low.taps <= limit
    assert (seen == 1).all()


tiles = st.tuples(
    st.sampled_from([*LAYERS, "n8ic64ih56oc64k3p1", "ic8ih7oc512k3p1", "ic3ih224oc64k7s2p3", "oc1ih64iw2000k15"]),
    st.sampled_from([64, 1000, 20000]), st.integers(1, 8), st.sampled_from([1, 8, 16]),
)  # fmt: skip


@settings(deadline=None)
@given(tiles)
def test_tiles_have_a_size_and_stay_inside_the_output(chosen):
    text, pixels, threads, unit = chosen
    low = lower(parse_layer(text))
    tile = choose_tile(low, pixels, threads, unit)
    assert min(tile.rows, tile.cols, tile.oc_step) >= 1
    assert tile.rows <= low.h.out and tile.cols <= low.w.out


@settings(deadline=None)
@given(tiles)
def test_tiles_keep_the_strip_within_budget(chosen):
    text, pixels, threads, unit = chosen
    low = lower(parse_layer(text))
    tile = choose_tile(low, pixels, threads, unit)
    assert (tile.rows, tile.cols) == (1, 1) or strip_pixels(low, tile.rows, tile.cols) <= pixels


@settings(deadline=None)
@given(tiles)
def test_tiles_split_channels_in_whole_units(chosen):
    text, pixels, threads, unit = chosen
    low = lower(parse_layer(text))
    tile = choose_tile(low, pixels, threads, unit)
    assert tile.oc_step >= low.ocg or tile.oc_step % unit == 0


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("text", ["ic64ih56oc64k3p1", "ic256ih14oc256k3p1", "ic64ih56oc256", "n8ic16ih8oc16k3"])
def test_tiles_keep_all_threads_busy(text, threads):
    low = lower(parse_layer(text))
    tile = choose_tile(low, 20000, threads, 8)
    tasks = low.n * low.g * low.d.out * math.prod(
        -(-size // step) for size, step in
        ((low.h.out, tile.rows), (low.w.out, tile.cols), (low.ocg, tile.oc_step))
    )  # fmt: skip
    longest_share = -(-tasks // threads) * threads / tasks
    assert longest_share <= 1.4


@pytest.mark.parametrize("m", [2, 4, 6])
@pytest.mark.parametrize("text", ["ih8k3", "ic2ih9iw13oc3k3p1", "ih3k3", "n2ih10k3pt1pl2"])
def test_winograd_tiles_cover_the_output(text, m):
    spec = parse_layer(text)
    low = lower_winograd(spec, (m, m), (0, 0))
    for axis, out in zip((low.h, low.w), spec.output_size, strict=True):
        assert axis.out * m >= out > (axis.out - 1) * m
        assert axis.source.size >= (axis.out - 1) * m + m + 2
        assert len(axis.tap_offset) == m + 2


@pytest.mark.parametrize(("text", "dense"), [("ih5k3", 1), ("ih5k3p1", 0), ("ih5k3s2", 0), ("ih5k3d2", 1)])
def test_dense_means_that_taps_read_x_itself(text, dense):
    assert lower(parse_layer(text)).dense == dense
