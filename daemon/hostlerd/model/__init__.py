"""Values only: what the host is (devices, cpus, domains, isolation), what is wanted and what will be done (plan).

No I/O, no kernel paths, no policy. Everything is frozen; dicts and text were parsed before they got here.
"""
