"""A run of the benchmark that might have been, for the tests of the page: the contract's document, nothing timed."""

import json
import math
import zlib

from fastconv.bench import contest, contestants, report
from fastconv.bench.cases import PoolCase, find

OURS = ("auto", "numba", "cython", "winograd", "fft", "im2col")
RIVALS = {"torch": "PyTorch", "torch-nhwc": "PyTorch, channels last", "onnxruntime": "ONNX Runtime",
          "openvino": "OpenVINO", "ncnn": "ncnn", "mnn": "MNN", "opencv": "OpenCV filter2D", "jax": "JAX"}  # fmt: skip
EFFICIENCY = {"auto": 0.9, "numba": 0.7, "cython": 0.88, "winograd": 1.6, "fft": 0.2, "im2col": 0.45, "torch": 0.7,
              "torch-nhwc": 0.85, "onnxruntime": 0.9, "openvino": 0.8, "ncnn": 1.2, "mnn": 0.5, "opencv": 0.4,
              "jax": 0.3}  # fmt: skip
OVERHEAD = {"auto": 1.5e-6, "cython": 1.2e-6, "torch": 6e-6, "onnxruntime": 9e-6, "jax": 3e-5}
CASES = ("tiny-8x16", "resnet-64x56-3x3", "resnet-256x14-3x3", "resnet-512x7-3x3", "resnet-64x56-1x1",
         "resnet-stem-7x7s2", "resnet-128x56-3x3s2", "vgg-256x56-3x3", "vgg-64x224-3x3", "lecture-1x1", "lecture-3x3",
         "mobilenet-dw-32x112", "mobilenet-dw-144x56s2", "mobilenet-96x56-1x1", "convnext-dw-96x56-7x7",
         "inception-192x17-1x7", "resnext-128x56-g32", "deeplab-512x33-d2", "unet-64x256-3x3",
         "deepbench-1to32x161x700-5x20s2", "audio-80s4", "c3d-64x16x56", "photo-3x3", "photo-15x15",
         "mnist-6to16x14-5x5-n64", "odd-37x45x61", "resnet-max-3x3s2", "resnet-global-avg")  # fmt: skip
WIDTHS = {"L1": 480.0, "L2": 160.0, "L3": 60.0, "memory": 18.0}  # GB/s of one thread


def probes(threads):
    """What the machine could do; the last level is shared, so it grows less."""
    grow = {"memory": 1 + 0.3 * (threads - 1), "L3": 1 + 0.6 * (threads - 1)}
    band = {name: {"bytes": 24576, "gbs": gbs * grow.get(name, threads), "by": "copying"}
            for name, gbs in WIDTHS.items()}  # fmt: skip
    return {"fma_gflops": 165.0 * threads, "bandwidth": band}


def chance(*what):
    """A number from 0 to 1 that is the same in every run."""
    return zlib.crc32(" ".join(map(str, what)).encode()) / 2**32


def seconds(case, name, threads, cache):
    """A roofline with a luck of its own for each pair, and the price of a call."""
    efficiency = EFFICIENCY[name] * (0.55 + 0.6 * chance(case.name, name)) * (0.15 if case.group == "depthwise" else 1)
    level = WIDTHS["L2" if cache == "hot" and case.bytes < 1e6 else "memory"]
    busy = case.flops / (165e9 * efficiency * threads), case.bytes / (level * 1e9 * (1 + 0.3 * (threads - 1)))
    return math.hypot(*busy) + OVERHEAD.get(name, 1.5e-5)


def absence(case, name):
    """Why a contestant does not take a case, or None."""
    if name == "winograd" and ("3x3" not in case.name or "s2" in case.name):
        return "only 3x3 kernels with stride 1"
    if name == "opencv" and case.group != "filters":
        return "one channel only"
    if isinstance(case, PoolCase) and name in ("mnn", "jax"):
        return "no poolings"
    return None


def document(threads=(1, 2), caches=("hot",), names=(*OURS, *RIVALS), cases=CASES, wrong=(), rounds=16):
    """The whole run; ``wrong`` names the contestants that compute something else."""
    entries, absences = [], [contest.Absence("", "tvm", "not installed; 'pip install <tvm> & co'")]
    for case in map(find, cases):
        for workers in threads:
            for name in names:
                if isinstance(case, PoolCase) and name in OURS[1:]:
                    continue
                if because := absence(case, name):
                    absences.append(contest.Absence(case.name, name, because))
                    continue
                entries += [_entry(case, workers, cache, name, name in wrong, rounds) for cache in caches]
    who = [contestants.Contestant(n, "peer" if n in RIVALS else "backend", RIVALS.get(n, f"fastconv <{n}>"), "1.0",
                                  "set <well> & truly").to_dict() for n in names]  # fmt: skip
    found = {str(workers): probes(workers) for workers in threads}
    made = report.document([find(c) for c in cases], entries, absences, who, found, threads=threads, rounds=rounds,
                           caches=caches)  # fmt: skip
    return json.loads(json.dumps(made, allow_nan=False))


def _entry(case, threads, cache, name, wrong, rounds):
    mine = name in OURS
    workspace = int(case.bytes * chance(case.name, name, "workspace")) if mine else None
    algorithm = "shifted product, strips 8x48" if mine and not isinstance(case, PoolCase) else None
    blank = contest.Entry(case.name, threads, cache, name, algorithm, workspace, 0.4 if wrong else 2e-7, 1e-6,
                          None if wrong else case.bytes // 2)  # fmt: skip
    if wrong:
        return blank
    once = seconds(case, name, threads, cache)
    samples = [contest.Sample(once * (1 + 0.08 * chance(name, i) ** 2), (165.0 * threads,), 40.0, 0.0)
               for i in range(rounds)]  # fmt: skip
    return contest._timed(blank, case, 3, samples, [True] * rounds, False)
