"""Speed as ratios against peers, in one run on one machine: ``python -m benchmarks NAME``."""
