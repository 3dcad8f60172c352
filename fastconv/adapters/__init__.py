"""One adapter a file: `prepare`, `run`, `algorithm`, `workspace_bytes`, `error_bound`."""
