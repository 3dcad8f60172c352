"""The command line: ``fastconv demo``, ``info``, ``explain`` and ``bench``.

Exit codes: 0 all well, 1 something was computed wrong or failed, 2 the command line makes no sense. An
error is one line on stderr that names the remedy. A command's module and what it needs are imported when
it runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from fastconv.cli.failure import STOPPED, USAGE, WRONG, Failure


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Failure(f"{message} (see: {self.prog} --help)", USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastconv", description="CPU convolutions for NumPy: see, explain, measure.")
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    demo = commands.add_parser("demo", help="convolve a photograph with every backend, draw what comes out")
    demo.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file; default: Matplotlib's sample portrait")
    demo.add_argument("--out", default="demo.png", metavar="FILE", help="where the picture goes (default: %(default)s)")
    demo.add_argument("--json", action="store_true", help="print JSON instead of a table")
    demo.add_argument("--threads", type=int, metavar="N", help="threads of each backend")
    demo.add_argument("--backends", metavar="A,B", help="only these backends; naive always takes part")

    info = commands.add_parser("info", help="versions, instruction sets, threads, caches, backends")
    info.add_argument("--json", action="store_true", help="print JSON")

    explain = commands.add_parser(
        "explain", help="what would run for a layer, and why", epilog="Exit code 1: nothing would run."
    )
    explain.add_argument("layer", metavar="LAYER", help="such as ic64ih56oc64k3p1, or the same with blanks in quotes")
    explain.add_argument("--dtype", default="float32", help="element type (default: %(default)s)")
    explain.add_argument("--op", default="forward", help="forward, grad_input or grad_weight (default: %(default)s)")
    explain.add_argument("--padding-mode", default="zeros", help="zeros, reflect, replicate or circular")
    explain.add_argument("--layout", help="order of the axes (default: channels first)")
    explain.add_argument("--backend", default="auto", help="as in conv2d (default: %(default)s)")
    explain.add_argument("--accuracy", default="high", help="exact, high or fast (default: %(default)s)")
    explain.add_argument("--max-workspace", type=int, metavar="BYTES", help="scratch that a call may take")
    explain.add_argument("--json", action="store_true", help="print JSON")

    bench = commands.add_parser("bench", help="check and time backends and rivals on named layers")
    bench.add_argument("--quick", action="store_true", help="small layers and few rounds: is everything right?")
    bench.add_argument("--cases", metavar="A,B", help="names, groups, patterns such as 'resnet-*', or 'all'; 'list' "
                       "lists them (default: about thirty of all groups)")  # fmt: skip
    bench.add_argument("--backends", metavar="A,B", help="default: auto and all but naive, which takes seconds a call; "
                       "with '-nhwc' behind a name, channels last")  # fmt: skip
    bench.add_argument("--peers", metavar="A,B", help="rivals to measure beside: names, or 'all' that are installed")
    bench.add_argument("--threads", metavar="1,2", help="numbers of threads to measure")
    bench.add_argument("--rounds", type=int, metavar="N", help="interleaved rounds of each case (default: 60)")
    bench.add_argument("--caches", default="hot", metavar="hot,cold", help="what the caches hold before a call "
                       "(default: %(default)s)")  # fmt: skip
    bench.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the run as JSON (to stdout)")
    bench.add_argument("--report", metavar="FILE.html", help="write the run as one page with charts")
    bench.add_argument("--history", default=".asv/results", metavar="DIR", help="asv's results for the page's history "
                       "(default: %(default)s)")  # fmt: skip
    bench.add_argument("--readme", metavar="FILE", help="rewrite the table between the file's bench markers")
    bench.add_argument("--from", dest="source", metavar="FILE", help="take a run written by --json; time nothing")
    bench.add_argument("--against", metavar="FILE", help="say how far this run agrees with one written by --json")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        if args.version:
            import fastconv

            print(fastconv.__version__)
            return 0
        if args.command is None:
            parser.error("a COMMAND is missing")
        code = int(importlib.import_module(f"fastconv.cli.{args.command}").run(args))
        sys.stdout.flush()
        return code
    except Failure as failure:
        print(f"fastconv: {' '.join(str(failure).split())}", file=sys.stderr)
        return failure.code
    except ValueError as error:  # an environment variable such as FASTCONV_ISA
        print(f"fastconv: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # whoever reads us has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"fastconv: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("fastconv: interrupted", file=sys.stderr)
        return STOPPED
