"""The benchmark: ``trio-tls bench``, ``python -m trio_tls.bench`` or ``nox -s bench``.

How this works. Every peer (a way to move bytes, `trio_tls.bench.peers`) has a server process and a client process, each
pinned to a core of its own. All are started once; then each round measures each workload for one peer after
the other, so that what the machine does meanwhile hits all of them alike (A B A B ...). Only ratios within
one run travel: absolute figures of one machine drift by a factor of two within the hour.

`workloads` says what is measured, `worker` is the program of one process, `runner` starts them and collects. What comes
out is one `Results`, which `report` makes tables of, and `chart` a picture.
"""
