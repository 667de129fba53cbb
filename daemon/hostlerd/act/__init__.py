"""Performs a plan's steps: journalled before, bounded, read back after.

Rules: nothing here decides. Each module performs one kind of step and knows how to see that it worked; a write that
"succeeded" is not a result. Putting back is not done here either: it is an ordinary plan (see model/ledger).
"""
