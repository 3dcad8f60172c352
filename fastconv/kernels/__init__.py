"""Hot code, one algorithm a file. It knows arrays and numbers and imports nothing of fastconv."""
