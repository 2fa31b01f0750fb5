"""One script a question: `python -m benchmarks.NAME` measures it beside its peers, and ends with a line of JSON."""
