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
