// The relay that longsplice replaces, as small as it can be: npm `ws` and a map. No check, no limit, no timer.
//
// `node node_ws.mjs FOLDER`, where FOLDER holds the `node_modules` with `ws`. Ends when its standard input does.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const { WebSocketServer } = createRequire(resolve(process.argv[2], 'package.json'))('ws');

/** Bytes that may wait for a peer before its source is paused: enough to keep the kernel's buffer full. */
const UNSENT_BYTES_MAX = 256 * 1024;
const PEER_GONE = 4003;

/** address -> the control socket that registered it */
const hosts = new Map();
/** link id -> { client, host }, both sockets; until the host accepts it is the control socket */
const links = new Map();

const tell = (socket, message) => socket.send(JSON.stringify(message));

/** Forwards every message of `source` to `target`, no faster than that takes them. */
function forward(source, target) {
  const resume = () => source.resume();
  source.removeAllListeners('message');
  source.on('message', (data, binary) => {
    target.send(data, { binary });
    if (target.bufferedAmount > UNSENT_BYTES_MAX && !source.isPaused) {
      source.pause();
      target._socket.once('drain', resume);
    }
  });
  source.on('close', () => target.close(PEER_GONE));
}

const handlers = {
  register(socket, { address }) {
    hosts.set(address, socket);
    tell(socket, { type: 'registered', address });
  },
  resolve(client, { address }) {
    const host = hosts.get(address);
    if (!host) return tell(client, { type: 'error', error: 'unknown_address' });
    const linkId = randomUUID();
    links.set(linkId, { client, host });
    tell(client, { type: 'found', linkId });
    tell(host, { type: 'arrived', linkId, address });
  },
  relay(client, { linkId }) {
    tell(links.get(linkId).host, { type: 'relay', linkId });
  },
  accept(host, { linkId }) {
    const link = links.get(linkId);
    if (!link) return tell(host, { type: 'error', error: 'unknown_link' });
    links.delete(linkId);
    const { client } = link;
    forward(client, host);
    forward(host, client);
    tell(client, { type: 'relaying', linkId });
    tell(host, { type: 'relaying', linkId });
  },
};

const server = createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
sockets.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data) => {
    const message = JSON.parse(data);
    handlers[message.type]?.(socket, message);
  });
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  console.error(`comparator listen=127.0.0.1:${server.address().port}`);
});
process.stdin.on('end', () => process.exit()).resume();
