# SPDX-License-Identifier: BSD-3-Clause
"""What is played. No answers are written here: the kernel's are the expectation. Those of ECN are in ecn.py."""

import struct

from peer import Burst, Drink, Fill, Rel, S, Sequence, Wait

SEQUENCES = []
OUTSIDE = 1 << 20  # to the right of every window
QUICK = 0.05  # while data is in flight: before the retransmission timer takes part


def seq(name, server, *steps, **options):
    flat = []
    for step in steps:
        flat += step if isinstance(step, list) else [step]
    SEQUENCES.append(Sequence(name, server, flat, **options))


def opened(wnd=65535, **options):
    """The handshake. What the server takes for its round trip makes a time-out of 0.6 s, which falls between steps."""
    return [S("S", mss=1460, wnd=wnd, settle=0.2, **options), S("A", wnd=wnd, settle=0.1)]


def go(wnd=65535):
    """What begins the bulk; in the window that `opened` has offered."""
    return S("A", data=b"go", wnd=wnd, settle=QUICK)


def timestamps(**options):
    return opened(ts=0, **options)


PROBE = S("A", seq=Rel(-1))  # never acceptable: a connection answers it with its numbers, nobody with RST

# ---- every kind of segment in every state --------------------------------------------------------------------
# The states, their server, how to get there, and the ACK number that keeps the state.

FIN_WAIT_1 = [*opened(), S("A", data=b"x")]  # the server sends FIN, which nobody acknowledges yet
STATES = {
    "syn_received": ("keep", [S("S", mss=1460)], 1),
    "established": ("keep", opened(), 1),
    "close_wait": ("keep", [*opened(), S("FA")], 1),
    "last_ack": ("discard", [*opened(), S("FA")], 1),
    "fin_wait_1": ("shut", FIN_WAIT_1, 1),
    "fin_wait_2": ("shut", [*FIN_WAIT_1, S("A")], 2),
    "closing": ("shut", [*FIN_WAIT_1, S("FA", ack=1)], 1),
    "time_wait": ("shut", [*FIN_WAIT_1, S("A"), S("FA")], 2),
}


def in_any_state(ack):
    return {
        "rst_exact": S("R"),
        "rst_in_window": S("R", seq=Rel(10)),
        "rst_outside": S("R", seq=Rel(OUTSIDE)),
        "rst_old": S("R", seq=Rel(-1)),
        "rst_ack_exact": S("RA", ack=ack),
        "rst_with_data": S("RA", ack=ack, data=b"gone"),
        "syn_exact": S("S", seq=Rel(0), mss=1460),
        "syn_in_window": S("S", seq=Rel(10), mss=1460),
        "syn_outside": S("S", seq=Rel(OUTSIDE), mss=1460),
        "syn_old": S("S", seq=Rel(-1000), mss=1460),
        "syn_ack": S("SA", seq=Rel(0), ack=ack, mss=1460),
        "syn_fin": S("SF", seq=Rel(0), mss=1460),
        "fin_exact": S("FA", ack=ack),
        "fin_ahead": S("FA", seq=Rel(10), ack=ack),
        "fin_outside": S("FA", seq=Rel(OUTSIDE), ack=ack),
        "fin_old": S("FA", seq=Rel(-1), ack=ack),
        "fin_without_ack": S("F", seq=Rel(0)),
        "data_exact": S("A", ack=ack, data=b"abc"),
        "data_ahead": S("A", seq=Rel(10), ack=ack, data=b"abc"),
        "data_outside": S("A", seq=Rel(OUTSIDE), ack=ack, data=b"abc"),
        "data_old": S("A", seq=Rel(-3), ack=ack, data=b"abc"),
        "data_without_ack": S("P", seq=Rel(0), data=b"abc"),
        "data_with_fin": S("FA", ack=ack, data=b"abc"),
        "ack_again": S("A", ack=ack),
        "ack_of_unsent": S("A", ack=ack + 1000),
        "ack_of_unsent_with_data": S("A", ack=ack + 1000, data=b"abc"),
        "ack_a_little_old": S("A", ack=ack - 1),
        "ack_very_old": S("A", ack=ack - (1 << 30)),
        "ack_outside": S("A", seq=Rel(OUTSIDE), ack=ack),
        "keepalive": S("A", seq=Rel(-1), ack=ack),
        "keepalive_with_a_byte": S("A", seq=Rel(-1), ack=ack, data=b"\0"),
        "no_flags": S("", seq=Rel(0)),
    }


for state, (server, steps, number) in STATES.items():
    for event, segment in in_any_state(number).items():
        # Twice: what was refused must not have changed anything.
        seq(f"{state}-{event}", server, steps, segment, S("A", seq=PROBE.seq, ack=number))

# ---- handshake -----------------------------------------------------------------------------------------------


def option(kind, octets=b"", length=None):
    return bytes([kind, 2 + len(octets) if length is None else length]) + octets


MSS_1460, SACK_OK, SCALE_7 = option(2, b"\x05\xb4"), option(4), option(3, b"\7")
STAMP, NOP, END = option(8, struct.pack("!II", 0x10000000, 0)), b"\1", b"\0"


def padded(octets, with_what=NOP):
    return octets + with_what * (-len(octets) % 4)


