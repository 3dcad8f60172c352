"""CPU tensors of other libraries come in through DLPack, and results go back as theirs."""

import numpy as np
import pytest
from oracle import assert_close, reference

import fastconv
from fastconv import arrays as border

torch = pytest.importorskip("torch")


@pytest.fixture
def x():
    return torch.randn(2, 4, 8, 9, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def w():
    return torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(2))


def test_tensor_in_gives_a_tensor_out(convolve, x, w):
    result = convolve(2, x, w, torch.ones(6), residual=torch.ones(2, 6, 6, 7))
    assert isinstance(result, torch.Tensor)
    assert_close(result.numpy(), reference(x.numpy(), w.numpy(), np.full(6, 2.0)), 1e-4)


def test_tensor_is_not_copied(x):
    assert border.take(x, "x").ctypes.data == x.data_ptr()


def test_result_is_not_copied(x):
    array = np.ones(5, "float32")
    assert border.give_back(array, x).data_ptr() == array.ctypes.data


@pytest.mark.parametrize("dtype", ["float64", "uint8", "int8", "int16", "int32", "int64"])
def test_dtype_follows_the_promotion_table(dtype):
    x = torch.ones(1, 2, 4, 4, dtype=getattr(torch, dtype))
    result = fastconv.conv2d(x, x[:, :, :3, :3])
    assert result.dtype == getattr(torch, fastconv.spec.ACCUMULATOR[dtype])
    assert (result == 18).all()


@pytest.mark.parametrize("change", [
    lambda t: t.to(memory_format=torch.channels_last), lambda t: t.permute(0, 1, 3, 2), lambda t: t[:, :, ::2],
    lambda t: t[:, :1].expand(2, 4, 8, 9),
], ids=["channels_last", "permuted", "stepped", "expanded"])  # fmt: skip
def test_strided_tensors(convolve, x, w, change):
    view = change(x)
    assert_close(convolve(2, view, w).numpy(), reference(view.contiguous().numpy(), w.numpy()), 1e-4)


def test_w_alone_may_be_a_tensor(x, w):
    assert isinstance(fastconv.conv2d(x.numpy(), w), np.ndarray)


def test_plan_gives_a_tensor_for_a_tensor(x, w):
    plan = fastconv.plan(w, tuple(x.shape))
    assert isinstance(plan(x), torch.Tensor)
    assert isinstance(plan(x.numpy()), np.ndarray)


def test_explain_takes_tensors(x, w):
    assert fastconv.explain(x, w).spec.dtype == "float32"


def test_torch_size_is_a_shape(x, w):
    assert fastconv.plan(w, x.shape).out_shape == (2, 6, 6, 7)
    assert fastconv.explain(x.shape, w).spec.output_size == (6, 7)


def test_out_may_be_given_for_a_tensor(x, w):
    out = np.empty((2, 6, 6, 7), "float32")
    assert fastconv.conv2d(x, w, out=out) is out


def test_out_that_shares_memory_with_a_tensor_is_refused():
    x = torch.ones(1, 1, 4, 4)
    with pytest.raises(ValueError, match="out shares memory with x"):
        fastconv.conv2d(x, torch.ones(1, 1, 1, 1), out=x.numpy())


def test_detached_tensor_comes_in(x, w):
    result = fastconv.conv2d(x.requires_grad_().detach(), w)
    assert not result.requires_grad


def test_empty_tensor_gives_an_empty_tensor(x, w):
    assert fastconv.conv2d(x[:0], w).shape == (0, 6, 6, 7)


def test_object_whose_library_takes_no_dlpack_is_refused(w):
    class Foreign:
        def __dlpack__(self, **options):
            return torch.ones(1, 4, 5, 5).__dlpack__()

        def __dlpack_device__(self):
            return (1, 0)

    with pytest.raises(TypeError, match=r"x is a Foreign.*numpy\.from_dlpack\(x\)"):
        fastconv.conv2d(Foreign(), w)
