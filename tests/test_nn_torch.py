"""Layers against PyTorch's: signatures, weights that move over as they are, results."""

import inspect

import numpy as np
import pytest

import fastconv
from fastconv import nn

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.numpy")

SHARED = [name for name in nn.__all__ if name != "Module" and hasattr(torch.nn, name)]
SHAPES = {1: (2, 4, 17), 2: (2, 4, 12, 13), 3: (2, 4, 7, 8, 9)}

LAYERS = [  # the same expression makes both
    *("{n}Conv%sd(4, 6, 3)", "{n}Conv%sd(4, 6, 3, 2, 1, 2, 2, False)", "{n}Conv%sd(4, 6, 3, padding='same')"),
    *(f"{{n}}Conv%sd(4, 8, 3, padding=2, padding_mode={mode!r})" for mode in ("reflect", "replicate", "circular")),
    *("{n}ConvTranspose%sd(4, 6, 3)", "{n}ConvTranspose%sd(4, 6, 3, 2, 1, 1, 2, False, 2)"),
    *("{n}MaxPool%sd(2)", "{n}MaxPool%sd(3, 2, 1, 1, False, True)", "{n}MaxPool%sd(2, 1, 0, 3)"),
    *("{n}AvgPool%sd(2)", "{n}AvgPool%sd(3, 2, 1, True, False)", "{n}AvgPool%sd(3, 2, 1, True)"),
    *("{n}LPPool%sd(2, 3)", "{n}LPPool%sd(3.0, 3, 2)", "{n}LPPool%sd(1, 2, 2, True)"),
    *("{n}AdaptiveAvgPool%sd(1)", "{n}AdaptiveAvgPool%sd(5)", "{n}AdaptiveMaxPool%sd(1)", "{n}AdaptiveMaxPool%sd(5)"),
    *("{n}BatchNorm%sd(4)", "{n}BatchNorm%sd(4, 0.1, None, False)", "{n}BatchNorm%sd(4, track_running_stats=False)"),
]  # fmt: skip
PLAIN = [
    *("{n}ReLU(True)", "{n}ReLU6()", "{n}LeakyReLU(0.2)", "{n}SiLU()", "{n}GELU()", "{n}GELU('tanh')"),
    *("{n}Hardswish()", "{n}Sigmoid()", "{n}Tanh()", "{n}Softmax(1)", "{n}Softmax(-1)"),
    *("{n}Flatten()", "{n}Flatten(0, 1)"),
    *("{n}Linear(13, 5)", "{n}Linear(13, 5, False)", "{n}Dropout()", "{n}Identity(3, a=4)"),
]  # fmt: skip


def both(expression):
    """The layer of fastconv and PyTorch's, in evaluation mode, with statistics that are not those of the start."""
    torch.manual_seed(0)
    theirs = eval(expression.format(n="torch.nn."), {"torch": torch}).eval()
    for name, buffer in theirs.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    ours = eval(expression.format(n="nn."), {"nn": nn})
    ours.load_state(theirs.state_dict())
    return ours, theirs


def assert_same(ours, theirs, x):
    y, right = ours(x), theirs(torch.from_numpy(x.copy())).detach().numpy()
    np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5)
    assert ours.output_shape(x.shape) == right.shape


@pytest.mark.parametrize("name", SHARED)
def test_constructor_has_pytorchs_signature(name):
    ours = inspect.signature(getattr(nn, name)).parameters.values()
    theirs = inspect.signature(getattr(torch.nn, name)).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    assert [(p.name, p.default) for p in ours if p.kind not in kinds] == [
        (p.name, p.default) for p in theirs if p.kind not in kinds and p.name != "device"
    ]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("expression", LAYERS)
def test_layer_gives_pytorchs_result(rng, expression, ndim):
    ours, theirs = both(expression % ndim)
    x = rng.standard_normal(SHAPES[ndim]).astype("float32")
    assert_same(ours, theirs, np.abs(x) if "LPPool" in expression else x)
    if "BatchNorm" not in expression:
        assert_same(ours, theirs, np.abs(x[0]) if "LPPool" in expression else x[0])


@pytest.mark.parametrize("expression", PLAIN)
def test_plain_layer_gives_pytorchs_result(rng, expression):
    ours, theirs = both(expression)
    assert_same(ours, theirs, 3 * rng.standard_normal(SHAPES[2]).astype("float32"))


