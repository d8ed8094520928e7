-- SPDX-License-Identifier: BSD-3-Clause
-- RFC 2544 26.1: by frame size, the highest rate at which every datagram comes back from the echo service.
package.path = (os.getenv("BW_SCRIPTS") or "scripts/pktgen") .. "/?.lua;" .. package.path
require "Pktgen"
local bw = require "barewire"

bw.setup()
for _, size in ipairs { 64, 128, 256, 512, 1024, 1280, 1518 } do
	local sent = 0
	local rate = bw.search(0, bw.rate, bw.rate / 64, function(percent)
		local tx, rx = bw.trial(size, percent, bw.seconds)
		printf("%d bytes at %.3f %%: %d sent, %d came back\n", size, percent, tx, rx)
		if tx > 0 and rx >= tx then
			sent = tx
			return true
		end
		return false
	end)
	printf("RESULT %d bytes: %.3f %% without loss, %.0f packets/s\n", size, rate, sent / bw.seconds)
end
pktgen.quit()
