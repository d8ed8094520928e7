# SPDX-License-Identifier: BSD-3-Clause
"""
Random Redis commands from a grammar: a line a command, and what its reply may differ in.

A line is a weight and words. WORD in capitals is itself, in any mixture of cases; a word in small letters is drawn
from the pool of that name, below; (A b|C)0-3 is so many times one of the alternatives, in any order, which gives good
combinations and bad ones. Some commands are then spoilt: an argument too few, one too many, one that makes no sense.
"""

import math
import random
import re

# Redis's limit of a string, and Barewire's `bulk`, while they are compared: the least that Redis takes.
BULK_MAX = 1 << 20

GRAMMAR = """
# strings
9 GET key
9 SET key value
6 SET key value (NX|XX|GET|KEEPTTL|EX seconds|PX ms|EXAT unix|PXAT unixms|junk)0-3
2 GETEX key (EX seconds|PX ms|EXAT unix|PXAT unixms|PERSIST|junk)0-2
2 GETDEL key
2 GETSET key value
2 SETNX key value
2 SETEX key seconds value
2 PSETEX key ms value
3 MSET (key value)1-4
2 MSETNX (key value)1-3
1 MSETNX (rare value)1-3
4 MGET (key)1-6
3 APPEND key value
2 STRLEN key
2 SETRANGE key offset value
3 GETRANGE key index index
1 SUBSTR key index index
3 INCR key
2 DECR key
3 INCRBY key integer
2 DECRBY key integer
4 INCRBYFLOAT key float
# at the limit of a string's length, on a key of its own: its value is in no reply
.1 SETRANGE huge 1048570 atlimit
.1 APPEND huge value
.1 APPEND huge filler
.2 STRLEN huge
.1 GETRANGE huge 1048569 -1
.2 SETRANGE huge farindex value
.2 DEL huge
# keys
3 DEL (key)1-3
2 UNLINK (key)1-3
3 EXISTS (key)1-4
1 TOUCH (key)1-3
2 TYPE key
3 EXPIRE key seconds (NX|XX|GT|LT|junk)0-2
2 PEXPIRE key ms (NX|XX|GT|LT)0-2
2 EXPIREAT key unix (NX|XX|GT|LT)0-2
2 PEXPIREAT key unixms (NX|XX|GT|LT)0-2
3 TTL key
2 PTTL key
2 EXPIRETIME key
2 PEXPIRETIME key
2 PERSIST key
3 RENAME key key
2 RENAMENX key key
1 RENAMENX key rare
.5 SCAN 0 (MATCH pattern|COUNT count|TYPE type|junk)0-3
.2 SCAN cursor
.5 KEYS pattern
.3 RANDOMKEY
1 DBSIZE
.05 FLUSHDB
.05 FLUSHALL (ASYNC|SYNC|junk)0-2
# connection and server
1 PING
.5 PING value
1 ECHO value
.2 AUTH value
.1 AUTH user value
.3 HELLO
.3 HELLO 2
.3 HELLO 3
.1 HELLO version (AUTH user value|SETNAME name|junk)0-2
.2 RESET
.5 SELECT 0
.5 SELECT integer
.2 CLIENT ID
.3 CLIENT SETNAME name
.3 CLIENT GETNAME
.1 CLIENT INFO
.1 CLIENT LIST
.1 CLIENT KILL name
.1 CLIENT KILL nowhere
.1 CLIENT KILL ADDR nowhere
.1 CLIENT KILL LADDR nowhere
.1 CLIENT KILL ID badid
.1 CLIENT KILL junk
.1 CLIENT unknown
.1 COMMAND COUNT
.1 COMMAND GETKEYS GET key
.1 COMMAND GETKEYS MSET (key value)1-3
.1 COMMAND GETKEYS PING
.1 COMMAND GETKEYS unknown
.1 COMMAND INFO (unknown)1-2
.1 COMMAND DOCS (unknown)1-2
.1 COMMAND unknown
.05 INFO (section)0-2
.1 CONFIG GET nothing
.1 CONFIG SET nothing value
.1 CONFIG GET maxmemory-policy
.1 CONFIG GET
.1 CONFIG SET maxmemory
.1 CONFIG SET maxmemory nosize
.1 CONFIG unknown
.2 MEMORY USAGE key (SAMPLES integer|junk)0-1
.1 MEMORY unknown
1 OBJECT ENCODING key
.2 OBJECT IDLETIME key
.1 OBJECT FREQ key
.1 OBJECT REFCOUNT key
.1 OBJECT unknown
.1 TIME
1 unknown (value)0-4
"""

# ---- the pools ---------------------------------------------------------------------------------------------------

