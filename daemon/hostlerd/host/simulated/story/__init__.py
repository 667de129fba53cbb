"""The main job told as a story: `python -m hostlerd.host.simulated.story`, which is what `./dev run` runs.

Rules: the daemon is the real one in a process of its own, clients are real `hostler` processes over the real socket;
only the host is simulated. What is checked is read from the simulated kernel and libvirt, never from what the daemon
says of itself. A check that fails is told and the story goes on; the exit status is 0 only if all held.
"""
