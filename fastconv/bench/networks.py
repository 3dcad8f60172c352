"""The layers that are timed: those of published networks, and some by themselves. Each is float32 with a bias.

A row is text: a layer, before it a name and a colon, after it how often the network has it. Where no name is given
it is made from the layer; names from before there was a rule stay as they are, for the history's sake.
"""

from __future__ import annotations

from fastconv.bench.case import AnyCase
from fastconv.bench.rows import layers, pools

_RESNET = """
    resnet-stem-7x7s2: ic3ih224oc64k7s2p3
    resnet-64to64x56-1x1: ic64ih56oc64
    ic64ih56oc64k3p1 x3
    resnet-64x56-1x1: ic64ih56oc256 x4
    ic256ih56oc64 x2
    ic256ih56oc128
    ic128ih56oc128k3s2p1
    ic256ih56oc512s2
    ic128ih28oc512 x4
    ic512ih28oc128 x3
    ic128ih28oc128k3p1 x3
    ic512ih28oc256
    ic256ih28oc256k3s2p1
    ic512ih28oc1024s2
    ic256ih14oc1024 x6
    ic1024ih14oc256 x5
    ic256ih14oc256k3p1 x5
    ic1024ih14oc512
    ic512ih14oc512k3s2p1
    ic1024ih14oc2048s2
    ic512ih7oc2048 x3
    ic2048ih7oc512 x2
    ic512ih7oc512k3p1 x2
"""

_VGG = """
    ic3ih224oc64k3p1
    ic64ih224oc64k3p1
    ic64ih112oc128k3p1
    ic128ih112oc128k3p1
    ic128ih56oc256k3p1
    ic256ih56oc256k3p1 x2
    ic256ih28oc512k3p1
    ic512ih28oc512k3p1 x2
    ic512ih14oc512k3p1 x3
"""

_MOBILENET2 = """
    ic3ih224oc32k3s2p1
    mobilenet-dw-32x112: ic32ih112oc32k3p1g32
    ic32ih112oc16
    ic16ih112oc96
    ic96ih112oc96k3s2p1g96
    mobilenet-96x56-1x1: ic96ih56oc24
    ic24ih56oc144 x2
    mobilenet-dw-144x56: ic144ih56oc144k3p1g144
    ic144ih56oc24
    mobilenet-dw-144x56s2: ic144ih56oc144k3s2p1g144
    ic144ih28oc32
    ic32ih28oc192 x3
    ic192ih28oc192k3p1g192 x2
    ic192ih28oc32 x2
    ic192ih28oc192k3s2p1g192
    ic192ih14oc64
    ic64ih14oc384 x4
    ic384ih14oc384k3p1g384 x4
    ic384ih14oc64 x3
    ic384ih14oc96
    ic96ih14oc576 x3
    ic576ih14oc576k3p1g576 x2
    ic576ih14oc96 x2
    ic576ih14oc576k3s2p1g576
    ic576ih7oc160
    ic160ih7oc960 x3
    mobilenet-dw-960x7: ic960ih7oc960k3p1g960 x3
    ic960ih7oc160 x2
    ic960ih7oc320
    ic320ih7oc1280
"""

# Without squeeze-and-excite, whose layers have one pixel, and without 160->960 and 960->160, which V2 has, too.
_MOBILENET3 = """
    ic3ih224oc16k3s2p1
    ic16ih112oc16k3p1g16
    ic16ih112oc16
    ic16ih112oc64
    ic64ih112oc64k3s2p1g64
    ic64ih56oc24
    ic24ih56oc72 x2
    ic72ih56oc72k3p1g72
    ic72ih56oc24
    ic72ih56oc72k5s2p2g72
    ic72ih28oc40
    ic40ih28oc120 x2
    ic120ih28oc120k5p2g120 x2
    ic120ih28oc40 x2
    ic40ih28oc240
    ic240ih28oc240k3s2p1g240
    ic240ih14oc80
    ic80ih14oc200
    ic200ih14oc200k3p1g200
    ic200ih14oc80
    ic80ih14oc184 x2
    ic184ih14oc184k3p1g184 x2
    ic184ih14oc80 x2
    ic80ih14oc480
    ic480ih14oc480k3p1g480
    ic480ih14oc112
    ic112ih14oc672 x2
    ic672ih14oc672k3p1g672
    ic672ih14oc112
    ic672ih14oc672k5s2p2g672
    ic672ih7oc160
    ic960ih7oc960k5p2g960 x2
"""

