"""Values to the JSON of the command line and of the faces: pure, one module a noun; the shapes are in ARCHITECTURE.md.

Rules: nothing is computed that a decision should compute; every key is always there; sets are sorted lists.
"""
