// What npm `ws` concludes from bytes. Reads questions from standard input, each a length (32 bits, big-endian), flags (1: read as a
// server, 2: text is opaque) and that many bytes; answers each by a line of JSON. Ends with its input.

import { isUtf8 } from 'node:buffer';
import crypto from 'node:crypto';
import { Receiver } from 'ws';

const MESSAGE_MAX = 16 * 1024 * 1024;
const NO_CODE = 1005;

async function judge(bytes, isServer, skipUTF8Validation) {
  const verdict = { messages: [], pings: [], pongs: [], end: 'open' };
  const receiver = new Receiver({ isServer, skipUTF8Validation, maxPayload: MESSAGE_MAX });
  receiver.on('message', (data, isBinary) => {
    const payload = Buffer.from(data);
    const hash = crypto.createHash('sha256').update(payload).digest('hex');
    verdict.messages.push({ text: !isBinary, len: payload.length, hash });
  });
  receiver.on('ping', (payload) => verdict.pings.push(payload.toString('hex')));
  receiver.on('pong', (payload) => verdict.pongs.push(payload.toString('hex')));
  receiver.on('conclude', (code, reason) => {
    // Opaque is meant of messages alone.
    verdict.end = isUtf8(reason) ? { closed: code === NO_CODE ? null : code } : { fault: 1007 };
  });
  // The callback is told, too.
  receiver.on('error', () => {});
  const error = await new Promise((resolve) => receiver.write(bytes, resolve));
  if (error) {
    const [status] = Object.getOwnPropertySymbols(error);
    verdict.end = { fault: error[status] };
  }
  return verdict;
}

/** Gives out the input in pieces of the lengths that are asked for; nothing at its end. */
function pieces(input) {
  const chunks = input[Symbol.asyncIterator]();
  let unread = [];
  let length = 0;
  return async (wanted) => {
    while (length < wanted) {
      const { value, done } = await chunks.next();
      if (done) return undefined;
      unread.push(value);
      length += value.length;
    }
    const all = Buffer.concat(unread);
    unread = [all.subarray(wanted)];
    length -= wanted;
    return all.subarray(0, wanted);
  };
}

const take = pieces(process.stdin);
for (let head = await take(5); head !== undefined; head = await take(5)) {
  const flags = head[4];
  const bytes = await take(head.readUInt32BE(0));
  const verdict = await judge(bytes, (flags & 1) !== 0, (flags & 2) !== 0);
  process.stdout.write(`${JSON.stringify(verdict)}\n`);
}
