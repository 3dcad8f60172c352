"""The arrays of a layer: read-only, checked when they are set, moved from and to files under PyTorch's names."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastconv.nn.module import Module


class Stored:
    """A parameter or buffer as an attribute of a layer.

    Reading gives the read-only array, or None where the layer has none. Assigning checks shape and dtype, copies,
    and drops what the layer has prepared from the old one.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Module | None, owner: type | None = None) -> Any:
        return self if module is None else module._arrays.get(self.name)

    def __set__(self, module: Module, value: Any) -> None:
        like = module._arrays.get(self.name)
        if like is None:
            raise ValueError(f"{module!r} has no {self.name}; make the layer with one")
        reason, array = fit(value, like)
        if reason:
            raise ValueError(f"{module!r}: {self.name} {reason}")
        module._store({self.name: array})


_UNKNOWN = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # dtypes of tensors that NumPy has not
_UNKNOWN_STORED = ("BF16", "F8_E4M3", "F8_E5M2")  # the same in safetensors files


def frozen(array: np.ndarray) -> np.ndarray:
    """A view of the array, which is read-only from now on for good."""
    array.setflags(write=False)
    return array.view()


def fit(value: Any, like: np.ndarray) -> tuple[str, np.ndarray]:
    """A read-only copy of ``value`` with the dtype of ``like``; or why it does not fit."""
    if isinstance(value, np.ma.MaskedArray):
        return "is a masked array, whose mask would be lost; fill it first: .filled(0)", like
    dtype = str(getattr(value, "dtype", "")).rpartition(".")[2]
    if dtype in _UNKNOWN:
        return f"has dtype {dtype}, which NumPy has not; convert it with .float()", like
    try:
        array = np.asarray(value) if isinstance(value, np.ndarray) else np.from_dlpack(value)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        return f"is of type {type(value).__name__}, which does not come in as an array: {error}", like
    if array.shape != like.shape:
        return f"has shape {array.shape}; the layer has {like.shape}", like
    if array.dtype.kind != like.dtype.kind or not np.can_cast(array.dtype, like.dtype, "safe"):
        why = "which {} does not hold exactly" if array.dtype.kind == like.dtype.kind else "where {} belongs"
        remedy = f"convert it with astype({like.dtype.name!r})"
        return f"has dtype {array.dtype.name}, {why.format(like.dtype.name)}; {remedy}", like
    return "", frozen(array.astype(like.dtype, order="C"))


def load(module: Module, source: Any) -> None:
    """Put the arrays of a mapping or a file into a layer and its children: all of them, or none."""
    given = source if isinstance(source, Mapping) else _read(_path(source))
    places = {name: (owner, key) for name, owner, key in module._named_arrays()}
    problems = [f"{name} is missing" for name in places if name not in given]
    problems += [f"{name} is unexpected" for name in given if name not in places]
    found: dict[Module, dict[str, np.ndarray]] = {}
    for name, (owner, key) in places.items():
        if name in given:
            reason, array = fit(given[name], owner._arrays[key])
            problems += [f"{name} {reason}"] if reason else []
            found.setdefault(owner, {})[key] = array
    if problems:
        where = "the mapping" if isinstance(source, Mapping) else f"{os.fspath(source)!r}"
        raise ValueError(f"{where} does not fit, so nothing was loaded:\n  " + "\n  ".join(problems))
    for owner, new in found.items():
        owner._store(new)


def save(state: dict[str, np.ndarray], path: Any) -> None:
    """Write arrays to an .npz or .safetensors file."""
    target = _path(path)
    with target.open("ab"):  # no such folder, a folder, not allowed: OSError says so
        pass
    if target.suffix == ".npz":
        with zipfile.ZipFile(target, "w") as archive:  # numpy.savez has argument names that could clash with ours
            for name, array in state.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
    else:
        _safetensors().save_file(state, target)


def _path(value: Any) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(
            f"got a {type(value).__name__}; expected a path or a mapping of names to arrays, such as .state() of a "
            "layer or .state_dict() of PyTorch's"
        )
    path = Path(value)
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"path={os.fspath(value)!r} must end in .npz or .safetensors")
    return path


def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file. The libraries raise anything at all for a damaged one."""
    with path.open("rb") as file:  # missing, a folder, not allowed: OSError says so
        if path.suffix == ".safetensors":
            library = _safetensors()
            try:
                return dict(library.load(file.read()))
            except Exception as error:
                known = (f"{name} has dtype {dtype}" for name, dtype in _headers(path) if dtype in _UNKNOWN_STORED)
                reason = next((f"{said}, which NumPy has not; save it as float32" for said in known), str(error))
                raise ValueError(f"{str(path)!r} does not load as safetensors: {reason}") from error
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:
            raise ValueError(
                f"{str(path)!r} is no .npz file of plain arrays, or is damaged ({type(error).__name__})"
            ) from error


def _headers(path: Path) -> list[tuple[str, str]]:
    """Names and dtypes in a safetensors file; none if it is damaged."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="np") as archive:
            return [(name, archive.get_slice(name).get_dtype()) for name in archive.keys()]  # noqa: SIM118
    except Exception:
        return []


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("safetensors is not installed; run 'pip install safetensors', or use .npz") from None
    return safetensors.numpy
