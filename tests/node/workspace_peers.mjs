// Peers of the workspace dialect over npm `ws`: what they connect with and what they send.

import { Socket } from './socket.mjs';

export const TARGET = 'rt1';

/** A token that carries its own claims, as the tests' platform reads it. */
export const tokenOf = (claims) => `tok_${Buffer.from(JSON.stringify(claims)).toString('base64url')}`;

/** URL and claims of somebody who connects. */
function caller(base, role, workspaceId, claims) {
  const query = new URLSearchParams({ role, workspaceId });
  if (claims.runtimeTargetId) query.set('runtimeTargetId', claims.runtimeTargetId);
  return { url: `${base}/ws?${query}`, token: tokenOf({ workspaceId, ...claims }) };
}

export const daemon = (base, workspaceId, runtimeTargetId = TARGET) =>
  caller(base, 'workspace-daemon', workspaceId, { runtimeTargetId });

export const client = (base, workspaceId, clientId, runtimeTargetId = TARGET) =>
  caller(base, 'client', workspaceId, { scope: 'runtime', runtimeTargetId, clientId });

export const viewer = (base, workspaceId, clientId, sessionChannels) =>
  caller(base, 'client', workspaceId, { scope: 'session-events', runtimeTargetId: TARGET, clientId, sessionChannels });

export const worker = (base, workspaceId, managedExecutorId) =>
  caller(base, 'worker', workspaceId, { managedExecutorId });

/** Connects as daemons and workers do, by a header. */
export const connect = ({ url, token }) => Socket.open(url, { headers: { authorization: `Bearer ${token}` } });

/** Connects as browsers do, by a subprotocol. */
export const connectAsBrowser = ({ url, token }) =>
  Socket.open(url, {}, ['viewport-relay-v1', `auth.${token}`]);

export const init = (requestId, more = {}) => ({
  type: 'relay_key_exchange_init', version: 3, profile: 'noise-ik', requestId,
  clientEphemeralPublicKey: 'ephemeral', encryptedClientStatic: 'static', ...more,
});

export const response = (requestId, sessionId, epoch = 1) => ({
  type: 'relay_key_exchange_response', version: 3, profile: 'noise-ik', requestId, daemonPublicKey: 'public',
  daemonEphemeralPublicKey: 'ephemeral', encryptedMetadata: 'metadata', sessionId, proof: 'proof', epoch,
});

export const envelope = (sessionId, seq, ciphertext = 'text') => ({
  type: 'e2ee', version: 2, profile: 'noise-ik', sessionId, epoch: 1, seq, iv: 'iv', tag: 'tag', ciphertext,
});