KEYS = [b"k%d" % i for i in range(24)] + [b"", b"key with blanks", b"\0\r\n\xff", b"user:{1}:name", b"K1", b"x" * 300]
INTEGERS = [b"0", b"1", b"-1", b"7", b"42", b"-5", b"100", b"9223372036854775807", b"-9223372036854775808",
            b"9223372036854775806", b"9223372036854775808", b"-9223372036854775809", b"99999999999999999999999",
            b"07", b"+3", b" 7", b"7 ", b"-", b"-0", b"", b"1.0", b"1e3", b"0x10", b"ten", b"4\0"]
# Sums of these are exact, or differ from Redis's in the 17th decimal place at the most, where both round alike.
FLOATS = [b"0", b"1", b"-1", b"0.5", b"1.5", b"-2.25", b"3.0e3", b"1e-2", b"5e2", b"+3", b"-0", b".5", b"5.", b"100000",
          b"0x1p4", b"1e15", b"1e400", b"-1e4932", b"inf", b"-inf", b"nan", b"", b" 1", b"1 ", b"1.2.3", b"abc", b"-",
          b"9223372036854775807", b"3\0"]
# No short time among them: nothing may end while it is looked at.
BAD_TIMES = [number for number in INTEGERS if number not in (b"1", b"7", b"42", b"100")] + [b"9223372036854775"]
# And no NUL in a word that is looked for: where Redis ends there, Barewire does not.
JUNK = [b"junk", b"", b"NX", b"EX", b"GET", b"PX", b"KEEPTTL", b"-1", b"\r\n", b"x" * 100, b"'quoted'",
        b'"', b"\\", b"%s%n", b"LIMIT"]
PATTERNS = [b"*", b"k*", b"k?", b"k[12]", b"k[^1]*", b"k[1-3]", b"k[3-1]", b"[", b"k[", b"k[]", b"k[^", b"k\\1", b"\\", b"",
            b"*1*", b"**2", b"k[a-", b"?" * 4, b"user:{*}:*", b"K*", b"k[\\1]", b"nothing", b"*" * 20 + b"z", b"k1\\"]

