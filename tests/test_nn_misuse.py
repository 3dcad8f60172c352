"""What users of fastconv.nn get wrong, and what they are told."""

import sys
import threading

import numpy as np
import pytest

from fastconv import nn

X = np.ones((1, 3, 8, 8), "float32")


def test_a_call_never_mixes_an_old_weight_with_a_new_bias():
    layer, seen, done = nn.Conv2d(3, 1, 3), set(), threading.Event()
    states = [
        {"weight": np.full((1, 3, 3, 3), k, "float32"), "bias": np.full(1, 1000 * k, "float32")} for k in (1.0, 2.0)
    ]
    layer.load_state(states[0])

    def call(first):
        for width in range(first, first + 400):
            seen.add(float(layer(np.ones((1, 3, 3, width), "float32"))[0, 0, 0, 0]))

    def load():
        while not done.is_set():
            for state in states:
                layer.load_state(state)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        callers = [threading.Thread(target=call, args=(3 + 400 * i,)) for i in range(3)]
        loader = threading.Thread(target=load)
        for thread in (loader, *callers):
            thread.start()
        for thread in callers:
            thread.join()
    finally:
        done.set()
        loader.join()
        sys.setswitchinterval(interval)
    assert seen <= {1027.0, 2054.0}


class Kind(np.ndarray):
    """An array with ideas of its own."""


def test_a_masked_weight_is_refused_and_a_subclass_becomes_an_array():
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"weight is a masked array, whose mask would be lost; fill it first"):
        layer.weight = np.ma.array(np.ones((2, 2), "float32"), mask=[[1, 0], [0, 0]])
    layer.weight = np.eye(2, dtype="float32").view(Kind)
    assert type(layer.weight) is np.ndarray
    assert layer(np.ones((2, 3, 2), "float32")).shape == (2, 3, 2)


def test_a_weight_stays_read_only():
    layer = nn.Conv2d(3, 4, 3)
    with pytest.raises(ValueError, match="WRITEABLE"):
        layer.weight.setflags(write=True)


def test_options_are_copied():
    padding = [[1, 1], [1, 1]]
    layer = nn.Conv2d(3, 4, 3, padding=padding)
    padding[0][0] = 9
    assert layer.output_shape(X.shape) == (1, 4, 8, 8)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix, keep):
    pytest.importorskip("safetensors")
    layer, path = nn.Conv2d(3, 4, 3), tmp_path / f"w{suffix}"
    layer.save_state(path)
    path.write_bytes(path.read_bytes()[:keep])
    before = np.array(layer.weight)
    with pytest.raises(ValueError, match=f"w{suffix}' (does not load as safetensors|is no .npz file)"):
        layer.load_state(path)
    np.testing.assert_array_equal(layer.weight, before)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_folders_and_missing_files_are_os_errors(tmp_path, suffix):
    pytest.importorskip("safetensors")
    layer, folder = nn.Conv2d(3, 4, 3), tmp_path / f"d{suffix}"
    folder.mkdir()
    with pytest.raises(FileNotFoundError):
        layer.load_state(tmp_path / f"none{suffix}")
    with pytest.raises(FileNotFoundError):
        layer.save_state(tmp_path / "none" / f"w{suffix}")
    for call in (layer.load_state, layer.save_state):
        with pytest.raises(OSError):
            call(folder)


def test_bfloat16_in_a_file_is_named_with_a_remedy(tmp_path):
    torch, library = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    library.save_file(
        {"weight": torch.ones(2, 2, dtype=torch.bfloat16), "bias": torch.ones(2)}, tmp_path / "b.safetensors"
    )
    with pytest.raises(ValueError, match="weight has dtype BF16, which NumPy has not; save it as float32"):
        nn.Linear(2, 2).load_state(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"weight has dtype bfloat16, which NumPy has not; convert it with .float\(\)"):
        nn.Linear(2, 2).load_state({"weight": torch.ones(2, 2, dtype=torch.bfloat16), "bias": torch.ones(2)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.MaxUnpool2d(0), "kernel_size=.*must be at least 1"),
        (lambda: nn.MaxUnpool2d(2, 2, -1), "padding=.*must be at least 0"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), "divisor_override=0"),
        (lambda: nn.LPPool2d(0, 2), "norm_type=0 must be above 0"),
        (lambda: nn.BatchNorm2d(3, eps=-2), "eps=-2 must be a number of at least 0"),
        (lambda: nn.BatchNorm2d(3, eps="a"), "eps='a' must be a number"),
        (lambda: nn.LeakyReLU("a"), "negative_slope='a' must be a number"),
        (lambda: nn.Dropout("a"), "p='a' must be a number"),
        (lambda: nn.Conv2d(3, 4, 3, rng="abc"), "rng='abc' must be an int"),
        (lambda: nn.Conv2d(3, 4, 3, padding=[1, (1, 2)]), "padding="),
        (lambda: nn.ReLU().output_shape((-1, 3)), "has negative sizes"),
        (lambda: nn.Softmax(7)(np.zeros((4, 0))), "dim=7 is no axis"),
        (lambda: nn.Linear(3, 4)(np.ones((1, 3), "int64")), r"convert with x.astype\('float32'\)$"),
        (lambda: nn.Residual(nn.MaxPool2d(1, return_indices=True))(X), "body returns 2 arrays"),
        (lambda: nn.Sequential(nn.MaxUnpool2d(2))(X), "needs the indices of the pool"),
        (lambda: nn.ReLU().summary(X), "input_shape|x_shape=a ndarray must be a tuple of ints"),
        (lambda: nn.Linear(2, 2).load_state(nn.Linear(2, 2)), r"such as .state\(\)"),
    ],
)
def test_misuse_is_told(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_an_unknown_layer_is_told_with_those_there_are():
    with pytest.raises(KeyError, match="no layer 'conv'; there are 0, 1"):
        nn.Sequential(nn.ReLU(), nn.ReLU())["conv"]


def test_summary_of_an_empty_array():
    assert nn.Linear(3, 4).summary((2, 1, 0, 3)).output_shape == (2, 1, 0, 4)
