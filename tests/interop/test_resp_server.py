# SPDX-License-Identifier: BSD-3-Clause
"""What clients and tools ask a cache about itself and its connections, beside redis-server, in both protocols."""

import functools
import random
import re
import socket
import time

import pytest

from conftest import RESP, V4
from lab import wait_until
from resp_grammar import reply_at

END = b"$3\r\nend\r\n"


def encoded(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Client:
    def __init__(self, ns, address, source=None):
        def connect():
            try:
                return socket.create_connection((address, RESP), timeout=5, source_address=(source, 0) if source else None)
            except ConnectionRefusedError:
                return None

        with ns:
            self.socket = wait_until(connect, f"{address} to listen")

    def send(self, data):
        self.socket.sendall(data)

    def until(self, end):
        """What comes, up to `end`; or b"" at once when nothing more will."""
        data = b""
        while not data.endswith(end):
            more = self.socket.recv(65536)
            if not more:
                return data + b"<closed>"
            data += more
        return data

    def ask(self, *words):
        """The reply, whatever it is: an ECHO behind it tells where it ends."""
        self.send(encoded(*words) + encoded("ECHO", "end"))
        return self.until(END).removesuffix(END)

    def to_the_end(self):
        return self.until(b"\0never\0").removesuffix(b"<closed>")


def config(tmp_path, *lines):
    path = tmp_path / "resp.yaml"
    path.write_text("resp:\n  - port: %d\n" % int(RESP) + "".join(f"    {line}\n" for line in lines))
    return ["-c", path]


def both(bench, *, workers=1, redis=(), extra=None):
    """Barewire and redis-server."""
    bench.serve("tap", [f"--resp {RESP}"] if extra is None else (), extra=["--workers", workers, *(extra or ())])
    bench.client.start(["redis-server", "--port", RESP, "--bind", "127.0.0.1", "--save", "", *redis])
    return [functools.partial(Client, bench.client, V4), functools.partial(Client, bench.client, "127.0.0.1")]


def masked(reply):
    """Without what cannot be the same: ids, addresses, times, sizes, and the lengths that follow from them. By the time
    that CLIENT LIST looks at its own connection, the ECHO behind it has run."""
    if b" laddr=" in reply:
        reply = re.sub(rb" lib-name=\S* lib-ver=\S*", b"", reply)
        reply = re.sub(rb"(id|addr|laddr|fd|age|idle|qbuf|qbuf-free|argv-mem|multi-mem|rbs|rbp|obl|oll|omem|tot-mem|cmd)=\S+",
                       rb"\1", reply)
        reply = re.sub(rb"^([$=])\d+", rb"\1n", reply)
    return re.sub(rb"\$2\r\nid\r\n:\d+", b"id", reply)


COMMANDS = """
HELLO|HELLO 2|HELLO 3|HELLO 4|HELLO x|HELLO 2 AUTH|HELLO 3 AUTH default x|HELLO 3 AUTH bob x|HELLO 3 SETNAME|HELLO 2 SETNAME me
HELLO 3 SETNAME me AUTH default y|HELLO 2 foo|AUTH|AUTH x|AUTH a b|AUTH default b|AUTH a b c|RESET|RESET x|RESET|HELLO 3
CLIENT|CLIENT foo|CLIENT ID x|CLIENT INFO|CLIENT INFO x|CLIENT GETNAME|CLIENT SETNAME me|CLIENT SETNAME|CLIENT LIST
CLIENT LIST TYPE|CLIENT LIST TYPE normal|CLIENT LIST TYPE NORMAL|CLIENT LIST TYPE master|CLIENT LIST TYPE replica
CLIENT LIST TYPE pubsub|CLIENT LIST TYPE foo|CLIENT LIST ID|CLIENT LIST ID x|CLIENT LIST ID 0|CLIENT LIST ID 99999 88888
CLIENT LIST foo|CLIENT LIST ID 99999 x|CLIENT LIST TYPE normal ID 1|CLIENT KILL|CLIENT KILL foo|CLIENT KILL 1.2.3.4:5
CLIENT KILL ID|CLIENT KILL ID x|CLIENT KILL ID 0|CLIENT KILL ID -1|CLIENT KILL ID 99999|CLIENT KILL TYPE foo
CLIENT KILL TYPE pubsub|CLIENT KILL ADDR 1.2.3.4:5|CLIENT KILL LADDR 1.2.3.4:5|CLIENT KILL USER bob|CLIENT KILL SKIPME x
CLIENT KILL SKIPME yes ID 99999|CLIENT KILL USER default ID 99999|CLIENT KILL a b|CLIENT KILL ID 1 TYPE|CLIENT NO-EVICT
CLIENT NO-EVICT foo|CLIENT NO-EVICT on|CLIENT INFO|CLIENT NO-EVICT OFF|CLIENT INFO|CLIENT REPLY|CLIENT REPLY foo
CLIENT REPLY ON|CONFIG|CONFIG foo|CONFIG GET|CONFIG GET nosuch|CONFIG GET save|CONFIG GET APPENDONLY|CONFIG GET s?ve
CONFIG GET [r-t]ave|CONFIG GET requirepass|CONFIG GET appendonly appendonly appendonl?|CONFIG SET|CONFIG SET a
CONFIG SET nosuch 1|CONFIG SET maxmemory|CONFIG SET maxmemory 1 x|CONFIG SET maxmemory 1 nosuch 2|CONFIG SET databases 3
CONFIG SET maxmemory x|CONFIG SET maxmemory -1|CONFIG SET maxmemory 1.5mb|CONFIG SET maxmemory 99mb maxmemory 99mb
CONFIG SET maxmemory 99mb databases 3|CONFIG SET maxmemory 100mb|CONFIG GET maxmemory|CONFIG SET MAXMEMORY 64MB
CONFIG GET maxmemory|CONFIG SET maxmemory-policy allkeys-lfu maxmemory 50000k|CONFIG GET maxmemory
CONFIG GET maxmemory-policy|CONFIG SET maxmemory-policy noeviction|CONFIG RESETSTAT|CONFIG RESETSTAT x|CONFIG REWRITE
COMMAND COUNT x|COMMAND foo|COMMAND INFO nosuch|COMMAND LIST foo|COMMAND LIST FILTERBY|COMMAND LIST FILTERBY foo bar
COMMAND LIST FILTERBY PATTERN g?t|COMMAND LIST FILTERBY ACLCAT foo|COMMAND LIST FILTERBY MODULE foo|COMMAND GETKEYS
COMMAND GETKEYS get|COMMAND GETKEYS get a|COMMAND GETKEYS nosuch a|COMMAND GETKEYS ping a|COMMAND GETKEYS get a b
COMMAND GETKEYS mset a b c d|COMMAND GETKEYS del a b c|COMMAND GETKEYS OBJECT ENCODING a|COMMAND GETKEYSANDFLAGS get a
COMMAND GETKEYSANDFLAGS set a b|COMMAND GETKEYSANDFLAGS set a b GET|COMMAND GETKEYSANDFLAGS mset a b
COMMAND GETKEYSANDFLAGS del a b|COMMAND GETKEYSANDFLAGS append a b|INFO nosuch|NOSUCH|NOSUCH a b|GET nosuch
MGET nosuch a nosuch|GETDEL nosuch|SET nosuch 1 XX|TTL nosuch|PING|ECHO x|SELECT 0|TYPE nosuch
"""
INFORMED = """append decr decrby del echo exists expire expireat expiretime get getdel getex getrange getset hello incr incrby
 info mget mset persist pexpire pexpireat pexpiretime ping psetex pttl quit reset select set setex setnx setrange strlen
 substr time touch ttl type unlink auth dbsize flushall flushdb incrbyfloat client|id client|list client|kill config|set
 config|get command|docs object|freq memory|usage""".split()


@pytest.mark.sanitize
@pytest.mark.parametrize("workers", [1, 2])
def test_every_answer_about_the_server_is_that_of_redis(bench, workers):
    peers = [connect() for connect in both(bench, workers=workers)]
    lines = [line for line in COMMANDS.replace("\n", "|").split("|") if line]
    for protocol in (2, 3):
        rng = random.Random(protocol)
        for line in lines + rng.choices(lines, k=300) + [f"COMMAND INFO {name}" for name in INFORMED]:
            for peer in peers:  # many of them change it
                peer.ask("HELLO", protocol)
            replies = [masked(peer.ask(*line.split(" "))) for peer in peers]
            assert replies[0] == replies[1], (protocol, line)


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


@pytest.mark.sanitize
@pytest.mark.parametrize("protocol", [2, 3])
def test_command_docs_are_those_of_redis(bench, protocol):
    """redis-cli and others take their hints from the arguments."""
    peers = [connect() for connect in both(bench)]
    for peer in peers:
        peer.ask("HELLO", protocol)
    mine = pairs(reply_at(peers[0].ask("COMMAND", "DOCS"), 0)[0])
    assert len(mine) == int(peers[0].ask("COMMAND", "COUNT")[1:])
    containers = set()
    names = [name.decode() for name in mine]
    for name in mine:
        subcommands = mine[name]
        subcommands = pairs(subcommands).get(b"subcommands", [])
        if subcommands:
            containers.add(name.decode())
        names += [subcommand.decode() for subcommand in subcommands[::2]]
    assert containers == {"client", "command", "config", "memory", "object"} and len(names) > 80
    for name in names:
        replies = [peer.ask("COMMAND", "DOCS", name) for peer in peers]
        if name in containers:  # Redis has more subcommands, in its hash table's order
            docs = [pairs(pairs(reply_at(reply, 0)[0])[name.encode()]) for reply in replies]
            subcommands = [pairs(doc.pop(b"subcommands")) for doc in docs]
            assert list(docs[0].items()) == list(docs[1].items())
            for subcommand in subcommands[0].keys() - {b"client|setinfo"}:
                assert subcommands[0][subcommand] == subcommands[1][subcommand]
        elif name != "client|setinfo":  # of Redis 7.2
            assert replies[0] == replies[1], name
    for words in (("get", "set", "nosuch", "GETEX", "client|kill"), ("nosuch",)):
        replies = [peer.ask("COMMAND", "DOCS", *words) for peer in peers]
        assert replies[0] == replies[1]


def lines_of(peer, *sections):
    return peer.ask("INFO", *sections).split(b"\r\n", 1)[1].decode().split("\r\n")


def commandstats(peer):
    """{command: (calls, rejected, failed)}; what they took is another matter."""
    stats = {}
    for line in lines_of(peer, "commandstats"):
        found = re.fullmatch(r"cmdstat_(.*):calls=(\d+),usec=\d+,usec_per_call=\d+\.\d\d,rejected_calls=(\d+),failed_calls=(\d+)",
                             line)
        if found:
            stats[found[1]] = tuple(map(int, found.groups()[1:]))
    return stats


@pytest.mark.sanitize
@pytest.mark.parametrize("workers", [1, 2])
def test_commands_are_counted_as_redis_does(bench, workers):
    peers = [connect() for connect in both(bench, workers=workers)]
    for sections in ((), ("all",), ("everything",), ("default",), ("errorstats", "server"), ("modules", "latencystats")):
        names = [[line for line in lines_of(peer, *sections) if line.startswith("# ")] for peer in peers]
        assert names[0] == names[1], sections
    rng = random.Random(workers)
    lines = [line for line in COMMANDS.replace("\n", "|").split("|") if line and "RESETSTAT" not in line]
    for line in ["CONFIG RESETSTAT", *lines, *rng.choices(lines, k=300), "MSET a 1 b 2", "MGET a b c", "MSET a 1 b", "INCR a",
                 *["SET b x", "INCR b"] * 100, "FLUSHALL NOW", "MSETNX a 1 b 2 c 3", "RENAME nosuch a", "RENAME a b", "KEYS *",
                 "SCAN 0", "SCAN x", "DEL a b", "RANDOMKEY", "DBSIZE", "EXISTS a b c"]:
        for peer in peers:
            peer.ask(*line.split(" "))
    stats = [commandstats(peer) for peer in peers]
    assert stats[0] == stats[1]
    assert len(stats[0]) > 40 and stats[0]["incr"] == (101, 0, 100)
    errors = [lines_of(peer, "errorstats") for peer in peers]
    assert errors[0] == errors[1]
    assert {line.split(":")[0] for line in errors[0] if ":count=" in line} == {"errorstat_ERR", "errorstat_NOPROTO", "errorstat_WRONGPASS"}
    totals = [[line for line in lines_of(peer, "stats") if line.startswith(("total_commands_processed:", "total_error_replies:"))]
              for peer in peers]
    assert totals[0] == totals[1]


def test_protocol_errors_are_those_of_redis(bench):
    connects = both(bench)
    for sent in (b"*-2\r\nPING\r\n", b"*x\r\n", b"*99999999999\r\n", b"*1\r\nGET\r\n", b"*1\r\n$x\r\n", b"*1\r\n$-1\r\n",
                 b"*1\r\n$99999999999\r\n", b"*" + b"1" * 70000, b"*1\r\n$" + b"1" * 70000, b"x" * 70000,
                 b"set 'a\r\n", b'set "a"b\r\n'):
        replies = []
        for connect in connects:
            peer = connect()
            peer.send(sent + (b"" if len(sent) > 60000 else b"\r\nQUIT\r\n"))
            replies.append(peer.to_the_end())
        assert replies[0] == replies[1], sent[:40]


@pytest.mark.sanitize
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_without_the_password(bench, tmp_path, workers):
    password = tmp_path / "password"
    password.write_text("open-sesame\n")
    password.chmod(0o600)
    connects = both(bench, workers=workers, redis=("--requirepass", "open-sesame"),
                    extra=config(tmp_path, f"password_file: {password}"))
    peers = [connect() for connect in connects]
    for line in ("PING|GET a|MGET a b c|CONFIG GET *|CLIENT LIST|INFO|NOSUCH|GET|AUTH|AUTH x|AUTH default x|AUTH bob open-sesame|"
                 "HELLO|HELLO 3|HELLO 3 AUTH default x|HELLO 3 SETNAME me|AUTH a b c|RESET|AUTH open-sesame|GET a|CLIENT GETNAME|"
                 "RESET|GET a|HELLO 3 AUTH default open-sesame|GET a|RESET|CONFIG SET maxmemory 1|"
                 "AUTH default open-sesame|GET a|MGET a b c").split("|"):
        # Before AUTH there is no ECHO either.
        for peer in peers:
            peer.send(encoded(*line.split(" ")) + b"*1\r\n$9\r\nnosuchend\r\n")
        end = b"'nosuchend', with args beginning with: \r\n"
        replies = [masked(peer.until(end)) for peer in peers]
        assert replies[0] == replies[1], line
    for sent in (b"*11\r\n", b"*2\r\n$3\r\nGET\r\n$16385\r\n", b"*1\r\n$4\r\nQUIT\r\n"):
        replies = []
        for connect in connects:
            peer = connect()
            peer.send(sent)
            replies.append(peer.to_the_end())
        assert replies[0] == replies[1] != b"", sent
    assert "open-sesame" not in bench.client.run(["ps", "axww", "-o", "args"]).stdout.replace("--requirepass open-sesame", "")


def test_protected_mode(bench, tmp_path):
    """On a public address, without a password: only who comes from a private network."""
    bench.serve("tap", (), addrs=False, wait=False,
                extra=["--addr", "11.0.0.2/24", "--addr", "10.9.9.2/24", *config(tmp_path, "stall_timeout: 60")])
    wait_until(lambda: "bwt0" in bench.client.links(), "the TAP", timeout=20)
    bench.client.ip("link set bwt0 up")
    for address in ("11.0.0.1/24", "10.9.9.1/24"):
        bench.client.ip(f"addr add {address} dev bwt0", check=False)
    denied = Client(bench.client, "11.0.0.2", source="11.0.0.1")
    assert re.fullmatch(rb"-DENIED Barewire is running in protected mode[^\r\n]*password_file[^\r\n]*\r\n", denied.to_the_end())
    assert Client(bench.client, "11.0.0.2", source="10.9.9.1").ask("PING") == b"+PONG\r\n"
    assert Client(bench.client, "10.9.9.2", source="11.0.0.1").ask("PING") == b"+PONG\r\n"


def test_clients_are_listed_and_killed_over_workers(bench):
    bench.serve("tap", [f"--resp {RESP}"], extra=["--workers", 2])
    clients = [Client(bench.client, V4) for _ in range(100)]
    for number, client in enumerate(clients):
        assert client.ask("CLIENT", "SETNAME", f"c{number}") == b"+OK\r\n"
    listed = clients[0].ask("CLIENT", "LIST").decode()
    rows = [dict(field.split("=", 1) for field in line.split(" ")) for line in listed.split("\n") if line.startswith("id=")]
    assert {row["name"] for row in rows} == {f"c{number}" for number in range(100)}
    assert len({row["id"] for row in rows}) == 100
    assert len({int(row["id"]) % 2 for row in rows}) == 2, "all on one worker"
    by_name = {row["name"]: row for row in rows}
    for number, client in enumerate(clients):
        row = by_name[f"c{number}"]
        assert client.ask("CLIENT", "ID") == b":%d\r\n" % int(row["id"])
        assert row["addr"] == "%s:%d" % client.socket.getsockname() and row["laddr"] == f"{V4}:{RESP}"
    assert clients[0].ask("CLIENT", "KILL", "ID", by_name["c7"]["id"]) == b":1\r\n"
    assert clients[7].to_the_end() == b""
    assert clients[0].ask("CLIENT", "KILL", by_name["c8"]["addr"]) == b"+OK\r\n"
    assert clients[8].to_the_end() == b""
    assert clients[0].ask("CLIENT", "KILL", "TYPE", "normal") == b":97\r\n"
    for number in set(range(1, 100)) - {7, 8}:
        assert clients[number].to_the_end() == b""
    clients[0].send(encoded("CLIENT", "KILL", clients[0].socket.getsockname()[0] + ":%d" % clients[0].socket.getsockname()[1]))
    assert clients[0].to_the_end() == b"+OK\r\n"


def filled(client, prefix, count, *options, batch=500):
    for start in range(0, count, batch):
        client.send(b"".join(encoded("SET", f"{prefix}:{i}", "x" * 1000, *options) for i in range(start, start + batch)))
        answer = client.until(b"\r\n")
        while answer.count(b"\r\n") < batch:
            answer += client.until(b"\r\n")
        assert answer.count(b"+OK\r\n") == batch, answer[:200]


def filled_by_mset(client, prefix, count, batch=50):
    for start in range(0, count, batch):
        pairs = (word for i in range(start, start + batch) for word in (f"{prefix}:{i}", "x" * 1000))
        assert client.ask("MSET", *pairs) == b"+OK\r\n"


def left(part, all_keys, evicted, sample=8):
    """How many of `part` keys, those that the policy gives up first, are left when `evicted` of `all_keys` went, each
    as the first of a sample: a sample misses the part with (1 - part / all_keys) ** sample."""
    for _ in range(evicted):
        part -= 1 - (1 - part / all_keys) ** sample
    return part


@pytest.mark.parametrize("workers", [1, 2])
def test_policies_by_traffic(bench, tmp_path, workers):
    bench.serve("tap", (), extra=["--workers", workers, *config(tmp_path, "memory: 32MiB")])
    client = Client(bench.client, V4)

    def existing(prefix, count):
        return sum(int(client.ask("EXISTS", *(f"{prefix}:{i}" for i in range(start, start + 500)))[1:])
                   for start in range(0, count, 500))

    def evicted():
        return int(re.search(rb"evicted_keys:(\d+)", client.ask("INFO", "stats"))[1])

    def used():
        return int(re.search(rb"used_memory:(\d+)", client.ask("INFO", "memory"))[1])

    # What is used often stays, though a scan is what was used last: 8 of a sample are all of the hot once in millions.
    assert client.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu") == b"+OK\r\n"
    filled(client, "hot", 2000)
    for _ in range(20):
        for start in range(0, 2000, 500):
            client.ask("TOUCH", *(f"hot:{i}" for i in range(start, start + 500)))
    filled(client, "cold", 60000)
    assert existing("hot", 2000) > 1980
    # What was used last stays. Ages are told apart to 128 ms. With two workers what goes from one to the other is gathered,
    # and so is what straddles segments: that takes memory of other sizes.
    client.ask("FLUSHALL")
    assert client.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru") == b"+OK\r\n"
    before = evicted()
    for prefix, count, fill in (("old", 5000, filled), ("mid", 15000, filled_by_mset), ("new", 20000, filled)):
        fill(client, prefix, count)
        time.sleep(0.3)
    gone, keys = evicted() - before, int(client.ask("DBSIZE")[1:])
    assert gone > 5000
    # Memory is full of keys, whatever sizes commands took meanwhile; and the oldest went first, if a pool of what was nearly
    # taken is no worse than a single sample.
    assert keys > 29000
    assert existing("old", 5000) < left(5000, keys, gone)
    # All of a sample are new: the integral of x ** 8, x from their part at the first eviction to that at the last.
    lost = keys / 9 * ((20000 / keys) ** 9 - ((20000 - gone) / keys) ** 9)
    assert existing("new", 20000) > 20000 - lost - 10
    # Only what expires goes, and what expires first. There is not room for all.
    client.ask("FLUSHALL")
    assert client.ask("CONFIG", "SET", "maxmemory-policy", "volatile-ttl") == b"+OK\r\n"
    before = evicted()
    filled(client, "soon", 5000, "EX", 1000)
    filled(client, "late", 5000, "EX", 100000)
    filled(client, "never", 23000)
    assert existing("never", 23000) == 23000
    gone = evicted() - before
    assert gone > 1000
    assert existing("soon", 5000) < existing("late", 5000)
    # Nothing goes.
    client.ask("FLUSHALL")
    assert client.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "16mb") == b"+OK\r\n"
    wait_until(lambda: used() <= 16 << 20, "what FLUSHALL left to be swept")
    for i in range(30000):
        answer = client.ask("SET", f"k:{i}", "x" * 1000)
        if answer != b"+OK\r\n":
            break
    assert answer == b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
    assert used() <= 16 << 20
    assert b"evicted_keys:0\r\n" not in client.ask("INFO", "stats")  # of the policies before


