// A page in a browser connects as a workspace's client: `node workspace_page.mjs ws://HOST:PORT CHROMIUM`.
//
// A browser can send a token in the subprotocols alone, hides every header, and fails a connection whose answer
// chooses none of them. The daemon is npm `ws`.

import assert from 'node:assert/strict';
import http from 'node:http';
import { chromium } from 'playwright-core';
import * as peers from './workspace_peers.mjs';

const [relay, executablePath] = process.argv.slice(2);
assert(relay && executablePath, 'usage: node workspace_page.mjs ws://HOST:PORT CHROMIUM');

const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'text/html; charset=utf-8');
  response.end('<!doctype html><title>A workspace</title>');
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

// No sandbox: tests run as root in containers. The rest keeps the browser from looking for the internet.
const browser = await chromium.launch({
  executablePath,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
});
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);

/** Opens a socket in the page; gives its subprotocol, or the close that came instead. */
const open = (name, { url, token }, offer = ['viewport-relay-v1', `auth.${token}`]) =>
  page.evaluate(([name, url, offer]) => new Promise((resolve) => {
    const socket = new WebSocket(url, offer);
    const heard = [];
    window[name] = { socket, heard, closed: new Promise((end) => {
      socket.onclose = ({ code, reason }) => (resolve({ code, reason }), end({ code, reason }));
    }) };
    socket.onmessage = ({ data }) => heard.push(data);
    socket.onopen = () => resolve(socket.protocol);
  }), [name, url, offer]);
const say = (name, text) => page.evaluate(([name, text]) => window[name].socket.send(text), [name, text]);
const hear = async (name) => {
  await page.waitForFunction((name) => window[name].heard.length > 0, name);
  return page.evaluate((name) => window[name].heard.shift(), name);
};
const closed = (name) => page.evaluate((name) => window[name].closed, name);

const daemon = await peers.connect(peers.daemon(relay, 'w1'));
assert.equal(await open('client', peers.client(relay, 'w1', 'c1')), 'viewport-relay-v1');

// The minimal dialogue.
const init = JSON.stringify(peers.init('r1'));
await say('client', init);
assert.equal((await daemon.next('message'))[0].toString(), init);
daemon.tell(peers.response('r1', 's1'));
assert.deepEqual(JSON.parse(await hear('client')), peers.response('r1', 's1'));
for (let seq = 1; seq <= 20; seq++) {
  const envelope = peers.envelope('s1', seq, 'gr\u00fcn \u{1f600} '.repeat(seq * 200));
  await say('client', JSON.stringify(envelope));
  assert.deepEqual(await daemon.expect('e2ee'), envelope);
  daemon.tell(envelope);
  assert.deepEqual(JSON.parse(await hear('client')), envelope);
}

// A token alone is chosen, because the browser wants an answer; an unknown one fails; a rejection has its reason.
const alone = peers.client(relay, 'w1', 'c2');
assert.equal(await open('alone', alone, [`auth.${alone.token}`]), `auth.${alone.token}`);
const unknown = { url: alone.url, token: 'unknown-token' };
assert.deepEqual(await open('unknown', unknown), { code: 1006, reason: '' });
const wrong = { url: alone.url, token: peers.tokenOf({ workspaceId: 'other' }) };
assert.equal(await open('wrong', wrong), 'viewport-relay-v1');
assert.deepEqual(await closed('wrong'), { code: 4008, reason: 'workspace claim mismatch' });
const offer = { type: 'relay_pairing_offer_request', requestId: 'r', clientChannelPublicKey: 'k' };
await say('client', JSON.stringify(offer));
assert.deepEqual(await closed('client'), { code: 4008, reason: 'runtime scope only' });

daemon.ws.close();
await daemon.next('close');
await browser.close();
server.close();
console.log('ok');
