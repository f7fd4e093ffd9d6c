// Real pair clients, by npm `ws`, against a relay: `node pair.mjs ws://HOST:PORT SCENARIO`.
//
// Ends with exit code 0 only if every step of the scenario did what the protocol promises. Knows the wire contract and
// nothing of the relay.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import WebSocket from 'ws';
import { Socket } from './socket.mjs';

const BULK_BYTES = 10_000_000;
const PAYLOAD_BYTES = 400_000;
const UNSENT_BYTES_MAX = 4 * PAYLOAD_BYTES;

const [base, scenario] = process.argv.slice(2);
const open = (options) => Socket.open(`${base}/pair`, options);

/** What a device says of itself. */
function makeDevice(name) {
  return {
    deviceId: crypto.randomUUID(),
    deviceName: name,
    capability: { tokensPerSec: 21.5, memoryGb: 16 },
    ephemeralPubKey: crypto.randomBytes(32).toString('base64url'),
  };
}

/** What the other end is told of a device. */
const connected = (device) => ({
  type: 'peer-connected',
  peerEphemeralPubKey: device.ephemeralPubKey,
  peerDeviceId: device.deviceId,
  peerDeviceName: device.deviceName,
  peerCapability: device.capability,
});

/** Asks for a session, or for its slot in one; checks the answer. */
async function create(socket, device, sessionId) {
  socket.tell({ type: 'pair-source', ...(sessionId && { sessionId }), ...device });
  const created = await socket.expect('session-created');
  const qr = JSON.parse(Buffer.from(created.qrPayload, 'base64url').toString());
  assert.deepEqual(qr, {
    v: 1,
    rendezvousUrl: qr.rendezvousUrl,
    sessionId: created.sessionId,
    sourceEphemeralPubKey: device.ephemeralPubKey,
    sourceDeviceId: device.deviceId,
    sourceDeviceName: device.deviceName,
    expiresAt: created.expiresAt,
  });
  assert.equal(Buffer.from(created.sessionId, 'base64url').length, 16);
  return created.sessionId;
}

/** Pairs two devices; gives both ends and the session's id. */
async function pair(options = {}) {
  const [source, target] = [await open(options.source), await open(options.target)];
  const [sourceDevice, targetDevice] = [makeDevice('Tüür \u{1f4f1}'), makeDevice('a "target"\\\n\u2028')];
  const sessionId = await create(source, sourceDevice);
  target.tell({ type: 'pair-target', sessionId, ...targetDevice });
  assert.deepEqual(await source.expect('peer-connected'), connected(targetDevice));
  assert.deepEqual(await target.expect('peer-connected'), connected(sourceDevice));
  return { sessionId, source, target, sourceDevice, targetDevice };
}

/** Sends a payload each way: the pair works. */
async function check({ sessionId, source, target }, payload = 'gr\u00fcn \u{1f600} "\\\u0000') {
  source.tell({ type: 'relay', sessionId, payload });
  assert.deepEqual(await target.expect('relay'), { type: 'relay', from: 'source', payload });
  target.tell({ type: 'relay', sessionId, payload });
  assert.deepEqual(await source.expect('relay'), { type: 'relay', from: 'target', payload });
}

async function expectRefused(socket, code, close) {
  assert.equal((await socket.expect('error')).code, code);
  assert.equal(await socket.expectClosed(close), code);
}

/** Sends random payloads, never more than a little ahead of the socket; gives their hash. */
async function sendBulk(socket, sessionId) {
  const hash = crypto.createHash('sha256');
  for (let sent = 0; sent < BULK_BYTES; sent += PAYLOAD_BYTES) {
    const bytes = crypto.randomBytes(PAYLOAD_BYTES);
    hash.update(bytes);
    const message = JSON.stringify({ type: 'relay', sessionId, payload: bytes.toString('base64') });
    const written = new Promise((resolve, reject) =>
      socket.ws.send(message, (error) => (error ? reject(error) : resolve())),
    );
    if (socket.ws.bufferedAmount > UNSENT_BYTES_MAX) await written;
    else written.catch(() => {});
  }
  return hash.digest('hex');
}

async function receiveBulk(socket, from) {
  const hash = crypto.createHash('sha256');
  for (let received = 0; received < BULK_BYTES; received += PAYLOAD_BYTES) {
    const message = await socket.expect('relay');
    assert.equal(message.from, from);
    hash.update(Buffer.from(message.payload, 'base64'));
  }
  return hash.digest('hex');
}

