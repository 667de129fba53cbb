# Everything of hostler that is not Python: make -f packaging/install.mk install [DESTDIR=DIR] [launchers=1]
#
# One list for all packages (Debian, Fedora, Arch) and for an installation by hand. Paths are fixed: the unit names
# /usr/bin/hostlerd, the hook /usr/bin/hostler. Those two come with the wheel; launchers=1 installs ours, which run the
# distribution's Python on packages that are merely unpacked.
# Afterwards: systemd-tmpfiles --create hostler.conf, systemctl daemon-reload, systemctl enable --now hostlerd, and, for the
# hook to be seen, a restart of libvirtd.

DESTDIR =
launchers =
top := $(dir $(lastword $(MAKEFILE_LIST)))..

units := /usr/lib/systemd/system
tmpfiles := /usr/lib/tmpfiles.d
bus := /usr/share/dbus-1
actions := /usr/share/polkit-1/actions
man := /usr/share/man
policy := /etc/hostler
hooks := /etc/libvirt/hooks/qemu.d
bash := /usr/share/bash-completion/completions
fish := /usr/share/fish/vendor_completions.d
# Debian's; zsh=/usr/share/zsh/site-functions elsewhere.
zsh := /usr/share/zsh/vendor-completions

interfaces := $(wildcard $(top)/dbus/*.xml)
installed := \
    $(units)/hostlerd.service $(units)/hostler.socket $(tmpfiles)/hostler.conf \
    $(bus)/system.d/org.hostler1.conf $(bus)/system-services/org.hostler1.service \
    $(addprefix $(bus)/interfaces/,$(notdir $(interfaces))) \
    $(bash)/hostler $(fish)/hostler.fish $(zsh)/_hostler \
    $(actions)/org.hostler1.policy $(man)/man1/hostler.1 $(man)/man8/hostlerd.8 $(hooks)/hostler

data := install -D -m 644
program := install -D -m 755

.PHONY: install uninstall
install:
	$(data) -t $(DESTDIR)$(units) $(top)/systemd/hostlerd.service $(top)/systemd/hostler.socket
	$(data) -t $(DESTDIR)$(tmpfiles) $(top)/systemd/tmpfiles.d/hostler.conf
	$(data) -t $(DESTDIR)$(bus)/system.d $(top)/dbus/org.hostler1.conf
	$(data) -t $(DESTDIR)$(bus)/system-services $(top)/dbus/org.hostler1.service
	$(if $(interfaces),$(data) -t $(DESTDIR)$(bus)/interfaces $(interfaces))
	$(data) -t $(DESTDIR)$(actions) $(top)/dbus/org.hostler1.policy
	$(data) -t $(DESTDIR)$(man)/man1 $(top)/packaging/man/hostler.1
	$(data) -t $(DESTDIR)$(man)/man8 $(top)/packaging/man/hostlerd.8
	$(data) $(top)/packaging/completion/hostler.bash $(DESTDIR)$(bash)/hostler
	$(data) -t $(DESTDIR)$(fish) $(top)/packaging/completion/hostler.fish
	$(data) -t $(DESTDIR)$(zsh) $(top)/packaging/completion/_hostler
	$(program) $(top)/packaging/hooks/qemu $(DESTDIR)$(hooks)/hostler
	install -d -m 755 $(DESTDIR)$(policy) $(DESTDIR)$(policy)/hostler.d
	# The administrator's: never written over.
	test -e $(DESTDIR)$(policy)/hostler.toml || $(data) $(top)/packaging/etc/hostler.toml $(DESTDIR)$(policy)/hostler.toml
ifneq ($(launchers),)
	$(program) -t $(DESTDIR)/usr/bin $(top)/packaging/launchers/hostler $(top)/packaging/launchers/hostlerd
endif

uninstall:
	rm -f $(addprefix $(DESTDIR),$(installed))
ifneq ($(launchers),)
	rm -f $(DESTDIR)/usr/bin/hostler $(DESTDIR)/usr/bin/hostlerd
endif
	# The policy goes only if nobody changed it, folders only if nothing else is in them.
	! cmp -s $(top)/packaging/etc/hostler.toml $(DESTDIR)$(policy)/hostler.toml || rm $(DESTDIR)$(policy)/hostler.toml
	-rmdir --ignore-fail-on-non-empty $(DESTDIR)$(policy)/hostler.d $(DESTDIR)$(policy) $(DESTDIR)$(hooks)
