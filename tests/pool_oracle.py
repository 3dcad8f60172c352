"""Pooling by its definition, window by window in float64, and random layers. Shares no code with the package."""

import numpy as np
from hypothesis import strategies as st

FIRST = {1: "NCW", 2: "NCHW", 3: "NCDHW"}
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


def sliding(size, kernel, stride, padding, dilation=1, ceil_mode=False):
    """For each output of one axis: the elements in its window, and how many it spans in the padded input."""
    before, after = padding
    result, start, extent = [], -before, (kernel - 1) * dilation + 1
    while start + extent <= size + after or (ceil_mode and start + extent < size + after + stride):
        places = [start + k * dilation for k in range(kernel)]
        result.append(([i for i in places if 0 <= i < size], sum(i < size + after for i in places)))
        start += stride
    return result[:-1] if ceil_mode and start - stride >= size else result


def bins(size, out):
    """For each output of one axis of an adaptive pooling: the elements of its bin."""
    edges = [(int(np.floor(o * size / out)), int(np.ceil((o + 1) * size / out))) for o in range(out)]
    return [(list(range(a, b)), b - a) for a, b in edges]


def shape(x, axes):
    return x.shape[: x.ndim - len(axes)] + tuple(map(len, axes))


def each(x, axes):
    """Every window: its index in the flat output, its elements, their places in the plane, what it spans."""
    planes = x.reshape(-1, *x.shape[x.ndim - len(axes) :])
    number = np.arange(planes[0].size if len(planes) else 0)
    outputs = [(i, o) for i in range(len(planes)) for o in np.ndindex(*map(len, axes))]
    for index, (i, o) in enumerate(outputs):
        inside, spanned = zip(*(axis[place] for axis, place in zip(axes, o, strict=True)), strict=True)
        box = np.ix_(*inside)
        flats = number.reshape(planes.shape[1:])[box].ravel()
        yield index, planes[i][box].ravel().astype(float), flats, np.prod(spanned)


def maximum(x, axes):
    """Largest elements, -inf where there is none, and their places in the plane, -1 where there is none."""
    best, where = np.full(shape(x, axes), -np.inf), np.full(shape(x, axes), -1)
    for index, seen, flats, _ in each(x, axes):
        if seen.size:
            nan = np.flatnonzero(np.isnan(seen))
            pick = nan[-1] if nan.size else seen.argmax()
            best.flat[index], where.flat[index] = seen[pick], flats[pick]
    return best, where


def mean(x, axes, divisor):
    """Sums over ``divisor(elements in x, elements in the padded input)``."""
    result = np.zeros(shape(x, axes))
    for index, seen, _, spanned in each(x, axes):
        number = divisor(seen.size, spanned)
        result.flat[index] = seen.sum() / number if number else np.nan
    return result


def norm(x, axes, p, compat, whole):
    """Norms in either dialect; ``whole`` is the number of elements of a full window."""
    result = np.zeros(shape(x, axes))
    for index, seen, _, spanned in each(x, axes):
        if np.isinf(p):
            result.flat[index] = np.abs(seen).max(initial=0)
        elif compat == "onnx":
            result.flat[index] = (np.abs(seen) ** p).sum() ** (1 / p)
        else:
            with np.errstate(invalid="ignore"):
                result.flat[index] = ((seen**p).sum() * whole / spanned) ** (1 / p)
    return result


def spread(x, axes, places, gradient):
    """Zeros like ``x`` to which each window adds its gradient at its place."""
    result = np.zeros(x.shape)
    planes = result.reshape(-1, int(np.prod(x.shape[x.ndim - len(axes) :])))
    windows = int(np.prod([len(axis) for axis in axes]))
    for index, (place, value) in enumerate(zip(places.ravel(), gradient.ravel(), strict=True)):
        if place >= 0:
            planes[index // windows, place] += value
    return result


@st.composite
def layers(draw, padding="torch", dilated=True, nan=False):
    """A pooling layer with an input: ``(ndim, x, kernel, stride, padding, dilation, ceil_mode)``.

    ``padding`` is 'torch' (one number per axis, at most half of the kernel), 'pairs' (each side at most half of the
    window) or 'any' (pairs of any size).
    """
    ndim = draw(st.integers(1, 3))

    def ints(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    kernel, stride, dilation = ints(1, 4), ints(1, 4), ints(1, 3 if dilated else 1)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    most = [{"torch": k // 2, "pairs": e // 2, "any": 5}[padding] for k, e in zip(kernel, extents, strict=True)]
    pads = tuple(draw(st.integers(0, m)) for m in most)
    if padding != "torch":
        pads = tuple((p, draw(st.integers(0, m))) for p, m in zip(pads, most, strict=True))
    total = [2 * p if padding == "torch" else sum(p) for p in pads]
    rooms = zip(extents, total, ints(0, 5), strict=True)
    size = tuple(max(e - t, 1) + extra for e, t, extra in rooms)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.integers(-3, 4, (*draw(st.sampled_from([(), (2,), (2, 3)])), *size)).astype("float64")
    if nan:
        x[rng.random(x.shape) < draw(st.sampled_from([0, 0.1]))] = np.nan
    return ndim, x, kernel, stride, pads, dilation, draw(st.booleans())


def axes_of(x, ndim, kernel, stride, padding, dilation, ceil_mode):
    """The windows of a layer, axis by axis."""
    pairs = [p if isinstance(p, tuple) else (p, p) for p in padding]
    numbers = zip(x.shape[x.ndim - ndim :], kernel, stride, pairs, dilation, strict=True)
    return [sliding(*axis, ceil_mode) for axis in numbers]


def to_last(x, ndim):
    """Channels moved behind the spatial axes; as they were where there are none."""
    return np.moveaxis(x, -1 - ndim, -1) if x.ndim > ndim else x


def to_first(x, ndim):
    return np.moveaxis(x, -1, -1 - ndim) if x.ndim > ndim else x
