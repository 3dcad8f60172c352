"""States: files and mappings, all or nothing, nothing rounded, nothing unpickled."""

import re
import sys

import numpy as np
import pytest

from fastconv import nn

safetensors = pytest.importorskip("safetensors.numpy")


def network():
    return nn.Sequential({
        "stem": nn.Conv2d(3, 4, 3, padding=1),
        "norm": nn.BatchNorm2d(4),
        "block": nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ReLU())),
        "flat": nn.Flatten(),
        "head": nn.Linear(4 * 36, 2),
    })  # fmt: skip


NAMES = {
    "stem.weight": (4, 3, 3, 3), "stem.bias": (4,), "norm.weight": (4,), "norm.bias": (4,), "norm.running_mean": (4,),
    "norm.running_var": (4,), "norm.num_batches_tracked": (), "block.body.0.weight": (4, 4, 3, 3),
    "head.weight": (2, 144), "head.bias": (2,),
}  # fmt: skip


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 6, 6)).astype("float32")


def test_names_and_shapes_are_pytorchs():
    assert {name: array.shape for name, array in network().state().items()} == NAMES


def test_buffers_are_no_parameters():
    named = dict(network().named_parameters())
    assert set(NAMES) - set(named) == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_saved_and_loaded(tmp_path, x, suffix, kind):
    one, other = network(), network()
    path = kind(tmp_path / f"weights{suffix}")
    one.save_state(path)
    assert (one(x) != other(x)).any()
    other.load_state(path)
    np.testing.assert_array_equal(one(x), other(x))
    assert other.state()["norm.num_batches_tracked"].dtype == np.int64


def test_other_programs_read_what_is_saved(tmp_path):
    net = network()
    net.save_state(tmp_path / "a.npz")
    net.save_state(tmp_path / "a.safetensors")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert {name: archive[name].shape for name in archive.files} == NAMES
    assert {name: array.shape for name, array in safetensors.load_file(tmp_path / "a.safetensors").items()} == NAMES


def test_what_numpy_saves_is_read(tmp_path, x):
    one, other = network(), network()
    np.savez_compressed(tmp_path / "a.npz", **one.state())
    other.load_state(tmp_path / "a.npz")
    np.testing.assert_array_equal(one(x), other(x))


def test_a_mapping_is_copied(x):
    one, other = network(), network()
    state = {name: array.copy() for name, array in one.state().items()}
    other.load_state(state)
    state["stem.weight"][...] = 0
    np.testing.assert_array_equal(one(x), other(x))


def test_plans_follow_the_new_weights(x):
    one, other = network(), network()
    other(x)
    other.load_state(one.state())
    np.testing.assert_array_equal(one(x), other(x))


def test_everything_wrong_is_listed_and_nothing_changes(x):
    net = network()
    before, state = net(x), network().state()
    del state["stem.bias"]
    state["head.weight"] = np.zeros((3, 144), "float32")
    state["head.bias"] = np.zeros(2)
    state["norm.num_batches_tracked"] = np.zeros(())
    state["tail.bias"] = np.zeros(2)
    with pytest.raises(ValueError) as caught:
        net.load_state(state)
    assert str(caught.value).splitlines() == [
        "the mapping does not fit, so nothing was loaded:",
        "  stem.bias is missing",
        "  tail.bias is unexpected",
        "  norm.num_batches_tracked has dtype float64, where int64 belongs; convert it with astype('int64')",
        "  head.weight has shape (3, 144); the layer has (2, 144)",
        "  head.bias has dtype float64, which float32 does not hold exactly; convert it with astype('float32')",
    ]
    np.testing.assert_array_equal(net(x), before)


def test_narrower_floats_are_widened():
    layer = nn.Linear(2, 2, dtype="float64")
    w, b = np.array([[1, 2], [3, 4]], "float16"), np.array([0.1, 0.2], "float32")
    layer.load_state({"weight": w, "bias": b})
    assert layer.weight.dtype == layer.bias.dtype == np.float64
    np.testing.assert_array_equal(layer.bias, b)


@pytest.mark.parametrize("value", [[[1, 2], [3, 4]], None, "weights"])
def test_what_is_no_array_is_named(value):
    with pytest.raises(ValueError, match="weight is of type .*, which does not come in as an array"):
        nn.Linear(2, 2, bias=False).load_state({"weight": value})


def test_other_byte_order_is_read(tmp_path):
    layer = nn.Linear(2, 2, bias=False)
    np.savez(tmp_path / "a.npz", weight=np.array([[1, 2], [3, 4]], ">f4"))
    layer.load_state(tmp_path / "a.npz")
    assert layer.weight.dtype.isnative and layer.weight.tolist() == [[1, 2], [3, 4]]


class Trap:
    def __reduce__(self):
        return (sys.exit, ("unpickled",))


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", weight=np.array([Trap()], object))
    with pytest.raises(ValueError, match="is no .npz file of plain arrays"):
        nn.Linear(2, 2, bias=False).load_state(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x04K\x01.", bytes(100)])
def test_broken_files_are_named(tmp_path, suffix, content):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        network().load_state(path)


def test_a_single_array_is_no_npz_file(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="is no .npz file"):
        network().load_state(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_missing_file(tmp_path, suffix):
    with pytest.raises(FileNotFoundError):
        network().load_state(tmp_path / f"none{suffix}")


def test_other_suffix_is_named(tmp_path):
    for act in (network().load_state, network().save_state):
        with pytest.raises(ValueError, match=r"weights.pt' must end in .npz or .safetensors"):
            act(tmp_path / "weights.pt")


def test_other_source_is_named():
    with pytest.raises(TypeError, match="got a list; expected a path or a mapping of names to arrays"):
        network().load_state([1])


def test_missing_package_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="run 'pip install safetensors', or use .npz"):
        network().save_state(tmp_path / "a.safetensors")


def test_names_that_numpy_would_take_for_its_own(tmp_path):
    net = nn.Sequential({"file": nn.Linear(2, 2), "allow_pickle": nn.Linear(2, 2)})
    net.save_state(tmp_path / "a.npz")
    twin = nn.Sequential({"file": nn.Linear(2, 2), "allow_pickle": nn.Linear(2, 2)})
    twin.load_state(tmp_path / "a.npz")
    np.testing.assert_array_equal(twin[1].weight, net[1].weight)


def test_state_of_a_layer_without_parameters_is_empty(tmp_path):
    nn.ReLU().save_state(tmp_path / "a.npz")
    nn.ReLU().load_state(tmp_path / "a.npz")
    assert nn.ReLU().state() == {}
