-- SPDX-License-Identifier: BSD-3-Clause
-- The simple Internet mix, seven datagrams of 64 bytes to four of 594 and one of 1518, through the echo service.
package.path = (os.getenv("BW_SCRIPTS") or "scripts/pktgen") .. "/?.lua;" .. package.path
require "Pktgen"
local bw = require "barewire"

bw.setup()
local packets = {}
for size, count in pairs { [64] = 7, [594] = 4, [1518] = 1 } do
	for _ = 1, count do
		packets[#packets + 1] = { bw.own, 4000 + #packets, "udp", 7, size }
	end
end
bw.sequence(packets)
local tx, rx = bw.run(bw.rate, bw.seconds)
printf("RESULT mix: %d sent, %d came back (%.3f %%)\n", tx, rx, bw.percent(rx, tx))
pktgen.quit()
