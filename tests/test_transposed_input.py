"""Bad input of transposed convolutions: an error of the right type that names argument, value and remedy."""

import re

import numpy as np
import pytest

import fastconv
from fastconv.errors import UnsupportedConv

X = {n: np.ones((2, 4, *(5, 6, 7)[:n]), "float32") for n in (1, 2, 3)}
W = {n: np.ones((4, 6, *(3,) * n), "float32") for n in (1, 2, 3)}
OUT = {n: (2, 6, *(7, 8, 9)[:n]) for n in (1, 2, 3)}


def conv(ndim, x=None, w=None, *args, **options):
    call = {1: fastconv.conv_transpose1d, 2: fastconv.conv_transpose2d, 3: fastconv.conv_transpose3d}[ndim]
    return call(X[ndim] if x is None else x, W[ndim] if w is None else w, *args, **options)


def plan(ndim, x=None, w=None, *args, **options):
    return fastconv.plan_transpose(
        W[ndim] if w is None else w, X[ndim].shape if x is None else x.shape, *args, **options
    )


@pytest.fixture(params=[1, 2, 3], ids=["1d", "2d", "3d"])
def ndim(request):
    return request.param


@pytest.fixture(params=[conv, plan])
def entrance(request):
    return request.param


def refuses(error, *words):
    """The call fails with exactly this type, and the message has all of the words."""
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(w)})" for w in words))


def test_channels_that_differ(entrance, ndim):
    with refuses(ValueError, "x has 4 channels", "takes 3", "(ic, oc / groups, k...)", "is read as NC"):
        entrance(ndim, w=W[ndim][:3])


def test_channels_last_array_in_a_channels_first_call(entrance, ndim):
    with refuses(ValueError, "channels", "is read as NC"):
        entrance(ndim, x=np.moveaxis(X[ndim], 1, -1))


@pytest.mark.parametrize("value", [-1, 2, 5])
def test_output_padding_out_of_range(entrance, ndim, value):
    with refuses(ValueError, f"output_padding={(value,) * ndim}", "less than the larger of", "stride", "dilation"):
        entrance(ndim, stride=2, output_padding=value)


def test_output_padding_without_stride(entrance, ndim):
    with refuses(ValueError, "output_padding", "stride", "dilation"):
        entrance(ndim, output_padding=1)


@pytest.mark.parametrize("padding", [4, ((7, 0), (0, 0), (0, 0))])
def test_padding_that_leaves_nothing(entrance, ndim, padding):
    padding = padding if isinstance(padding, int) else padding[:ndim]
    with refuses(ValueError, f"padding={padding}", "leaves an output of size", "use a smaller padding"):
        entrance(ndim, padding=padding)


def test_padding_that_leaves_one_row_is_taken(ndim):
    assert conv(ndim, padding=((3, 3), (0, 0), (0, 0))[:ndim]).shape[2] == 1


def test_negative_padding(entrance, ndim):
    with refuses(ValueError, "padding", "-1", "negative"):
        entrance(ndim, padding=-1)


@pytest.mark.parametrize("name", ["full", "causal", "Same", ""])
def test_unknown_padding_name(entrance, ndim, name):
    with refuses(ValueError, f"padding={name!r}", "'valid'", "'same'", "'same_lower'"):
        entrance(ndim, padding=name)


@pytest.mark.parametrize("padding", [((1, 1),) * 4, ((1, 1, 1),), (1, (1, 1)), ((), (), ())])
def test_padding_pairs_of_the_wrong_form(entrance, ndim, padding):
    with refuses(ValueError, "padding", str(padding), "(before, after) pairs"):
        entrance(ndim, padding=padding)


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", ["stride", "dilation", "groups"])
def test_numbers_below_one(entrance, ndim, name, value):
    with refuses(ValueError, name, str(value), "at least 1"):
        entrance(ndim, **{name: value})


@pytest.mark.parametrize("value", [1.0, True, np.True_, "1", None, np.float32(2), np.array([1, 1])], ids=repr)
@pytest.mark.parametrize("name", ["stride", "dilation", "padding", "output_padding", "groups"])
def test_other_types_where_an_int_belongs(entrance, ndim, name, value):
    if name == "padding" and isinstance(value, str):
        with refuses(ValueError, "padding='1'", "choose"):
            entrance(ndim, padding=value)
        return
    with refuses(TypeError, name, "must be an int"):
        entrance(ndim, **{name: value})


@pytest.mark.parametrize("length", [0, 4])
@pytest.mark.parametrize("name", ["stride", "dilation", "padding", "output_padding"])
def test_tuples_of_the_wrong_length(entrance, ndim, name, length):
    with refuses(ValueError, name, str((1,) * length), f"{ndim} of them"):
        entrance(ndim, **{name: (1,) * length})


