"""Named problems as data: `CASES`, the layers that are timed, and `PROBLEMS`, the small ones for agreement.

A case is a layer as text (the alphabet of `fastconv.spec.parse_layer`) with options and a source.
Nothing here depends on what is installed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.spec import ConvSpec, Epilogue, parse_layer

BACKEND_NAMES = ("naive", "im2col", "numba", "cython", "winograd", "fft")
"""Every backend that the tests must exercise; a test compares it with the registry."""

EXCLUSIONS: dict[tuple[str, str], str] = {}
"""(backend, name of a problem) -> why the agreement tests leave the pair out, beyond `why_not`."""


@dataclass(frozen=True, slots=True)
class Case:
    """One named problem: a layer as text, its options, and where it comes from."""

    name: str
    layer: str
    group: str
    source: str
    dtype: str = "float32"
    w_dtype: str | None = None  # None: that of x
    padding_mode: str = "zeros"
    layout: str | None = None  # None: channels first
    accuracy: str = "high"
    bias: bool = True
    activation: str | None = None
    parameter: float = 0.0
    residual: bool = False

    @property
    def spec(self) -> ConvSpec:
        options = {"dtype": self.dtype, "w_dtype": self.w_dtype or self.dtype, "padding_mode": self.padding_mode,
                   "accuracy": self.accuracy}  # fmt: skip
        return parse_layer(self.layer, **options, **({"layout": self.layout} if self.layout else {}))

    @property
    def epilogue(self) -> Epilogue:
        return Epilogue(self.activation, self.parameter)

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of `fastconv.conv2d` and `fastconv.plan` for this case; ``bias`` and ``residual`` are arrays."""
        spec = self.spec
        act = (self.activation, self.parameter) if self.activation == "leaky_relu" else self.activation
        return {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.g,
                "padding_mode": spec.padding_mode, "layout": spec.layout, "accuracy": spec.accuracy,
                "activation": act}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """The arrays of a case; ``bias`` and ``residual`` are None where it has none."""

    x: np.ndarray
    w: np.ndarray
    bias: np.ndarray | None
    residual: np.ndarray | None


def arrays(case: Case, rng: np.random.Generator | None = None, whole: bool = False) -> Arrays:
    """The arrays of a case, the same in every run.

    ``rng`` is seeded from the case's name where it is not given. ``whole`` makes floats whole numbers
    from -4 to 4, whose sums are exact in any order.
    """
    rng = rng or np.random.default_rng(zlib.crc32(case.name.encode()))
    spec = case.spec

    def draw(shape: tuple[int, ...], dtype: str, scale: float = 1.0) -> np.ndarray:
        kind = np.dtype(dtype)
        if kind.kind == "f":
            if whole:
                return rng.integers(-4, 5, shape).astype(kind)
            values: np.ndarray = rng.standard_normal(shape, kind.type) * kind.type(scale)
            return values
        limits = np.iinfo(kind)
        return rng.integers(max(limits.min, -128), min(limits.max, 255), shape, kind, endpoint=True)

    return Arrays(
        draw(spec.x_shape, spec.dtype),
        draw(spec.w_shape, spec.w_dtype, scale=spec.terms**-0.5 if spec.terms else 1.0),
        draw((spec.oc,), spec.acc_dtype) if case.bias else None,
        draw(spec.out_shape, spec.acc_dtype) if case.residual else None,
    )


_RESNET = "ResNet-50 v1.5, batch 1 (He et al., arXiv:1512.03385, table 1)"
_MOBILE = "MobileNetV2 (Sandler et al., arXiv:1801.04381, table 2)"
_LECTURE = "lecture layer of the task: 16x128x26x26 -> 192"
_PHOTO = "one filter on one channel of a full-HD image"

