"""Benchmarks against real peers on one machine, in one run: `python -m bench`.

Laws: contestants alternate (A B A B), figures are medians with their ranges, ratios are what is quoted; peers are
shown stock and tuned and never tuned down; every run checks that everything arrived, has a deadline and leaves nothing
behind.
"""