@pytest.mark.parametrize("shape", [(5,), (3, 5), (3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5, 6)])
def test_softmax_without_dim_takes_pytorchs_axis(rng, shape):
    x = rng.standard_normal(shape)
    with pytest.warns(UserWarning, match="Implicit dimension"):
        right = torch.nn.Softmax()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(nn.Softmax()(x), right, rtol=1e-12)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_indices_and_unpool(rng, ndim):
    x = rng.standard_normal(SHAPES[ndim]).astype("float32")
    options = (3, 2, 1)
    ours = getattr(nn, f"MaxPool{ndim}d")(*options, return_indices=True)(x)
    theirs = getattr(torch.nn, f"MaxPool{ndim}d")(*options, return_indices=True)(torch.from_numpy(x))
    np.testing.assert_array_equal(ours[1], theirs[1].numpy())
    size = x.shape[2:]
    back = getattr(nn, f"MaxUnpool{ndim}d")(*options)(*ours, output_size=size)
    right = getattr(torch.nn, f"MaxUnpool{ndim}d")(*options)(*theirs, output_size=size)
    np.testing.assert_array_equal(back, right.numpy())


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_adaptive_indices(rng, ndim):
    x = rng.standard_normal(SHAPES[ndim]).astype("float32")
    ours = getattr(nn, f"AdaptiveMaxPool{ndim}d")(3, True)(x)
    theirs = getattr(torch.nn, f"AdaptiveMaxPool{ndim}d")(3, True)(torch.from_numpy(x))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


class Block(torch.nn.Module):
    """PyTorch has no residual block; this one has the names of ours."""

    def __init__(self, body, shortcut=None, activation=None):
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, x):
        y = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
        return y if self.activation is None else self.activation(y)


def network(n, residual):
    """A small residual network, made of PyTorch's layers or ours."""
    return n.Sequential(
        n.Conv2d(3, 8, 5, 2, 2, bias=False), n.BatchNorm2d(8), n.ReLU(inplace=True), n.MaxPool2d(3, 2, 1),
        residual(n.Sequential(n.Conv2d(8, 8, 3, padding=1), n.BatchNorm2d(8), n.SiLU(), n.Conv2d(8, 8, 1, groups=4)),
                 activation=n.Hardswish()),
        residual(n.Sequential(n.ConvTranspose2d(8, 12, 2, 2), n.GELU()), n.ConvTranspose2d(8, 12, 4, 2, 1), n.ReLU()),
        n.Dropout(0.3), n.AdaptiveAvgPool2d((3, 2)), n.Flatten(), n.Linear(72, 10), n.LeakyReLU(), n.Softmax(dim=1),
    )  # fmt: skip


@pytest.fixture
def networks():
    torch.manual_seed(1)
    theirs = network(torch.nn, Block).eval()
    for name, buffer in theirs.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return network(nn, nn.Residual), theirs


@pytest.mark.parametrize("how", ["npz", "safetensors", "tensors"])
def test_a_networks_weights_move_over_as_they_are(tmp_path, rng, networks, how):
    ours, theirs = networks
    state = theirs.state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    if how == "npz":
        np.savez(tmp_path / "w.npz", **arrays)
    elif how == "safetensors":
        safetensors.save_file(arrays, tmp_path / "w.safetensors")
    ours.load_state(state if how == "tensors" else tmp_path / f"w.{how}")
    assert_same(ours, theirs, rng.standard_normal((2, 3, 32, 40)).astype("float32"))


def test_a_networks_state_moves_back(networks):
    ours, theirs = networks
    theirs.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in ours.state().items()})
    assert sum(p.numel() for p in theirs.parameters()) == ours.summary((1, 3, 32, 40)).parameters


def test_summary_has_the_shapes_that_pytorch_computes(networks):
    ours, theirs = networks
    x, shapes = torch.zeros(2, 3, 32, 40), {}
    for name, module in theirs.named_modules():
        module.register_forward_hook(lambda _, __, y, name=name: shapes.update({name: tuple(y.shape)}))
    theirs(x)
    rows = {row.name: row.output_shape for row in ours.summary(x.shape).rows}
    assert len(rows) == 21
    assert rows == {name: shapes[name] for name in rows}


def test_tensors_in_tensors_out(networks):
    y = networks[0](torch.zeros(2, 3, 32, 40))
    assert isinstance(y, torch.Tensor) and y.shape == (2, 10)


def test_receptive_field_is_where_pytorchs_gradient_is_not_zero():
    def chain(n):
        return [
            n.Conv2d(1, 1, 3, 2, 1),
            n.AvgPool2d(3, 2, 1),
            n.ConvTranspose2d(1, 1, 3, 2),
            n.Conv2d(1, 1, 3, dilation=2),
        ]

    theirs = torch.nn.Sequential(*chain(torch.nn))
    for parameter in theirs.parameters():
        parameter.data.fill_(1)
    field = fastconv.receptive_field(chain(nn), (23, 26))[-1]
    for place in np.ndindex(*field.output_size):
        x = torch.zeros(1, 1, 23, 26, requires_grad=True)
        theirs(x)[(0, 0, *place)].backward()
        rows, cols = np.nonzero(x.grad[0, 0].numpy())
        assert field.region(place) == (slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1))