SYNS = {
    "none": b"",
    "mss": MSS_1460,
    "all": padded(MSS_1460 + SACK_OK + STAMP + NOP + SCALE_7),
    "backwards": padded(SCALE_7 + STAMP + SACK_OK + MSS_1460),
    "unaligned": NOP + STAMP + NOP + NOP + NOP + MSS_1460 + SCALE_7 + SACK_OK + END,
    "only_sack": padded(SACK_OK),
    "only_scale": padded(SCALE_7),
    "only_timestamp": padded(STAMP),
    "scale_15": padded(MSS_1460 + option(3, b"\x0f")),
    "scale_14": padded(MSS_1460 + option(3, b"\x0e")),
    "scale_0": padded(MSS_1460 + option(3, b"\0")),
    "mss_twice": MSS_1460 + option(2, b"\x02\x00"),
    "scale_twice": padded(SCALE_7 + option(3, b"\1")),
    "mss_0": option(2, b"\0\0"),
    "mss_1": option(2, b"\0\1"),
    "mss_48": option(2, b"\0\x30"),
    "mss_65535": option(2, b"\xff\xff"),
    "mss_of_3_bytes": padded(b"\2\3\5"),
    "mss_of_5_bytes": padded(option(2, b"\5\xb4\0") + SACK_OK),
    "sack_of_3_bytes": padded(MSS_1460 + b"\4\3\0"),
    "scale_of_4_bytes": padded(MSS_1460 + b"\3\4\7\7"),
    "timestamp_of_9_bytes": padded(MSS_1460 + b"\x08\x09" + b"\1" * 7),
    "unknown": padded(option(0x99, b"what") + MSS_1460 + SACK_OK),
    "unknown_of_2_bytes": padded(option(0x99) + MSS_1460),
    "length_0": padded(MSS_1460 + b"\x99\0" + SACK_OK),
    "length_1": padded(MSS_1460 + b"\x99\1" + SACK_OK),
    "length_over_the_end": padded(MSS_1460 + b"\x99\x28"),
    "kind_without_length": MSS_1460 + NOP + NOP + NOP + b"\x08",
    "end_then_options": END + SCALE_7 + MSS_1460,
    "end_in_the_middle": padded(MSS_1460 + END + SACK_OK, END),
    "forty_nops": NOP * 40,
    "timestamp_zero": padded(MSS_1460 + option(8, bytes(8))),
    "timestamp_with_echo": padded(MSS_1460 + option(8, struct.pack("!II", 0x10000000, 77))),
    "fast_open_request": padded(MSS_1460 + option(34)),
    "md5": padded(MSS_1460 + option(19, b"\7" * 16)),
    "sack_blocks": padded(MSS_1460 + SACK_OK + option(5, struct.pack("!II", 1, 2))),
}
for name, octets in SYNS.items():
    # What the server then sends is ten times the MSS that it took (RFC 6928).
    seq(f"options-{name}", "bulk", S("S", raw=octets), S("A", settle=0.1), S("A", data=b"go"))

seq("handshake-data_on_the_ack", "echo", S("S", mss=1460), S("A", data=b"hello"), S("A"))
seq("handshake-data_and_fin_on_the_ack", "echo", S("S", mss=1460), S("FA", data=b"hello"), S("A"), PROBE)
seq("handshake-fin_on_the_ack", "discard", S("S", mss=1460), S("FA"), S("A"), PROBE)
seq("handshake-urg_on_the_ack", "echo", S("S", mss=1460), S("AU", data=b"hello", urg=5), S("A"))
seq("handshake-push_on_the_ack", "echo", S("S", mss=1460), S("AP", data=b"hello"), S("A"))
seq("handshake-syn_with_data", "echo", S("S", mss=1460, data=b"early"), S("A", seq=1, data=b"early"), S("A", seq=6))
seq("handshake-syn_with_data_acked_beyond", "echo", S("S", mss=1460, data=b"early"), S("A", seq=6), PROBE)
seq("handshake-syn_push", "keep", S("SP", mss=1460), S("A"), PROBE)
seq("handshake-syn_urg", "keep", S("SU", mss=1460, urg=1), S("A"), PROBE)
seq("handshake-syn_window_0", "greet", S("S", mss=1460, wnd=0), S("A", wnd=0), S("A", wnd=1000), S("A"))
seq("handshake-syn_again", "keep", S("S", mss=1460), S("S", seq=0, mss=1460), S("S", seq=0, mss=1460), S("A", seq=1))
seq("handshake-syn_again_other_options", "keep", S("S", mss=1460), S("S", seq=0, mss=536, ts=0, sackok=True), S("A"))
seq("handshake-syn_again_when_established", "keep", opened(), S("S", seq=0, mss=1460), PROBE)
seq("handshake-syn_again_after_data", "echo", opened(), S("A", data=b"hi"), S("A"), S("S", seq=0, mss=1460), PROBE)
seq("handshake-other_syn_in_syn_received", "keep", S("S", mss=1460), S("S", seq=5000, mss=1460), S("A", seq=1))
seq("handshake-other_syn_before", "keep", S("S", mss=1460), S("S", seq=-5000, mss=1460), S("A", seq=1))
seq("handshake-ack_again", "keep", opened(), S("A", seq=1), PROBE)
seq("handshake-ack_low", "keep", S("S", mss=1460), S("A", ack=0), S("A", seq=1), PROBE)
seq("handshake-ack_high", "keep", S("S", mss=1460), S("A", ack=2), S("A", seq=1), PROBE)
seq("handshake-ack_of_nothing", "keep", S("A", seq=1, ack=1))
seq("handshake-ack_seq_low", "keep", S("S", mss=1460), S("A", seq=0), S("A", seq=1), PROBE)
seq("handshake-ack_seq_high", "keep", S("S", mss=1460), S("A", seq=2), PROBE)
seq("handshake-ack_outside", "keep", S("S", mss=1460), S("A", seq=OUTSIDE), S("A", seq=1), PROBE)
seq("handshake-ack_lost_then_data", "echo", S("S", mss=1460), S("A", seq=1, data=b"data"), S("A"))
seq("handshake-ack_lost_data_ahead", "echo", S("S", mss=1460), S("A", seq=5, data=b"late"),
    S("A", seq=1, data=b"data"), S("A", seq=9))
seq("handshake-fin_ahead", "echo", S("S", mss=1460), S("FA", seq=5), S("A", seq=1, data=b"data"), S("A", seq=6))
seq("handshake-rst_then_again", "echo", S("S", mss=1460), S("R", seq=1), S("S", seq=0, mss=1460),
    S("A", seq=1, data=b"yes"), S("A"))
