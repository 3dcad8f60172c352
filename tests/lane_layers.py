"""What the kernels with pixels and with output channels in the lanes are tried on, whichever engine has them."""

import numpy as np
from oracle import assert_close, reference

import fastconv

LAYERS = [
    "n2ic3ih9iw11oc20k3p1", "ic70ih14oc33k3p1", "n3ic9ih7oc64k3p1", "ic9ih4oc24k3p1", "ic5ih9iw1oc40k3kw1pt1pb1",
    "ic130ih7oc48k3p1", "ic8ih20iw23oc36k1", "ic300ih7oc20k1", "ic3ih30oc64k7s2p3", "ic16ih15iw17oc32k3s2p1",
    "g2ic12ih13oc40k3p1", "ic16ih16oc32k3p2dh2", "ic20ih9iw17oc40k5p2", "ic9ih6iw5oc40k7p3", "ic10ih33oc36k3p12d12",
    "g9ic9ih13iw37oc9k3p1", "g5ic5ih30iw11oc10k5s2p2", "n2ih9iw150k7p3", "g3ic3id5ih6iw7oc3k3p1",
    "ic12ih3iw2oc33k3p4", "ic9id4ih7iw8oc40k3p1", "ic70ih9oc33p1", "ic4id5ih6iw9oc19kd3kh2kw2", "ic6iw70oc17k5p2s2",
    "ic65ih3iw29oc65k1", "ic9ih15iw29oc33k3s2p1", "ic12ih9oc40s2", "ic10ih31oc36k5s2p2d3",
]  # fmt: skip


def check_padding_meets_weights(backend, rng, value):
    """A plan whose weights hold a ``value`` that is not finite multiplies it by the zeros of the padding, too."""
    x, w = rng.standard_normal((1, 9, 7, 7)), rng.standard_normal((40, 9, 3, 3))
    w[5, 3, 0, 0], w[20, 1, 2, 1] = value, value
    with np.errstate(invalid="ignore"):
        expected = reference(x, w, padding=1)
    result = fastconv.plan(w, x.shape, padding=1, backend=backend)(x)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    finite = np.isfinite(expected)
    assert_close(result[finite], expected[finite], 1e-10)
