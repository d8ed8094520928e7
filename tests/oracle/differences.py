# SPDX-License-Identifier: BSD-3-Clause
"""Where Barewire's answers are not the kernel's, and the RFC that says so. The one list of them.

The kernel is Linux 6.18, with its defaults. A line is a step of the sequence, the first being 1, what the kernel
answers, and what Barewire does. It holds over IPv4 and IPv6. A test fails on a difference that is not listed, and on
one that is listed and gone. ORACLE_FOUND=FILE pytest tests/oracle writes all that were found, to edit this by.
"""

REASONS = {
    "synchronized":
        "RFC 9293 3.10.7.4 sends a SYN-RECEIVED connection of a passive open back to LISTEN for a SYN in its "
        "window, and the kernel answers RST besides. A forged SYN would then end any handshake, so ours is "
        "challenged as RFC 5961 4.2 has it for the states behind (\"irrespective of the sequence number, TCP MUST "
        "send an ACK\"): a peer that has really begun anew answers with the exact RST.",
    "sequence_first":
        "RFC 9293 3.10.7.4: \"First, check sequence number\", and what is not acceptable is answered by an ACK; its "
        "ACK number is looked at fifth. The kernel looks at the ACK number first when the connection is half-open, "
        "and always at whether there is one.",
    "ack_range":
        "RFC 5961 5.2: \"acceptable only if it is in the range of ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT)\". "
        "The kernel's range does not begin before what was ever sent.",
    "rst_outside":
        "RFC 5961 3.2: \"If the RST bit is set and the sequence number is outside the current receive window, "
        "silently drop the segment\". The kernel takes the number of the peer's FIN, too, as some hosts send it.",
    "rst_in_time_wait":
        "RFC 1337 3 (F1): \"Ignore RST segments in TIME-WAIT state\". The kernel does so with tcp_rfc1337 only, which "
        "is off by default; RFC 9293 3.10.7.4 would delete the connection.",
    "mss_floor":
        "RFC 791 3.1: every host takes datagrams of 576 bytes, so no MSS under tcp.mss_min is believed: it only makes "
        "work. Here that is 64, the least. The kernel's floor is 48.",
    "unknown_option":
        "RFC 9293 3.1, MUST-6: \"ignore without error any TCP Option it does not implement\". RFC 2385 is not "
        "implemented here; the kernel knows it, and wants none where no key is set.",
    "echoed_timestamp":
        "RFC 7323 5.3 judges a segment by SEG.TSval alone; SEG.TSecr is for measuring (4.1). The kernel refuses the "
        "handshake's ACK when it echoes anything but a SYN-ACK's timestamp, that of its own ACK included.",
    "overlap":
        "RFC 9293 3.4: an octet has one number, so it is the same in every segment that has it, and any copy does. "
        "The first is kept here, the longer one by the kernel.",
    "two_fins":
        "RFC 9293 3.4: a number is that of one octet or control. Of a peer that finishes at two places the first "
        "word stands until the FIN comes in order; the kernel takes the place that is reached first.",
    "text_behind_fin":
        "RFC 9293 3.10.7.4, seventh, after a FIN: \"This should not occur since a FIN has been received from the "
        "remote side. Ignore the segment text.\" The kernel joins what lies behind the FIN to the stream where the "
        "FIN was, or resets.",
    "lingering_close":
        "RFC 9112 9.6: a server that has closed goes on reading for a while, or the reset destroys its last "
        "response on its way. RFC 9293 3.6.1 says SHOULD reset (SHLD-3), and the kernel does; here bw_tcp_abort() "
        "does.",
    "silly_window":
        "RFC 9293 3.8.6.2.1: less than a segment goes out if it is all, or at least half of the largest window. The "
        "kernel fills the window to the last byte when Nagle is off.",
    "window_update":
        "RFC 9293 3.10.7.4, fifth: \"SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK\" sets the window. The kernel takes a "
        "larger one only, when both numbers are the same.",
    "fin_at_zero":
        "RFC 9293 3.1: the window is \"the number of data octets\", and a FIN is none; its ACK is as good an answer "
        "as one to a probe. The kernel counts its number and waits.",
    "flight_size":
        "RFC 9438 4.6: \"ssthresh = flight_size * beta\", and RFC 5681 3.2 for what is in flight. The kernel reduces "
        "cwnd, of which these five segments are half.",
    "duplicate_ack":
        "RFC 5681 2 (e): a duplicate has the window of the last ACK. The kernel takes any ACK behind new data for a "
        "window update, and waits for one more. And what was in flight counts, as in RFC 9438 4.6.",
    "repeated_fin":
        "RFC 9293 3.10.7.4, first: what is not acceptable is answered by an ACK, and the FIN has come before. The kernel "
        "leaves it out where that segment acknowledges its own FIN, and the peer has to wait for what it sends next.",
    "dsack_of_all":
        "RFC 2883 4: what came twice is reported, above the cumulative ACK, too. The kernel misses it where the "
        "segment continues one block and covers another.",
    "refused_by_paws":
        "RFC 7323 5.3, R1: a segment with an older timestamp is from another time, maybe from before the numbers "
        "wrapped, so it is no second copy (RFC 2883) of anything. The kernel reports it.",
    "newer_timestamp":
        "RFC 7323 4.3 (2): SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent: the repeated FIN's timestamp is "
        "recorded, which also keeps older SYNs from reuse (RFC 6191 2).",
    "new_timestamps":
        "RFC 6191 2: without timestamps before and with them now, \"honor the incoming connection request\". The "
        "kernel compares the sequence numbers.",
    "ecn_capable_syn":
        "RFC 8311 4.3 lets experiments send a SYN with an ECN-capable codepoint, and asks nobody to refuse ECN for it. "
        "The kernel holds to RFC 3168 6.1.1, whose SYN has none, and takes it for a broken path.",
    "ecn_not_asked_again":
        "RFC 3168 6.1.1.1: a host that has received a SYN without ECN after one with it answers without, as the first "
        "may have been lost for asking. The kernel answers as it did to the first.",
    "ecn_ack_of_a_mark":
        "RFC 3168 6.1.3 wants ECE on the ACKs that follow a mark, and no ACK more. The kernel sends one at once; ours "
        "goes with what the service answers in the same turn.",
    "ecn_reduction":
        "RFC 3168 6.1.2 has the window cut when ECE arrives; ours is, and what is in flight has to leave first. The "
        "kernel lets it sink over a round trip (RFC 9937 leaves that to losses).",
}

