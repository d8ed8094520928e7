# SPDX-License-Identifier: BSD-3-Clause
"""Sequences about ECN (RFC 3168), apart from the others so that they can be judged by themselves. The kernel takes ECN
when it is asked for it (tcp_ecn 2, its default)."""

from peer import Drink, S, Sequence

NOT_ECT, ECT1, ECT0, CE = range(4)
SEQUENCES = []


def seq(name, server, *steps, **options):
    flat = []
    for step in steps:
        flat += step if isinstance(step, list) else [step]
    SEQUENCES.append(Sequence(f"ecn-{name}", server, flat, **options))


def asked(wnd=65535):
    """A handshake that asks for ECN (RFC 3168 6.1.1)."""
    return [S("SEC", mss=1460, wnd=wnd), S("A", wnd=wnd, settle=0.1)]


def plain():
    return [S("S", mss=1460), S("A", settle=0.1)]


seq("syn_asks", "keep", S("SEC", mss=1460), S("A"))
seq("syn_with_ece_only", "keep", S("SE", mss=1460), S("A"))
seq("syn_with_cwr_only", "keep", S("SC", mss=1460), S("A"))
seq("syn_asks_in_ect0", "keep", S("SEC", mss=1460, tos=ECT0), S("A"))
seq("syn_asks_in_ce", "keep", S("SEC", mss=1460, tos=CE), S("A"))
seq("syn_asks_again_without", "keep", S("SEC", mss=1460), S("S", seq=0, mss=1460), S("A"))
seq("syn_asks_again", "keep", S("SEC", mss=1460), S("SEC", seq=0, mss=1460), S("A"))
seq("syn_plain_then_asks", "keep", S("S", mss=1460), S("SEC", seq=0, mss=1460), S("A"))
seq("syn_to_closed_port", "nobody", S("SEC", seq=0, mss=1460))
seq("ece_on_the_handshakes_ack", "greet", S("SEC", mss=1460), S("AE"), S("A"))
seq("data_is_ect", "echo", asked(), S("A", data=b"hello", tos=ECT0), S("A"))
seq("data_not_ect", "echo", asked(), S("A", data=b"hello"), S("A"))
seq("data_ce", "echo", asked(), S("A", data=b"hello", tos=CE), S("A"), S("A", data=b"again", tos=ECT0), S("A"))
seq("data_ce_until_cwr", "keep", asked(), S("A", data=b"one", tos=CE), S("A", data=b"two", tos=ECT0),
    S("AC", data=b"three", tos=ECT0), S("A", data=b"four", tos=ECT0))
seq("data_ce_with_cwr", "keep", asked(), S("A", data=b"one", tos=CE), S("AC", data=b"two", tos=CE),
    S("AC", data=b"three", tos=ECT0))
seq("data_ce_ect1", "keep", asked(), S("A", data=b"one", tos=ECT1), S("A", data=b"two", tos=CE))
seq("ack_ce", "keep", asked(), S("A", tos=CE), S("A", data=b"one", tos=ECT0))
seq("out_of_window_ce", "keep", asked(), S("A", seq=1 << 20, data=b"far", tos=CE), S("A", data=b"one", tos=ECT0))
seq("old_data_ce", "keep", asked(), S("A", data=b"one", tos=ECT0), S("A", seq=1, data=b"one", tos=CE),
    S("A", data=b"two", tos=ECT0))
seq("out_of_order_ce", "keep", asked(), S("A", seq=4, data=b"two", tos=CE), S("A", seq=1, data=b"one", tos=ECT0))
seq("fin_ce", "keep", asked(), S("FA", tos=CE), S("A", seq=1))
seq("cwr_without_ce", "keep", asked(), S("AC", data=b"one", tos=ECT0), S("A", data=b"two", tos=ECT0))
seq("bulk_is_ect", "bulk", asked(), S("A", data=b"go", tos=ECT0), Drink())
seq("bulk_ece_then_cwr", "bulk", asked(wnd=7300), S("A", data=b"go", tos=ECT0, wnd=7300, settle=0.05),
    S("AE", ack=1461, wnd=7300, settle=0.05), S("A", ack=7301, wnd=7300, settle=0.05), S("A", wnd=7300))
seq("repeat_is_not_ect", "bulk", asked(wnd=7300), S("A", data=b"go", tos=ECT0, wnd=7300, settle=0.05),
    *(S("A", ack=1461, wnd=7300, settle=0.05) for _ in range(4)), S("A", ack=8761, wnd=7300, settle=0.05),
    shows_repeats=True)
