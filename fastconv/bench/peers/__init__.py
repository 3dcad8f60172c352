"""The rivals: what a user would pick instead, each as its own documentation has it fastest, one adapter each.

Importing this imports none of them.
"""

from __future__ import annotations

import importlib.metadata

from fastconv import registry
from fastconv.bench.peers import filters, jax, mnn, ncnn, onnx, torch
from fastconv.bench.peers.peer import NotOffered, Peer

__all__ = ["PEERS", "NotOffered", "Peer", "find", "missing", "version"]

PEERS: tuple[Peer, ...] = (*torch.PEERS, *onnx.PEERS, *ncnn.PEERS, *mnn.PEERS, *jax.PEERS, *filters.PEERS)


def find(name: str) -> Peer:
    """The rival of that name.

    Raises
    ------
    KeyError
        If there is none.
    """
    return {peer.name: peer for peer in PEERS}[name]


def missing(peer: Peer) -> str | None:
    """Why a rival cannot run here, with the remedy; None if it is installed."""
    absent = [module for module in peer.modules if not registry.installed(module)]
    return f"{' and '.join(absent)} not installed; run 'pip install fastconv[peers]'" if absent else None


def version(peer: Peer) -> str:
    """What is installed, without loading it."""
    for name in peer.distribution.split():
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"