seq("handshake-rst_of_the_syn_number", "keep", S("S", mss=1460), S("R", seq=0), S("A", seq=1), PROBE)
seq("handshake-synack", "keep", S("SA", seq=0, ack=1, mss=1460))
seq("handshake-null", "keep", S("", seq=0))
seq("handshake-fin", "keep", S("F", seq=0))
seq("handshake-syn_fin", "keep", S("SF", seq=0, mss=1460), S("A", seq=1))
seq("handshake-syn_rst", "keep", S("SR", seq=0, mss=1460), S("A", seq=1))
seq("handshake-xmas", "keep", S("FPU", seq=0))
seq("handshake-all_flags", "keep", S("FSRPAU", seq=0, ack=1))
seq("handshake-rst", "keep", S("R", seq=0))
seq("handshake-rst_ack", "keep", S("RA", seq=0, ack=1))
seq("handshake-isn_wraps", "echo", opened(), S("A", data=b"0123456789" * 3), S("A"), isn=0xfffffff8)
seq("handshake-isn_max", "echo", opened(), S("A", data=b"hello"), S("A"), isn=0xffffffff)
seq("handshake-isn_0", "echo", opened(), S("A", data=b"hello"), S("A"), isn=0)
seq("handshake-ts_not_offered_then_sent", "echo", opened(), S("A", data=b"hi", ts=5), S("A"))
seq("handshake-ts_offered_ack_without", "keep", S("S", mss=1460, ts=0), S("A", ts=None), PROBE)
seq("handshake-ts_old_in_the_ack", "keep", S("S", mss=1460, ts=100), S("A", ts=50), S("A", seq=1, ts=101), PROBE)
seq("handshake-ts_echo_wrong_in_the_ack", "keep", S("S", mss=1460, ts=0), S("A", tsecr=1), PROBE)
seq("handshake-sack_not_offered", "echo", opened(), S("A", seq=6, data=b"world"), S("A", seq=1, data=b"hello"), S("A"))

for name, flags in (("syn", "S"), ("ack", "A"), ("rst", "R"), ("fin", "F"), ("fin_ack", "FA"), ("syn_ack", "SA"),
                    ("syn_fin", "SF"), ("null", ""), ("rst_ack", "RA"), ("urg", "U")):
    seq(f"closed_port-{name}", "nobody", S(flags, seq=0, ack=1))
seq("closed_port-data", "nobody", S("A", seq=5, ack=7, data=b"hello"))
seq("closed_port-syn_with_data", "nobody", S("S", seq=0, data=b"hello"))
seq("closed_port-fin_with_data", "nobody", S("F", seq=0, data=b"hello"))

# ---- what is broken, or meant for others ---------------------------------------------------------------------

seq("broken-syn_checksum", "keep", S("S", mss=1460, sum=1), S("S", seq=0, mss=1460))
seq("broken-data_checksum", "echo", opened(), S("A", seq=1, data=b"hello", sum=1), S("A", seq=1, data=b"hello"), S("A"))
seq("broken-rst_checksum", "keep", opened(), S("R", sum=1), PROBE)
seq("broken-data_offset_4", "echo", opened(), S("A", seq=1, data=b"hello", doff=4), PROBE)
seq("broken-data_offset_0", "echo", opened(), S("A", seq=1, data=b"hello", doff=0), PROBE)
seq("broken-data_offset_over_the_end", "echo", opened(), S("A", seq=1, data=b"hello", doff=15), PROBE)
seq("broken-syn_offset_over_the_end", "keep", S("S", seq=0, doff=15), S("S", seq=0, mss=1460))
seq("broken-header_cut", "echo", opened(), S("A", seq=1, cut=19), PROBE)
seq("broken-header_cut_to_8", "echo", opened(), S("A", seq=1, cut=8), PROBE)
seq("broken-data_cut", "echo", opened(), S("A", seq=1, data=b"hello", cut=22), PROBE)
seq("broken-options_in_data", "echo", opened(), S("A", seq=1, raw=b"\x08\x0a\1\2", data=b"hello"), S("A"))
seq("broken-option_length_0", "echo", opened(), S("A", raw=b"\x05\0\1\1", data=b"hello"), S("A"))
seq("broken-mss_on_data", "bulk", opened(wnd=3000), S("A", raw=b"\2\4\0\x40", data=b"go", wnd=3000), S("A", wnd=3000))
seq("broken-reserved_bits", "echo", S("S", mss=1460, reserved=14), S("A", reserved=14, settle=0.1),
    S("A", data=b"hello", reserved=14), S("A"))
seq("others-syn_to_broadcast", "keep", S("S", seq=0, mss=1460, dst="broadcast"))
seq("others-syn_to_multicast", "keep", S("S", seq=0, mss=1460, dst="multicast"))
seq("others-syn_in_a_broadcast_frame", "keep", S("S", seq=0, mss=1460, dst="mac"))
seq("others-syn_to_closed_in_a_broadcast_frame", "nobody", S("S", seq=0, mss=1460, dst="mac"))
seq("others-data_to_broadcast", "echo", opened(), S("A", seq=1, data=b"hello", dst="broadcast"), PROBE)
seq("others-data_to_multicast", "echo", opened(), S("A", seq=1, data=b"hello", dst="multicast"), PROBE)
seq("others-data_in_a_broadcast_frame", "echo", opened(), S("A", seq=1, data=b"hello", dst="mac"), PROBE)
seq("others-rst_in_a_broadcast_frame", "keep", opened(), S("R", dst="mac"), PROBE)
seq("others-rst_to_broadcast", "keep", opened(), S("R", dst="broadcast"), PROBE)

# ---- data: overlaps and disorder -----------------------------------------------------------------------------
# Two segments at every relative position, first plain, then with a hole before them. The echo shows what was kept.

