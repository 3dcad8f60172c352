"""The walls of the house: who may import whom, what an import loads, and that the examples are true."""

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import registry
from fastconv.spec import OPS

ROOT = Path(fastconv.__file__).parent
FILES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py"))
LEAVES = {
    "arguments",
    "spec",
    "errors",
    "lowering",
    "tuning",
    "arrays",
    "arena",
    "caches",
    "epilogue",
    "shapes",
    "threads",
    "phases",
    "layer_text",
    "known",
}
BELOW = {  # part of the package -> the parts that it may import; a leaf may import leaves
    "kernels": {"kernels"},
    "adapters": LEAVES | {"kernels", "adapters"},
    "registry": LEAVES,
    "planning": LEAVES | {"registry"},
    "pooling": LEAVES | {"calls", "kernels", "planning", "pooling"},
    "calls": LEAVES | {"registry", "planning"},
    "api": LEAVES | {"registry", "planning", "calls"},
    "transposed": LEAVES | {"planning", "calls"},
    "gradients": LEAVES | {"planning", "calls"},
    "grad": {"gradients", "pooling"},
    "folding": LEAVES | {"planning", "calls", "kernels"},
    "numba_extension": {"api", "kernels", "pooling", "tuning"},
    "windows": LEAVES,
    "receptive": LEAVES | {"windows"},
    "nn": LEAVES | {"calls", "planning", "pooling", "receptive", "windows", "nn"},
    "__init__": LEAVES
    | {"registry", "planning", "api", "folding", "grad", "nn", "pooling", "receptive", "transposed", "windows"},
    "bench": LEAVES | {"registry", "planning", "api", "pooling", "kernels", "bench", ""},
    "cli": LEAVES | {"registry", "planning", "api", "pooling", "kernels", "bench", "cli", ""},
    "__main__": {"cli"},
} | {leaf: LEAVES for leaf in LEAVES}
LOADED_WHEN_USED = {"adapters", "bench", "cli", "kernels", "nn", "numba_extension"}


def imported(path):
    """Dotted names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts(names):
    """The parts of fastconv among dotted names; '' is the package's own face."""
    found = {name.split(".")[1] if "." in name else "" for name in names if name.split(".")[0] == "fastconv"}
    return {part for part in found if part == "" or (ROOT / part).exists() or (ROOT / f"{part}.py").exists()}


@pytest.mark.parametrize("path", FILES)
def test_imports_point_down(path):
    part = path.split("/")[0].removesuffix(".py")
    names = list(imported(path))
    used = parts(names)
    assert part in BELOW, f"say in BELOW what {part} may import"
    if not any(name == "fastconv" for name in names) or any(name.startswith("fastconv.") for name in names):
        used.discard("")  # `from fastconv import arrays` names the part itself
    assert used <= BELOW[part], f"{path} imports {sorted(used - BELOW[part])}"


@pytest.mark.parametrize("path", FILES)
def test_nothing_imports_tests(path):
    tests = {p.stem for p in Path(__file__).parent.glob("*.py")} | {"tests"}
    assert not tests & {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", [p for p in FILES if p.split("/")[0] not in ("cli", "bench")])
def test_only_cli_imports_bench(path):
    assert not any(name.startswith("fastconv.bench") for name in imported(path))


@pytest.mark.parametrize("path", [p for p in FILES if p.startswith("adapters/")])
def test_backend_is_short(path):
    assert len((ROOT / path).read_text("utf-8").splitlines()) < 300


def test_every_backend_has_one_file():
    assert {b.module.replace("fastconv.", "").replace(".", "/") + ".py" for b in registry.BACKENDS} <= set(FILES)
    assert len({b.module for b in registry.BACKENDS}) == len(registry.BACKENDS)


@pytest.mark.parametrize("row", registry.BACKENDS, ids=lambda b: b.name)
def test_backend_has_the_functions_of_the_contract(row):
    if missing := row.missing():
        pytest.skip(f"{row.name}: {missing}")
    module = row.load()
    for name in ("prepare", "run", "algorithm", "workspace_bytes", "error_bound", "error_typical"):
        assert callable(getattr(module, name))


def test_last_backend_needs_nothing_and_takes_everything():
    last = registry.BACKENDS[-1]
    assert last.requires is None
    assert last.capabilities == registry.Capabilities(dtypes=registry.EVERY_DTYPE, ops=OPS, zero_point=True)


def python(code, *args, cwd):
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_numpy_itself_and_the_standard_library(tmp_path):
    code = "import sys, numpy; before = set(sys.modules); import fastconv; print(*set(sys.modules) - before)"
    new = set(python(code, cwd=tmp_path).split())
    own = {name for name in new if name.split(".")[0] == "fastconv"}
    early = {name for name in own if parts([name]) & LOADED_WHEN_USED}
    assert early <= {"fastconv.kernels", "fastconv.kernels.sharing"}
    assert {name.split(".")[0] for name in new - own} <= sys.stdlib_module_names | {"numpy"}


WITHOUT = """
import sys
for name in ("numba", "scipy", "fastconv.kernels._compiled"):
    sys.modules[name] = None
import numpy as np
import fastconv
x = np.arange(9, dtype="float32").reshape(3, 3)
for backend in ("auto", "naive", "im2col"):
    y = fastconv.conv2d(x, np.arange(4, dtype="float32").reshape(2, 2), backend=backend, activation="gelu")
    assert np.allclose(y, [[19, 25], [37, 43]]), y
rows = fastconv.explain((1, 32, 32, 32), np.ones((32, 32, 3, 3), "float32")).rows
for row in rows:
    print(row.backend, "|", row.verdict, "|", row.because)
"""


def test_works_without_numba_scipy_and_extension_and_names_what_is_missing(tmp_path):
    rows = [line.split(" | ") for line in python(WITHOUT, cwd=tmp_path).splitlines()]
    missing = {name: because for name, verdict, because in rows if verdict == "missing"}
    assert set(missing) == {"numba", "cython", "winograd"}
    assert "pip install numba" in missing["numba"]
    assert "_compiled is not installed; run 'pip install .'" in missing["cython"]


def public_modules():
    return sorted(m.name for m in pkgutil.walk_packages([str(ROOT)], "fastconv.") if not m.name.endswith("__main__"))


@pytest.mark.parametrize("name", ["fastconv", *public_modules()])
def test_examples_in_docstrings_are_true(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name}: {error}")
    assert doctest.testmod(module).failed == 0


def test_public_names_are_there_and_documented():
    for name in fastconv.__all__:
        assert getattr(fastconv, name).__doc__, name
    assert list(fastconv.__all__) == sorted(fastconv.__all__)


def test_backends_stays_a_function_once_a_backend_is_loaded(backend):
    fastconv.conv2d(np.ones((3, 3)), np.ones((2, 2)), backend="naive")
    assert backend in fastconv.backends().available


def test_package_is_typed():
    assert (ROOT / "py.typed").exists()


def test_denormals_survive_every_backend(backend):
    x = np.ones((1, 4, 8, 8), "float32")
    fastconv.conv2d(x, np.ones((4, 4, 3, 3), "float32"), backend=backend, threads=2)
    tiny = np.full(64, 1e-40, "float32")
    assert (tiny * np.float32(1) > 0).all() and (tiny + tiny > 0).all()


def test_denormals_survive_the_import(tmp_path):
    code = "import fastconv, numpy as np; print(np.float32(1e-40) * np.float32(1) > 0)"
    assert python(code, cwd=tmp_path).strip() == "True"


def test_import_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for row in registry.BACKENDS:
            if row.missing() is None:
                importlib.reload(row.load())
