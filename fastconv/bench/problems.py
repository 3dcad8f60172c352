"""Small problems that every backend computes, or says why not: what the agreement tests go through."""

from __future__ import annotations

from typing import Any

from fastconv.bench.case import Case


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