# One of each kind. Left out is what differs from one of these in its channels only: most 1x1 layers, the 7x1 that
# widens from 160 to 192, and the second 3x3 with stride 2 at 17x17.
_INCEPTION = """
    ic3ih299oc32k3s2
    ic32ih149oc32k3
    ic32ih147oc64k3p1
    ic64ih73oc80
    ic80ih73oc192k3
    ic192ih35oc64
    ic48ih35oc64k5p2
    ic64ih35oc96k3p1
    ic96ih35oc96k3p1
    ic288ih35oc384k3s2
    ic96ih35oc96k3s2
    ic768ih17oc192
    ic128ih17oc128kw7pl3pr3
    ic128ih17oc192kh7pt3pb3
    ic160ih17oc160kw7pl3pr3
    ic160ih17oc160kh7pt3pb3
    ic192ih17oc192kw7pl3pr3
    ic192ih17oc192kh7pt3pb3
    ic192ih17oc320k3s2
    ic1280ih8oc448
    ic448ih8oc384k3p1
    ic384ih8oc384kw3pl1pr1
    ic384ih8oc384kh3pt1pb1
    ic2048ih8oc320
"""

_RESNEXT = """
    resnext-128x56-g32: ic128ih56oc128k3p1g32 x3
    ic256ih56oc256k3s2p1g32
    ic256ih28oc256k3p1g32 x3
    ic512ih28oc512k3s2p1g32
    ic512ih14oc512k3p1g32 x5
    ic1024ih14oc1024k3s2p1g32
    ic1024ih7oc1024k3p1g32 x2
"""

_DEEPLAB = """
    ic256ih65oc256k3p2d2
    ic512ih65oc512k3p4d4
    deeplab-512x33-d2: ic512ih33oc512k3p2d2
    ic512ih33oc512k3p4d4
    ic2048ih33oc256k3p6d6
    ic2048ih33oc256k3p12d12
    ic2048ih33oc256k3p18d18
"""

_UNET = """
    ih256oc64k3p1
    ic64ih256oc64k3p1 x2
    ic128ih256oc64k3p1
    ic64ih128oc128k3p1
    ic128ih128oc128k3p1 x2
    ic256ih64oc256k3p1 x2
    ic512ih32oc512k3p1 x2
    ic1024ih16oc1024k3p1
"""

_CONVNEXT = """
    ic3ih224oc96k4s4
    convnext-dw-96x56-7x7: ic96ih56oc96k7p3g96 x3
    ic96ih56oc384 x3
    ic384ih56oc96 x3
    ic96ih56oc192k2s2
    ic192ih28oc192k7p3g192 x3
    ic384ih14oc384k7p3g384 x9
    ic768ih7oc768k7p3g768 x3
"""

# Those of batch 1; what ResNet-50 or VGG-16 above has, too, is left out.
_DEEPBENCH = """
    ih161iw700oc32kh5kw20s2
    ic32ih79iw341oc32kh5kw10s2
    ih48iw480oc16k3p1
    ic16ih24iw240oc32k3p1
    ic32ih12iw120oc64k3p1
    ic64ih6iw60oc128k3p1
    ic3ih108oc64k3s2p1
    ic64ih54oc64k3p1
    ic128ih27oc128k3p1
    ic128ih14oc256k3p1
    ic256ih7oc512k3p1
    ic192ih28oc32k5p2
    ic192ih28oc64
    ic512ih14oc48k5p2
    ic512ih14oc192
    ic832ih7oc256
    ic832ih7oc128k5p2
    ic64ih56oc256s2
    ic128ih28oc512s2
    ic256ih14oc256
    ic256ih14oc1024s2
    ic512ih7oc512
    ic2048ih7oc512s2p3
    ih161iw700oc64k5s2p1
    ic64ih80iw350oc64k3p1
    ic64ih80iw350oc128k5s2p1
    ic128ih40iw175oc128k3p1
    ic128ih40iw175oc256k5s2p1
    ic256ih20iw84oc256k3p1
    ic256ih20iw84oc512k5s2p1
    ic512ih10iw42oc512k3p1
    ic64ih112oc64
    ic256ih56oc128s2
    ic512ih28oc256s2
    ic1024ih14oc512s2
"""

_M11 = "M11 on one second at 16 kHz (Dai et al., arXiv:1610.00087)"
_WAVENET = "WaveNet, causal, on one second at 16 kHz (van den Oord et al., arXiv:1609.03499)"
_WAV2VEC = "wav2vec 2.0, feature encoder, on one second at 16 kHz (Baevski et al., arXiv:2006.11477)"
_TASNET = "Conv-TasNet, separator, on one second at 16 kHz (Luo, Mesgarani, arXiv:1809.07454)"
_C3D = "C3D (Tran et al., arXiv:1412.0767, section 3)"