POSITIONS = {
    "same": ((5, b"BBBBB"), (5, b"bbbbb")),
    "inside": ((5, b"BBBBB"), (6, b"bbb")),
    "around": ((5, b"BBBBB"), (3, b"bbbbbbbbb")),
    "left_edge": ((5, b"BBBBB"), (5, b"bb")),
    "right_edge": ((5, b"BBBBB"), (8, b"bb")),
    "over_the_left": ((5, b"BBBBB"), (2, b"bbbbb")),
    "over_the_right": ((5, b"BBBBB"), (7, b"bbbbb")),
    "touches_left": ((5, b"BBBBB"), (2, b"bbb")),
    "touches_right": ((5, b"BBBBB"), (10, b"bbb")),
    "apart": ((5, b"BBBBB"), (12, b"bbb")),
    "apart_before": ((9, b"BBBBB"), (4, b"bbb")),
    "longer_same_left": ((5, b"BBBBB"), (5, b"bbbbbbbb")),
    "longer_same_right": ((5, b"BBBBB"), (2, b"bbbbbbbb")),
}
for name, (first, second) in POSITIONS.items():
    for sack in (False, True):
        word = "sack" if sack else "plain"
        seq(f"overlap-{word}-{name}", "echo", opened(sackok=sack), S("A", seq=first[0], data=first[1]),
            S("A", seq=second[0], data=second[1]), S("A", seq=1, data=b"aaaa"), S("A", seq=5, data=b"c" * 12),
            S("A", seq=17))
for name, (first, second) in POSITIONS.items():
    # The first in order: shifted so that it begins at rcv_nxt.
    seq(f"overlap-in_order-{name}", "echo", opened(sackok=True), S("A", seq=1, data=b"a" * (first[0] - 1)),
        S("A", seq=first[0], data=first[1]), S("A", seq=second[0], data=second[1]),
        S("A", seq=1, data=b"c" * 20), S("A", seq=21))
for name, order in (("123", (0, 1, 2)), ("132", (0, 2, 1)), ("213", (1, 0, 2)), ("231", (1, 2, 0)), ("312", (2, 0, 1)),
                    ("321", (2, 1, 0))):
    for sack in (False, True):
        seq(f"order-{name}-{'sack' if sack else 'plain'}", "echo", opened(sackok=sack),
            *(S("A", seq=1 + 4 * i, data=bytes([97 + i]) * 4) for i in order), S("A", seq=13))
seq("order-4321-sack", "echo", opened(sackok=True),
    *(S("A", seq=1 + 4 * i, data=bytes([97 + i]) * 4) for i in (3, 2, 1, 0)), S("A", seq=17))
seq("order-fills_both_sides", "echo", opened(sackok=True), S("A", seq=5, data=b"bbbb"), S("A", seq=13, data=b"dddd"),
    S("A", seq=9, data=b"cccc"), S("A", seq=1, data=b"aaaa"), S("A", seq=17))
seq("order-fin_first", "echo", opened(sackok=True), S("FA", seq=9), S("A", seq=1, data=b"12345678"), S("A", seq=10))
seq("order-data_fin_first", "echo", opened(sackok=True), S("FA", seq=5, data=b"5678"), S("A", seq=1, data=b"1234"),
    S("A", seq=10))
seq("order-fin_moves_left", "echo", opened(), S("FA", seq=9), S("FA", seq=5), S("A", seq=1, data=b"1234"),
    S("A", seq=6))
seq("order-fin_moves_right", "echo", opened(), S("FA", seq=5), S("FA", seq=9), S("A", seq=1, data=b"1234"),
    S("A", seq=6))
seq("order-data_behind_the_fin", "echo", opened(), S("FA", seq=5), S("A", seq=6, data=b"6789"),
    S("A", seq=1, data=b"1234"), S("A", seq=6))
seq("order-fin_under_data", "echo", opened(), S("A", seq=5, data=b"56789"), S("FA", seq=7),
    S("A", seq=1, data=b"1234"), S("A", seq=10), PROBE)
seq("order-across_the_wrap", "echo", opened(sackok=True), S("A", seq=9, data=b"cccc"), S("A", seq=1, data=b"aaaabbbb"),
    S("A", seq=13), isn=0xfffffffb)
seq("order-full_segments", "echo", opened(sackok=True), S("A", seq=1461, data=b"b" * 1460),
    S("A", seq=2921, data=b"c" * 1460), S("A", seq=1, data=b"a" * 1460), Drink())
seq("order-two_full_in_order", "keep", opened(), Burst([S("A", data=b"a" * 1460), S("A", data=b"b" * 1460)]))
seq("order-many_small", "keep", opened(), Burst([S("A", data=b"a" * 10) for _ in range(10)]))
seq("order-one_lost_of_five", "keep", opened(), S("A", data=b"1" * 1460),
    Burst([S("A", seq=2921 + 1460 * i, data=b"d" * 1460) for i in range(4)]), S("A", seq=1461, data=b"2" * 1460))
seq("order-one_lost_of_five_sack", "keep", opened(sackok=True), S("A", data=b"1" * 1460),
    Burst([S("A", seq=2921 + 1460 * i, data=b"d" * 1460) for i in range(4)]), S("A", seq=1461, data=b"2" * 1460))
seq("order-whole_repeats", "echo", opened(sackok=True), S("A", data=b"hello"), S("A"), S("A", seq=1, data=b"hello"),
    S("A", seq=1, data=b"hello"))
seq("order-repeats_without_ack", "keep", opened(), S("A", data=b"hello"), S("", seq=1, data=b"hello"))
seq("order-repeats_with_more", "echo", opened(sackok=True), S("A", data=b"hello"), S("A"),
    S("A", seq=1, data=b"hello world"), S("A", seq=12))

# ---- windows of ours -----------------------------------------------------------------------------------------

seq("window-outside_right", "echo", opened(), S("A", seq=OUTSIDE, data=b"far"), S("A", data=b"near"), S("A"))
seq("window-far_left", "echo", opened(), S("A", seq=-OUTSIDE, data=b"far"), S("A", data=b"near"), S("A"))
seq("window-half_the_space_away", "echo", opened(), S("A", seq=(1 << 31) + 1, data=b"far"),
    S("A", data=b"near"), S("A"))
