"""The kernel command line for this host: what has to be there, what is better gone, and the optional rest.

Only an IOMMU that is off, words that do harm or nothing, and lists of CPUs that fit no domain make a different line.
What takes CPUs from the host for good is an offer for the profile realtime, with its price, never more.
"""

from __future__ import annotations

from hostlerd.decide.doctor import isolation, loaders, parameters, passthrough
from hostlerd.decide.doctor.shares import Share
from hostlerd.model.checkup import Checkup
from hostlerd.model.command_line import CommandLine, name_of, parse_isolcpus
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.findings import BootAdvice

COSTS = (
    "these CPUs are taken from the host for good, whether a domain runs or not; entries into the kernel "
    "cost more on them; every vCPU has to be pinned to one of them. It gains where a guest must answer "
    "within tens of microseconds, not where it plays games. managed_irq keeps the interrupts of NVMe "
    "queues off them as far as possible; leave `domain,` out and the host can use them while no domain "
    "runs"
)


def advise(checkup: Checkup, share: Share, room: CpuSet) -> BootAdvice:
    """`room`: the CPUs for the offer where no domain says which."""
    known = checkup.boot.command_line is not None
    line = checkup.boot.command_line or CommandLine(text="")
    now = line.settings
    # A word that stands there twice goes twice.
    gone = frozenset((*passthrough.switched_off(line), *parameters.needless(checkup)))
    kept = [word for word in now if word not in gone]
    kept = _with_fitting_cpus(checkup, share, kept)
    if passthrough.needs_intel_iommu(checkup):
        kept = [word for word in kept if name_of(word) != "intel_iommu"] + ["intel_iommu=on"]
    add, remove = _difference(list(now), kept)
    realtime = _realtime(checkup, share.cpus or room, kept)
    offer = _difference(list(now), realtime)
    boot_loader = loaders.loader(
        checkup.boot, *(offer if realtime and not (add or remove) else (add, remove))
    )
    changes = bool(add or remove or realtime)
    return BootAdvice(
        now=" ".join(now) if known else None,
        line=" ".join(kept),
        realtime=" ".join(realtime),
        costs=COSTS if realtime else "",
        add=add,
        remove=remove,
        loader=boot_loader.name if boot_loader else "",
        how=boot_loader.steps if boot_loader and changes else (),
    )


def _with_fitting_cpus(checkup: Checkup, share: Share, words: list[str]) -> list[str]:
    """Lists of CPUs that fit no domain: corrected, or gone where no domain gets CPUs of its own."""
    found: list[str] = []
    for word in words:
        name = name_of(word).replace("-", "_")
        if name not in isolation.NAMES or not isolation.fits_not(checkup, share, name):
            found.append(word)
        elif share.cpus:
            found.append(_word(word, share.cpus))
    return found


def _word(word: str, cpus: CpuSet) -> str:
    """The same word for other CPUs."""
    name, _, value = word.partition("=")
    flags = sorted(parse_isolcpus(value).flags) if name == "isolcpus" and not value[:1].isdecimal() else []
    return f"{name}={','.join([*flags, format_cpu_list(cpus)])}"


def _realtime(checkup: Checkup, cpus: CpuSet, words: list[str]) -> list[str]:
    """Empty where there are no CPUs for it, or the line is as it would be."""
    if not cpus:
        return []
    config, text = checkup.boot.config or {}, format_cpu_list(cpus)
    more = [
        word
        for word, option in (
            (f"nohz_full={text}", "CONFIG_NO_HZ_FULL"),
            (f"rcu_nocbs={text}", "CONFIG_RCU_NOCB_CPU"),
            (f"isolcpus=managed_irq,domain,{text}", ""),
        )
        if config.get(option) != "n"
    ]
    left = [word for word in words if name_of(word).replace("-", "_") not in isolation.NAMES]
    there = CommandLine(text=" ".join(words))
    same = all(parse_of(there, name_of(word)) == cpus for word in more)
    return [] if same else [*left, *more]


def parse_of(line: CommandLine, name: str) -> CpuSet | None:
    value = line.value(name)
    return None if value is None else parse_isolcpus(value).cpus


def _difference(now: list[str], then: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words to add and words to take out."""
    return tuple(w for w in then if w not in now), tuple(dict.fromkeys(w for w in now if w not in then))
