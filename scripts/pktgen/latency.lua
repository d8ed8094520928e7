-- SPDX-License-Identifier: BSD-3-Clause
-- RFC 2544 26.2: round trips through the echo service, as Pktgen stamps and reads them, at a tenth of the rate and at it.
package.path = (os.getenv("BW_SCRIPTS") or "scripts/pktgen") .. "/?.lua;" .. package.path
require "Pktgen"
local bw = require "barewire"

bw.setup()
pktgen.latency(bw.port, "enable")
pktgen.page("latency")
for _, share in ipairs { 0.1, 1 } do
	pktgen.clear(bw.port)
	local tx, rx = bw.trial(256, bw.rate * share, bw.seconds)
	-- It is when that page is drawn that Pktgen works the average out.
	pktgen.screen("on")
	pktgen.delay(1500)
	pktgen.screen("off")
	local latency = pktgen.pktStats(bw.port)[tonumber(bw.port)].latency
	printf("RESULT at %.3f %%: %d sent, %d came back; us: min %.1f, average %.1f, max %.1f, of %d probes\n", bw.rate * share, tx,
		rx, latency.min_us, latency.avg_us, latency.max_us, latency.num_pkts)
end
pktgen.quit()
