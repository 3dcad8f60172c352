"""``fastconv info``: versions, instruction sets, threads, caches, and each backend or why it is missing."""

from __future__ import annotations

import argparse
import json
from typing import Any

from fastconv import registry
from fastconv.bench import machine
from fastconv.cli.failure import thread_count


def run(args: argparse.Namespace) -> int:
    facts = collect()
    print(json.dumps(facts, indent=2) if args.json else text(facts))
    return 0


def collect() -> dict[str, Any]:
    """All that ``info`` prints, as plain data."""
    backends = []
    for backend in registry.BACKENDS:
        reason = machine.unavailable(backend)
        backends.append(
            {"name": backend.name, "available": reason is None, "summary": backend.summary, "missing": reason}
        )
    return {
        "versions": machine.versions(),
        "machine": machine.machine(),
        "threads": {"default": thread_count(None), "numba": machine.numba_facts()},
        "environment": machine.environment(),
        "backends": backends,
    }


def text(facts: dict[str, Any]) -> str:
    """The facts as aligned lines."""
    host, threads = facts["machine"], facts["threads"]
    isa, numba = host["instruction_sets"], threads["numba"]
    lines = [f"{name:<14}{version or 'not installed'}" for name, version in facts["versions"].items()]
    lines += [
        "",
        f"{'processor':<14}{host['processor']}, {host['cores']} cores",
        f"{'caches':<14}{', '.join(f'{k} {v}' for k, v in host['caches'].items()) or 'unknown'}",
        f"{'extension':<14}{isa['extension']}",
    ]
    if isa["in_use"]:
        lines += [f"{'  compiled':<14}{', '.join(isa['compiled'])}", f"{'  present':<14}{', '.join(isa['present'])}",
                  f"{'  in use':<14}{isa['in_use']}"]  # fmt: skip
    lines.append(f"{'threads':<14}{threads['default']}")
    if numba is None:
        lines.append(f"{'numba':<14}not installed; run 'pip install numba'")
    else:
        lines += [f"{'numba layers':<14}{', '.join(numba['layers'])} (wanted: {numba['layer']})",
                  f"{'numba threads':<14}{numba['max_threads']} at most",
                  f"{'numba cache':<14}{numba['cache']}"]  # fmt: skip
    lines += [f"{'BLAS':<14}{host['blas']}"]
    lines += [f"{'environment':<14}{name}={value}" for name, value in facts["environment"].items()]
    lines.append("")
    for row in facts["backends"]:
        state = row["summary"] if row["available"] else f"missing: {row['missing']}"
        lines.append(f"{row['name']:<14}{state}")
    return "\n".join(lines)
