"""What libvirt called, and when: a hook of the lab's own, run after the product's, even when that refused.

It writes each operation with the functions that were on VFIO at that moment. So the lab sees what was prepared before
libvirt's own managed='yes' touches the device, and whether a failed start came as far as our hook. The image has it.
"""

HOOK = "etc/libvirt/hooks/qemu.d/zz-lab"
LOG = "/run/lab/hooks"

# Shell builtins only: under emulation every program that it would start costs the domain's start a second.
SCRIPT = f"""\
#!/bin/sh
[ -d /run/lab ] || mkdir -p /run/lab
on=
for device in /sys/bus/pci/devices/*; do
    [ ! -d "$device/vfio-dev" ] || on="$on ${{device##*/}}"
done
echo "$1 $2$on" >>{LOG}
"""


def _lines(domain: str) -> list[list[str]]:
    try:
        with open(LOG, encoding="utf-8") as file:
            return [line.split()[1:] for line in file if line.split()[:1] == [domain]]
    except FileNotFoundError:
        return []


def operations(domain: str) -> list[str]:
    """Every operation that reached the lab's hook, in order."""
    return [line[0] for line in _lines(domain)]


def on_vfio_at(domain: str, operation: str) -> set[str] | None:
    """The functions on VFIO when the operation was last called; None if it never was."""
    found = [line[1:] for line in _lines(domain) if line[0] == operation]
    return set(found[-1]) if found else None
