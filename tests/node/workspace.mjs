// Real workspace peers, by npm `ws`, against a relay: `node workspace.mjs ws://HOST:PORT SCENARIO`.
//
// Ends with exit code 0 only if every step of the scenario did what the protocol promises. Knows the wire contract and
// nothing of the relay. The relay's platform takes tokens that carry their own claims.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { Socket } from './socket.mjs';
import * as peers from './workspace_peers.mjs';

const MANY_WORKSPACES = 20;
const MANY_CLIENTS = 5;
const MANY_ENVELOPES = 20;

const [base, scenario] = process.argv.slice(2);

/** Sends a message as it is; the other end must get the same text. */
async function passes(from, message, to) {
  const text = JSON.stringify(message);
  from.ws.send(text);
  const [data, binary] = await to.next('message');
  assert.equal(binary, false);
  assert.equal(data.toString(), text);
}

async function agree(client, daemon, sessionId) {
  await passes(client, peers.init(`request of ${sessionId}`), daemon);
  await passes(daemon, peers.response(`request of ${sessionId}`, sessionId), client);
}

async function close(...sockets) {
  for (const socket of sockets) {
    socket.ws.close(1000);
    await socket.expectClosed(1000);
  }
}

const scenarios = {
  /** Key exchange, envelopes both ways, large ones too, and new keys; without its daemon the client is told. */
  async dialogue() {
    const daemon = await peers.connect(peers.daemon(base, 'w1'));
    const client = await peers.connect(peers.client(base, 'w1', 'c1'));
    assert.equal(daemon.ws.extensions, '');
    await agree(client, daemon, 's1');
    for (let seq = 1; seq <= 50; seq++) {
      await passes(client, peers.envelope('s1', seq, 'x'.repeat(seq * 1000)), daemon);
      await passes(daemon, peers.envelope('s1', seq, '\u{1f600}'.repeat(seq * 100)), client);
    }
    await passes(client, peers.envelope('s1', 51, 'x'.repeat(1_000_000)), daemon);
    await passes(daemon, { type: 'relay_key_update_required', sessionId: 's1', nextEpoch: 2, reason: 'm' }, client);
    await passes(client, peers.init('again', { previousSessionId: 's1' }), daemon);
    await passes(daemon, peers.response('again', 's1', 2), client);

    const second = await peers.connect(peers.daemon(base, 'w1'));
    assert.equal(await second.expectClosed(4008), 'daemon already connected');
    await close(daemon);
    client.tell(peers.envelope('s1', 1));
    assert.equal((await client.expect('relay_status')).code, 'DAEMON_UNAVAILABLE');
    await close(client);
  },

  /** Tokens among the subprotocols, and what is answered. */
  async browser() {
    const token = peers.client(base, 'w1', 'c1');
    const client = await peers.connectAsBrowser(token);
    assert.equal(client.ws.protocol, 'viewport-relay-v1');
    const alone = await Socket.open(token.url, {}, [`auth.${token.token}`]);
    client.ws.send('x');
    assert.equal((await client.expect('relay_status')).code, 'INVALID_FRAME');
    const refused = new Socket(new WebSocket(token.url, ['viewport-relay-v1', 'auth.unknown-token']));
    const [error] = await refused.next('error');
    assert.match(error.message, /401/);
    await close(client, alone);
  },

  /** Requests at once, each with its own answer; a path of others is denied. */
  async worker() {
    const worker = await peers.connect(peers.worker(base, 'w1', 'e1'));
    const root = '/api/runtime/workspaces/w1/managed-executors/e1';
    const request = (requestId, path, body) =>
      ({ type: 'viewport.worker_transport.request/v1', requestId, method: 'POST', path, headers: {}, body });
    for (let n = 0; n < 10; n++) worker.tell(request(`r${n}`, `${root}/${n}`, `body ${n}`));
    const answers = new Map();
    for (let n = 0; n < 10; n++) {
      const answer = await worker.expect('viewport.worker_transport.response/v1');
      answers.set(answer.requestId, answer);
    }
    for (let n = 0; n < 10; n++) {
      const { status, headers, body } = answers.get(`r${n}`);
      assert.equal(status, 200);
      assert.equal(headers['x-echo'], 'Yes');
      assert.deepEqual([JSON.parse(body).target, JSON.parse(body).body], [`${root}/${n}`, `body ${n}`]);
    }
    worker.tell(request('denied', `${root}/../e2`, ''));
    assert.equal((await worker.expect('viewport.worker_transport.response/v1')).status, 403);
    await close(worker);
  },

  /** Presence goes to the others, not back. */
  async viewers() {
    const channel = 'agent-session:1';
    const viewers = [];
    for (const id of ['c1', 'c2', 'c3', 'c4']) {
      viewers.push(await peers.connectAsBrowser(peers.viewer(base, 'w1', id, [channel])));
    }
    for (const viewer of viewers) {
      viewer.tell({ type: 'viewport.session_events.subscribe/v1', channel, afterSequence: 7 });
      assert.equal((await viewer.expect('viewport.session_events.subscribed/v1')).afterSequence, 7);
    }
    for (const sender of viewers) {
      const presence = { type: 'viewport.session_viewer_presence/v1', channel, action: 'joined', userId: 'u' };
      sender.tell(presence);
      for (const viewer of viewers.filter((viewer) => viewer !== sender)) {
        assert.deepEqual(await viewer.expect(presence.type), presence);
      }
    }
    await close(...viewers);
  },

  /** Clients of many workspaces speak at once; each hears its own daemon's echoes in order and nothing else. */
  async many() {
    const clients = [];
    const daemons = [];
    for (let w = 0; w < MANY_WORKSPACES; w++) {
      const daemon = await peers.connect(peers.daemon(base, `w${w}`));
      daemons.push(daemon);
      for (let c = 0; c < MANY_CLIENTS; c++) {
        const client = await peers.connectAsBrowser(peers.client(base, `w${w}`, `c${c}`));
        await agree(client, daemon, `s${c}`);
        clients.push({ client, w, session: `s${c}` });
      }
    }
    const echoes = daemons.map(async (daemon, w) => {
      for (let n = 0; n < MANY_CLIENTS * MANY_ENVELOPES; n++) {
        const message = await daemon.expect('e2ee');
        assert.ok(message.ciphertext.startsWith(`${w}/`), `${message.ciphertext} reached w${w}`);
        daemon.tell(message);
      }
    });
    const talks = clients.map(async ({ client, w, session }) => {
      for (let seq = 1; seq <= MANY_ENVELOPES; seq++) client.tell(peers.envelope(session, seq, `${w}/${session}`));
      for (let seq = 1; seq <= MANY_ENVELOPES; seq++) {
        assert.deepEqual(await client.expect('e2ee'), peers.envelope(session, seq, `${w}/${session}`));
      }
    });
    await Promise.all([...echoes, ...talks]);
    await close(...clients.map(({ client }) => client), ...daemons);
  },
};

assert(base && scenarios[scenario], `usage: node workspace.mjs ws://HOST:PORT ${Object.keys(scenarios).join('|')}`);
await scenarios[scenario]();
console.log('ok');
