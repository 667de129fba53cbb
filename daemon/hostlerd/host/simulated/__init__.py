"""A host in memory that answers as a real one does: kernel, udev, systemd and libvirt. It ships in the product.

Rules: nothing here touches the machine it runs on (but for the state file and the hook's process that the caller asks
for), needs root or a thread. Every behaviour names, in a comment, the kernel or libvirt function or the scenario of
tests/lab that confirms it; what is simpler than the real thing says so. Nothing here knows policy or imports a
decision: it is the world, not the daemon.

`host.SimulatedHost` bundles the makers of the seam's protocols. `kernel` takes writes, `pci`, `cgroups`, `cpus` and
`processes` are its nouns, `tree` holds what can be read; `systemd` and `libvirt` sit on top; `hosts` describes hosts.
"""
