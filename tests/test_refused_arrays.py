"""Arrays that would be changed silently are refused by name; a bad ``out`` is left as it was."""

import re

import numpy as np
import pytest

import fastconv

X = np.ones((1, 2, 6, 7), "float32")
W = np.ones((3, 2, 3, 3), "float32")
SHAPE = (1, 3, 4, 5)


def misaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    return raw[1:].view(array.dtype).reshape(array.shape)


CHANGES = {
    "masked array": (lambda a: np.ma.masked_array(a), "filled(0)"),
    "numpy.matrix": (lambda a: np.asmatrix(a.reshape(-1, a.shape[-1])), "numpy.asarray"),
    "dtype object": (lambda a: a.astype(object), "supported are"),
    "dtype complex64": (lambda a: a.astype("complex64"), "real and the imaginary"),
    "dtype complex128": (lambda a: a.astype("complex128"), "real and the imaginary"),
    "dtype str": (lambda a: a.astype(str), "supported are"),
    "dtype bytes": (lambda a: a.astype("S3"), "supported are"),
    "dtype float16": (lambda a: a.astype("float16"), "astype('float32')"),
    "dtype bool": (lambda a: a.astype(bool), "astype('uint8')"),
    "dtype datetime64": (lambda a: a.astype("datetime64[s]"), "supported are"),
    "dtype void": (lambda a: a.view([("a", "float32")]), "supported are"),
    "byte order": (lambda a: a.astype(a.dtype.newbyteorder()), "astype('float32')"),
    "not aligned": (misaligned, "copy()"),
    "type list": (lambda a: a.tolist(), "NumPy array"),
    "type float": (lambda a: 1.5, "NumPy array"),
    "type NoneType": (lambda a: None, "NumPy array"),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("name", ["x", "w", "bias", "residual"])
def test_refused_by_name(name, kind):
    if (name, kind) in {("bias", "type NoneType"), ("residual", "type NoneType")}:
        pytest.skip("None means that there is none")
    change, remedy = CHANGES[kind]
    arrays = {"x": X, "w": W, "bias": np.ones(3, "float32"), "residual": np.ones(SHAPE, "float32")}
    arrays[name] = change(arrays[name])
    out = np.full(SHAPE, 7, "float32")
    with pytest.raises(TypeError, match=rf"(?s)^{name} .*{re.escape(kind)}.*{re.escape(remedy)}"):
        fastconv.conv2d(arrays["x"], arrays["w"], arrays["bias"], residual=arrays["residual"], out=out)
    assert (out == 7).all()


def test_bfloat16_is_refused():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(TypeError, match="x has dtype bfloat16.*convert to float32"):
        fastconv.conv2d(X.astype(ml_dtypes.bfloat16), W)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64", "bool"])
def test_tensor_of_a_refused_dtype(dtype):
    torch = pytest.importorskip("torch")
    x = torch.ones(1, 2, 6, 7, dtype=getattr(torch, dtype))
    with pytest.raises(TypeError, match=f"x has dtype {dtype}, which no backend computes; conv"):
        fastconv.conv2d(x, W)


@pytest.mark.parametrize("name", ["x", "w", "bias", "residual"])
def test_tensor_that_requires_a_gradient(name):
    torch = pytest.importorskip("torch")
    arrays = {"x": X, "w": W, "bias": np.ones(3, "float32"), "residual": np.ones(SHAPE, "float32")}
    arrays[name] = torch.from_numpy(arrays[name]).requires_grad_()
    with pytest.raises(TypeError, match=rf"{name} requires a gradient.*{name}\.detach\(\)"):
        fastconv.conv2d(arrays["x"], arrays["w"], arrays["bias"], residual=arrays["residual"])


def test_sparse_tensor_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"x \(Tensor\) does not come in through DLPack.*dense CPU tensor"):
        fastconv.conv2d(torch.ones(1, 2, 6, 7).to_sparse(), W)


def refused_out(out, error, pattern, x=X, w=W, bias=None, residual=None):
    before = np.array(out, copy=True)
    inputs = [a.copy() for a in (x, w)]
    with pytest.raises(error, match=pattern):
        fastconv.conv2d(x, w, bias, residual=residual, out=out)
    assert np.array_equal(out, before)
    assert np.array_equal(x, inputs[0]) and np.array_equal(w, inputs[1])


@pytest.mark.parametrize("shape", [(1, 3, 4, 6), (3, 4, 5), (1, 3, 20), (2, 3, 4, 5)])
def test_out_of_another_shape(shape):
    refused_out(np.full(shape, 7, "float32"), ValueError, rf"out has shape {re.escape(str(shape))}.*\(1, 3, 4, 5\)")


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_out_of_another_dtype(dtype):
    refused_out(np.full(SHAPE, 7, dtype), TypeError, f"out has dtype {dtype}; the result has float32")


def test_out_read_only():
    out = np.full(SHAPE, 7, "float32")
    out.setflags(write=False)
    refused_out(out, ValueError, "out is read-only; pass a writeable array")


def test_out_whose_elements_share_memory():
    out = np.lib.stride_tricks.as_strided(np.full(10, 7, "float32"), SHAPE, (0, 4, 4, 4))
    refused_out(out, ValueError, r"out has strides .*share memory; pass out\.copy\(\)")


def test_out_misaligned():
    refused_out(misaligned(np.zeros(SHAPE, "float32")), TypeError, "out is not aligned.*copy")


def test_out_byte_swapped():
    refused_out(np.zeros(SHAPE, ">f4" if np.little_endian else "<f4"), TypeError, "out has byte order")


@pytest.mark.parametrize("out", [[0.0] * 60, "out"])
def test_out_that_is_no_array(out):
    with pytest.raises(TypeError, match=f"out is of type {type(out).__name__}; it must be a NumPy array"):
        fastconv.conv2d(X, W, out=out)


def test_out_that_is_x():
    x, w = np.ones((1, 1, 4, 4), "float32"), np.ones((1, 1, 1, 1), "float32")
    refused_out(x, ValueError, "out shares memory with x; pass an array of its own", x, w)


def test_out_that_overlaps_x_in_part():
    memory = np.arange(100, dtype="float32")
    x, out = memory[:84].reshape(X.shape), memory[40:100].reshape(SHAPE)
    refused_out(out, ValueError, "out shares memory with x", x)


def test_out_that_overlaps_w():
    memory = np.arange(100, dtype="float32")
    w, out = memory[:54].reshape(W.shape), memory[40:].reshape(SHAPE)
    refused_out(out, ValueError, "out shares memory with w", w=w)


def test_out_that_overlaps_bias():
    memory = np.arange(62, dtype="float32")
    refused_out(memory[:60].reshape(SHAPE), ValueError, "out shares memory with bias", bias=memory[59:])


def test_out_that_overlaps_residual():
    residual = np.ones(SHAPE, "float32")
    refused_out(residual, ValueError, "out shares memory with residual", residual=residual)


def test_out_between_the_elements_of_x_is_no_overlap():
    memory = np.zeros((1, 2, 6, 14), "float32")
    x = memory[..., ::2]
    x[...] = 1
    out = memory[:, :1, :4, 1:11:2]
    assert (fastconv.conv2d(x, W[:1], out=out) == 18).all() and (x == 1).all()


def test_weights_of_a_plan_may_be_overwritten_by_out():
    w = np.ones((1, 1, 1, 1), "float32")
    plan = fastconv.plan(w, (1, 1, 1, 1))
    plan(np.full((1, 1, 1, 1), 5, "float32"), out=w)
    assert plan(np.full((1, 1, 1, 1), 3, "float32")).item() == 3
