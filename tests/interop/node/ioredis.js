// SPDX-License-Identifier: BSD-3-Clause
// ioredis, as its users use it: node ioredis.js HOST PORT. Every reply is looked at.
import assert from "node:assert/strict";
import Redis from "ioredis";

const [host, port] = process.argv.slice(2);
const options = { host, port: Number(port), retryStrategy: null, connectionName: "ioredis-test" };
const redis = new Redis(options);

// One at a time.
assert.equal(await redis.flushall(), "OK");
assert.equal(await redis.ping(), "PONG");
assert.equal(await redis.set("greeting", "hello"), "OK");
assert.equal(await redis.get("greeting"), "hello");
assert.equal(await redis.get("nothing"), null);
assert.equal(await redis.set("greeting", "again", "EX", 1000, "NX"), null);
assert.equal(await redis.set("greeting", "again", "PX", 1000000, "XX", "GET"), "hello");
const ttl = await redis.ttl("greeting");
assert.ok(ttl > 900 && ttl <= 1000, ttl);
assert.equal(await redis.client("GETNAME"), "ioredis-test");
assert.equal(await redis.mset({ a: "1", b: "2" }), "OK");
assert.deepEqual(await redis.mget("a", "nothing", "b"), ["1", null, "2"]);
assert.equal(await redis.incrby("counter", 41), 41);
assert.equal(await redis.incrbyfloat("counter", 0.5), "41.5");
assert.equal(await redis.getex("a", "EX", 100), "1");
assert.equal(await redis.setrange("b", 3, "x"), 4);
assert.deepEqual(await redis.getBuffer("b"), Buffer.from("2\0\0x"));
assert.equal(await redis.getrange("greeting", 1, -2), "gai");
assert.equal(await redis.msetnx("a", 1, "c", 2), 0);
assert.equal(await redis.rename("a", "d"), "OK");
assert.equal(await redis.exists("a", "b", "d"), 2);
assert.equal(await redis.unlink("b", "d", "nothing"), 2);
assert.equal(await redis.object("ENCODING", "greeting"), "embstr");

// Every byte there is, and values of many segments.
const bytes = Buffer.from(Array.from({ length: 300000 }, (_, i) => (i * 7) & 0xff));
assert.equal(await redis.set("bytes", bytes), "OK");
assert.deepEqual(await redis.getBuffer("bytes"), bytes);
assert.equal(await redis.strlen("bytes"), bytes.length);

// Errors are errors, with Redis's texts, and what comes behind them goes on.
await assert.rejects(redis.incr("greeting"), /^ReplyError: ERR value is not an integer or out of range$/);
await assert.rejects(redis.call("NO-SUCH", "x"), /ERR unknown command 'NO-SUCH', with args beginning with: 'x'/);
await assert.rejects(redis.call("GET"), /ERR wrong number of arguments for 'get' command/);

// A pipeline: one error among the answers, the order that of the commands.
const pipeline = redis.pipeline();
for (let i = 0; i < 5000; i++) pipeline.set(`key:${i}`, `value:${i}`).get(`key:${i}`).strlen(`key:${i}`);
pipeline.incr("key:0").mget("key:1", "nothing", "key:4999").dbsize();
const replies = await pipeline.exec();
assert.equal(replies.length, 15003);
for (let i = 0; i < 5000; i++) {
  assert.deepEqual(replies[3 * i], [null, "OK"]);
  assert.deepEqual(replies[3 * i + 1], [null, `value:${i}`]);
  assert.deepEqual(replies[3 * i + 2], [null, `value:${i}`.length]);
}
assert.match(replies[15000][0].message, /ERR value is not an integer or out of range/);
assert.deepEqual(replies[15001], [null, ["value:1", null, "value:4999"]]);
assert.deepEqual(replies[15002], [null, 5003]); // and greeting, counter, bytes

// Autopipelining: what is asked in one turn of the loop leaves as one.
const auto = new Redis({ ...options, enableAutoPipelining: true });
const got = await Promise.all(Array.from({ length: 3000 }, (_, i) => auto.get(`key:${i}`)));
got.forEach((value, i) => assert.equal(value, `value:${i}`));
const sums = await Promise.all(Array.from({ length: 3000 }, () => auto.incr("sum")));
assert.deepEqual(sums, Array.from({ length: 3000 }, (_, i) => i + 1));
assert.equal(await auto.quit(), "OK");

// SCAN as a stream.
const found = new Set();
for await (const keys of redis.scanStream({ match: "key:1*", count: 100, type: "string" })) keys.forEach((key) => found.add(key));
const wanted = Array.from({ length: 5000 }, (_, i) => `key:${i}`).filter((key) => key.startsWith("key:1"));
assert.deepEqual([...found].sort(), wanted.sort());
assert.deepEqual((await redis.keys("key:2?")).sort(), Array.from({ length: 10 }, (_, i) => `key:2${i}`));

// Several connections, one counter.
const many = Array.from({ length: 20 }, () => new Redis(options));
await Promise.all(many.map((one) => Promise.all(Array.from({ length: 200 }, () => one.incr("shared")))));
assert.equal(await redis.get("shared"), "4000");
for (const one of many) one.disconnect();

// Its time ends.
assert.equal(await redis.psetex("brief", 50, "x"), "OK");
await new Promise((resolve) => setTimeout(resolve, 200));
assert.equal(await redis.get("brief"), null);

assert.equal(await redis.flushdb(), "OK");
assert.equal(await redis.dbsize(), 0);
assert.equal(await redis.quit(), "OK");
console.log("done");
