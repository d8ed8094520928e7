# SPDX-License-Identifier: BSD-3-Clause
"""What is compared with what. The first side of each is what the others' ratios are to."""

import dataclasses
import functools
from collections.abc import Callable

import ceiling
import clients
import scaling
from clients import cache_client, cache_load, half_of_the_peak, load, load_upload, redis_benchmark, url, wrk
from place import Barewire, LARGE, UPLOAD, memcached, nginx, redis


@dataclasses.dataclass
class Side:
    """`ask`: by the name of the comparison, what measures it. `serve`: makes the server that all of them share, or None
    where the measurement makes its own. `quick`: the comparisons that the smoke test has of it; None for all."""

    serve: Callable | None
    ask: dict[str, Callable]
    quick: tuple | None = None


@dataclasses.dataclass
class Group:
    """Comparisons whose sides each have one server for all: it is started once a round."""

    titles: dict[str, str]
    sides: dict[str, Side]
    plot: str = "ratios"  # or "latency", "connections"
    share: float = 1  # of --seconds that each measurement takes: rates are steady sooner than high percentiles are
    by_name_only: bool = False


def barewire(device, **options):
    return functools.partial(Barewire, device=device, **options)


def http():
    names = {"http": (64, 1), "http-1024": (1024, 1), "http-16": (64, 16)}
    by_wrk = {**{name: wrk(connections, depth=depth) for name, (connections, depth) in names.items()},
              "http-new": wrk(64, closes=True)}
    by_load = {**{name: load("-c", connections, "-P", depth, url()) for name, (connections, depth) in names.items()},
               "http-new": load("-c", 64, "--new-connections", url())}
    without_1024 = {name: ask for name, ask in by_wrk.items() if name != "http-1024"}
    few = {name: ask for name, ask in by_wrk.items() if name in ("http", "http-1024")}
    return Group(
        {"http": "HTTP, keep-alive, 64 connections, 100 bytes",
         "http-1024": "HTTP, keep-alive, 1,024 connections, 100 bytes",
         "http-16": "HTTP, 16 deep, 64 connections, 100 bytes",
         "http-new": "HTTP, a connection for each request"},
        {"nginx, veth, wrk": Side(nginx, by_wrk, ("http",)),
         "nginx, veth, busy polling, wrk": Side(functools.partial(nginx, busy_poll=True), few, ("http",)),
         "Barewire, memif, barewire load": Side(barewire("memif"), by_load),
         "Barewire, xdp on veth, wrk": Side(barewire("xdp"), without_1024, ("http",)),
         "Barewire, packet on veth, wrk": Side(barewire("packet"), by_wrk, ("http-16",)),
         "Barewire, tap, wrk": Side(barewire("tap"), without_1024, ("http-new",))}, share=2 / 3)


def resp(size):
    title = "1 KiB" if size == 1024 else f"{size} bytes"
    end = "" if size == 32 else "-1k"
    names = {f"resp-get{end}": ("get", 1), f"resp-get{end}-16": ("get", 16), f"resp-set{end}": ("set", 1),
             f"resp-set{end}-16": ("set", 16)}

    def filled(serve, protocol="resp"):
        def served(place):
            server = serve(place)
            clients.fill(place, size, protocol)
            return server

        return served

    def by(protocol):
        return {name: cache_client(protocol, what, depth, size) for name, (what, depth) in names.items()}

    by_load = {name: cache_load(what, depth, size) for name, (what, depth) in names.items()}
    quick = () if end else ("resp-get",)
    sides = {
        "redis-server, veth": Side(filled(redis), by("resp"), quick),
        "memcached, veth": Side(filled(memcached, "memcached"), by("memcached"), quick),
        "Barewire, memif, barewire load": Side(filled(barewire("memif")), by_load),
    }
    if size == 32:
        sides["Barewire, packet on veth"] = Side(filled(barewire("packet")), by("resp"), ())
    return Group({name: f"{what.upper()} of {title}, 64 connections, 10^6 keys" + (", 16 deep" if depth > 1 else "")
                  for name, (what, depth) in names.items()}, sides, share=1 / 3 if end else 2 / 3)


