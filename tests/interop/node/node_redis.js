// SPDX-License-Identifier: BSD-3-Clause
// node-redis, as its users use it: node node_redis.js HOST PORT 2|3. Every reply is looked at.
import assert from "node:assert/strict";
import { createClient, createClientPool, RESP_TYPES } from "redis";

const [host, port, protocol] = process.argv.slice(2);
const options = {
  RESP: Number(protocol),
  name: "node-redis-test",
  socket: { host, port: Number(port), reconnectStrategy: false },
};
const client = createClient(options);
client.on("error", (error) => assert.fail(error));
await client.connect();

// One at a time.
assert.equal(await client.flushAll(), "OK");
assert.equal(await client.ping(), "PONG");
assert.equal(await client.echo("hello"), "hello");
assert.equal(await client.set("greeting", "hello"), "OK");
assert.equal(await client.get("greeting"), "hello");
assert.equal(await client.get("nothing"), null);
assert.equal(await client.set("greeting", "again", { expiration: { type: "EX", value: 1000 }, condition: "NX" }), null);
assert.equal(await client.set("greeting", "again", { expiration: { type: "PX", value: 1000000 }, GET: true }), "hello");
const ttl = await client.ttl("greeting");
assert.ok(ttl > 900 && ttl <= 1000, ttl);
assert.equal(await client.clientGetName(), "node-redis-test");
const info = await client.clientInfo();
assert.equal(info.name, "node-redis-test");
assert.equal(info.id, await client.clientId());
assert.equal(info.resp, Number(protocol));
assert.equal(await client.mSet({ a: "1", b: "2" }), "OK");
assert.deepEqual(await client.mGet(["a", "nothing", "b"]), ["1", null, "2"]);
assert.equal(await client.incrBy("counter", 41), 41);
assert.equal(Number(await client.incrByFloat("counter", 0.5)), 41.5);
assert.equal(await client.getEx("a", { type: "EX", value: 100 }), "1");
assert.equal(await client.setRange("b", 3, "x"), 4);
assert.equal(await client.getRange("greeting", 1, -2), "gai");
assert.equal(Number(await client.mSetNX({ a: "1", c: "2" })), 0);
assert.equal(await client.rename("a", "d"), "OK");
assert.equal(await client.exists(["a", "b", "d"]), 2);
assert.equal(await client.expire("d", 100, "NX"), 0);
assert.equal(await client.persist("d"), 1);
assert.equal(await client.unlink(["b", "d", "nothing"]), 2);
assert.equal(await client.objectEncoding("greeting"), "embstr");
assert.equal(await client.type("greeting"), "string");
assert.ok((await client.memoryUsage("greeting")) > 0);
const config = await client.configGet("maxmemory*");
assert.ok(Number(config.maxmemory) >= 0, JSON.stringify(config));
assert.match(await client.info("server"), /^redis_version:/m);

// Every byte there is, and values of many segments.
const buffers = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
const bytes = Buffer.from(Array.from({ length: 300000 }, (_, i) => (i * 7) & 0xff));
assert.equal(String(await buffers.set("bytes", bytes)), "OK");
assert.deepEqual(await buffers.get("bytes"), bytes);
assert.equal(await client.strLen("bytes"), bytes.length);

// Errors are errors, with Redis's texts, and what comes behind them goes on.
await assert.rejects(client.incr("greeting"), { message: "ERR value is not an integer or out of range" });
await assert.rejects(client.sendCommand(["NO-SUCH", "x"]), /ERR unknown command 'NO-SUCH', with args beginning with: 'x'/);
await assert.rejects(client.sendCommand(["GET"]), /ERR wrong number of arguments for 'get' command/);

// What is asked in one turn of the loop is pipelined.
const sets = await Promise.all(Array.from({ length: 5000 }, (_, i) => client.set(`key:${i}`, `value:${i}`)));
assert.ok(sets.every((reply) => reply === "OK"));
const got = await Promise.all(Array.from({ length: 5000 }, (_, i) => client.get(`key:${i}`)));
got.forEach((value, i) => assert.equal(value, `value:${i}`));

// A pipeline that is no transaction.
const pipeline = client.multi();
for (let i = 0; i < 1000; i++) pipeline.incr("sum").strLen(`key:${i}`).get("nothing");
const replies = await pipeline.mGet(["key:1", "nothing"]).dbSize().execAsPipeline();
assert.equal(replies.length, 3002);
for (let i = 0; i < 1000; i++) assert.deepEqual(replies.slice(3 * i, 3 * i + 3), [i + 1, `value:${i}`.length, null]);
assert.deepEqual(replies.slice(3000), [["value:1", null], 5004]); // and greeting, counter, bytes, sum

// SCAN as an iterator.
const found = new Set();
for await (const keys of client.scanIterator({ MATCH: "key:1*", COUNT: 100, TYPE: "string" })) keys.forEach((key) => found.add(key));
const wanted = Array.from({ length: 5000 }, (_, i) => `key:${i}`).filter((key) => key.startsWith("key:1"));
assert.deepEqual([...found].sort(), wanted.sort());
assert.deepEqual((await client.keys("key:2?")).sort(), Array.from({ length: 10 }, (_, i) => `key:2${i}`));

// Several connections, one counter.
const pool = await createClientPool(options, { minimum: 5, maximum: 20 }).connect();
await Promise.all(Array.from({ length: 4000 }, () => pool.incr("shared")));
assert.equal(await client.get("shared"), "4000");
await pool.close();

// Its time ends.
assert.equal(await client.pSetEx("brief", 50, "x"), "OK");
await new Promise((resolve) => setTimeout(resolve, 200));
assert.equal(await client.get("brief"), null);

assert.equal(await client.flushDb(), "OK");
assert.equal(await client.dbSize(), 0);
await client.close();
console.log("done");
