"""Benchmarks for asv (``bench_*.py``) and pytest-benchmark (``test_speed.py``); `README.md` says how to run them."""
