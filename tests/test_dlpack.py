"""Tensors of another library, without one: a class that speaks DLPack, and a module that takes results back."""

import sys

import numpy as np
import pytest

import fastconv


class Tensor:
    """The least that fastconv asks of a tensor."""

    requires_grad = False

    def __init__(self, array, dtype=None):
        self.array = array
        self.dtype = dtype or f"library.{array.dtype}"

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def from_dlpack(result):
    """What fastconv finds in the library that `Tensor` comes from: this module."""
    return Tensor(np.from_dlpack(result))


@pytest.fixture(autouse=True)
def library(monkeypatch):
    monkeypatch.setitem(sys.modules, Tensor.__module__.partition(".")[0], sys.modules[__name__])


def test_a_tensor_comes_in_without_a_copy_and_a_tensor_goes_out(monkeypatch):
    x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))
    seen = []
    module = fastconv.registry.find("im2col").load()
    run = module.run
    monkeypatch.setattr(module, "run", lambda state, problem, arrays, *a, **k: (seen.append(arrays[0]), run(
        state, problem, arrays, *a, **k)))  # fmt: skip
    result = fastconv.conv2d(Tensor(x), Tensor(w), backend="im2col")
    assert isinstance(result, Tensor)
    assert np.shares_memory(seen[0], x)
    np.testing.assert_array_equal(result.array, fastconv.conv2d(x, w))


def test_pools_return_the_callers_kind():
    values, where = fastconv.max_pool2d(Tensor(np.arange(16.0).reshape(4, 4)), 2, return_indices=True)
    assert values.array.tolist() == [[5, 7], [13, 15]] and where.array.tolist() == [[5, 7], [13, 15]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64"])
def test_a_tensor_of_an_unsupported_dtype_is_refused_by_name(dtype):
    with pytest.raises(TypeError, match=f"x has dtype {dtype}"):
        fastconv.conv2d(Tensor(np.ones((4, 4)), f"library.{dtype}"), np.ones((2, 2)))


def test_a_tensor_that_requires_a_gradient_is_refused_by_name():
    x = Tensor(np.ones((4, 4)))
    x.requires_grad = True
    with pytest.raises(TypeError, match=r"x requires a gradient.*x\.detach\(\)"):
        fastconv.conv2d(x, np.ones((2, 2)))


def test_a_tensor_elsewhere_is_refused():
    class Elsewhere(Tensor):
        def __dlpack__(self, **options):
            raise BufferError("the data is on a device")

    with pytest.raises(TypeError, match="w .*the data is on a device.*CPU tensor"):
        fastconv.conv2d(np.ones((4, 4)), Elsewhere(np.ones((2, 2))))
