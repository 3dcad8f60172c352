"""The kernels without Python, on every instruction set that runs here: natively, and for aarch64 under an emulator.

`EmulatedLayer` stands in for the compiled ``Layer``: it hands the layer to a small C driver and reads the
result back, so whatever goes through ``conv2d`` runs on the emulated processor.
"""

import fcntl
import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from oracle import assert_close, reference

import fastconv
from fastconv import known

KERNELS = Path(__file__).parent.parent / "fastconv" / "kernels"
DRIVER = Path(__file__).parent / "kernels_driver.c"
FLAGS = ["-O0", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-pthread"]
X86 = {
    "avx2": (32, ["-mavx2", "-mfma"]),
    "avx512": (64, ["-mfma", "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw"]),
}
AARCH64 = "aarch64-linux-gnu-gcc", "qemu-aarch64"

_compiled = pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")


def build(folder: Path, compilers: dict[str, dict[str, tuple[int, list[str]]]]) -> None:
    """A driver for each compiler, in a folder all workers of a run share; the first makes them, in half a minute."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "made").exists():
            return
        running = []
        for compiler, isas in compilers.items():
            (folder / compiler).mkdir(exist_ok=True)
            for name, (width, flags) in {"baseline": (16, []), **isas}.items():
                options = [*FLAGS, *flags, f"-DISA={name}", f"-DVECTOR_BYTES={width}", "-c", str(KERNELS / "isa.c")]
                running.append(subprocess.Popen([compiler, *options, "-o", str(folder / compiler / f"{name}.o")]))
        assert [compiling.wait() for compiling in running] == [0] * len(running)
        for compiler, isas in compilers.items():
            link(folder / compiler, compiler, list(isas))
        (folder / "made").touch()


def link(folder: Path, compiler: str, isas: list[str]) -> Path:
    objects, found = [str(path) for path in folder.glob("*.o")], [f"-DFC_HAVE_{name.upper()}" for name in isas]
    program = folder / "driver"
    sources = [str(DRIVER), str(KERNELS / "engine.c"), str(KERNELS / "scratch.c")]
    subprocess.run([compiler, *FLAGS, *found, "-static", *sources, *objects, "-lm", "-o", str(program)], check=True)
    return program


class EmulatedLayer:
    """Takes the place of ``_compiled.Layer``; the class attributes say which program to run."""

    command: list[str] = []
    scratch_bytes = 64
    room = 0
    ran: list[str] = []

    def __init__(
        self,
        isa,
        itemsize,
        sizes,
        axes,
        tile,
        ic_block,
        held,
        kind,
        blocks,
        room,
        stream,
        dense,
        activation,
        parameter,
        winograd=None,
    ):
        self.itemsize, self.sizes, self.axes, self.tile = itemsize, sizes, axes, tile
        self.numbers = (ic_block, held, *blocks, room, dense, _compiled.KINDS.index(kind))
        self.epilogue = _compiled.ACTIVATIONS.index(activation), parameter
        self.winograd = winograd or ((0, 0, 0, None, None),) * 2

    def run(self, x, out, residual, bias, packed, weights, finite, threads):
        transforms = [number for axis in self.winograd for number in axis[:3]]
        matrices = [matrix for axis in self.winograd for matrix in axis[3:]]
        code, parameter = self.epilogue
        (bits,) = struct.unpack("q", struct.pack("d", parameter))
        numbers = [self.itemsize, threads, *self.sizes, *self.tile, *self.numbers, *transforms]
        numbers += [finite, code, bits]
        parts = [np.array(numbers, np.int64).tobytes()]
        for size, stride, before, source, phases, tap_phase, tap_offset in self.axes:
            parts.append(np.array([size, stride, before, tap_offset.max(), source.size]).tobytes() + source.tobytes())
            parts.append(np.int64(phases.size).tobytes() + phases.tobytes() + np.int64(tap_phase.size).tobytes())
            parts.append(tap_phase.tobytes() + tap_offset.tobytes())
        for array in (x, out, residual, bias, packed, weights, *matrices):
            flat, strides = plain(array)
            parts.append(np.array([*strides, flat.nbytes], np.int64).tobytes() + flat.tobytes())
        answer = self.ask(b"".join(parts), out)
        flat, strides = plain(out)
        result = np.frombuffer(answer[: out.nbytes], out.dtype)
        out[...] = np.lib.stride_tricks.as_strided(result, out.shape, strides, writeable=False)
        self.ran.append(answer[out.nbytes :].decode())

    def ask(self, question, out):
        """What the driver answers: the bytes of ``out``, then the name of its instruction set."""
        return subprocess.run(self.command, input=question, capture_output=True, check=True, timeout=120).stdout


def plain(array):
    """An array's elements in one piece, channels last if they are, and the strides of its axes there."""
    if array is None:
        return np.empty(0), (0,) * 5
    if array.ndim == 5 and array.strides[1] == array.itemsize < array.strides[4]:
        last = np.ascontiguousarray(np.moveaxis(array, 1, -1))
        return last, np.moveaxis(last, -1, 1).strides
    flat = np.ascontiguousarray(array)
    return flat, flat.strides if flat.ndim == 5 else (0,) * 5


def on_x86(isa: str) -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{isa} is an x86-64 instruction set; this is {platform.machine()}")
    if isa not in _compiled.isas_present():
        pytest.skip(f"this processor has no {isa}")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The driver of a compiler; all that there are are made when the first is asked for."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"

    def get(compiler: str) -> Path:
        native = {isa: how for isa, how in X86.items() if isa in _compiled.isas_present()}
        there = {name: isas for name, isas in (("gcc", native), (AARCH64[0], {})) if shutil.which(name)}
        if compiler not in there:
            pytest.skip(f"no {compiler} here (Debian: gcc, gcc-aarch64-linux-gnu)")
        build(folder, there)
        return folder / compiler / "driver"

    return get


def stand_in(monkeypatch, layer, width, wide):
    """Send every layer to ``layer``, planned for vectors of ``width`` bytes, 32 of them if they are ``wide``."""
    from fastconv.adapters import cython_tiled, winograd

    monkeypatch.setattr(layer, "ran", [])
    monkeypatch.setattr("fastconv.adapters.compiled._compiled.Layer", layer)
    monkeypatch.setattr(_compiled, "vector_lanes", lambda isa, item: width // item)
    monkeypatch.setattr(_compiled, "tile_pixels", lambda isa: 14 if wide else 6)
    known.calls.clear()
    for module in (cython_tiled, winograd):
        monkeypatch.setattr(module, "quick", None)
        monkeypatch.setattr(module, "again", None, raising=False)
        module._layer.cache_clear()


@pytest.fixture(params=["baseline", "avx2", "avx512", "aarch64"])
def emulated(request, programs, monkeypatch):
    """Send every layer through the driver; returns the names of the instruction sets that ran."""
    if request.param == "aarch64":
        compiler, emulator = AARCH64
        if shutil.which(emulator) is None:
            pytest.skip(f"no {emulator} here (Debian: qemu-user)")
        command, wide = [emulator, str(programs(compiler)), "baseline"], True
    else:
        if request.param != "baseline":
            on_x86(request.param)
        command = [str(programs("gcc")), request.param]
        wide = request.param == "avx512" or platform.machine() == "aarch64"
    monkeypatch.setattr(EmulatedLayer, "command", command)
    width = 16 if request.param in ("aarch64", "baseline") else X86[request.param][0]
    stand_in(monkeypatch, EmulatedLayer, width, wide)
    yield EmulatedLayer.ran
    from fastconv.adapters import cython_tiled, winograd

    for module in (cython_tiled, winograd):
        module._layer.cache_clear()
    expected = "baseline" if request.param == "aarch64" else request.param
    assert set(EmulatedLayer.ran) == {expected}


PROBLEMS = [
    ("cython", (2, 3, 9, 11), (5, 3, 3, 3), {"padding": 1}),
    ("cython", (1, 70, 7, 7), (17, 70, 3, 3), {"padding": 1, "activation": "relu"}),
    ("cython", (1, 8, 20, 23), (12, 8, 1, 1), {}),
    ("cython", (1, 66, 14, 14), (40, 66, 3, 3), {"padding": 1}),
    ("cython", (2, 9, 7, 7), (64, 9, 1, 1), {"activation": "relu6"}),
    ("cython", (1, 3, 21, 19), (9, 3, 7, 7), {"padding": 3, "stride": 2, "activation": "silu"}),
    ("cython", (1, 34, 14, 14), (40, 34, 3, 3), {"padding": 1, "stride": 2, "padding_mode": "reflect"}),
    ("cython", (1, 6, 12, 40), (6, 1, 3, 3), {"padding": 2, "dilation": 2, "groups": 6, "activation": "hardswish"}),
    ("cython", (1, 4, 13, 9), (4, 2, 2, 4), {"groups": 2, "stride": (3, 2), "padding_mode": "reflect", "padding": 1}),
    ("cython", (1, 5, 9, 21), (5, 1, 3, 3), {"padding": 1, "groups": 5}),
    ("cython", (1, 3, 9, 7), (3, 1, 5, 5), {"padding": 2, "groups": 3, "stride": 2}),
    ("cython", (1, 5, 9, 4), (5, 1, 3, 3), {"padding": 1, "groups": 5, "activation": "relu"}),
    ("cython", (1, 3, 8, 2), (6, 1, 7, 7), {"padding": 3, "groups": 3}),
    ("cython", (2, 1, 9, 30), (9, 1, 3, 3), {"activation": "silu"}),
    ("cython", (2, 13, 14, 20), (40, 20, 3, 3), {"padding": 1, "activation": "relu", "layout": "NHWC"}),
    ("cython", (1, 19, 21, 3), (33, 3, 7, 7), {"padding": 3, "stride": 2, "layout": "NHWC"}),
    ("cython", (1, 7, 9, 70), (17, 70, 1, 1), {"activation": "silu", "layout": "NHWC"}),
    ("winograd", (2, 9, 13, 14), (11, 9, 3, 3), {"padding": 1, "activation": "gelu"}),
    ("winograd", (1, 66, 6, 2), (5, 66, 3, 3), {"padding": 1}),
    ("winograd", (3, 20, 5, 19), (9, 20, 1, 3), {"padding": 1}),
    ("winograd", (2, 9, 13, 7), (11, 9, 5, 1), {"padding": 2, "dilation": 2}),
    ("winograd", (5, 9, 6, 6), (11, 9, 3, 3), {"padding": 1, "accuracy": "fast"}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("plan", [False, True], ids=["one-shot", "plan"])
@pytest.mark.parametrize("backend, x_shape, w_shape, options", PROBLEMS)
def test_kernels_agree_with_the_oracle_on_every_instruction_set(
    emulated, backend, x_shape, w_shape, options, plan, dtype
):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    bias = rng.standard_normal(w_shape[0]).astype(dtype)
    if plan:
        result = fastconv.plan(w, x_shape, bias, backend=backend, **options)(x, threads=2)
    else:
        result = fastconv.conv2d(x, w, bias, backend=backend, threads=2, **options)
    options = {name: value for name, value in options.items() if name != "accuracy"}
    if options.pop("layout", None):
        x, result = np.moveaxis(x, -1, 1), np.moveaxis(result, -1, 1)
    expected = reference(x, w, bias, **options)
    assert_close(result, expected, np.abs(expected).max() * (1e-5 if dtype == "float32" else 1e-13))
