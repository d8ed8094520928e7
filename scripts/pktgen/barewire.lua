-- SPDX-License-Identifier: BSD-3-Clause
-- What the scripts for Pktgen share. Settings come from the environment, as Pktgen hands scripts no arguments.
local M = {}

local function env(name, default)
	return os.getenv("BW_" .. name) or default
end

M.port = env("PORT", "0")
M.seconds = tonumber(env("SECONDS", "10"))
M.rate = tonumber(env("RATE", "100")) -- per cent of the line, or of 100 Gbit/s where there is none, as on a memif
M.own = env("OWN", "198.18.77.1")
M.server = env("SERVER", "198.18.77.2")
M.mac = env("MAC", "02:00:00:00:00:02") -- the server's

-- The highest rate that passes, in per cent of the line: halves the interval until it is no wider than `resolution`, from
-- the upper end, which is tried first. `passes(rate)` runs a trial. 0: not even the lowest did.
function M.search(low, high, resolution, passes)
	if passes(high) then
		return high
	end
	local best = 0
	while high - low > resolution do
		local middle = (low + high) / 2
		if passes(middle) then
			best, low = middle, middle
		else
			high = middle
		end
	end
	return best
end

-- The port sends datagrams to the echo service on port 7, and answers ARP for its own address.
function M.setup()
	local p = M.port
	pktgen.screen("off")
	pktgen.reset(p)
	pktgen.set_ipaddr(p, "src", M.own .. "/24")
	pktgen.set_ipaddr(p, "dst", M.server)
	pktgen.set_mac(p, "dst", M.mac)
	pktgen.set_proto(p, "udp")
	pktgen.set(p, "sport", 4000)
	pktgen.set(p, "dport", 7)
	pktgen.set(p, "count", 0)
	pktgen.process(p, "on")
	M.trial(64, 0.001, 1) -- the server asks for our Ethernet address with the first answer
end

-- Packets that differ, sent in turn: each { source, source port, protocol, destination port, size }.
function M.sequence(packets)
	local p = M.port
	for i, packet in ipairs(packets) do
		pktgen.seq(i - 1, p, M.mac, "02:00:00:00:00:09", M.server, packet[1] .. "/24", packet[2], packet[4], "ipv4", packet[3], 0,
			packet[5], 0)
	end
	pktgen.set(p, "seq_cnt", #packets)
end

local function counters()
	return pktgen.portStats(M.port, "port")[tonumber(M.port)]
end

-- Send at `rate` per cent for so many seconds. Returns how many packets went out, and how many came back. Pktgen looks at
-- the device's counters once a second, so a look waits for longer than that.
function M.run(rate, seconds)
	local p = M.port
	pktgen.set(p, "rate", rate)
	pktgen.delay(1500)
	local before = counters()
	pktgen.start(p)
	pktgen.delay(seconds * 1000)
	pktgen.stop(p)
	pktgen.delay(2500)
	local after = counters()
	return after.opackets - before.opackets, after.ipackets - before.ipackets
end

-- The same with packets of one size, which is that of the frame with its checksum (FCS): 64 to 1518.
function M.trial(size, rate, seconds)
	pktgen.set(M.port, "size", size)
	return M.run(rate, seconds)
end

-- A share in per cent, of what may be nothing.
function M.percent(part, whole)
	return whole > 0 and 100 * part / whole or 0
end

return M
