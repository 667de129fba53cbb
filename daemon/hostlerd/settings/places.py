"""Where each key belongs, for whoever writes one in the wrong table. Tables at the top are left out: they are what one
writes first.
"""

from __future__ import annotations

HOUSEKEEPING = ("cpus", "at_least")
CLAIMS = ("users_at_most", "at_most", "users_profile")
DOMAIN = (
    *(
        "cpus",
        "prefer",
        "class",
        "smt",
        "priority",
        "emulator",
        "profile",
        "isolation",
        "rebalance",
        "write_config",
    ),
    *("fallback", "fallback_model", "hugepages"),
)
ISOLATION = (
    *("slices", "partition", "interrupts", "vfio_interrupts", "workqueues", "kthreads", "rps", "watchdog"),
    *("stat_interval", "timer_migration", "governor", "epp", "resume_latency", "x3d_mode", "halt_poll_ns"),
    *("split_lock_mitigate", "numa_balancing", "ksm"),
)
HUGEPAGES = ("compact", "drop_caches")
DEVICE = (
    *("name", "match", "when_idle", "companions", "group", "holders", "holder_limit", "units"),
    *("driver", "leave", "power", "vfio_driver", "reset", "bar", "recover", "vfs", "keep_vfs"),
)
SLICE = ("name", "type", "uuid", "vf", "parent", "domain", "persistent")
MATCH = ("address", "vendor", "device", "subsystem", "serial", "slot", "path")
USB = ("name", "match", "domain")
USB_MATCH = ("vendor", "product", "serial", "port")
PLACES = {
    **dict.fromkeys(SLICE, "a [[slice]]"),
    **dict.fromkeys(USB_MATCH, "the match of a [[usb]]: match = { ... }"),
    **dict.fromkeys(MATCH, "the match of a [[device]]: match = { ... }"),
    **dict.fromkeys(DEVICE, "a [[device]]"),
    **dict.fromkeys(HUGEPAGES, "hugepages: hugepages = { ... }"),
    **dict.fromkeys(ISOLATION, "the isolation of [domains] or of a domain: isolation = { ... }"),
    **dict.fromkeys(DOMAIN, '[domains], or [domain."name or UUID"]'),
    "cpus": '[domains], [domain."name or UUID"] or [host.housekeeping]',
    "at_least": "[host.housekeeping]",
    **dict.fromkeys(CLAIMS, "[claims]"),
    "libvirt": "[host]",
    "suspend": "[host]",
    "housekeeping": "[host]",
}
