"""What runs inside the lab's guest, as root, from the shared folder. The standard library only.

A group is a module whose scenarios share one boot (or two, one after the other). A scenario names its checks in its
decorator, so that the outside knows every check without running one; `__main__` runs a group and writes what came out.
Scenarios look at /sys, /proc, cgroupfs, virsh, busctl and the journal, never at what the daemon says of itself.
"""