def round_trips(client, until):
    """µs of GETs, one after the other, as long as `until` says."""
    times, query = [], encoded("GET", "lives")
    while not until():
        begun = time.perf_counter_ns()
        client.send(query)
        assert client.until(b"\r\n") == b"$-1\r\n"
        times.append((time.perf_counter_ns() - begun) / 1000)
    return sorted(times)


def filled_until(client, count, at):
    """Keys that expire at that time, all of them."""
    for start in range(0, count, 2000):
        client.send(b"".join(b"*5\r\n$3\r\nSET\r\n$10\r\nkey:%06d\r\n$1\r\nv\r\n$4\r\nPXAT\r\n$13\r\n%d\r\n" % (i, at)
                             for i in range(start, start + 2000)))
        answer = client.until(b"\r\n")
        while len(answer) < 2000 * len("+OK\r\n"):
            answer += client.until(b"\r\n")
    assert client.ask("DBSIZE") == b":%d\r\n" % count, "loading took longer than the keys live"


def test_a_million_keys_expire_at_once_and_nobody_notices(bench, tmp_path):
    bench.serve("tap", (), extra=["--workers", 1, *config(tmp_path, "memory: 256MiB")])
    client, other = Client(bench.client, V4), Client(bench.client, V4)
    at = int(time.time() * 1000) + 20000
    filled_until(client, 1_000_000, at)
    client.socket.settimeout(30)

    before = round_trips(client, lambda: time.time() * 1000 > at - 100)
    time.sleep(max(0, at / 1000 - time.time()))
    begun, asked = time.monotonic(), 0

    def is_over():
        nonlocal asked
        if time.monotonic() - asked < 0.05:
            return False
        asked = time.monotonic()
        return other.ask("DBSIZE") == b":0\r\n"

    during = round_trips(client, is_over)
    took = time.monotonic() - begun
    print(f"gone in {took:.2f} s; a GET before: p50 {before[len(before) // 2]:.0f}, p99 {before[len(before) * 99 // 100]:.0f} µs; "
          f"meanwhile: p50 {during[len(during) // 2]:.0f}, p99 {during[len(during) * 99 // 100]:.0f} µs")
    assert took < 10
    assert b"expired_keys:1000000\r\n" in client.ask("INFO", "stats")
    # What the machine takes is in both. A slice more at most is what the sweep may add.
    assert during[len(during) // 2] < before[len(before) // 2] + 50
    assert during[len(during) * 99 // 100] < 2 * before[len(before) * 99 // 100] + 50
    # Nor does anybody have to ask for that.
    filled_until(client, 200_000, int(time.time() * 1000) + 5000)
    time.sleep(5 + 3)
    assert client.ask("DBSIZE") == b":0\r\n"
