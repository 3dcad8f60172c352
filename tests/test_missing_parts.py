"""The package works without Numba, without SciPy and without its compiled extension, and says what is missing."""

import json
import subprocess
import sys

import pytest

BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if any(name == part or name.startswith(part + ".") for part in {parts!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import json, numpy as np, fastconv
x = np.arange(2 * 3 * 9 * 9, dtype="float32").reshape(2, 3, 9, 9) % 7
w = np.arange(4 * 3 * 3 * 3, dtype="float32").reshape(4, 3, 3, 3) % 5
expected = fastconv.conv2d(x, w, backend="im2col")
ran, refused = [], {{}}
for name in fastconv.backends().missing:
    try:
        close = np.allclose(fastconv.conv2d(x, w, backend=name, activation="gelu"), expected, rtol=1e-4)
        ran.append(name if close else name + " is wrong")
    except fastconv.BackendUnavailable as error:
        refused[name] = str(error)
auto = np.allclose(fastconv.conv2d(x, w), expected, rtol=1e-4)
print(json.dumps([ran, refused, auto, str(fastconv.backends())]))
"""


def without(*parts):
    """What runs, and the errors of what does not, in a process where ``parts`` cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", BLOCK.format(parts=parts)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "part, gone, remedy",
    [
        ("numba", {"numba"}, "pip install numba"),
        ("scipy", set(), ""),
        ("fastconv.kernels._compiled", {"cython", "winograd"}, "pip install ."),
    ],
)
def test_a_missing_part_is_reported_by_name_and_the_rest_works(part, gone, remedy):
    ran, refused, auto, survey = without(part)
    assert set(refused) == gone
    assert set(ran) == {"fft", "winograd", "cython", "numba", "im2col", "naive"} - gone
    assert all(part in message and remedy in message for message in refused.values())
    assert all(f"{name}" in survey for name in gone) and (not gone or part in survey)
    assert auto


def test_numpy_alone_is_enough():
    ran, refused, auto, _ = without("numba", "scipy", "fastconv.kernels._compiled")
    assert set(ran) == {"fft", "im2col", "naive"} and set(refused) == {"winograd", "cython", "numba"}
    assert auto
