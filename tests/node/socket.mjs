// A WebSocket with a queue of what it heard, so that a step can wait for its next event.

import assert from 'node:assert/strict';
import WebSocket from 'ws';

const PATIENCE_MS = 60_000;

export class Socket {
  /** Connects; the options are those of `ws`. */
  static async open(url, options = {}, protocols = []) {
    const socket = new Socket(new WebSocket(url, protocols, options));
    await socket.next('open');
    return socket;
  }

  constructor(ws) {
    this.ws = ws;
    this.heard = [];
    this.waiting = null;
    const tell = (kind) => (...values) => {
      this.heard.push({ kind, values });
      this.waiting?.();
    };
    for (const kind of ['open', 'message', 'close', 'error', 'pong']) ws.on(kind, tell(kind));
  }

  /** The values of the next event, which must be of this kind. */
  async next(kind) {
    if (this.heard.length === 0) {
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no ${kind} in ${PATIENCE_MS} ms`)), PATIENCE_MS);
        this.waiting = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.waiting = null;
    }
    const event = this.heard.shift();
    assert.equal(event.kind, kind, `expected ${kind}, heard ${event.kind} ${event.values}`);
    return event.values;
  }

  tell(message) {
    this.ws.send(JSON.stringify(message));
  }

  /** The next event, which must be a text message of this type. */
  async expect(type) {
    const [data, binary] = await this.next('message');
    assert.equal(binary, false);
    const message = JSON.parse(data.toString());
    assert.equal(message.type, type, data.toString().slice(0, 1000));
    return message;
  }

  /** The next event, which must be a close with this code; gives its reason. */
  async expectClosed(code) {
    const [closed, reason] = await this.next('close');
    assert.equal(closed, code);
    return reason.toString();
  }
}
