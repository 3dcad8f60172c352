"""Bad input: an error of the right type that names argument, value and remedy, and nothing is computed."""

import re

import numpy as np
import pytest

import fastconv

X = {n: np.ones((2, 4, *(7, 8, 9)[:n]), "float32") for n in (1, 2, 3)}
W = {n: np.ones((6, 4, *(3,) * n), "float32") for n in (1, 2, 3)}
OUT = {n: (2, 6, *(5, 6, 7)[:n]) for n in (1, 2, 3)}
NAMES = tuple(b.name for b in fastconv.registry.BACKENDS)


def conv(ndim, x=None, w=None, *args, **options):
    function = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}[ndim]
    return function(X[ndim] if x is None else x, W[ndim] if w is None else w, *args, **options)


def plan(ndim, x=None, w=None, *args, **options):
    return fastconv.plan(W[ndim] if w is None else w, X[ndim].shape if x is None else x.shape, *args, **options)


def explain(ndim, x=None, w=None, *args, **options):
    return fastconv.explain(X[ndim] if x is None else x, W[ndim] if w is None else w, *args, **options)


ENTRANCES = {"conv": conv, "plan": plan, "explain": explain}


@pytest.fixture(params=[1, 2, 3], ids=["1d", "2d", "3d"])
def ndim(request):
    return request.param


@pytest.fixture(params=ENTRANCES)
def entrance(request):
    """conv1d/2d/3d, plan or explain: the same layer enters through each."""
    return ENTRANCES[request.param]


def refuses(error, *words):
    """The call fails with exactly this type, and the message has all of the words."""
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(w)})" for w in words))


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", ["stride", "dilation"])
def test_stride_and_dilation_below_one(entrance, ndim, name, value):
    with refuses(ValueError, name, str(value), "at least 1"):
        entrance(ndim, **{name: value})


@pytest.mark.parametrize("value", [1.0, True, np.True_, "1", None, np.float32(2), np.array([1, 1])], ids=repr)
@pytest.mark.parametrize("name", ["stride", "dilation", "padding", "groups"])
def test_other_types_where_an_int_belongs(entrance, ndim, name, value):
    if name == "padding" and isinstance(value, str):
        with refuses(ValueError, "padding='1'", "choose"):
            entrance(ndim, padding=value)
        return
    with refuses(TypeError, name, "must be an int"):
        entrance(ndim, **{name: value})


@pytest.mark.parametrize("name", ["stride", "dilation", "padding"])
def test_other_types_inside_a_tuple(entrance, ndim, name):
    with refuses(TypeError, name, "1.5", "must be an int"):
        entrance(ndim, **{name: (1.5,) * ndim})


@pytest.mark.parametrize("length", [0, 4])
@pytest.mark.parametrize("name", ["stride", "dilation", "padding"])
def test_tuples_of_the_wrong_length(entrance, ndim, name, length):
    with refuses(ValueError, name, str((1,) * length), f"{ndim} of them"):
        entrance(ndim, **{name: (1,) * length})


@pytest.mark.parametrize("padding", [((1, 1),) * 4, ((1, 1, 1),), ((1,),), (1, (1, 1)), ((), (), ())])
def test_padding_pairs_of_the_wrong_form(entrance, ndim, padding):
    with refuses(ValueError, "padding", str(padding), "(before, after) pairs"):
        entrance(ndim, padding=padding)


def test_negative_padding(entrance, ndim):
    with refuses(ValueError, "padding", "-1", "slicing"):
        entrance(ndim, padding=-1)


def test_negative_padding_on_one_side(entrance, ndim):
    with refuses(ValueError, "padding", "-2", "slicing"):
        entrance(ndim, padding=((3, -2),) * ndim)


def test_unknown_padding_name(entrance, ndim):
    with refuses(ValueError, "padding='Same'", "'same'", "'valid'", "'full'"):
        entrance(ndim, padding="Same")


@pytest.mark.parametrize("n", [2, 3])
def test_causal_padding_is_for_one_axis(entrance, n):
    with refuses(ValueError, "padding='causal'", "conv1d"):
        entrance(n, padding="causal")


@pytest.mark.parametrize("groups", [0, -2])
def test_groups_below_one(entrance, ndim, groups):
    with refuses(ValueError, f"groups={groups}", "at least 1"):
        entrance(ndim, groups=groups)


def test_groups_that_do_not_divide_the_input_channels(entrance, ndim):
    with refuses(ValueError, "groups=3", "4 channels"):
        entrance(ndim, w=W[ndim][:, :1], groups=3)


def test_groups_that_do_not_divide_the_output_channels(entrance, ndim):
    with refuses(ValueError, "groups=2", "must divide", "5 output"):
        entrance(ndim, w=W[ndim][:5, :2], groups=2)


def test_channel_counts_that_differ(entrance, ndim):
    with refuses(ValueError, "x has 4 channels", "takes 3"):
        entrance(ndim, w=W[ndim][:, :3])


def test_channels_last_array_in_a_channels_first_call(entrance, ndim):
    with refuses(ValueError, "channels", "is read as NC"):
        entrance(ndim, x=np.ascontiguousarray(np.moveaxis(X[ndim], 1, -1)))


@pytest.mark.parametrize("rank", [0, 1, 5, 6])
def test_x_of_the_wrong_rank(rank):
    with refuses(ValueError, "x has shape", str((1,) * rank), "expected (n, ic, ih, iw)"):
        conv(2, x=np.ones((1,) * rank, "float32"))


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 5])
def test_w_of_the_wrong_rank(rank):
    with refuses(ValueError, "w has shape", str((1,) * rank), "expected (oc, ic / groups, kh, kw)"):
        conv(2, w=np.ones((1,) * rank, "float32"))