seq("window-fills", "deaf", opened(ws=7), Fill(), S("A", seq=Rel(-1)), S("A", data=b"x", seq=Rel(0)))
seq("window-fills_unscaled", "deaf", opened(), Fill(), S("A", seq=Rel(-1)))
seq("window-shut_rst_exact", "deaf", opened(), Fill(), S("R"), PROBE)
seq("window-shut_rst_ahead", "deaf", opened(), Fill(), S("R", seq=Rel(1)), PROBE)
seq("window-shut_fin", "deaf", opened(), Fill(), S("FA", seq=Rel(0)), PROBE)
seq("window-shut_data", "deaf", opened(), Fill(), S("A", seq=Rel(0), data=b"more"), S("A", seq=Rel(0), data=b"more"))
seq("window-shut_data_ahead", "deaf", opened(), Fill(), S("A", seq=Rel(5), data=b"more"))
seq("window-shut_probe_byte", "deaf", opened(), Fill(), S("A", seq=Rel(0), data=b"1"), S("A", seq=Rel(0), data=b"1"))
seq("window-shut_old_data", "deaf", opened(), Fill(), S("A", seq=Rel(-100), data=b"f" * 100))
seq("window-opens", "late", opened(), Fill(settle=0.01), Wait(2), S("A", data=b"more"))
seq("window-opens_scaled", "late", opened(ws=3), Fill(settle=0.01), Wait(2), S("A", data=b"more"))
seq("window-unread_close", "unread", opened(), S("A", data=b"hello"), PROBE)

# ---- the peer's window ---------------------------------------------------------------------------------------

seq("peer_window-0_then_open", "bulk", opened(wnd=0), go(0), S("A", wnd=2920), Drink())
seq("peer_window-one_segment_and_a_bit", "bulk", opened(wnd=2000), go(2000), S("A", wnd=2000))
seq("peer_window-one_segment", "bulk", opened(wnd=1460), go(1460), S("A", wnd=1460), S("A", wnd=1460))
seq("peer_window-half_segments", "bulk", opened(wnd=730), go(730), S("A", wnd=730), S("A", wnd=730))
seq("peer_window-shrinks", "bulk", opened(wnd=5840), go(5840), S("A", ack=1461, wnd=1460, settle=QUICK),
    S("A", ack=1461, wnd=8760, settle=QUICK))
seq("peer_window-shrinks_by_the_same_numbers", "bulk", opened(), go(1460), S("A", wnd=1460))
seq("peer_window-shut_with_data_in_flight", "bulk", opened(wnd=2920), go(2920), S("A", wnd=0), S("A", wnd=2920))
seq("peer_window-scaled", "bulk", opened(ws=4), go(65535), S("A", wnd=8000), Drink())
seq("peer_window-scaled_small", "bulk", opened(wnd=365, ws=4), go(365), S("A", wnd=365), S("A", wnd=8000), Drink())
seq("peer_window-scale_14", "bulk", opened(wnd=1, ws=14), go(1), S("A", wnd=1), Drink())
seq("peer_window-unscaled_in_syn", "greet", S("S", mss=1460, ws=7, wnd=5), S("A", wnd=5), S("A", wnd=5))
seq("peer_window-update_by_old_seq", "bulk", opened(wnd=0), go(0), S("A", seq=1, wnd=2920), S("A", wnd=2920))
seq("peer_window-update_by_old_ack", "bulk", opened(wnd=1460), go(1460), S("A", ack=1461, wnd=0),
    S("A", ack=1, wnd=65535), S("A", ack=1461, wnd=1460))
seq("peer_window-zero_and_fin", "half", opened(wnd=0), S("FA", wnd=0), S("A", wnd=100), S("A", wnd=100), PROBE)
seq("peer_window-fin_at_zero", "shut", opened(wnd=0), S("A", data=b"x", wnd=0), S("A", wnd=0), S("A", wnd=10), PROBE)
seq("peer_window-probe", "greet", S("S", mss=1460, wnd=0), S("A", wnd=0), Wait(0.5), S("A", wnd=20))
seq("peer_window-bulk", "bulk", opened(), go(), Drink(), S("A"))
seq("peer_window-bulk_timestamps", "bulk", timestamps(sackok=True, ws=7), go(), Drink(), S("A"))

# ---- acknowledgments of data of ours -------------------------------------------------------------------------
# The peer's window is five segments, so that the first congestion windows are no bound.

FIVE = 5 * 1460


def five(*steps, **options):
    for step in steps:
        step.wnd, step.settle = FIVE, QUICK
    return [*opened(wnd=FIVE, **options), go(FIVE), *steps]


seq("acks-partial", "bulk", five(S("A", ack=1461), S("A", ack=2921), S("A", ack=7301)))
seq("acks-inside_a_segment", "bulk", five(S("A", ack=701), S("A", ack=1461)))
seq("acks-byte_by_byte", "greet", S("S", mss=1460), S("A"), *(S("A", ack=i, settle=QUICK) for i in range(2, 12)), PROBE)
seq("acks-of_unsent", "bulk", five(S("A", ack=19000), S("A", ack=1461)))
seq("acks-beyond_all", "greet", S("S", mss=1460), S("A"), S("A", ack=12), S("A", ack=11), PROBE)
seq("acks-old", "bulk", five(S("A", ack=7301), S("A", ack=1461), S("A", ack=1), S("A", ack=14601)))
FIRST = S("A", ack=1461)
seq("acks-two_duplicates", "bulk", five(FIRST, FIRST, FIRST, S("A", ack=2921)), shows_repeats=True)
seq("acks-three_duplicates", "bulk", five(FIRST, FIRST, FIRST, FIRST, S("A", ack=8761)), shows_repeats=True)
seq("acks-three_duplicates_then_partial", "bulk", five(FIRST, FIRST, FIRST, FIRST, S("A", ack=2921), S("A", ack=8761)),
    shows_repeats=True)
seq("acks-three_duplicates_with_data", "bulk", five(FIRST, *(S("A", ack=1461, data=b"d") for _ in range(3)),
    S("A", ack=8761)), shows_repeats=True)
seq("acks-first_duplicate_behind_data", "bulk", five(*(S("A", ack=1) for _ in range(3)), S("A", ack=7301)),
    shows_repeats=True)
seq("acks-three_sacks", "bulk", five(*(S("A", ack=1, sack=((1461, 1461 + 1460 * i),))
    for i in range(1, 4)), S("A", ack=7301), sackok=True), shows_repeats=True)
