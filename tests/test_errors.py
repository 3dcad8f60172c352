"""What a plan says of its rounding errors: ``error_typical`` of random data, ``error_bound`` of any."""

import numpy as np
import pytest

import fastconv
from fastconv.adapters import winograd
from fastconv.spec import parse_layer

TILES = [
    *(("ic{ic}ih24oc24k3p1", name) for name in ("F(2,3)", "F(4,3)", "F(6,3)")),
    *(("ic{ic}ih12iw40oc24kh1kw3p0", name) for name in ("F(2,3)", "F(4,3)", "F(6,3)")),
    *(("ic{ic}ih40iw12oc24kh5kw1p0", name) for name in ("F(2,5)", "F(4,5)")),
]
LAYERS = ["ic3ih30oc24k3p1", "ic64ih20oc24k3p1", "ic300ih12oc24k3p1", "ic100ih20oc24", "ic5ih30oc24k7p3"]


def only(monkeypatch, name):
    """Let the winograd backend have one tile."""
    monkeypatch.setattr(winograd, "TILES", {name: winograd.TILES[name]})


def plan_of(w, spec, backend):
    return fastconv.plan(w, spec.x_shape, padding=spec.padding, backend=backend, accuracy="fast")


def error(x, w, plan):
    """Largest error in the unit of ``error_bound``."""
    exact = fastconv.conv2d(x.astype(float), w.astype(float), padding=plan.spec.padding,
                            backend="cython")  # fmt: skip
    unit = np.abs(x).max() * np.abs(w).reshape(len(w), -1).sum(axis=1).max()
    return float(np.abs(plan(x).astype(float) - exact).max() / unit)


def draw(rng, kind, shape):
    return (rng.standard_normal(shape) if kind == "normal" else rng.uniform(-1, 1, shape)).astype("float32")


def within_three(spec, backend, rng):
    for kind in ("normal", "uniform"):
        x, w = draw(rng, kind, spec.x_shape), draw(rng, kind, spec.w_shape)
        plan = plan_of(w, spec, backend)
        found = error(x, w, plan)
        assert plan.error_typical / 3 <= found <= plan.error_typical * 3, (kind, found / plan.error_typical)
        assert found <= plan.error_bound


@pytest.mark.parametrize("backend", ["cython", "numba", "im2col", "fft", "naive"])
@pytest.mark.parametrize("layer", LAYERS)
def test_random_data_lose_what_is_typical(layer, backend, rng):
    if missing := fastconv.registry.find(backend).missing():
        pytest.skip(missing)
    within_three(parse_layer(layer), backend, rng)


@pytest.mark.parametrize("ic", [3, 40, 300])
@pytest.mark.parametrize("layer, name", TILES)
def test_random_data_lose_what_is_typical_of_a_tile(layer, name, ic, rng, monkeypatch):
    only(monkeypatch, name)
    within_three(parse_layer(layer.format(ic=ic)), "winograd", rng)


@pytest.mark.parametrize("layer, name", TILES)
def test_the_worst_that_a_search_finds_is_within_a_thousandth_of_the_bound(layer, name, rng, monkeypatch):
    """Hill climbing in the signs and sizes of x, from weights that the transforms enlarge most."""
    only(monkeypatch, name)
    spec = parse_layer(layer.format(ic=4))
    w = np.where(np.indices(spec.w_shape).sum(axis=0) % 2, -1.0, 1.0).astype("float32")
    w *= rng.uniform(0.9, 1, w.shape).astype("float32")
    plan = plan_of(w, spec, "winograd")
    best = draw(rng, "uniform", spec.x_shape)
    worst = error(best, w, plan)
    for step in range(150):
        x = np.where(rng.random(best.shape) < 0.3 / (1 + step / 20), draw(rng, "uniform", best.shape), best)
        x = np.sign(x) * np.maximum(np.abs(x), rng.uniform(0, 1)).astype("float32")
        found = error(x, w, plan)
        assert found <= plan.error_bound
        if found > worst:
            best, worst = x, found
    assert worst >= plan.error_bound / 1000


def test_explain_has_both_figures():
    layer = fastconv.explain(np.ones((1, 16, 20, 20), "float32"), np.ones((16, 16, 3, 3), "float32"), padding=1)
    rows = {row["backend"]: row for row in layer.to_dict()["backends"]}
    for name in ("cython", "winograd"):
        assert 0 < rows[name]["error_typical"] < rows[name]["error_bound"] < 1
    assert "typical" in str(layer).splitlines()[3]


def test_integers_lose_nothing():
    plan = fastconv.plan(np.ones((4, 3, 3, 3), "int8"), (1, 3, 9, 9))
    assert plan.error_bound == plan.error_typical == 0
