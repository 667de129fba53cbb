"""What kicks the loop: udev and libvirt.

Rules: a source says "look again" and nothing else; nothing is decided from what an event holds. It listens
before it says that it has started, and ends only by being cancelled. Coalescing is the loop's.
"""