seq("acks-one_sack_of_three", "bulk", five(S("A", ack=1, sack=((1461, 5841),)), S("A", ack=7301),
    sackok=True), shows_repeats=True)
seq("acks-sack_of_unsent", "bulk", five(S("A", ack=1461, sack=((50000, 60000),)), sackok=True))
seq("acks-sack_below_una", "bulk", five(S("A", ack=2921, sack=((1, 1461),)), sackok=True))
seq("acks-sack_backwards", "bulk", five(S("A", ack=1461, sack=((4381, 2921),)), sackok=True))
seq("acks-sack_not_agreed", "bulk", five(S("A", ack=1461, sack=((2921, 4381),))))
seq("acks-on_repeated_data", "bulk", five(S("A", seq=1, data=b"go")))
seq("acks-on_half_of_it", "bulk", five(S("A", seq=2, data=b"o"), S("A", seq=1, ack=14601, data=b"g")))
seq("acks-on_repeats_are_no_duplicates", "bulk", five(*(S("A", seq=1, ack=1, data=b"go") for _ in range(4)),
    S("A", ack=7301)), shows_repeats=True)
seq("acks-with_data_each", "echo", opened(), *(S("A", data=b"ping") for _ in range(4)), S("A"))
seq("acks-stale", "echo", opened(), S("A", data=b"ping"), S("A", ack=1, data=b"pong"), S("A"), PROBE)

# ---- SACK of ours --------------------------------------------------------------------------------------------


def islands(*at, length=4):
    return [S("A", seq=i, data=b"i" * length) for i in at]


seq("sack-one_block", "keep", opened(sackok=True), islands(11))
seq("sack-latest_first", "keep", opened(sackok=True), islands(11, 21, 31))
seq("sack-four_of_five", "keep", opened(sackok=True), islands(11, 21, 31, 41, 51))
seq("sack-three_with_timestamps", "keep", timestamps(sackok=True), islands(11, 21, 31, 41, 51))
seq("sack-descending", "keep", opened(sackok=True), islands(51, 41, 31, 21, 11))
seq("sack-block_grows", "keep", opened(sackok=True), islands(11, 31, 15, 35, 27))
seq("sack-blocks_join", "keep", opened(sackok=True), islands(11, 19, 31, 15))
seq("sack-first_hole_filled", "keep", opened(sackok=True), islands(11, 21), S("A", seq=1, data=b"h" * 10), PROBE)
seq("sack-hole_half_filled", "keep", opened(sackok=True), islands(11, 21), S("A", seq=1, data=b"h" * 5), PROBE)
seq("sack-all_filled", "keep", opened(sackok=True), islands(5, 13), S("A", seq=1, data=b"h" * 4),
    S("A", seq=9, data=b"h" * 4), PROBE)
seq("sack-pure_ack_between", "keep", opened(sackok=True), islands(11), S("A", seq=1), S("A", seq=15), PROBE)
seq("sack-fin_in_the_block", "keep", opened(sackok=True), S("FA", seq=11, data=b"end"), PROBE)
seq("sack-bare_fin", "keep", opened(sackok=True), S("FA", seq=11), PROBE)
seq("sack-bare_fin_again", "keep", opened(sackok=True), S("FA", seq=11), S("FA", seq=11), PROBE)
seq("sack-fin_in_the_block_again", "keep", opened(sackok=True), S("FA", seq=11, data=b"end"),
    S("FA", seq=11, data=b"end"), S("FA", seq=14), PROBE)
seq("sack-data_up_to_the_fin", "keep", opened(sackok=True), S("FA", seq=11), S("A", seq=5, data=b"567890"), PROBE)
seq("sack-fin_behind_the_last", "keep", opened(sackok=True), islands(11, 21), S("FA", seq=25), islands(15), PROBE)
seq("sack-fin_and_four", "keep", opened(sackok=True), S("FA", seq=61), islands(11, 21, 31, 41, 51),
    S("FA", seq=61), PROBE)
seq("sack-not_agreed", "keep", opened(), islands(11, 21))
seq("sack-across_the_wrap", "keep", opened(sackok=True), islands(5, 15), isn=0xfffffff4)
seq("sack-echo_while_holes", "echo", opened(sackok=True), S("A", seq=1, data=b"one"), S("A", seq=8, data=b"three"),
    S("A", seq=13))
seq("dsack-of_old_data", "keep", opened(sackok=True), S("A", data=b"0123456789"), S("A", seq=1, data=b"0123456789"))
seq("dsack-of_part", "keep", opened(sackok=True), S("A", data=b"0123456789"), S("A", seq=6, data=b"5678"))
seq("dsack-old_and_new", "keep", opened(sackok=True), S("A", data=b"01234"), S("A", seq=1, data=b"0123456789"))
seq("dsack-of_a_block", "keep", opened(sackok=True), islands(11, 11))
seq("dsack-of_part_of_a_block", "keep", opened(sackok=True), islands(11, length=10), S("A", seq=13, data=b"iii"))
seq("dsack-with_blocks", "keep", opened(sackok=True), S("A", data=b"0123456789"), islands(21),
    S("A", seq=1, data=b"01234"))
seq("dsack-over_the_right", "keep", opened(sackok=True), islands(11), S("A", seq=13, data=b"iiii"))
seq("dsack-over_a_block_behind", "keep", opened(sackok=True), islands(11, 16), S("A", seq=15, data=b"iiiiii"))
seq("dsack-refused_by_paws", "keep", timestamps(sackok=True), S("A", ts=100, data=b"0123456789"),
    S("A", seq=1, ts=50, data=b"0123456789"))
seq("dsack-not_agreed", "keep", opened(), S("A", data=b"0123456789"), S("A", seq=1, data=b"0123456789"))
seq("dsack-with_timestamps", "keep", timestamps(sackok=True), S("A", data=b"0123456789"),
    S("A", seq=1, data=b"0123456789"))
seq("dsack-of_a_fin", "keep", opened(sackok=True), S("FA"), S("FA", seq=1))

# ---- timestamps ----------------------------------------------------------------------------------------------

