// A real Link host and a real Link client, by npm `ws`, against a relay: `node link.mjs ws://HOST:PORT`.
//
// Ends with exit code 0 only if every step did what the protocol promises. Knows the wire contract and
// nothing of the relay.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { Socket } from './socket.mjs';

const BULK_BYTES = 100_000_000;
const MESSAGE_BYTES = 250_000;
const UNSENT_BYTES_MAX = 4 * MESSAGE_BYTES;

const base = process.argv[2];
assert(base, 'usage: node link.mjs ws://HOST:PORT');
const origin = new URL(base).host;

/** A socket that speaks link. */
const open = (options) => Socket.open(`${base}/v1/link`, options);

/** A host's key pair, and the address that commits to it. */
function makeKeys() {
  const { publicKey, privateKey } = crypto.generateKeyPairSync('ed25519');
  const pub = publicKey.export({ format: 'jwk' }).x;
  const address = crypto.createHash('sha256').update(Buffer.from(pub, 'base64url')).digest('base64url');
  return { privateKey, pub, address };
}

async function register(socket, keys) {
  const ts = Date.now();
  const nonce = crypto.randomBytes(16).toString('base64url');
  const parts = [keys.address, String(ts), nonce, origin].flatMap((part) => {
    const bytes = Buffer.from(part);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return [length, bytes];
  });
  const signed = Buffer.concat([Buffer.from('frontier-link-register-v1'), ...parts]);
  const sig = crypto.sign(null, signed, keys.privateKey).toString('base64url');
  const auth = { alg: 'ed25519', pub: keys.pub, ts, nonce, sig };
  socket.tell({ type: 'register', address: keys.address, auth });
  assert.deepEqual(await socket.expect('registered'), { type: 'registered', address: keys.address });
}

/** The whole introduction; gives both ends of the link. */
async function join(control, address, client) {
  client.tell({ type: 'resolve', address });
  const { linkId } = await client.expect('found');
  assert.deepEqual(await control.expect('arrived'), { type: 'arrived', linkId, address });
  client.tell({ type: 'relay', linkId });
  assert.deepEqual(await control.expect('relay'), { type: 'relay', linkId });
  const host = await open();
  host.tell({ type: 'accept', linkId });
  assert.deepEqual(await host.expect('relaying'), { type: 'relaying', linkId });
  assert.deepEqual(await client.expect('relaying'), { type: 'relaying', linkId });
  return { linkId, client, host };
}

/** Sends random messages, never more than a little ahead of the socket; gives their hash. */
async function sendBulk(socket) {
  const hash = crypto.createHash('sha256');
  for (let sent = 0; sent < BULK_BYTES; sent += MESSAGE_BYTES) {
    const message = crypto.randomBytes(MESSAGE_BYTES);
    hash.update(message);
    const written = new Promise((resolve, reject) =>
      socket.ws.send(message, (error) => (error ? reject(error) : resolve())),
    );
    if (socket.ws.bufferedAmount > UNSENT_BYTES_MAX) await written;
    else written.catch(() => {});
  }
  return hash.digest('hex');
}

async function receiveBulk(socket) {
  const hash = crypto.createHash('sha256');
  for (let received = 0; received < BULK_BYTES; received += MESSAGE_BYTES) {
    const [message, binary] = await socket.next('message');
    assert.equal(binary, true);
    assert.equal(message.length, MESSAGE_BYTES);
    hash.update(message);
  }
  return hash.digest('hex');
}

// A host, and a client that comes too early. The client offers compression, as `ws` does unless told not
// to.
const keys = makeKeys();
const client = await open({ perMessageDeflate: true });
assert.equal(client.ws.extensions, '');
client.tell({ type: 'resolve', address: keys.address });
assert.equal((await client.expect('error')).error, 'unknown_address');
const control = await open();
await register(control, keys);

// The introduction, and a message of each type.
const link = await join(control, keys.address, client);
link.client.ws.send('text, gr\u00fcn \u{1f600}');
const [text, textIsBinary] = await link.host.next('message');
assert.deepEqual([text.toString(), textIsBinary], ['text, gr\u00fcn \u{1f600}', false]);
link.host.ws.send(Buffer.from([0, 255, 1]));
const [bytes, bytesAreBinary] = await link.client.next('message');
assert.deepEqual([[...bytes], bytesAreBinary], [[0, 255, 1], true]);
link.host.ws.ping('payload');
assert.equal((await link.host.next('pong'))[0].toString(), 'payload');
control.tell({ type: 'getUsage' });
assert.deepEqual((await control.expect('usage')).connections, [{ linkId: link.linkId, unlimited: true }]);

// 100 MB each way, both at once.
const [clientSent, hostSent, clientReceived, hostReceived] = await Promise.all([
  sendBulk(link.client),
  sendBulk(link.host),
  receiveBulk(link.client),
  receiveBulk(link.host),
]);
assert.equal(hostReceived, clientSent, 'client to host');
assert.equal(clientReceived, hostSent, 'host to client');

// The largest message that may pass, in fragments of `ws`'s own making.
const large = crypto.randomBytes(16 * 1024 * 1024);
link.client.ws.send(large.subarray(0, 10_000_000), { fin: false, binary: true });
link.client.ws.send(large.subarray(10_000_000), { fin: true, binary: true });
const [arrived] = await link.host.next('message');
assert(large.equals(arrived), 'a message of 16 MiB');

// The host reconnects: its link lives on, its address is found again on the new socket.
control.ws.terminate();
await control.expectClosed(1006);
const again = await open();
await register(again, keys);
const second = await join(again, keys.address, await open());
for (const { client, host } of [link, second]) {
  client.ws.send('still here');
  assert.equal((await host.next('message'))[0].toString(), 'still here');
}

// A newer registration elsewhere replaces the holder.
const third = await open();
await new Promise((resolve) => setTimeout(resolve, 5));
await register(third, keys);
await again.expectClosed(4005);

// Both ways to end a link.
link.client.ws.close(1000);
await link.host.expectClosed(4003);
await link.client.expectClosed(1000);
second.host.ws.terminate();
await second.client.expectClosed(4003);
third.ws.close();
await third.expectClosed(1005);
console.log('ok');
process.exit(0);
