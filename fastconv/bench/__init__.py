"""Named cases, timing and reports: what the command line, the tests and `bench/` of the source tree share."""