POOLS = {
    "key": KEYS,
    "rare": [b"rare%d" % i for i in range(40)],
    "value": ([b"v%d" % i for i in range(30)] + INTEGERS + FLOATS +
              [b"x" * n for n in (10, 43, 44, 45, 63, 64, 100, 499, 511, 512, 513, 600, 1399, 1460, 2000)] +
              [b"a\r\nb", bytes(range(256)), b"y" * 5000]),
    "filler": [b"z" * 4096],
    "integer": INTEGERS + [b"%d" % i for i in range(1, 40)],
    "float": FLOATS * 2 + [b"%d.%d" % (i % 7, i) for i in range(1, 40)],
    "offset": [b"0", b"1", b"5", b"10", b"43", b"44", b"511", b"512", b"1000", b"3000", b"-1", b"x", b"", b"1.5",
               b"1048576", b"536870911", b"536870912", b"9223372036854775807"],
    "index": [b"0", b"1", b"2", b"3", b"5", b"10", b"600", b"-1", b"-2", b"-3", b"-600", b"100000", b"-100000", b"x", b"",
              b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808"],
    "farindex": [b"1048576", b"1048575", b"1048574", b"536870911", b"9223372036854775807", b"-1"],
    "atlimit": [b"a", b"abcde", b"abcdef", b"abcdefg", b""],
    "junk": JUNK,
    "pattern": PATTERNS,
    "count": [b"1", b"10", b"1000", b"0", b"-1", b"x", b"", b"9223372036854775808"],
    "cursor": [b"x", b"", b"-1", b"1.5", b" 0", b"0 ", b"0x0", b"18446744073709551616", b"99999999999999999999999"],
    "type": [b"string", b"STRING", b"list", b"hash", b"zset", b"set", b"stream"],
    "user": [b"default", b"DEFAULT", b"nobody", b""],
    "version": [b"2", b"3", b"1", b"4", b"x", b"", b"-1", b"3.0", b"99999999999999999999"],
    "name": [b"me", b"a-client", b"", b"with blank", b"line\n", b"x" * 100, b"caf\xc3\xa9"],
    "nowhere": [b"192.0.2.1:1", b"[2001:db8::1]:1", b"x", b""],
    "unknown": [b"NO-SUCH", b"foo", b"", b"x" * 200, b"GETT", b"GE", b"\r\nGET", b"se t", b"\0", b"a'b", b"LPUSHX\n"],
    "badid": [b"999999999", b"0", b"-1", b"x", b"", b"1.5", b"9223372036854775808"],
    "section": [b"server", b"KEYSPACE", b"nothing", b"all", b"clients", b"stats"],
    "nosize": [b"x", b"1xb", b"one", b"1 mb", b"mb1"],
    "nothing": [b"no-such-option", b"", b"x" * 100, b"two words"],
}

# ---- what replies may differ in ---------------------------------------------------------------------------------


def near(most):
    """A time: the two servers got the command that set it, or this one, at different moments."""
    def allows(mine, theirs):
        return all(type(n) is int and n >= 0 for n in (mine, theirs)) and abs(mine - theirs) <= most
    return allows


def expired_or_not(mine, theirs):
    """What has expired counts until it is removed. Differential.look_around() compares when all of it is."""
    return near(len(KEYS))(mine, theirs)


def any_key(mine, theirs):
    return all(key is None or type(key) is bytes for key in (mine, theirs))


def sizes(mine, theirs):
    return all(size is None or type(size) is int for size in (mine, theirs))


def catalogue(mine, theirs):
    """All commands; or some, of which Redis says more."""
    return type(mine) is type(theirs) is list and (len(mine) == len(theirs) or min(len(mine), len(theirs)) > 40)


def same_type(mine, theirs):
    return type(mine) is type(theirs) and not isinstance(mine, Error)


def any_order(mine, theirs):
    return type(mine) is type(theirs) is list and sorted(mine) == sorted(theirs)


def scanned(mine, theirs):
    """What one call of SCAN returns; Differential.look_around() compares what all of them do."""
    return type(mine) is type(theirs) is list and len(mine) == len(theirs) == 2 and type(mine[1]) is list


def greetings(mine, theirs):
    if not type(mine) is type(theirs) is list:
        return False
    mine, theirs = [dict(zip(reply[::2], reply[1::2])) for reply in (mine, theirs)]
    return list(mine) == list(theirs) and mine[b"proto"] == theirs[b"proto"]


SECONDS, MS = near(3), near(3000)
ALLOWED = {
    "TTL": SECONDS, "PTTL": MS, "EXPIRETIME": SECONDS, "PEXPIRETIME": MS,
    "KEYS": any_order,              # a hash table's order
    "SCAN": scanned,                # the same, and where one call stops
    "RANDOMKEY": any_key,           # random, and whether it was over
    "DBSIZE": expired_or_not,
    "TIME": same_type,              # two clock reads
    "HELLO": greetings,             # the connection's number and the server's version
    "INFO": same_type,              # another server
    "CLIENT ID": same_type,         # their numbers
    "CLIENT INFO": same_type,       # addresses, and what Redis says of its buffers
    "CLIENT LIST": same_type,
    "COMMAND": catalogue,           # there are fewer
    "COMMAND COUNT": same_type,
    "COMMAND INFO": catalogue,
    "COMMAND DOCS": catalogue,
    "COMMAND LIST": catalogue,
    "CONFIG GET": same_type,
    "MEMORY USAGE": sizes,          # another allocator; and Redis also counts what is over
    "OBJECT IDLETIME": SECONDS,
}
CONTAINERS = {name.split()[0] for name in ALLOWED if " " in name}


NILS = {b"$-1\r\n", b"_\r\n"}


class Error(bytes):
    """An error reply. Its text is compared, always."""


def reply_at(buffer, at):
    """(value, end) of the reply at `at`: int, bytes, None, list, Error or (kind, value)."""
    eol = buffer.index(b"\r\n", at)
    kind, head = buffer[at:at + 1], bytes(buffer[at + 1:eol])
    at = eol + 2
    if kind == b":":
        return int(head), at
    if kind in b"+,(#":
        return head, at
    if kind == b"-":
        return Error(head), at
    if kind == b"_":
        return None, at
    count = int(head)
    if kind in b"$=!":
        return (None, at) if count < 0 else (bytes(buffer[at:at + count]), at + count + 2)
    if kind in b"*~>%|":
        if count < 0:
            return None, at
        values = []
        for _ in range(count * 2 if kind in b"%|" else count):
            value, at = reply_at(buffer, at)
            values.append(value)
        return values, at
    raise ValueError(f"no reply begins with {kind!r}")


def is_allowed(words, mine, theirs):
    """May the replies to this command differ so? Raw bytes, both of them."""
    if mine == theirs:
        return True
    if mine[:1] != theirs[:1] and not {mine, theirs} & NILS:
        return False
    name = words[0].decode("latin-1").upper()
    if name in CONTAINERS and len(words) > 1:
        name += f" {words[1].decode('latin-1').upper()}"
    allows = ALLOWED.get(name)
    return allows is not None and bool(allows(reply_at(mine, 0)[0], reply_at(theirs, 0)[0]))


# ---- the generator ----------------------------------------------------------------------------------------------


def encoded(words):
    """As clients write it."""
    return b"*%d\r\n%s" % (len(words), b"".join([b"$%d\r\n%s\r\n" % (len(word), word) for word in words]))


PLAIN = re.compile(rb"[!#-&(-~]+")  # neither blank nor quotes nor what is not ASCII; a backslash is itself


class Generator:
    """The commands of a seed, for ever. `now`: the wall clock that absolute times are drawn around, in seconds."""

    def __init__(self, seed, now, *, grammar=GRAMMAR):
        self.rng = random.Random(seed)
        self.random = self.rng.random
        self.now, self.times = now, self.rng.randrange(1 << 22)
        lines = [line.split(None, 1) for line in grammar.strip().splitlines() if not line.startswith("#")]
        weights = [float(weight) for weight, _ in lines]
        # A list to index by a random number is faster than random.choices().
        self.lines = []
        for weight, (_, line) in zip(weights, lines):
            steps = self.compiled(line)
            self.lines += [steps] * math.ceil(weight * 20)
        self.junk = JUNK + [number for number in BAD_TIMES if b"\0" not in number] + KEYS[:4]
        self.blanks = [b"\r\n", b"*0\r\n", b"*-1\r\n", b"   \r\n", b"\n"]

    def compiled(self, line):
        return [self.step(word) for word in re.findall(r"\([^)]*\)\d-\d|\S+", line)]

    def step(self, word):
        """A function that appends to the words of a command."""
        random = self.random
        if word.startswith("("):
            alternatives = [self.compiled(text) for text in word[1:word.index(")")].split("|")]
            least, most = map(int, word[word.index(")") + 1:].split("-"))

            def some(words):
                for _ in range(least + int(random() * (most - least + 1))):
                    for step in alternatives[int(random() * len(alternatives))]:
                        step(words)
            return some
        if word in ("seconds", "ms", "unix", "unixms"):
            return lambda words: words.append(self.time(word))
        literals = POOLS.get(word)
        if literals is None:
            text = word.encode()
            literals = [text] * 8 + [text.lower()] * 4 + [text.swapcase().title()]
        size = len(literals)
        return lambda words: words.append(literals[int(random() * size)])

    def time(self, unit):
        """
        A time to live, or when it ends. No two of them are within ten minutes of each other, so that the greater one
        is so on both servers, which get the commands at different moments; in the past, or none, now and then.
        """
        kind = self.random()
        if kind < .1:
            return BAD_TIMES[int(self.random() * len(BAD_TIMES))]
        if kind < .2:
            seconds = -int(self.random() * 10**6)
        else:
            self.times = (self.times * 5 + 1) & 0x3fffff  # a permutation: modulo 2^22 all of them come up
            seconds = 600 * (1 + self.times)
        if unit.startswith("unix"):
            seconds += self.now
        return b"%d" % (seconds * 1000 if unit.endswith("ms") else seconds)

    def spoil(self, words):
        how, at = self.random(), int(self.random() * len(words))
        if how < .35:
            words.pop()
        elif how < .65:
            words.append(self.junk[int(self.random() * len(self.junk))])
        else:
            words[at if at else -1] = self.junk[int(self.random() * len(self.junk))]

    def inline(self, words):
        """As somebody types it. None: an inline command cannot say that."""
        random, line = self.random, []
        for word in words:
            kind = random()
            if PLAIN.fullmatch(word) and kind < .6:
                line.append(word)
            elif kind < .8 and not set(b"'\\\n\0") & set(word):
                line.append(b"'%s'" % word)
            else:
                line.append(b'"%s"' % b"".join([b"%c" % c if 0x20 <= c < 0x7f and c not in b'"\\' else b"\\x%02x" % c
                                                for c in word]))
        if not words or not words[0] or sum(map(len, line)) > 16000:
            return None
        if line[0][:1] == b"*":
            return None
        return (b" " if random() < .9 else b" \t  ").join(line) + (b"\r\n" if random() < .8 else b"\n")

    def command(self):
        """(words, bytes). Without words nothing is asked, and nothing answered."""
        random = self.random
        kind = random()
        words = []
        for step in self.lines[int(random() * len(self.lines))]:
            step(words)
        if kind < .08 and words[0].upper() != b"CONFIG":  # whose junk might be a limit for what comes behind it
            self.spoil(words)
            if not words:
                return words, b"*0\r\n"
        elif kind > .99:
            return [], self.blanks[int(random() * len(self.blanks))]
        elif kind > .9:
            line = self.inline(words)
            if line is not None:
                return words, line
        return words, encoded(words)

    def batch(self, most):
        """Commands in a pipeline."""
        command = self.command
        return [command() for _ in range(1 + int(self.random() * most))]

    def segments(self, data):
        """A pipeline, cut anywhere."""
        cuts = {int(self.random() * len(data)) for _ in range(int(self.random() * 6))}
        cuts = [0, *sorted(cuts), len(data)]
        return [data[begin:end] for begin, end in zip(cuts, cuts[1:]) if begin < end]