for wrap in (0, 0xefffff80):  # of the timestamp clock
    word = "wrap" if wrap else "plain"
    seq(f"paws-{word}-data_older", "echo", timestamps(), S("A", ts=100, data=b"new"), S("A", ts=101),
        S("A", ts=50, data=b"old"), S("A", ts=102, data=b"next"), S("A", ts=103), clock=wrap)
    seq(f"paws-{word}-data_same", "echo", timestamps(), S("A", ts=100, data=b"one"), S("A", ts=100, data=b"two"),
        S("A", ts=100), clock=wrap)
    seq(f"paws-{word}-ack_older", "echo", timestamps(), S("A", ts=200, data=b"one"), S("A", ts=150),
        S("A", ts=201, seq=3),
        clock=wrap)
    seq(f"paws-{word}-rst_older", "keep", timestamps(), S("A", ts=200, data=b"one"), S("R", ts=100),
        S("A", ts=201, seq=3),
        clock=wrap)
    seq(f"paws-{word}-fin_older", "keep", timestamps(), S("A", ts=200, data=b"one"), S("FA", seq=4, ts=100),
        S("A", ts=201, seq=3), clock=wrap)
    seq(f"paws-{word}-syn_older", "keep", timestamps(), S("A", ts=200, data=b"one"), S("S", seq=4, ts=100, mss=1460),
        S("A", ts=201, seq=3), clock=wrap)
    seq(f"paws-{word}-far_jump", "echo", timestamps(), S("A", ts=1 << 30, data=b"one"), S("A", ts=1 << 30, data=b"two"),
        S("A", ts=1 << 30), clock=wrap)
    seq(f"paws-{word}-half_the_space", "echo", timestamps(), S("A", ts=1 << 31, data=b"one"), S("A", ts=60), clock=wrap)
seq("timestamps-missing_on_data", "echo", timestamps(), S("A", ts=None, data=b"none"), S("A"))
seq("timestamps-missing_on_ack", "greet", S("S", mss=1460, ts=0), S("A", ts=20), S("A", ts=None), S("A", seq=0))
seq("timestamps-missing_on_rst", "keep", timestamps(), S("R", ts=None), PROBE)
seq("timestamps-missing_on_fin", "keep", timestamps(), S("FA", ts=None), PROBE)
seq("timestamps-missing_on_keepalive", "keep", timestamps(), S("A", seq=0, ts=None))
seq("timestamps-echo_of_in_order", "keep", timestamps(), S("A", ts=100, data=b"a"), S("A", ts=110, data=b"b"))
seq("timestamps-echo_while_hole", "keep", timestamps(sackok=True), S("A", ts=100, data=b"aaaa"),
    S("A", seq=9, ts=110, data=b"cccc"), S("A", seq=13, ts=120, data=b"dddd"), S("A", seq=5, ts=130, data=b"bbbb"))
seq("timestamps-echo_of_old_segment", "keep", timestamps(), S("A", ts=100, data=b"aaaa"),
    S("A", seq=1, ts=110, data=b"aaaa"))
seq("timestamps-echo_outside", "keep", timestamps(), S("A", seq=OUTSIDE, ts=100, data=b"aaaa"),
    S("A", ts=110, data=b"bbbb"))
seq("timestamps-unaligned", "echo", timestamps(),
    S("A", raw=b"\x08\x0a\x10\0\1\0" + b"\0" * 4 + b"\1\1", data=b"hi"), S("A"))
seq("timestamps-on_rst_of_ours", "abort", timestamps(), S("A", data=b"x"))
seq("timestamps-in_close_wait", "keep", timestamps(), S("FA"), S("A", seq=0))
seq("timestamps-echo_wrong", "greet", S("S", mss=1460, ts=0), S("A"), S("A", tsecr=12345), S("A", seq=0))

# ---- closing -------------------------------------------------------------------------------------------------

seq("close-peer_first", "discard", opened(), S("FA"), S("A"), PROBE)
seq("close-peer_first_with_data", "echo", opened(), S("FA", data=b"bye"), S("A"), PROBE)
seq("close-peer_first_fin_again_acks_ours", "discard", opened(), S("FA"), S("FA", seq=1), S("A"), PROBE)
seq("close-server_first", "shut", FIN_WAIT_1, S("A"), S("FA"), PROBE)
seq("close-server_first_fin_acks", "shut", FIN_WAIT_1, S("FA"), PROBE)
seq("close-simultaneous_fin_again_acks_ours", "shut", FIN_WAIT_1, S("FA", ack=1), S("FA", seq=2, ack=2), PROBE)
seq("close-simultaneous", "shut", FIN_WAIT_1, S("FA", ack=1), S("A", ack=2), PROBE)
seq("close-at_once", "shut_open", S("S", mss=1460), S("A"), S("A"), S("FA"), PROBE)
seq("close-data_in_fin_wait_1", "shut", FIN_WAIT_1, S("A", ack=1, data=b"more"), S("A"), PROBE)
seq("close-data_in_fin_wait_2", "shut", FIN_WAIT_1, S("A"), S("A", data=b"more"), S("FA"), PROBE)
seq("close-data_and_fin_in_fin_wait_2", "shut", FIN_WAIT_1, S("A"), S("FA", data=b"more"), PROBE)
seq("close-disorder_in_fin_wait_2", "shut", FIN_WAIT_1, S("A"), S("FA", seq=6), S("A", seq=2, data=b"more"), PROBE)
seq("close-half_close_of_peer", "half", opened(), S("FA"), S("A"), PROBE)
seq("close-half_close_of_peer_with_data", "half", opened(), S("FA", data=b"request"), S("A"), PROBE)
seq("close-data_after_fin", "keep", opened(), S("FA"), S("A", data=b"more"), PROBE)
seq("close-data_after_fin_in_last_ack", "discard", opened(), S("FA"), S("A", ack=1, data=b"more"), S("A"), PROBE)
seq("close-fin_with_other_data_again", "keep", opened(), S("FA", data=b"bye"), S("FA", seq=1, data=b"BYE"), PROBE)
seq("close-fin_again_longer", "keep", opened(), S("FA"), S("FA", seq=1, data=b"more"), PROBE)
seq("close-released_data", "close", opened(), S("A", data=b"x"), S("A", data=b"more"), PROBE)
seq("close-released_data_unacked_fin", "close", opened(), S("A", data=b"x"), S("A", ack=1, data=b"more"), PROBE)
seq("close-released_fin", "close", opened(), S("A", data=b"x"), S("A"), S("FA"), PROBE)
seq("close-released_old_data", "close", opened(), S("A", data=b"x"), S("A"), S("A", seq=1, data=b"x"), S("FA"), PROBE)
seq("close-released_bare_acks", "close", opened(), S("A", data=b"x"), S("A"), S("A"), PROBE)
seq("close-abort", "abort", opened(), S("A", data=b"x"), S("A", data=b"more"), PROBE)
seq("close-abort_then_syn", "abort", opened(), S("A", data=b"x"), S("S", seq=10, mss=1460))
seq("close-rst_while_data_in_flight", "bulk", opened(), go(), S("R"), PROBE)
seq("close-fin_while_data_in_flight", "bulk", opened(), go(), S("FA"), Drink(), PROBE)

