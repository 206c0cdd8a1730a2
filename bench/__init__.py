"""Benchmarks side by side with other tools, on a corpus made for the purpose.

`python -m bench` (or `make bench`) prints the table and writes JSON; `--row NAME` runs a part of
it. Nothing here is installed with the package.
"""
