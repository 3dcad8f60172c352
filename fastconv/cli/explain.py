"""``fastconv explain LAYER``: what would run for a layer given as text."""

from __future__ import annotations

import argparse
import json

from fastconv.api import explain_spec
from fastconv.cli.failure import USAGE, WRONG, Failure
from fastconv.spec import ACCUMULATOR, parse_layer


def run(args: argparse.Namespace) -> int:
    if args.dtype not in ACCUMULATOR:
        raise Failure(f"--dtype={args.dtype!r} is unknown; choose one of {', '.join(ACCUMULATOR)}", USAGE)
    if args.max_workspace is not None and args.max_workspace < 0:
        raise Failure(f"--max-workspace={args.max_workspace} must be at least 0", USAGE)
    options = {"dtype": args.dtype, "padding_mode": args.padding_mode, "accuracy": args.accuracy, "op": args.op}
    if args.layout is not None:
        options["layout"] = args.layout
    try:
        explanation = explain_spec(parse_layer(args.layer, **options), None, args.backend, args.max_workspace)
    except ValueError as error:
        raise Failure(str(error), USAGE) from None
    print(json.dumps(explanation.to_dict(), indent=2) if args.json else explanation)
    return 0 if any(row.verdict == "chosen" for row in explanation.rows) else WRONG