_CONVOLUTIONS = (
    *layers("resnet", "resnet-50", "ResNet-50 v1.5, batch 1 (He et al., arXiv:1512.03385, table 1)", _RESNET),
    *layers("resnet", "resnet-50-n16", "ResNet-50 v1.5, batch 16 (He et al., arXiv:1512.03385, table 1)", _RESNET, 16),
    *layers("vgg", "vgg-16", "VGG-16 (Simonyan, Zisserman, arXiv:1409.1556, table 1, D)", _VGG),
    *layers("mobilenet2", "mobilenet", "MobileNetV2 (Sandler et al., arXiv:1801.04381, table 2)", _MOBILENET2),
    *layers("mobilenet3", "mobilenet", "MobileNetV3-Large (Howard et al., arXiv:1905.02244, table 1)", _MOBILENET3),
    *layers("inception", "inception-v3", "Inception-v3, 299x299 (Szegedy et al., arXiv:1512.00567)", _INCEPTION),
    *layers("resnext", "resnext-50", "ResNeXt-50 32x4d (Xie et al., arXiv:1611.05431, table 1)", _RESNEXT),
    *layers("deeplab", "deeplab", "DeepLabv3, 513x513, strides 8 and 16 (Chen et al., arXiv:1706.05587)", _DEEPLAB),
    *layers("unet", "u-net", "U-Net with padding, 256x256 (Ronneberger et al., arXiv:1505.04597, figure 1)", _UNET),
    *layers("convnext", "convnext", "ConvNeXt-T (Liu et al., arXiv:2201.03545, table 9)", _CONVNEXT),
    *layers("deepbench", "deepbench", "DeepBench, code/kernels/conv_problems.h, inference_server_set", _DEEPBENCH),
    *layers("lecture", "lecture", "lecture layer of the task: 16x128x26x26 -> 192",
            "lecture-1x1: n16ic128ih26oc192\nlecture-3x3: n16ic128ih26oc192k3p1"),
    *layers("audio", "audio", _M11, "audio-80s4: iw16000oc64k80s4\nic64iw1000oc64k3p1"),
    *layers("audio", "audio", _WAVENET, """
        ic32iw16000oc32k2pl1
        ic32iw16000oc32k2pl16d16
        audio-d256: ic32iw16000oc32k2pl256d256
    """),
    *layers("audio", "audio", _WAV2VEC, "iw16000oc512k10s5\nic512iw3199oc512k3s2\nic512iw99oc512k2s2"),
    *layers("audio", "audio", _TASNET, "ic512iw1999oc512k3p1g512\nic512iw1999oc512k3p128d128g512"),
    *layers("c3d", "video", _C3D, """
        ic3id16ih112iw112oc64k3p1
        c3d-64x16x56: ic64id16ih56iw56oc128k3p1
        ic128id8ih28iw28oc256k3p1
        ic256id8ih28iw28oc256k3p1
        ic256id4ih14iw14oc512k3p1
        ic512id4ih14iw14oc512k3p1
        ic512id2ih7iw7oc512k3p1 x2
    """),
    *layers("photo", "filters", "one filter on one channel of a full-HD image", "\n".join(
        f"photo-{k}x{k}: ih1080iw1920k{k}p{k // 2}" for k in (3, 5, 7, 15, 31, 63))),
    *layers("tiny", "tiny", "made up: the call costs more than the sums",
            "tiny-8x16: ic8ih16oc8k3p1\nic8ih16oc8\nic3ih8oc8k3p1\niw64k3p1"),
    *layers("mnist", "mnist", "LeNet-5 on MNIST, batch 64, C1 and C3 (LeCun et al., 1998)",
            "lenet-mnist-n64: n64ih28oc6k5p2\nn64ic6ih14oc16k5"),
    *layers("mnist", "mnist", "MNIST example of PyTorch, batch 64", "n64ih28oc32k3\nn64ic32ih26oc64k3"),
    *layers("odd", "odd", "made up: nothing is a multiple of a vector", """
        odd-37x45x61: ic37ih45iw61oc53k3p1
        ic37ih45iw61oc53
        ic37ih45iw61oc53k5s2p2
        ic13ih31iw17oc29k3p1
    """),
)  # fmt: skip

CASES: tuple[AnyCase, ...] = (
    *_CONVOLUTIONS,
    *pools(
        "max_pool",
        ("resnet-max-3x3s2", "ic64ih112k3s2p1", "ResNet-50, after conv1"),
        ("resnet-max-3x3s2-n16", "n16ic64ih112k3s2p1", "ResNet-50, after conv1, batch 16"),
        ("vgg-max-2x2s2", "ic64ih224k2s2", "VGG-16, after conv1_2"),
        ("inception-max-3x3s2", "ic192ih71k3s2", "Inception-v3, before the first block"),
        ("m11-max-4s4", "ic64iw4000k4s4", "M11, after conv1"),
        ("c3d-max-2x2x2s2", "ic128id16ih56iw56k2s2", "C3D, pool2"),
    ),
    *pools(
        "avg_pool",
        ("lecture-avg-3x3s2", "n16ic192ih26k3s2p1", "the lecture's pooling of 16x192x26x26"),
        ("inception-avg-3x3", "ic288ih35k3p1", "Inception-v3, inside a block of 35x35"),
        ("resnet-global-avg", "ic2048ih7k7", "ResNet-50, before the classifier"),
    ),
)
"""Layers to time."""
