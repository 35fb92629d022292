// Our tests of npm's etcd3, whose package has none, against a cluster.
//
// CLIENTS_ENDPOINTS lists the members. CLIENTS_VICTIM is the process of the first one, which the
// last test kills. CLIENTS_MODULES is the folder into which etcd3 was installed.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, test } from 'node:test';

const { Etcd3, EtcdLeaseInvalidError } = createRequire(`${process.env.CLIENTS_MODULES}/`)('etcd3');
const hosts = process.env.CLIENTS_ENDPOINTS.split(',');
const client = new Etcd3({ hosts });
after(() => {
  client.close();
  // A stream to the killed member may still be retrying; the outcome is known by then.
  setTimeout(() => process.exit(), 1000).unref();
});

// The first event of this name from an emitter.
const once = (emitter, name) =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${name}`)), 20_000);
    emitter.once(name, (value) => {
      clearTimeout(late);
      resolve(value);
    });
  });

const until = async (what, found) => {
  for (const start = Date.now(); Date.now() - start < 20_000; ) {
    if (await found()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`not in 20 s: ${what}`);
};

test('keys are put, counted, sorted, and deleted with what they were', async () => {
  for (const [key, value] of [['k/a', '3'], ['k/b', '1'], ['k/c', '2']]) await client.put(key).value(value);
  const all = () => client.getAll().prefix('k/');
  assert.deepEqual(await all().strings(), { 'k/a': '3', 'k/b': '1', 'k/c': '2' });
  assert.equal(await all().count(), 3);
  assert.deepEqual(await all().sort('Value', 'Descend').limit(2).keys(), ['k/a', 'k/c']);
  const before = await client.put('k/a').value('4').getPrevious();
  assert.equal(before.value.toString(), '3');
  const old = await client.get('k/a').revision(Number(before.mod_revision)).string();
  assert.equal(old, '3');
  const gone = await client.delete().prefix('k/').getPrevious();
  assert.deepEqual(gone.map((kv) => kv.value.toString()).sort(), ['1', '2', '4']);
  assert.equal(await client.get('k/a').string(), null);
});

test('a transaction takes the branch that its comparisons say', async () => {
  const swap = (expected, value) =>
    client.if('t', 'Value', '==', expected).then(client.put('t').value(value)).else(client.get('t')).commit();
  await client.put('t').value('1');
  assert.equal((await swap('1', '2')).succeeded, true);
  const lost = await swap('1', '3');
  assert.equal(lost.succeeded, false);
  assert.equal(lost.responses[0].response_range.kvs[0].value.toString(), '2');
  const first = () => client.if('t/new', 'Create', '==', 0).then(client.put('t/new').value('x')).commit();
  assert.deepEqual([(await first()).succeeded, (await first()).succeeded], [true, false]);
});

test('a counter that many raise in transactions loses nothing', async () => {
  await client.put('stm').value('0');
  const raise = () =>
    client
      .stm({ retries: 200 })
      .transact(async (tx) => tx.put('stm').value(Number(await tx.get('stm').string()) + 1));
  await Promise.all(Array.from({ length: 8 }, raise));
  assert.equal(await client.get('stm').number(), 8);
});

test('a watcher hears of what it asked for, from the past on', async () => {
  const { header } = await client.put('w/a').value('1');
  await client.put('w/b').value('2');
  const watcher = await client.watch().prefix('w/').startRevision(header.revision).create();
  const heard = [];
  watcher.on('put', (kv) => heard.push(`${kv.key}=${kv.value}`));
  watcher.on('delete', (kv) => heard.push(`${kv.key}`));
  await client.put('other').value('x');
  await client.delete().key('w/a');
  await until('three events', () => heard.length === 3);
  assert.deepEqual(heard, ['w/a=1', 'w/b=2', 'w/a']);
  await watcher.cancel();
  await client.put('w/c').value('3');
  assert.equal(heard.length, 3);
});

test('a lease that is kept alive outlives its time, and its key goes with it', async () => {
  const lease = client.lease(2);
  await lease.put('l').value('x');
  const renewed = [];
  lease.on('keepaliveSucceeded', (answer) => renewed.push(Number(answer.TTL)));
  await until('six renewals', () => renewed.length >= 6);
  assert.deepEqual(new Set(renewed), new Set([2]));
  assert.equal(await client.get('l').string(), 'x');
  await lease.revoke();
  assert.equal(await client.get('l').string(), null);
  await assert.rejects(lease.keepaliveOnce(), EtcdLeaseInvalidError);
});

test('a lease that is let go ends by itself', async () => {
  const lease = client.lease(1, { autoKeepAlive: false });
  await lease.put('l/short').value('x');
  await until('the key is gone', async () => (await client.get('l/short').string()) === null);
});

test('a lock has one holder', async () => {
  let inside = 0;
  let most = 0;
  const enter = async () => {
    const lock = client.lock('lock');
    await until('the lock is taken', () => lock.acquire().then(() => true, () => false));
    most = Math.max(most, ++inside);
    await new Promise((resolve) => setTimeout(resolve, 20));
    inside--;
    await lock.release();
  };
  await Promise.all([enter(), enter(), enter()]);
  assert.equal(most, 1);
});

test('an election has one leader, and the next one follows', async () => {
  const election = () => client.election('election', 5);
  const first = election().campaign('first');
  await once(first, 'elected');
  const second = election().campaign('second');
  const observer = await election().observe();
  await until('the first leads', () => observer.leader() === 'first');
  await first.resign();
  await once(second, 'elected');
  await until('the second leads', () => observer.leader() === 'second');
  await observer.cancel();
  await second.resign();
});

// Last, because it leaves the cluster with one member less.
test('the client goes on when a member dies: writes, a watcher, a lease', async () => {
  const watched = new Etcd3({ hosts: [hosts[0], hosts[1]] });
  const watcher = await watched.watch().prefix('f/').create();
  const heard = [];
  watcher.on('put', (kv) => heard.push(Number(kv.value)));
  const lease = watched.lease(10);
  await lease.put('lease').value('x');
  let written = 0;
  const write = async () => {
    // A write with an unknown outcome is repeated: the same value under the same key.
    await until('a write', () => client.put(`f/${written}`).value(written).then(() => true, () => false));
    written++;
  };
  for (let i = 0; i < 20; i++) await write();
  process.kill(Number(process.env.CLIENTS_VICTIM), 'SIGKILL');
  for (let i = 0; i < 40; i++) await write();
  assert.equal(Number(await client.getAll().prefix('f/').count()), written);
  const all = Array.from({ length: written }, (_, i) => i);
  await until('all are heard', () => new Set(heard).size === written);
  assert.deepEqual([...new Set(heard)], all);
  await until('the lease is renewed', () => lease.keepaliveOnce().then(() => true, () => false));
  assert.equal(await client.get('lease').string(), 'x');
  await lease.revoke();
  watched.close();
});
