-- SPDX-License-Identifier: BSD-3-Clause
-- Fifteen SYNs from as many addresses to each datagram to the echo service: what of these comes back beside the flood? They
-- are told from SYN-ACKs by their size. Port 8080 has to be open (barewire serve --http 8080).
package.path = (os.getenv("BW_SCRIPTS") or "scripts/pktgen") .. "/?.lua;" .. package.path
require "Pktgen"
local bw = require "barewire"

bw.setup()
local packets = { { bw.own, 4000, "udp", 7, 300 } }
for i = 1, 15 do
	packets[#packets + 1] = { "10.7.0." .. i, 5000 + i, "tcp", 8080, 64 }
end
bw.sequence(packets)
local function echoes()
	return pktgen.portSizes(bw.port)[tonumber(bw.port)]._256_511
end
local before = echoes()
local tx, rx = bw.run(bw.rate, bw.seconds)
local sent, back = tx // #packets, echoes() - before
printf("RESULT flood: %d packets sent, %d of all came back; %d datagrams among them, %d echoed (%.2f %%)\n", tx, rx, sent,
	back, bw.percent(back, sent))
pktgen.quit()