CASES = (
    Case("resnet-64x56-3x3", "ic64ih56oc64k3p1", "ordinary", f"{_RESNET}, conv2_x"),
    Case("resnet-256x14-3x3", "ic256ih14oc256k3p1", "ordinary", f"{_RESNET}, conv4_x"),
    Case("resnet-64x56-1x1", "ic64ih56oc256", "ordinary", f"{_RESNET}, conv2_x"),
    Case("resnet-stem-7x7s2", "ic3ih224oc64k7s2p3", "ordinary", f"{_RESNET}, conv1"),
    Case("resnet-128x56-3x3s2", "ic128ih56oc128k3s2p1", "ordinary", f"{_RESNET}, conv3_1"),
    Case("vgg-256x56-3x3", "ic256ih56oc256k3p1", "nets", "VGG-16, conv3_2 (Simonyan, Zisserman, arXiv:1409.1556)"),
    Case("lecture-1x1", "n16ic128ih26oc192", "nets", _LECTURE),
    Case("lecture-3x3", "n16ic128ih26oc192k3p1", "nets", _LECTURE),
    Case("resnext-128x56-g32", "ic128ih56oc128k3p1g32", "nets", "ResNeXt-50, conv2_x (Xie et al., arXiv:1611.05431)"),
    Case("inception-192x17-1x7", "ic192ih17oc192kh1kw7pl3pr3", "nets", "Inception-v3, 17x17 (arXiv:1512.00567)"),
    Case("deeplab-512x33-d2", "ic512ih33oc512k3p2d2", "nets", "DeepLabv3, block 4, 513 input (arXiv:1706.05587)"),
    Case("lenet-mnist-n64", "n64ic1ih28oc6k5p2", "nets", "LeNet-5 on MNIST, C1 (LeCun et al. 1998)"),
    Case("mobilenet-dw-32x112", "ic32ih112oc32k3p1g32", "depthwise", _MOBILE),
    Case("mobilenet-dw-144x56", "ic144ih56oc144k3p1g144", "depthwise", _MOBILE),
    Case("mobilenet-dw-144x56s2", "ic144ih56oc144k3s2p1g144", "depthwise", _MOBILE),
    Case("mobilenet-dw-960x7", "ic960ih7oc960k3p1g960", "depthwise", _MOBILE),
    Case("mobilenet-96x56-1x1", "ic96ih56oc24", "nets", _MOBILE),
    Case("convnext-dw-96x56-7x7", "ic96ih56oc96k7p3g96", "depthwise", "ConvNeXt-T, stage 1 (arXiv:2201.03545)"),
    Case("audio-80s4", "iw16000oc64k80s4", "1-D", "M11 on one second at 16 kHz (Dai et al., arXiv:1610.00087)"),
    Case("audio-d256", "ic32iw16000oc32k2d256pl256", "1-D", "WaveNet, causal, dilation 256 (arXiv:1609.03499)"),
    Case("c3d-64x16x56", "ic64id16ih56oc128k3p1", "3-D", "C3D, conv2a (Tran et al., arXiv:1412.0767)"),
    Case("photo-3x3", "ih1080iw1920k3p1", "filters", _PHOTO),
    Case("photo-7x7", "ih1080iw1920k7p3", "filters", _PHOTO),
    Case("photo-15x15", "ih1080iw1920k15p7", "filters", _PHOTO),
    Case("photo-31x31", "ih1080iw1920k31p15", "filters", _PHOTO),
    Case("odd-37x45x61", "ic37ih45iw61oc53k3p1", "odd", "made up: nothing is a multiple of a vector"),
    Case("tiny-8x16", "ic8ih16oc8k3p1", "odd", "made up: the call costs more than the sums"),
)
"""Layers to time, each float32 with a bias."""


def _problems(group: str, *rows: tuple[str, str] | tuple[str, str, dict[str, Any]]) -> tuple[Case, ...]:
    return tuple(
        Case(row[0], row[1], group, "made up to agree on", **(row[2] if len(row) == 3 else {})) for row in rows
    )


_CHANNELS_LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}

