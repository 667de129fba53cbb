"""The lab: scenarios on a real kernel with VFIO, IOMMU groups, systemd and libvirt, under emulation.

`image` makes the guest's disk, with kernel modules of our own in it (`modules/`), `machine` boots it, `stage` puts the
product into it, `boots` runs one group of scenarios and reads what they report. `guest/` is what runs inside. Nothing
here imports the product: the lab judges it by what kernel, systemd and libvirt say.
"""
