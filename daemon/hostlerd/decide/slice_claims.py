"""What slices a domain that is about to start needs, and whether it may have them.

Pure. Of a mediated device the host itself has the first word (one that is there is taken as it is), then the domain's
metadata, the policy, mdevctl's definitions. A VF that is not there is made where its PF can have it and policy or
metadata says so. NVIDIA's VFs are given a vGPU and stay on their driver. One writer a slice: who comes second is told
who has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hostlerd.decide.capacity import Capacity
from hostlerd.decide.slice_wants import SliceWants, WantedMdev, WantedVfs, WantedVgpu
from hostlerd.model.devices import DEVICES, Function
from hostlerd.model.domains import Definition
from hostlerd.model.ledger import vgpu_key
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Refusal
from hostlerd.model.settings import Settings, SlicePolicy
from hostlerd.model.slices import MdevType, SliceSpec, Sriov, VgpuSlot, VgpuType

NVIDIA, NVIDIA_DRIVER = 0x10DE, "nvidia"
KNOWS_OTHERS = 10_000_000
"""libvirt 10.0.0, from which on a device may be on another driver for VFIO than vfio-pci (see decide/vfio)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What kind of slice is meant, and who says so."""

    type: str
    parent: str | None
    persistent: bool
    attrs: tuple[tuple[str, str], ...] = ()


class SliceClaim:
    """One domain's. `refusals`: if there are any it gets nothing; `ordinary`: the addresses that go the usual way.

    `held`: VFs and UUIDs that are the domain's if it gets everything; `wants`: what is to be made for it then.
    """

    def __init__(
        self,
        *,
        observed: Observed,
        settings: Settings,
        domain: Definition,
        before: SliceWants,
        held_by_other: Callable[[str], str | None],
        addresses: Iterable[str],
    ) -> None:
        self._observed, self._settings, self._domain, self._before = observed, settings, domain, before
        self._held_by_other = held_by_other
        self._capacity = Capacity(observed, before.mdevs.values())
        self.refusals: list[Refusal] = []
        self.held: list[str] = []
        self.wants = SliceWants()
        self.ordinary: list[str] = []
        asked = list(dict.fromkeys(addresses))
        for spec in domain.slices:
            if spec.problem:
                self._refuse(domain.name, spec.problem, f"correct it with `virsh edit {domain.name}`")
        for address in asked:
            self._ask_function(address, asked)
        for uuid in domain.mdev_uuids:
            self._ask_mdev(uuid)

    def _refuse(self, obj: str, reason: str, remedy: str, claimed_by: str | None = None) -> None:
        self.refusals.append(
            Refusal(object=obj, reason=reason, remedy=remedy, claim=self._domain.uuid, claimed_by=claimed_by)
        )

    def _taken(self, obj: str, what: str) -> bool:
        """It is somebody else's, or cannot be touched now; then that has been said."""
        other = self._held_by_other(obj)
        ledger = self._observed.ledger
        if other is not None:
            self._refuse(obj, f"{what} belongs to domain {other}", f"stop {other} first", other)
        elif (trouble := ledger.troubles.get(obj)) is not None:
            self._refuse(obj, f"{what} is degraded: {trouble.reason}", trouble.remedy)
        elif self._observed.untouchable(obj):
            self._refuse(
                obj, f"a write to {what} has not returned yet", "try again when `hostler status` is clear"
            )
        else:
            return False
        return True

    def _policy(self, *, uuid: str | None = None, vf: str | None = None) -> SlicePolicy | None:
        """The section about this slice; the one of a domain alone is about its only mediated device."""
        exact = (s for s in self._settings.slices if (s.uuid, s.vf) == (uuid, vf))
        found = next(exact, None)
        if found is not None or vf is not None or len(self._domain.mdev_uuids) != 1:
            return found
        mine = (self._domain.name, self._domain.uuid)
        whole = (s for s in self._settings.slices if s.uuid is None and s.vf is None and s.domain in mine)
        return next(whole, None)

    def _is_anothers(self, obj: str, policy: SlicePolicy | None) -> bool:
        if policy is None or policy.domain in (None, self._domain.name, self._domain.uuid):
            return False
        self._refuse(
            obj,
            f"policy {policy.name!r} keeps {obj} for domain {policy.domain}",
            f'change domain = "{policy.domain}" in that [[slice]] section, or give {self._domain.name} another slice',
        )
        return True

    def _spec(self, *, uuid: str | None = None, vf: str | None = None) -> SliceSpec | None:
        specs = (s for s in self._domain.slices if not s.problem and (s.uuid, s.vf) == (uuid, vf))
        return next(specs, None)

    # Functions

    def _ask_function(self, address: str, asked: list[str]) -> None:
        function = self._observed.functions.get(address)
        slot = self._observed.slices.vgpus.get(address)
        place = self._observed.slices.parent_of_vf(address) if function is None else None
        if slot is not None:
            self._ask_vgpu(address, slot)
        elif place is not None:
            self._ask_vf(address, *place, asked)
        elif function is not None and self._is_nvidia_vf(function):
            self._refuse(
                address,
                f"{address} is a virtual function of NVIDIA's driver and must stay on it, and it has no vGPU to give",
                "give the domain a mediated device of it, or install NVIDIA's vGPU manager on the host",
            )
        elif address in self._before.vfs:
            others = dict.fromkeys(self._names(self._before.vfs[address].claim))
            self._refuse(
                address,
                f"virtual functions of {address} are being made"
                + (f" for domain {' and '.join(others)}" if others else ""),
                "give the domain one of them, or take vfs out of the [[device]] section",
                next(iter(others), None),
            )
        elif any(mdev.parent == address for mdev in self._observed.slices.mdevs.values()):
            self._refuse(
                address,
                f"{address} has mediated devices, which would go with it{self._capacity.who_has_mdevs({address})}",
                "stop what uses them, and take them away (`mdevctl stop`)",
            )
        elif any(wanted.parent == address for wanted in self._before.mdevs.values()):
            self._refuse(
                address,
                f"a mediated device of {address} is being made for another domain",
                "give the domain a mediated device, too, or start it alone",
            )
        else:
            self.ordinary.append(address)

    def _is_nvidia_vf(self, function: Function) -> bool:
        above = self._observed.functions.get(function.physfn or "")
        drivers = (function.driver, above.driver if above is not None else None)
        return function.physfn is not None and function.vendor == NVIDIA and NVIDIA_DRIVER in drivers

    def _names(self, claim: str | None) -> list[str]:
        found = self._observed.ledger.claims.get(claim or "")
        return [found.name] if found is not None else []

    def _ask_vf(self, address: str, sriov: Sriov, index: int, asked: list[str]) -> None:
        parent = sriov.address
        owner = self._observed.functions[parent]
        policy = self._settings.device(owner)
        spec = self._spec(vf=address)
        count = (policy.vfs if policy else 0) or (index + 1 if spec is not None else 0)
        if self._taken(address, address) or self._taken(parent, parent):
            return
        if parent in asked:
            self._refuse(
                address,
                f"{self._domain.name} asks for {parent} and for {address}, a virtual function of it",
                "a domain can have one of the two",
            )
        elif sriov.count:
            self._refuse(
                address,
                f"there is no {address}: {parent} has {sriov.count} virtual functions, and the kernel cannot "
                "add to them",
                f"stop what uses them and set vfs = {max(count, index + 1)} in the [[device]] section of {parent}",
            )
        elif not count:
            self._refuse(
                address,
                f"there is no {address}; {parent} could have it, as number {index + 1} of at most {sriov.total} "
                "virtual functions, and no policy says so",
                f"add vfs = {index + 1} to the [[device]] section of {parent}",
            )
        elif not index < count <= sriov.total:
            self._refuse(
                address,
                f"there is no {address}: policy makes {count} virtual functions of {parent}, which can have "
                f"{sriov.total}, and this one is number {index + 1}",
                f"set vfs in the [[device]] section of {parent} to {index + 1} or more, at most {sriov.total}",
            )
        elif owner.driver is None or owner.on_vfio:
            self._refuse(
                address,
                f"the virtual function {address} cannot be made: {parent} has no driver that makes them "
                f"({owner.driver or 'none at all'})",
                f"let {parent} go back to its own driver first",
            )
        else:
            before = self.wants.vfs.get(parent) or self._before.vfs.get(parent)
            self.wants.vfs[parent] = WantedVfs(
                address=parent,
                count=max(count, before.count if before else 0),
                why=f"{self._domain.name} has {address} as a hostdev",
                claim=self._domain.uuid,
            )
            self.held.append(address)

    def _ask_vgpu(self, address: str, slot: VgpuSlot) -> None:
        spec, policy = self._spec(vf=address), self._policy(vf=address)
        if self._taken(address, address) or self._is_anothers(address, policy):
            return
        if any(h.address == address and h.managed for h in self._domain.hostdevs):
            self._refuse(
                address,
                f"{address} is a virtual function of NVIDIA's driver and must stay on it, and with managed='yes' "
                "libvirt takes it away",
                f"write managed='no' in the <hostdev> of {address}",
            )
            return
        version = self._observed.snapshot.libvirt
        if version and version < KNOWS_OTHERS:
            self._refuse(
                address,
                f"{address} must stay on NVIDIA's driver, and this libvirt ({version // 1_000_000}."
                f"{version // 1000 % 1000}) takes a device from vfio-pci alone",
                "install libvirt 10.0 or newer",
            )
            return
        word = (spec.type if spec else None) or (policy.type if policy else None)
        ours = self._observed.ledger.vgpus.get(vgpu_key(address))
        kind = None if word is None else self._vgpu_type(slot, word)
        number = None if kind is None else kind.id
        known = ", ".join(f"{kind.id} ({kind.name})" for kind in slot.creatable) or "none"
        if word is None and (not slot.current or ours is not None):
            self._refuse(
                address,
                f"{address} has no vGPU, and nothing says of which type it should be",
                f'say vf = "{address}" and a type in a [[slice]] section; it can be given: {known}',
            )
        elif word is not None and number != slot.current and slot.current and ours is None:
            self._refuse(
                address,
                f"{address} has a vGPU of type {slot.current}, which somebody else gave it, and {word} is wanted",
                f"write 0 to {DEVICES}/{address}/nvidia/current_vgpu_type, or ask for that type",
            )
        elif word is not None and (number is None or not self._creatable(slot, number)):
            have = self._capacity.who_has_vgpus(address)
            self._refuse(
                address,
                f"{address} cannot be given the vGPU type {word}{have}",
                f"it can be given: {known}" if slot.creatable else "stop a domain that has one",
            )
        else:
            self.held.append(address)
            if kind is not None:
                self.wants.vgpus[address] = WantedVgpu(
                    address=address,
                    number=kind.id,
                    name=kind.name,
                    why=f"{self._domain.name} has it as a hostdev",
                    claim=self._domain.uuid,
                    persistent=(spec.persistent if spec else False)
                    or (policy.persistent if policy else False),
                )

    def _creatable(self, slot: VgpuSlot, number: int) -> bool:
        """Of one that still has ours the host does not tell what it could have without it."""
        return slot.current != 0 or any(kind.id == number for kind in slot.creatable)

    def _vgpu_type(self, slot: VgpuSlot, word: str) -> VgpuType | None:
        """By what any VF of the host can be given or was given by us: which type has that name is the same for all."""
        slots = (slot, *self._observed.slices.vgpus.values())
        kinds = [kind for one in slots for kind in one.creatable]
        kinds += [VgpuType(id=r.ours, name=r.name) for r in self._observed.ledger.vgpus.values()]
        found = next((kind for kind in kinds if kind.is_called(word)), None)
        return VgpuType(id=int(word), name="") if found is None and word.isdecimal() else found

    # Mediated devices

    def _ask_mdev(self, uuid: str) -> None:
        policy = self._policy(uuid=uuid)
        if self._taken(uuid, f"the mediated device {uuid}") or self._is_anothers(uuid, policy):
            return
        if uuid in self._observed.slices.mdevs:
            self.held.append(uuid)
            return
        wish = self._wish(uuid, policy)
        if wish is None:
            self._refuse(
                uuid,
                f"{self._domain.name} asks for the mediated device {uuid}; there is none, and nothing says of which "
                "type it should be",
                f"say so in the domain's metadata (`hostler gpu {self._domain.name} slice TYPE`), in a [[slice]] "
                f"section or with mdevctl; on this host: {self._capacity.listing(self._observed.slices.types)}",
            )
            return
        kind = self._pick(uuid, wish)
        if kind is not None:
            self.held.append(uuid)
            self.wants.mdevs[uuid] = WantedMdev(
                uuid=uuid,
                parent=kind.parent,
                type=kind.id,
                attrs=wish.attrs,
                persistent=wish.persistent,
                why=f"{self._domain.name} has it as a hostdev",
                claim=self._domain.uuid,
            )

    def _wish(self, uuid: str, policy: SlicePolicy | None) -> _Wish | None:
        spec = self._spec(uuid=uuid)
        defined = self._observed.slices.definitions.get(uuid)
        attrs = defined.attrs if defined is not None else ()
        if spec is not None and spec.type is not None:
            alike = defined is not None and defined.type == spec.type
            return _Wish(
                type=spec.type,
                parent=spec.parent,
                persistent=spec.persistent,
                attrs=attrs if alike else (),
            )
        if policy is not None:
            alike = defined is not None and defined.type == policy.type
            return _Wish(
                type=policy.type,
                parent=policy.parent,
                persistent=policy.persistent,
                attrs=attrs if alike else (),
            )
        if defined is not None:
            return _Wish(type=defined.type, parent=defined.parent, persistent=defined.auto, attrs=attrs)
        return None

    def _pick(self, uuid: str, wish: _Wish) -> MdevType | None:
        """The type on the parent that has most left; a refusal where there is none."""
        types = self._observed.slices.types
        fitting = [t for t in types if t.is_called(wish.type) and wish.parent in (None, t.parent)]
        if not fitting:
            where = f"{wish.parent} has" if wish.parent else "this host has"
            self._refuse(
                uuid,
                f"{where} no type {wish.type} for the mediated device {uuid}",
                f"there is: {self._capacity.listing(types)}",
            )
            return None
        ledger = self._observed.ledger
        usable = [
            t for t in fitting if not ledger.untouchable(t.parent) and self._held_by_other(t.parent) is None
        ]
        if not usable:
            self._taken(fitting[0].parent, fitting[0].parent)
            return None
        best = max(usable, key=self._left_with_mine)
        if self._left_with_mine(best) > 0:
            return best
        self._refuse(
            uuid,
            f"no instance of {wish.type} is left on {' or '.join(t.parent for t in usable)}"
            f"{self._capacity.who_has_mdevs({t.parent for t in usable})}",
            f"stop one of these, or choose another type: {self._capacity.listing(types)}",
        )
        return None

    def _left_with_mine(self, kind: MdevType) -> int:
        mine = sum(1 for w in self.wants.mdevs.values() if (w.parent, w.type) == (kind.parent, kind.id))
        return self._capacity.left(kind) - mine