const scenarios = {
  /** Two devices pair, move 10 MB each way at once, lose each other and come back; a third is refused. */
  async life() {
    // `ws` offers compression unless told not to; the relay does not take it.
    const session = await pair({ source: { perMessageDeflate: true } });
    const { sessionId, source, target, sourceDevice, targetDevice } = session;
    assert.equal(source.ws.extensions, '');
    await check(session);

    const [up, down, upHeard, downHeard] = await Promise.all([
      sendBulk(source, sessionId),
      sendBulk(target, sessionId),
      receiveBulk(target, 'source'),
      receiveBulk(source, 'target'),
    ]);
    assert.equal(upHeard, up, 'source to target');
    assert.equal(downHeard, down, 'target to source');

    const third = await open();
    third.tell({ type: 'pair-target', sessionId, ...makeDevice('third') });
    await expectRefused(third, 'session_join_failed', 1008);
    await check(session);

    target.ws.terminate();
    await target.expectClosed(1006);
    assert.equal((await source.expect('peer-disconnected')).reason, 'peer closed connection');
    source.tell({ type: 'relay', sessionId, payload: 'x' });
    assert.equal((await source.expect('error')).code, 'peer_not_connected');
    const back = await open();
    back.tell({ type: 'pair-target', sessionId, ...targetDevice });
    assert.deepEqual(await source.expect('peer-connected'), connected(targetDevice));
    assert.deepEqual(await back.expect('peer-connected'), connected(sourceDevice));
    await check({ sessionId, source, target: back });

    source.ws.close();
    await source.expectClosed(1005);
    await back.expect('peer-disconnected');
    const again = await open();
    assert.equal(await create(again, sourceDevice, sessionId), sessionId);
    assert.deepEqual(await again.expect('peer-connected'), connected(targetDevice));
    assert.deepEqual(await back.expect('peer-connected'), connected(sourceDevice));
    await check({ sessionId, source: again, target: back });

    again.tell({ type: 'ping' });
    assert.deepEqual(await again.expect('pong'), { type: 'pong' });
    again.ws.ping('payload');
    assert.equal((await again.next('pong'))[0].toString(), 'payload');
  },

  /** As the dvai-bridge client does it: the WHATWG interface, listeners that come and go, binary in. */
  async events() {
    const opened = (ws) => new Promise((resolve) => ws.addEventListener('open', resolve, { once: true }));
    const heard = (ws, type) =>
      new Promise((resolve, reject) => {
        const listener = ({ data }) => {
          const message = JSON.parse(data);
          if (message.type === 'error') reject(new Error(message.code));
          if (message.type !== type) return;
          ws.removeEventListener('message', listener);
          resolve(message);
        };
        ws.addEventListener('message', listener);
      });
    const [source, target] = [new WebSocket(`${base}/pair`), new WebSocket(`${base}/pair`)];
    await Promise.all([opened(source), opened(target)]);
    const bytes = (message) => Buffer.from(JSON.stringify(message));
    source.send(bytes({ type: 'pair-source', ...makeDevice('source') }));
    const { qrPayload } = await heard(source, 'session-created');
    const { sessionId, rendezvousUrl } = JSON.parse(Buffer.from(qrPayload, 'base64url').toString());
    assert.match(rendezvousUrl, /^wss?:\/\/[^/]+$/);
    const told = heard(source, 'peer-connected');
    target.send(bytes({ type: 'pair-target', sessionId, ...makeDevice('target') }));
    await Promise.all([told, heard(target, 'peer-connected')]);
    const relayed = heard(source, 'relay');
    target.send(bytes({ type: 'relay', sessionId, payload: 'from the target' }));
    assert.equal((await relayed).payload, 'from the target');
  },

  /** With SESSION_TTL_SECONDS=1: without a relay both are closed. */
  async expiry() {
    const { sessionId, source, target, targetDevice } = await pair();
    assert.equal(await source.expectClosed(1000), 'session expired');
    assert.equal(await target.expectClosed(1000), 'session expired');
    const late = await open();
    late.tell({ type: 'pair-target', sessionId, ...targetDevice });
    await expectRefused(late, 'session_join_failed', 1008);
  },

  /** With ALLOWED_ORIGINS=https://app.example. */
  async origins() {
    await check(await pair({ source: { origin: 'https://app.example' } }));
    const evil = await open({ origin: 'https://evil.example' });
    assert.equal(await evil.expectClosed(1008), 'origin_not_allowed');
  },

  /** With MAX_SESSIONS=20: of 30 that ask at once, 20 are served. */
  async capacity() {
    const sources = await Promise.all(Array.from({ length: 30 }, () => open()));
    for (const source of sources) source.tell({ type: 'pair-source', ...makeDevice('source') });
    let served = 0;
    for (const source of sources) {
      const message = JSON.parse((await source.next('message'))[0].toString());
      if (message.type === 'session-created') {
        served++;
        continue;
      }
      assert.equal(message.code, 'server_at_capacity');
      assert.equal(await source.expectClosed(1011), 'server_at_capacity');
    }
    assert.equal(served, 20);
  },

  /** 500 sessions at once, each with its own payloads both ways. */
  async many() {
    const sessions = [];
    for (let batch = 0; batch < 10; batch++) {
      sessions.push(...(await Promise.all(Array.from({ length: 50 }, () => pair()))));
    }
    assert.equal(new Set(sessions.map(({ sessionId }) => sessionId)).size, 500);
    for (let round = 0; round < 3; round++) {
      const size = [10, 1000, 20_000][round];
      await Promise.all(sessions.map((session) => check(session, crypto.randomBytes(size).toString('base64'))));
    }
  },

  /** A peer that does not read stops its sender, not the relay, and finds everything when it reads again. */
  async slow() {
    const stalled = await pair();
    const other = await pair();
    const { sessionId, source, target } = stalled;
    target.ws.pause();
    const hash = crypto.createHash('sha256');
    const payloads = 100;
    for (let n = 0; n < payloads; n++) {
      const payload = crypto.randomBytes(300_000).toString('base64');
      hash.update(payload);
      source.tell({ type: 'relay', sessionId, payload });
    }
    // What the kernels and the relay take is far less than these 40 MB; the rest stays with the sender.
    let unsent = Infinity;
    while (source.ws.bufferedAmount < unsent) {
      unsent = source.ws.bufferedAmount;
      await pause(500);
    }
    assert(unsent > 5_000_000, `only ${unsent} bytes are left`);
    for (let n = 0; n < 20; n++) await check(other);
    target.ws.resume();
    const heard = crypto.createHash('sha256');
    for (let n = 0; n < payloads; n++) heard.update((await target.expect('relay')).payload);
    assert.equal(heard.digest('hex'), hash.digest('hex'));
    await check(stalled);
  },

  /** What no client sends is refused, one socket at a time; what JavaScript can say passes unharmed. */
  async hostile() {
    const bystander = await pair();
    const refusals = {
      malformed_json: ['', '{', `${'['.repeat(100_000)}`, '{"type":"ping"}x', Buffer.from('{"type":"\xff"}', 'latin1')],
      malformed_message: ['null', '[]', '7', '{"type":7}', '{"type":"pair-source"}'],
      unknown_message_type: ['{"type":""}', '{"type":"constructor"}', JSON.stringify({ type: 'x'.repeat(500_000) })],
    };
    for (const [code, messages] of Object.entries(refusals)) {
      for (const message of messages) {
        const socket = await open();
        socket.ws.send(message);
        await expectRefused(socket, code, 1008);
      }
    }
    const big = await open();
    big.ws.send('x'.repeat(2 ** 20 + 1));
    await big.expectClosed(1009);
    const odd = ['\ud800', '\udfff\ud800 \u0000', '__proto__', '\u2028\u2029', '\ufeff', 'x'.repeat(1_000_000)];
    for (const payload of odd) await check(bystander, payload);
    // The last of two keys counts, as with JSON.parse.
    const { sessionId, source, target } = bystander;
    source.ws.send(`{"type":"ping","payload":"1","type":"relay","sessionId":"${sessionId}","payload":"2"}`);
    assert.equal((await target.expect('relay')).payload, '2');
  },
};

assert(scenarios[scenario], `usage: node pair.mjs ws://HOST:PORT ${Object.keys(scenarios).join('|')}`);
await scenarios[scenario]();
console.log('ok');
process.exit(0);