BY_REASON = {
    "synchronized": {
        "syn_received-syn_exact": ["2: RA seq=zero ack=2 <> A seq=1 ack=1", "3: R seq=1 <> A seq=1 ack=1"],
        "syn_received-syn_in_window": ["2: RA seq=zero ack=12 <> A seq=1 ack=1", "3: R seq=1 <> A seq=1 ack=1"],
        "syn_received-syn_ack": ["2: R seq=1 <> A seq=1 ack=1", "3: R seq=1 <> A seq=1 ack=1"],
        "syn_received-syn_fin": ["2: RA seq=zero ack=3 <> A seq=1 ack=1", "3: R seq=1 <> A seq=1 ack=1"],
        "handshake-other_syn_in_syn_received": [
            "2: RA seq=zero ack=5001 <> A seq=1 ack=1",
            "3: R seq=1 <> nothing",
        ],
    },
    "sequence_first": {
        "time_wait-syn_in_window": ["7: R seq=2 <> A seq=1 ack=14"],
        "time_wait-syn_outside": ["7: R seq=2 <> A seq=1 ack=1048580"],
        "order-repeats_without_ack": ["4: nothing <> A seq=1 ack=6"],
    },
    "ack_range": {
        "established-ack_a_little_old": ["3: A seq=1 ack=1 <> nothing"],
        "close_wait-ack_a_little_old": ["4: A seq=1 ack=2 <> nothing"],
        "last_ack-ack_a_little_old": ["4: A seq=2 ack=2 <> nothing"],
        "fin_wait_1-ack_a_little_old": ["4: A seq=2 ack=2 <> nothing"],
        "closing-ack_a_little_old": ["5: A seq=2 ack=3 <> nothing"],
    },
    "rst_outside": {
        "close_wait-rst_old": ["5: R seq=1 <> A seq=1 ack=2"],
        "last_ack-rst_old": ["5: R seq=1 <> A seq=2 ack=2"],
        "closing-rst_old": ["6: R seq=1 <> A seq=2 ack=3"],
    },
    "rst_in_time_wait": {
        "time_wait-rst_exact": ["7: R seq=2 <> A seq=2 ack=3"],
        "time_wait-rst_ack_exact": ["7: R seq=2 <> A seq=2 ack=3"],
        "time_wait-rst_with_data": ["7: R seq=2 <> A seq=2 ack=3"],
        "time_wait-rst_exact_ts": ["7: R seq=2 <> A seq=2 ack=3 echo=500"],
    },
    "mss_floor": {
        "options-mss_1": ["3: A seq=1 ack=3 len=480 crc=a66ae962 <> A seq=1 ack=3 len=640 crc=c6fc3391"],
        "options-mss_48": ["3: A seq=1 ack=3 len=480 crc=a66ae962 <> A seq=1 ack=3 len=640 crc=c6fc3391"],
    },
    "unknown_option": {
        "options-md5": [
            "1: nothing <> SA seq=0 ack=1 mss=1460",
            "2: R seq=0 <> nothing",
            "3: R seq=0 <> A seq=1 ack=3 len=14600 crc=3452e0b8",
        ],
    },
    "echoed_timestamp": {
        "handshake-ts_old_in_the_ack": [
            "3: A seq=1 ack=1 echo=100 <> nothing",
            "4: A seq=1 ack=1 echo=100 <> A seq=1 ack=1 echo=101",
        ],
        "handshake-ts_echo_wrong_in_the_ack": [
            "2: A seq=1 ack=1 echo=0 <> nothing",
            "3: A seq=1 ack=1 echo=0 <> A seq=1 ack=1 echo=20",
        ],
    },
    "overlap": {
        "overlap-plain-longer_same_left": [
            "5: A seq=1 ack=13 len=12 aaaabbbbbbbb <> A seq=1 ack=13 len=12 aaaaBBBBBbbb",
        ],
        "overlap-sack-longer_same_left": [
            "5: A seq=1 ack=13 len=12 aaaabbbbbbbb <> A seq=1 ack=13 len=12 aaaaBBBBBbbb",
        ],
    },
    "two_fins": {
        "order-fin_moves_left": ["5: FA seq=1 ack=6 len=4 1234 <> A seq=1 ack=5 len=4 1234"],
    },
    "text_behind_fin": {
        "order-data_behind_the_fin": [
            "5: FA seq=1 ack=10 len=8 12346789 <> FA seq=1 ack=6 len=4 1234",
            "6: A seq=10 ack=10 <> nothing",
        ],
        "close-fin_again_longer": ["4: R seq=1 <> A seq=1 ack=2", "5: R seq=1 <> A seq=1 ack=2"],
    },
    "lingering_close": {
        "window-unread_close": ["3: RA seq=1 ack=6 <> FA seq=1 ack=6", "4: R seq=1 <> A seq=2 ack=6"],
        "close-released_data": ["4: R seq=2 <> A seq=2 ack=6", "5: R seq=2 <> A seq=2 ack=6"],
        "close-released_data_unacked_fin": ["4: R seq=1 <> A seq=2 ack=6", "5: R seq=2 <> A seq=2 ack=6"],
    },
    "silly_window": {
        "peer_window-one_segment_and_a_bit": [
            "3: A seq=1 ack=3 len=2000 crc=65330def <> A seq=1 ack=3 len=1460 crc=49ea64b1",
            "4: A seq=2001 ack=3 len=2000 crc=980d35fb <> A seq=1461 ack=3 len=1460 crc=780b8fa1",
        ],
    },
    "window_update": {
        "peer_window-shrinks_by_the_same_numbers": [
            "3: A seq=1 ack=3 len=14600 crc=3452e0b8 <> A seq=1 ack=3 len=1460 crc=49ea64b1",
            "4: A seq=14601 ack=3 len=1460 crc=7acd41d9 <> A seq=1461 ack=3 len=1460 crc=780b8fa1",
        ],
    },
    "fin_at_zero": {
        "peer_window-fin_at_zero": ["3: A seq=1 ack=2 <> FA seq=1 ack=2", "5: FA seq=1 ack=2 <> nothing"],
    },
    "flight_size": {
        "acks-three_duplicates": [
            "8: A seq=8761 ack=3 len=5840 crc=58df1485 <> A seq=8761 ack=3 len=2920 crc=eb7e7d69",
        ],
        "acks-three_duplicates_then_partial": [
            "9: A seq=10221 ack=3 len=5840 crc=f7f67433 <> A seq=10221 ack=3 len=1460 crc=c3bef70d",
        ],
        "acks-three_sacks": [
            "7: A seq=7301 ack=3 len=7300 crc=5229385f <> A seq=7301 ack=3 len=4380 crc=161ac21a",
        ],
        "acks-one_sack_of_three": [
            "5: A seq=7301 ack=3 len=7300 crc=5229385f <> A seq=7301 ack=3 len=4380 crc=161ac21a",
        ],
    },
    "duplicate_ack": {
        "acks-first_duplicate_behind_data": [
            "6: nothing <> A seq=1 ack=3 len=1460 crc=49ea64b1",
            "7: A seq=7301 ack=3 len=7300 crc=5229385f <> A seq=7301 ack=3 len=2920 crc=8a525f6c",
        ],
    },
    "repeated_fin": {
        "close-simultaneous_fin_again_acks_ours": ["5: nothing <> A seq=2 ack=3"],
    },
    "dsack_of_all": {
        "dsack-over_a_block_behind": ["5: A seq=1 ack=1 sack=11-21 <> A seq=1 ack=1 sack=16-20,11-21"],
    },
    "refused_by_paws": {
        "dsack-refused_by_paws": ["4: A seq=1 ack=11 echo=100 sack=1-11 <> A seq=1 ack=11 echo=100"],
    },
    "newer_timestamp": {
        "time_wait-fin_again_ts": [
            "6: A seq=2 ack=3 echo=500 <> A seq=2 ack=3 echo=600",
            "7: A seq=2 ack=3 echo=500 <> A seq=2 ack=3 echo=600",
        ],
    },
    "new_timestamps": {
        "reuse-ts_new_seq_below": [
            "6: A seq=2 ack=3 <> SA seq=0 ack=-999 mss=1460 echo=5",
            "7: A seq=2 ack=3 <> nothing",
        ],
    },
    "ecn_capable_syn": {
        "ecn-syn_asks_in_ect0": ["1: SA seq=0 ack=1 mss=1460 <> SAE seq=0 ack=1 mss=1460"],
        "ecn-syn_asks_in_ce": ["1: SA seq=0 ack=1 mss=1460 <> SAE seq=0 ack=1 mss=1460"],
    },
    "ecn_not_asked_again": {
        "ecn-syn_asks_again_without": ["2: SAE seq=0 ack=1 mss=1460 <> SA seq=0 ack=1 mss=1460"],
    },
    "ecn_ack_of_a_mark": {
        "ecn-data_ce": [
            "3: AE seq=1 ack=6 | AE seq=1 ack=6 len=5 hello ip_ecn=2 <> AE seq=1 ack=6 len=5 hello ip_ecn=2",
        ],
    },
    "ecn_reduction": {
        "ecn-bulk_ece_then_cwr": [
            "4: AC seq=7301 ack=3 len=1460 crc=6aeee9a7 ip_ecn=2 <> nothing",
            "5: A seq=8761 ack=3 len=5840 crc=58df1485 ip_ecn=2 <> AC seq=7301 ack=3 len=1460 crc=6aeee9a7 ip_ecn=2"
            " | A seq=8761 ack=3 len=2920 crc=eb7e7d69 ip_ecn=2",
            "6: A seq=14601 ack=3 len=5400 crc=2a06eff9 ip_ecn=2 <> A seq=11681 ack=3 len=4380 crc=0d465da3 ip_ecn=2",
        ],
        "ecn-repeat_is_not_ect": [
            "8: AC seq=8761 ack=3 len=1460 crc=f335c888 ip_ecn=2 | A seq=10221 ack=3 len=4380 crc=fbf938ba ip_ecn=2"
            " <> AC seq=8761 ack=3 len=1460 crc=f335c888 ip_ecn=2 | A seq=10221 ack=3 len=1460 crc=c3bef70d ip_ecn=2",
        ],
    },
}

DIFFERENCES = {name: lines for entries in BY_REASON.values() for name, lines in entries.items()}