def resp_devices():
    def filled(serve):
        def served(place):
            server = serve(place)
            clients.fill(place, 32)
            return server

        return served

    ask = {"resp-devices": redis_benchmark("get", 1, 32), "resp-devices-16": redis_benchmark("get", 16, 32)}
    return Group(
        {"resp-devices": "GET of 32 bytes, redis-benchmark", "resp-devices-16": "GET of 32 bytes, redis-benchmark, 16 deep"},
        {"redis-server, veth": Side(filled(redis), ask),
         "Barewire, xdp on veth": Side(filled(barewire("xdp")), ask, ()),
         "Barewire, packet on veth": Side(filled(barewire("packet")), ask, ()),
         "Barewire, tap": Side(filled(barewire("tap")), ask)}, share=2 / 3)


def bulk(mtu):
    names = {f"bulk-{count}-{mtu}": (count, 8 if count == 1 else 1) for count in (1, 64)}
    titles, by_wrk, by_load = {}, {}, {}
    for name, (count, depth) in names.items():
        what = f"{'one connection' if count == 1 else '64 connections'}, MTU {mtu}"
        titles |= {name: f"Download, {what}", f"{name}-up": f"Upload, {what}"}
        by_wrk |= {name: wrk(count, depth=depth, path=LARGE, size=LARGE),
                   # One at a time, and short: what its socket does not take at once, wrk may never send.
                   f"{name}-up": wrk(count, path="sink", upload=UPLOAD, size=UPLOAD)}
        by_load |= {name: load("-c", count, "-P", depth, url(LARGE), size=LARGE), f"{name}-up": load_upload(count, depth)}
    quick = ("bulk-1-1500",) if mtu == 1500 else ()
    return Group(
        titles,
        {"nginx, veth, wrk": Side(functools.partial(nginx, mtu=mtu), by_wrk, quick),
         "nginx, veth with offloads, wrk": Side(functools.partial(nginx, mtu=mtu, offloads=True), by_wrk, ()),
         "Barewire, packet on veth, wrk": Side(barewire("packet", mtu=mtu), by_wrk, ()),
         "Barewire, memif, barewire load": Side(barewire("memif", mtu=mtu), by_load)}, share=1 / 3)


def round_trip():
    ask = {"round-trip": load("-c", 1, url()), "half-load": half_of_the_peak(64, url())}
    quick = ("round-trip",)
    return Group(
        {"round-trip": "Round trip of one request, nothing else under way",
         "half-load": "Round trip at half of the highest rate, 64 connections"},
        {"nginx, veth": Side(nginx, ask, quick),
         "nginx, veth, busy polling": Side(functools.partial(nginx, busy_poll=True), ask, ()),
         "Barewire, packet on veth": Side(barewire("packet"), ask, quick),
         "Barewire, xdp on veth": Side(barewire("xdp"), ask, ()),
         "Barewire, memif": Side(barewire("memif"), ask)}, "latency")


def packets():
    return Group(  # both sides make their own: testpmd does one thing for as long as it runs
        {"packets-in": "Packets of 64 bytes, received", "packets-round": "Packets of 64 bytes, received and sent back"},
        {"testpmd": Side(None, {"packets-in": ceiling.receive(ceiling.serve_testpmd("rxonly")),
                                "packets-round": ceiling.forward(ceiling.serve_testpmd("5tswap"))}),
         "Barewire, UDP": Side(None, {"packets-in": ceiling.receive(ceiling.serve_barewire),
                                      "packets-round": ceiling.forward(ceiling.serve_barewire)})})


def connections(*counts, name="connections", by_name_only=False):
    return Group(
        {f"{name}-active": f"HTTP by connections, all asking in turn, {scaling.ACTIVE_RATE:,} requests a second in all",
         f"{name}-idle": "Connections that are silent, adaptive polling"},
        {f"{count:,}": Side(None, {f"{name}-active": scaling.active(count), f"{name}-idle": scaling.idle(count)},
                            None if count == 10000 else ())
         for count in counts}, "connections", by_name_only=by_name_only)


GROUPS = [http(), round_trip(), resp(32), resp(1024), resp_devices(), bulk(1500), bulk(9000), packets(),
          connections(100, 1000, 10000, 100000, 1000000),
          connections(10000000, name="connections-10m", by_name_only=True)]