def test_plain_x_with_a_full_w():
    with refuses(ValueError, "w has shape (6, 4, 3, 3)", "plain x", "x[None]"):
        conv(2, x=X[2][0, 0])


@pytest.mark.parametrize("rank", [0, 6])
@pytest.mark.parametrize("entrance", [plan, explain])
def test_w_of_an_impossible_rank(entrance, rank):
    with refuses(ValueError, "w has shape", "1 to 3 spatial axes"):
        entrance(2, w=np.ones((1,) * rank, "float32"))


@pytest.mark.parametrize("shape", [(), (5,), (7,), (6, 1)])
def test_bias_of_the_wrong_length(entrance, ndim, shape):
    with refuses(ValueError, "bias", str(shape), "(6,)"):
        entrance(ndim, None, None, np.ones(shape, "float32"))


def test_bias_of_another_dtype(entrance, ndim):
    with refuses(TypeError, "bias has dtype float64", "float32", "astype"):
        entrance(ndim, None, None, np.ones(6))


def test_residual_of_another_shape(ndim):
    with refuses(ValueError, "residual", "(1,)", str(OUT[ndim])):
        conv(ndim, residual=np.ones(1, "float32"))


def test_residual_of_another_dtype(ndim):
    with refuses((ValueError, TypeError), "residual", "float64", "float32"):
        conv(ndim, residual=np.ones(OUT[ndim]))


def test_mixed_dtypes(ndim):
    with refuses(TypeError, "x has dtype float64 and w has float32", "astype"):
        conv(ndim, x=X[ndim].astype("float64"))


def test_kernel_larger_than_the_padded_input(entrance, ndim):
    with refuses(ValueError, "kernel spans 10", "padded input has 9", "pad by 1 more"):
        entrance(ndim, w=np.ones((6, 4, *(10,) * ndim), "float32"), padding=((1, 1), (5, 5), (5, 5))[:ndim])


def test_dilated_kernel_larger_than_the_input(entrance, ndim):
    with refuses(ValueError, "kernel spans 9", "has 7"):
        entrance(ndim, dilation=4)


def test_reflect_padding_beyond_the_image(entrance, ndim):
    with refuses(ValueError, "padding=(7, 7)", "padding_mode='reflect'", "at most 6", "smaller padding"):
        entrance(ndim, padding=7, padding_mode="reflect")


@pytest.mark.parametrize("name", ["padding_mode", "layout", "accuracy", "activation", "backend"])
def test_unknown_names(entrance, ndim, name):
    with refuses(ValueError, f"{name}='nonsense'", "choose"):
        entrance(ndim, **{name: "nonsense"})


def test_layout_of_another_rank(entrance):
    with refuses(ValueError, "layout='NHWC'", "1 spatial", "NCW or NWC"):
        entrance(1, layout="NHWC")


def test_unknown_backend_lists_those_there_are(entrance, ndim):
    with refuses(ValueError, "backend='torch'", "'auto'", *NAMES):
        entrance(ndim, backend="torch")


@pytest.mark.parametrize("value", [None, 3, ["naive"]])
def test_backend_that_is_no_string(entrance, ndim, value):
    with refuses(TypeError, f"backend={value!r}", "string"):
        entrance(ndim, backend=value)


@pytest.mark.parametrize("activation", [3, ("leaky_relu",), ["relu", 1], (None, 2, 3), ("leaky_relu", "steep")])
def test_activation_of_another_form(entrance, ndim, activation):
    with refuses(TypeError, f"activation={activation!r}"):
        entrance(ndim, activation=activation)


def test_parameter_for_an_activation_without_one(entrance, ndim):
    with refuses(ValueError, "activation=('relu', 0.5)", "leaky_relu"):
        entrance(ndim, activation=("relu", 0.5))


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)])
def test_max_workspace_that_is_no_size(entrance, ndim, value, error):
    with refuses(error, f"max_workspace={value!r}"):
        entrance(ndim, max_workspace=value)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-3, ValueError), (1.0, TypeError), (True, TypeError)])
def test_threads_that_are_no_number(ndim, value, error):
    with refuses(error, f"threads={value!r}", "must be"):
        conv(ndim, threads=value)


@pytest.mark.parametrize("shape", [5, None, (2, 4, 7.0, 8), (2, 4, True, 8), "abcd"])
def test_x_shape_that_is_no_shape(shape):
    with refuses(TypeError, "x_shape"):
        fastconv.plan(W[2], shape)


def test_x_shape_with_a_negative_size():
    with refuses(ValueError, "-2", "negative"):
        fastconv.plan(W[2], (-2, 4, 7, 8))


def test_plan_called_with_another_shape(ndim):
    with refuses(ValueError, "x has shape", str(X[ndim][:1].shape), "for_shape"):
        plan(ndim)(X[ndim][:1])


def test_plan_called_with_another_dtype(ndim):
    with refuses(TypeError, "x has dtype float64", "float32"):
        plan(ndim)(X[ndim].astype("float64"))


@pytest.mark.parametrize("shape", [(2, 3, 7, 8), (4, 7, 8), (2, 4, 7)])
def test_for_shape_of_another_layer(shape):
    with refuses(ValueError, f"x_shape={shape}"):
        plan(2).for_shape(shape)


@pytest.mark.parametrize("shape", [5, (2, 4, 7.0, 8)])
def test_for_shape_that_is_no_shape(shape):
    with refuses(TypeError, "x_shape"):
        plan(2).for_shape(shape)
