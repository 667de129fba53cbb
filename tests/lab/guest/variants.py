"""A VFIO driver made for a card (labvfio, for 01:00.0): taken by itself where libvirt knows such drivers."""

from . import modules, pci, service, snapshot
from .domains import Domain, libvirt_version
from .jobs import RETURNED, check_returned
from .report import Report, scenario

CARD, SOUND = "0000:01:00.0", "0000:01:00.1"


def _policy(driver: str) -> str:
    return f'[[device]]\nname = "card"\nmatch = {{ address = "{CARD}" }}\nvfio_driver = "{driver}"\n'


@scenario(
    "starts", "on the driver that libvirt accepts", "its sound is on vfio-pci", "both on VFIO", *RETURNED
)
def by_itself(report: Report) -> None:
    before = snapshot.take()
    with Domain(name="variant", hostdevs=(CARD,), managed=False).defined() as domain:
        started = domain.start()
        if report.check("starts", started.ok, started):
            wanted = modules.VARIANT if libvirt_version() >= (10, 0) else "vfio-pci"
            report.equal("on the driver that libvirt accepts", pci.driver(CARD), wanted)
            report.equal("its sound is on vfio-pci", pci.driver(SOUND), "vfio-pci")
            report.check(
                "both on VFIO", pci.on_vfio(CARD) and pci.on_vfio(SOUND), pci.describe([CARD, SOUND])
            )
            domain.destroy()
        check_returned(report, before)


@scenario("starts", "on the driver of policy", *RETURNED)
def by_policy(report: Report) -> None:
    before = snapshot.take()
    service.policy(_policy("vfio-pci"))
    with Domain(name="plain", hostdevs=(CARD,), managed=False).defined() as domain:
        started = domain.start()
        if report.check("starts", started.ok, started):
            report.equal("on the driver of policy", pci.driver(CARD), "vfio-pci")
            domain.destroy()
        check_returned(report, before)
    service.policy("")


@scenario("starts", "on VFIO", *RETURNED)
def managed(report: Report) -> None:
    """Since 10.0 libvirt takes the variant for what it manages, whatever policy says; in the end all is as it was."""
    before = snapshot.take()
    service.policy(_policy("vfio-pci"))
    with Domain(name="managed", hostdevs=(CARD,)).defined() as domain:
        started = domain.start()
        if report.check("starts", started.ok, started):
            report.check("on VFIO", pci.on_vfio(CARD), pci.describe([CARD]))
            report.note(f"libvirt {libvirt_version()}: {pci.describe([CARD, SOUND])}")
            domain.destroy()
        check_returned(report, before)
    service.policy("")


@scenario("starts", "on VFIO by that name", *RETURNED)
def by_name(report: Report) -> None:
    """With managed='yes' libvirt 9.0 starts on a variant, too: it rebinds the card itself where it does not know it."""
    before = snapshot.take()
    service.policy(_policy(modules.VARIANT))
    with Domain(name="named", hostdevs=(CARD,)).defined() as domain:
        started = domain.start()
        if report.check("starts", started.ok, started):
            report.check("on VFIO by that name", pci.on_vfio(CARD), pci.describe([CARD]))
            report.note(f"libvirt {libvirt_version()}: {pci.describe([CARD, SOUND])}")
            domain.destroy()
        check_returned(report, before)
    service.policy("")


SCENARIOS = (by_itself, by_policy, managed, by_name)
