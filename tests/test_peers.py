"""The rivals: right on small layers of every kind, or out with a reason. What is not installed is skipped by name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastconv.bench import cases, peers, reference
from fastconv.bench.cases import Case, PoolCase
from fastconv.bench.contestants import RIVAL_ERROR

README = Path(__file__).parent.parent / "bench" / "README.md"

LAYERS = {
    "3x3": "ic8ih12oc16k3p1",
    "large-tiles": "ic32ih48oc32k3p1",
    "stride": "ic6ih15oc8k3s2p1",
    "stem": "ic3ih31oc16k7s2p3",
    "dilation": "ic4ih14oc8k3p2d2",
    "groups": "ic8ih9oc16k3p1g4",
    "depthwise": "ic8ih13oc8k3p1g8",
    "1x1": "ic16ih9iw11oc24",
    "batch": "n3ic4ih9oc8k3p1",
    "asymmetric": "ic4ih9iw10oc8k3pt2pb0pl1pr3",
    "rectangular": "ic4ih9oc8kh1kw7pl3pr3",
    "strides": "ic4ih15iw13oc8kh3kw5sh3sw2pt1pb1pl2pr2",
    "dilations": "ic4ih15iw13oc8k3dh1dw2pt1pb1pl2pr2",
    "filter": "ih20iw33k5p2",
    "even-filter": "ih20iw33kh4kw6pt1pb2pl3pr2",
    "one-channel": "ih20iw33oc3k5",
    "1-D": "ic4iw50oc8k5s2p2",
    "1-D-causal": "ic4iw50oc8k2d8pl8",
    "1-D-filter": "iw70k7p3",
    "3-D": "ic3id5ih6iw7oc8k3p1",
    "3-D-strides": "ic3id7ih8iw9oc8k3sd2sh1sw2p1",
}
SMALL = [
    *(Case(name, layer, "test", "test") for name, layer in LAYERS.items()),
    Case("no-bias", "ic8ih9oc8k3p1", "test", "test", bias=False),
    PoolCase("max", "ic6ih13k3s2p1", "test", "test", "max_pool"),
    PoolCase("max-1-D", "ic6iw40k4s4", "test", "test", "max_pool"),
    PoolCase("max-3-D", "ic3id6ih8k2s2", "test", "test", "max_pool"),
    PoolCase("avg", "n2ic6ih13k3s2p1", "test", "test", "avg_pool"),
    PoolCase("avg-whole", "ic6ih7k7", "test", "test", "avg_pool"),
]

POOLS = {"max", "max-1-D", "max-3-D", "avg", "avg-whole"}
TAKES = {  # what must not be refused
    "torch": {*LAYERS, "no-bias", *POOLS},
    "torch-nhwc": {*LAYERS, "no-bias", *POOLS},
    "torch-frozen": {*LAYERS, "no-bias", *POOLS},
    "onnxruntime": {*LAYERS, "no-bias", *POOLS},
    "openvino": {*LAYERS, "no-bias", *POOLS},
    "ncnn": {*LAYERS, "no-bias", *POOLS} - {"batch", "avg"},
    "mnn": {*LAYERS, "no-bias", *POOLS},
    "opencv": {"filter", "even-filter"},
    "scipy-ndimage": {"filter", "even-filter", "1-D-filter"},
    "scipy-oaconvolve": {"filter", "even-filter", "1-D-filter"},
    "jax": {*LAYERS, "no-bias", *POOLS},
}


def test_every_rival_is_held_to_what_it_takes():
    assert set(TAKES) == {peer.name for peer in peers.PEERS}


ALONE = """
import sys, warnings
warnings.simplefilter("ignore")
import test_peers
test_peers.check_all(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_rivals_are_right_or_say_what_they_do_not_do(peer):
    if peers.missing(peer):
        pytest.skip(f"{peer.name}: {peers.missing(peer)}")
    # A process of its own, as in a contest: several of these in one process take each other's threads.
    path = str(Path(__file__).parent)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{ALONE}", peer.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def check_all(name):
    peer, wrong = peers.find(name), []
    for case in SMALL:
        data = cases.arrays(case)
        try:
            call = peer.prepare(case, data, 2)
        except peers.NotOffered as error:
            if case.name in TAKES[name] or not str(error):
                wrong.append(f"{case.name} is refused: {error}")
            continue
        expected = reference.expected(case, data)
        for _ in range(2):
            result = call()
            if result.shape != case.out_shape or result.dtype != np.float32:
                wrong.append(f"{case.name} gives {result.dtype} {result.shape}")
            elif not np.abs(result - expected).max() <= RIVAL_ERROR * np.abs(expected).max():
                wrong.append(f"{case.name} differs by {np.abs(result - expected).max()}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("problem", ["reflect-3x3", "float64", "NHWC-3x3", "relu", "int8"])
def test_rivals_refuse_what_the_comparison_does_not_hold(peer, problem):
    case = cases.find(problem)
    with pytest.raises(peers.NotOffered, match="only|no "):
        peer.prepare(case, cases.arrays(case), 1)


def test_a_missing_rival_is_named_with_the_remedy():
    peer = peers.find("torch")
    gone = peers.Peer("gone", "Gone", "gone", ("no_such_module_1", "no_such_module_2"), "", peer.prepare)
    assert peers.missing(gone) == (
        "no_such_module_1 and no_such_module_2 not installed; run 'pip install fastconv[peers]'"
    )
    with pytest.raises(KeyError):
        peers.find("nobody")


def test_a_rival_of_several_builds_has_the_version_of_the_one_installed():
    peer = peers.find("torch")
    several = peers.Peer("numpy", "NumPy", "no-such-distribution numpy", ("numpy",), "", peer.prepare)
    assert peers.version(several) == np.__version__
    none = peers.Peer("gone", "Gone", "no-such-distribution", ("numpy",), "", peer.prepare)
    assert peers.version(none) == "of unknown version"


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_rivals_do_not_wait_for_fresh_pages_in_each_call(peer):
    assert peer.environment(2)["MALLOC_MMAP_MAX_"] == "0"


def test_the_readme_says_how_each_rival_is_set():
    text = README.read_text("utf-8")
    for peer in peers.PEERS:
        assert f"- `{peer.name}` ({peer.title}): {peer.setting}." in text.replace("\n  ", " ")


def test_importing_the_rivals_imports_none_of_them():
    modules = sorted({module for peer in peers.PEERS for module in peer.modules} | {"numba"})
    code = f"import sys, fastconv.bench.peers; print([m for m in {modules} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