# ---- TIME_WAIT and its reuse ---------------------------------------------------------------------------------

TIME_WAIT = [*FIN_WAIT_1, S("A"), S("FA")]
TIME_WAIT_TS = [*timestamps(), S("A", data=b"x"), S("A"), S("FA", ts=500)]
seq("reuse-syn_beyond", "shut", TIME_WAIT, S("S", seq=1000, mss=1460), S("A", seq=1001), S("A", seq=1001, data=b"y"))
seq("reuse-syn_next", "shut", TIME_WAIT, S("S", seq=3, mss=1460), S("A", seq=4))
seq("reuse-syn_one_beyond", "shut", TIME_WAIT, S("S", seq=4, mss=1460), S("A", seq=5))
seq("reuse-syn_below", "shut", TIME_WAIT, S("S", seq=-1000, mss=1460), PROBE)
seq("reuse-syn_same", "shut", TIME_WAIT, S("S", seq=0, mss=1460), PROBE)
seq("reuse-ts_newer_seq_below", "shut", TIME_WAIT_TS, S("S", seq=-1000, mss=1460, ts=2000), S("A", seq=-999, ts=2001))
seq("reuse-ts_newer_seq_beyond", "shut", TIME_WAIT_TS, S("S", seq=1000, mss=1460, ts=2000), S("A", seq=1001, ts=2001))
seq("reuse-ts_same_seq_beyond", "shut", TIME_WAIT_TS, S("S", seq=1000, mss=1460, ts=500), S("A", seq=1001, ts=2001))
seq("reuse-ts_same_seq_below", "shut", TIME_WAIT_TS, S("S", seq=-1000, mss=1460, ts=500), PROBE)
seq("reuse-ts_older_seq_beyond", "shut", TIME_WAIT_TS, S("S", seq=1000, mss=1460, ts=100), PROBE)
seq("reuse-ts_older_seq_below", "shut", TIME_WAIT_TS, S("S", seq=-1000, mss=1460, ts=100), PROBE)
seq("reuse-ts_gone_seq_beyond", "shut", TIME_WAIT_TS, S("S", seq=1000, mss=1460, ts=None), S("A", seq=1001, ts=None))
seq("reuse-ts_gone_seq_below", "shut", TIME_WAIT_TS, S("S", seq=-1000, mss=1460, ts=None), PROBE)
seq("reuse-ts_new_seq_beyond", "shut", TIME_WAIT, S("S", seq=1000, mss=1460, ts=5), S("A", seq=1001))
seq("reuse-ts_new_seq_below", "shut", TIME_WAIT, S("S", seq=-1000, mss=1460, ts=5), S("A", seq=-999))
seq("time_wait-fin_again_ts", "shut", TIME_WAIT_TS, S("FA", seq=2, ts=600), PROBE)
seq("time_wait-fin_again_old_ts", "shut", TIME_WAIT_TS, S("FA", seq=2, ts=300), PROBE)
seq("time_wait-data_ts", "shut", TIME_WAIT_TS, S("A", ts=600, data=b"late"), PROBE)
seq("time_wait-old_data_ts", "shut", TIME_WAIT_TS, S("A", seq=1, ts=30, data=b"x"), PROBE)
seq("time_wait-ack_exact_ts", "shut", TIME_WAIT_TS, S("A", ts=600))
seq("time_wait-ack_exact_then_older_syn", "shut", TIME_WAIT_TS, S("A", ts=600), S("S", seq=1000, mss=1460, ts=550),
    PROBE)
seq("time_wait-rst_exact_ts", "shut", TIME_WAIT_TS, S("R", ts=600), PROBE)
seq("time_wait-rst_then_syn", "shut", TIME_WAIT, S("R"), S("S", seq=1000, mss=1460))
seq("time_wait-after_simultaneous", "shut", FIN_WAIT_1, S("FA", ack=1), S("A", ack=2), S("FA", seq=2), PROBE)
seq("last_ack-acked_then_syn", "discard", opened(), S("FA"), S("A"), S("S", seq=100, mss=1460), S("A", seq=101))

# ---- urgent data ---------------------------------------------------------------------------------------------

for name, pointer in (("0", 0), ("1", 1), ("at_the_end", 5), ("beyond", 50), ("max", 65535)):
    seq(f"urgent-{name}", "echo", opened(), S("AU", data=b"hello", urg=pointer), S("A"), S("A", data=b"more"), S("A"))
seq("urgent-without_data", "echo", opened(), S("AU", urg=1), S("A", data=b"hello"), S("A"))
seq("urgent-pointer_without_flag", "echo", opened(), S("A", data=b"hello", urg=3), S("A"))
seq("urgent-out_of_order", "echo", opened(), S("AU", seq=6, data=b"world", urg=2), S("A", seq=1, data=b"hello"),
    S("A", seq=11))
seq("urgent-fin", "discard", opened(), S("FAU", data=b"hello", urg=2), S("A"))
