"""Benchmarks for asv and pytest-benchmark, over the cases of `fastconv.bench`."""