def test_groups_that_do_not_divide_the_input_channels(entrance, ndim):
    with refuses(ValueError, "groups=3", "must divide"):
        entrance(ndim, groups=3)


@pytest.mark.parametrize("rank", [0, 1, 5, 6])
def test_x_of_the_wrong_rank(rank):
    with refuses(ValueError, "x has shape", str((1,) * rank), "expected (n, ic, ih, iw)"):
        conv(2, x=np.ones((1,) * rank, "float32"))


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 5])
def test_w_of_the_wrong_rank(rank):
    with refuses(ValueError, "w has shape", str((1,) * rank), "expected (", "kh, kw)"):
        conv(2, w=np.ones((1,) * rank, "float32"))


def test_plain_x_with_a_full_w():
    with refuses(ValueError, "w has shape (4, 6, 3, 3)", "plain x", "x[None]"):
        conv(2, x=X[2][0, 0])


@pytest.mark.parametrize("shape", [(), (4,), (7,), (6, 1)])
def test_bias_of_the_wrong_length(entrance, ndim, shape):
    with refuses(ValueError, "bias", str(shape), "(6,)"):
        entrance(ndim, None, None, np.ones(shape, "float32"))


def test_bias_of_another_dtype(entrance, ndim):
    with refuses(TypeError, "bias has dtype float64", "float32", "astype"):
        entrance(ndim, None, None, np.ones(6))


def test_residual_of_another_shape(ndim):
    with refuses(ValueError, "residual", str(X[ndim].shape), str(OUT[ndim])):
        conv(ndim, residual=X[ndim])


def test_out_of_another_shape(ndim):
    with refuses(ValueError, "out has shape", str(OUT[ndim])):
        conv(ndim, out=np.empty(X[ndim].shape, "float32"))


def test_out_of_another_dtype(ndim):
    with refuses(TypeError, "out has dtype float64", "float32"):
        conv(ndim, out=np.empty(OUT[ndim]))


def test_mixed_dtypes(ndim):
    with refuses(TypeError, "x has dtype float64 and w has float32", "astype"):
        conv(ndim, x=X[ndim].astype("float64"))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_image_without_pixels(entrance, ndim, axis):
    shape = [2, 4, *[3] * ndim]
    shape[2 + axis % ndim] = 0
    with refuses(ValueError, f"x has shape {tuple(shape)}", "at least one element"):
        entrance(ndim, x=np.ones(shape, "float32"))


def test_kernel_without_taps(entrance, ndim):
    with refuses(ValueError, "kernel_size", "0", "at least 1"):
        entrance(ndim, w=W[ndim][:, :, :0], stride=3)


@pytest.mark.parametrize("name", ["layout", "accuracy", "activation", "backend"])
def test_unknown_names(entrance, ndim, name):
    with refuses(ValueError, f"{name}='nonsense'", "choose"):
        entrance(ndim, **{name: "nonsense"})


@pytest.mark.parametrize("value", [1, "yes", None])
def test_flip_kernel_that_is_no_bool(entrance, ndim, value):
    with refuses(TypeError, f"flip_kernel={value!r}", "True or False"):
        entrance(ndim, flip_kernel=value)


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_max_workspace_that_is_no_size(entrance, ndim, value, error):
    with refuses(error, f"max_workspace={value!r}"):
        entrance(ndim, max_workspace=value)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.0, TypeError), (True, TypeError)])
def test_threads_that_are_no_number(ndim, value, error):
    with refuses(error, f"threads={value!r}", "must be"):
        conv(ndim, threads=value)


def test_backend_that_cannot_names_those_that_can():
    with refuses(UnsupportedConv, "'winograd'", "5x1; got 2x2", "phase of the transposed layer", "naive"):
        conv(2, w=np.ones((4, 6, 4, 4), "float32"), stride=2, backend="winograd")


def test_exact_sums_are_refused_by_transforms():
    with refuses(UnsupportedConv, "'fft'", "offers accuracy high or fast; got exact", "naive"):
        conv(2, accuracy="exact", backend="fft")


@pytest.mark.parametrize(("channels", "taps"), [(33100, 1), (16600, 2)])
def test_8_bit_sums_that_can_exceed_int32(channels, taps):
    x, w = np.ones((1, channels, 1), "uint8"), np.ones((channels, 1, taps), "uint8")
    with refuses(ValueError, f"{channels * taps} products of uint8 and uint8 can exceed int32", "int16"):
        fastconv.conv_transpose1d(x, w)