PROBLEMS = (
    *_problems(
        "2-D",
        ("plain-3x3", "ic8ih12oc8k3p1"),
        ("no-padding", "ic8ih12oc8k3"),
        ("1x1", "ic16ih9oc24"),
        ("1x1-padded", "ic5ih7oc6p1"),
        ("1x1-stride-2", "ic8ih9oc8s2"),
        ("stem", "ic3ih31oc16k7s2p3"),
        ("stride-2", "ic16ih15oc16k3s2p1"),
        ("stride-3x2", "ic4ih17iw19oc6k3sh3sw2p1"),
        ("stride-beyond-kernel", "ic4ih16oc4kh2kw1s3"),
        ("asymmetric-padding", "ic4ih11iw13oc5k3pt2pb0pl1pr3"),
        ("even-kernel", "ic3ih10iw9oc4kh4kw2pt1pb2pr1"),
        ("even-kernel-stride-2", "ic3ih11oc4k4s2p1"),
        ("tall-kernel", "ic4ih20iw8oc4kh7kw1pt3pb3"),
        ("wide-kernel", "ic4ih8iw20oc4kh1kw7pl3pr3"),
        ("dilation-2", "ic6ih15oc7k3p2d2"),
        ("dilation-3x2-stride-2", "ic4ih19iw17oc5k3sh1sw2pt3pb3pl2pr2dh3dw2"),
        ("kernel-is-image", "ic6ih7iw9oc5kh7kw9"),
        ("kernel-is-padded-image", "ic2ih4iw5oc3kh6kw7p1"),
        ("padding-beyond-kernel", "ic2ih5oc3k3p4"),
        ("one-pixel", "ic3ih1oc4"),
        ("one-pixel-padded", "ic3ih1oc4k3p1"),
        ("one-row", "ic3ih1iw50oc5kh1kw3pl1pr1"),
        ("one-column", "ic3ih50iw1oc5kh3kw1pt1pb1"),
        ("wide-image", "ic2ih3iw700oc3k3p1"),
        ("batch-3", "n3ic9ih10oc11k3p1"),
        ("batch-3-stride-2", "n3ic5ih9oc4k3s2p1"),
        ("filter-9x9", "ih40iw53k9p4"),
        ("filter-25x25", "ih60iw51k25p12"),
        ("bank-11x11", "ih33iw47oc6k11p5"),
        ("no-bias", "ic7ih9oc5k3p1", {"bias": False}),
        ("float64", "ic7ih9oc9k3p1", {"dtype": "float64"}),
        ("float64-stride-2", "ic17ih13oc9k5s2p2", {"dtype": "float64"}),
        ("exact", "ic40ih9oc9k3p1", {"accuracy": "exact"}),
        ("fast", "ic40ih18oc9k3p1", {"accuracy": "fast"}),
    ),
    *_problems(
        "channels",  # around channel blocks of 32 and 64, register blocks of 4 to 16
        *((f"ic{ic}", f"ic{ic}ih9iw11oc6k3p1") for ic in (1, 2, 5, 31, 33, 63, 65, 129)),
        *((f"oc{oc}", f"ic7ih9iw11oc{oc}k3p1") for oc in (1, 2, 3, 9, 15, 17, 33, 37, 65)),
        ("1x1-ic129-oc37", "ic129ih7oc37"),
        ("1x1-ic257", "ic257ih6oc12"),
        ("stride-2-ic33-oc17", "ic33ih14oc17k3s2p1"),
    ),
    *_problems(
        "winograd",  # ragged tiles of 2 and 4
        *((f"out-{size}x{size}", f"ic6ih{size}oc5k3p1") for size in (2, 3, 4, 5, 6, 7, 8, 9, 13)),
        ("out-6x11-n2", "n2ic33ih8iw13oc17k3"),
        ("out-14x30", "ic20ih14iw30oc16k3p1"),
        ("out-3x3-groups", "ic6ih3oc4k3p1g2"),
    ),
    *_problems(
        "groups",
        ("groups-2", "ic8ih9oc6k3p1g2"),
        ("groups-3-stride-2", "ic9ih10oc15k3s2p1g3"),
        ("groups-32", "ic64ih8oc64k3p1g32"),
        ("groups-1x1", "n2ic12ih5oc8g4"),
        ("depthwise-3x3", "ic17ih14iw19oc17k3p1g17"),
        ("depthwise-stride-2", "n2ic9ih15oc9k3s2p1g9"),
        ("depthwise-5x5-dilated", "ic5ih20oc5k5p4d2g5"),
        ("depthwise-7x7", "ic6ih12iw33oc6k7p3g6"),
        ("depthwise-multiplier-2", "ic5ih9oc10k3p1g5"),
    ),
    *_problems(
        "padding modes",
        *(
            (f"{mode}-{name}", layer, {"padding_mode": mode})
            for mode in ("reflect", "replicate", "circular")
            for name, layer in (
                ("3x3", "ic4ih9iw10oc5k3p1"),
                ("5x5-stride-2", "n2ic3ih11oc4k5s2pt2pb1pl0pr2"),
                ("1-D", "ic3iw20oc4k5p2"),
                ("3-D", "ic2id4ih5iw6oc3k3p1"),
            )
        ),
        ("replicate-beyond-image", "ic2ih3oc2k3p5", {"padding_mode": "replicate"}),
    ),  # fmt: skip
    *_problems(
        "1-D",
        ("1-D-plain", "ic8iw50oc9k3p1"),
        ("1-D-stride-4", "iw400oc8k80s4"),
        ("1-D-causal", "ic5iw40oc6k2d8pl8"),
        ("1-D-one-tap", "ic33iw21oc7"),
        ("1-D-groups", "n2ic6iw30oc4k4s2p1g2"),
        ("1-D-depthwise", "ic8iw33oc8k4pl3g8"),
        ("1-D-long", "ic2iw3000oc2k65p32"),
    ),
    *_problems(
        "3-D",
        ("3-D-plain", "ic4id5ih6iw7oc6k3p1"),
        ("3-D-strides", "ic3id7ih9iw8oc4k3sd2sh1sw2p1"),
        ("3-D-one-tap", "n2ic5id3ih4oc6"),
        ("3-D-groups-dilated", "ic4id6ih9oc4kd2kh3kw3dd2dh1dw2pf1p1g2"),
        ("3-D-depthwise", "ic5id4ih6oc5k3p1g5"),
        ("3-D-asymmetric", "ic2id4ih5oc3kd1kh2kw3pf1pb1pr2"),
    ),
    *_problems(
        "layouts",
        ("NHWC-3x3", "n2ic9ih10iw12oc17k3p1", {"layout": _CHANNELS_LAST[2]}),
        ("NHWC-1x1", "ic33ih7oc20", {"layout": _CHANNELS_LAST[2]}),
        ("NHWC-stride-2-groups", "ic8ih11oc12k3s2p1g4", {"layout": _CHANNELS_LAST[2]}),
        ("NHWC-depthwise", "ic19ih11oc19k3p1g19", {"layout": _CHANNELS_LAST[2]}),
        ("NWC", "ic7iw33oc9k5p2", {"layout": _CHANNELS_LAST[1]}),
        ("NDHWC", "ic3id4ih5iw6oc5k3p1", {"layout": _CHANNELS_LAST[3]}),
    ),
    *_problems(
        "epilogues",
        *(
            (name, "n2ic7ih9oc10k3p1", {"activation": name, "residual": True})
            for name in ("relu", "relu6", "silu", "gelu", "gelu_tanh", "hardswish")
        ),
        ("leaky-relu", "ic7ih9oc10k3p1", {"activation": "leaky_relu", "parameter": 0.2}),
        ("residual-no-bias", "ic7ih9oc10k3p1", {"residual": True, "bias": False}),
        ("residual-NHWC", "ic7ih9oc10k3s2p1", {"residual": True, "layout": _CHANNELS_LAST[2], "activation": "relu"}),
        ("relu-blocked-sums", "ic129ih8oc9k3p1", {"activation": "relu", "residual": True}),
    ),  # fmt: skip
    *_problems(
        "integers",
        *(
            (dtype, "n2ic5ih8oc6k3p1", {"dtype": dtype})
            for dtype in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
        ),
        ("uint8-by-int8", "ic5ih8oc6k3s2p1", {"dtype": "uint8", "w_dtype": "int8"}),
        ("int8-relu", "ic6ih8oc4k3p1g2", {"dtype": "int8", "activation": "relu", "residual": True}),
    ),  # fmt: skip
)
"""Small problems: every backend computes each of them or says why not."""


def find(name: str) -> Case:
    """The case or problem of that name.

    Raises
    ------
    KeyError
        If there is none.
    """
    return {case.name: case for case in (*CASES, *PROBLEMS)}[name]