seq("fin_of_ours", "shut", asked(), S("A", data=b"x", tos=ECT0), S("A"), S("FA"))
seq("not_asked_data_ce", "echo", plain(), S("A", data=b"hello", tos=CE), S("A"))
seq("not_asked_ece", "bulk", plain(), S("AE", data=b"go"), Drink())
seq("not_asked_cwr", "echo", plain(), S("AC", data=b"hello"), S("A"))

# ---- not yet -----------------------------------------------------------------------------------------------------
# As in differences.py. Barewire does not agree to ECN, which RFC 3168 6.1.1 leaves to every host.

DIFFERENCES = {
    "ecn-syn_asks": ["1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460"],
    "ecn-syn_asks_again_without": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "2: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
    ],
    "ecn-syn_asks_again": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "2: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
    ],
    "ecn-ece_on_the_handshakes_ack": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "2: A seq=1 ack=1 len=10 0123456789 ip_ecn=2 <> A seq=1 ack=1 len=10 0123456789",
    ],
    "ecn-data_is_ect": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "3: A seq=1 ack=6 len=5 hello ip_ecn=2 <> A seq=1 ack=6 len=5 hello",
    ],
    "ecn-data_not_ect": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "3: A seq=1 ack=6 len=5 hello ip_ecn=2 <> A seq=1 ack=6 len=5 hello",
    ],
    "ecn-data_ce": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "3: AE seq=1 ack=6 | AE seq=1 ack=6 len=5 hello ip_ecn=2 <> A seq=1 ack=6 len=5 hello",
        "5: AE seq=6 ack=11 len=5 again ip_ecn=2 <> A seq=6 ack=11 len=5 again",
    ],
    "ecn-data_ce_until_cwr": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "3: AE seq=1 ack=4 <> A seq=1 ack=4",
        "4: AE seq=1 ack=7 <> A seq=1 ack=7",
    ],
    "ecn-data_ce_with_cwr": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "3: AE seq=1 ack=4 <> A seq=1 ack=4",
        "4: AE seq=1 ack=7 <> A seq=1 ack=7",
    ],
    "ecn-data_ce_ect1": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "4: AE seq=1 ack=7 <> A seq=1 ack=7",
    ],
    "ecn-ack_ce": ["1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460"],
    "ecn-out_of_window_ce": ["1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460"],
    "ecn-old_data_ce": ["1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460"],
    "ecn-out_of_order_ce": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "3: AE seq=1 ack=1 <> A seq=1 ack=1",
        "4: AE seq=1 ack=7 <> A seq=1 ack=7",
    ],
    "ecn-fin_ce": ["1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460"],
    "ecn-cwr_without_ce": ["1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460"],
    "ecn-bulk_is_ect": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "3: A seq=1 ack=3 len=14600 crc=3452e0b8 ip_ecn=2 <> A seq=1 ack=3 len=14600 crc=3452e0b8",
        "4: A seq=14601 ack=3 len=5400 crc=2a06eff9 ip_ecn=2 <> A seq=14601 ack=3 len=5400 crc=2a06eff9",
    ],
    "ecn-bulk_ece_then_cwr": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "3: A seq=1 ack=3 len=7300 crc=12cc636d ip_ecn=2 <> A seq=1 ack=3 len=7300 crc=12cc636d",
        "4: AC seq=7301 ack=3 len=1460 crc=6aeee9a7 ip_ecn=2 <> A seq=7301 ack=3 len=1460 crc=6aeee9a7",
        "5: A seq=8761 ack=3 len=5840 crc=58df1485 ip_ecn=2 <> A seq=8761 ack=3 len=5840 crc=58df1485",
        "6: A seq=14601 ack=3 len=5400 crc=2a06eff9 ip_ecn=2 <> A seq=14601 ack=3 len=5400 crc=2a06eff9",
    ],
    "ecn-repeat_is_not_ect": [
        "1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460",
        "3: A seq=1 ack=3 len=7300 crc=12cc636d ip_ecn=2 <> A seq=1 ack=3 len=7300 crc=12cc636d",
        "4: A seq=7301 ack=3 len=1460 crc=6aeee9a7 ip_ecn=2 <> A seq=7301 ack=3 len=1460 crc=6aeee9a7",
        "8: AC seq=8761 ack=3 len=1460 crc=f335c888 ip_ecn=2 | A seq=10221 ack=3 len=4380 crc=fbf938ba ip_ecn=2"
        " <> A seq=8761 ack=3 len=2920 crc=eb7e7d69",
    ],
    "ecn-fin_of_ours": ["1: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460"],
}
