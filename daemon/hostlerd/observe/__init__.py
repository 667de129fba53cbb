"""Kernel text to values: one observer a kind of thing, each a plain function of `Files`.

Rules: an observer reads and never decides; it runs in a thread that may be abandoned, so it keeps no state;
what is missing is normal (old kernels, recordings, devices that go away half-way) and gives the value that says
so; only input that makes no sense at all is an error.
"""
