// Two browser tabs pair by the example page and exchange text: `node pair_page.mjs ws://HOST:PORT CHROMIUM`.
//
// Serves the page by itself and knows what it shows, not how it works. With a folder as third argument it leaves
// pictures of each step there.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { chromium } from 'playwright-core';

const [relay, executablePath, pictures] = process.argv.slice(2);
assert(relay && executablePath, 'usage: node pair_page.mjs ws://HOST:PORT CHROMIUM [FOLDER]');

const page = fs.readFileSync(new URL('../../docs/pair-example.html', import.meta.url));
const server = http.createServer((request, response) => {
  response.setHeader('content-type', 'text/html; charset=utf-8');
  response.end(page);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const address = `http://127.0.0.1:${server.address().port}/`;

// No sandbox: tests run as root in containers. The rest keeps the browser from looking for the internet.
const browser = await chromium.launch({
  executablePath,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
});

const complaints = [];

/** A tab of a browser of its own. */
async function openTab(url, options) {
  const context = await browser.newContext(options);
  const tab = await context.newPage();
  tab.setDefaultTimeout(60_000);
  tab.on('pageerror', (error) => complaints.push(String(error)));
  tab.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  await tab.goto(url);
  return tab;
}

let taken = 0;
async function picture(tab, name) {
  if (!pictures) return;
  fs.mkdirSync(pictures, { recursive: true });
  await tab.screenshot({ path: path.join(pictures, `${++taken}-${name}.png`), fullPage: true });
}

async function say(tab, text) {
  await tab.getByLabel('Message', { exact: true }).fill(text);
  await tab.getByRole('button', { name: 'Send' }).click();
}

const status = (tab, text) => tab.getByRole('status').filter({ hasText: text }).waitFor();
const line = (tab, text) => tab.getByRole('log').getByText(text, { exact: true }).waitFor();
const digits = (tab) => tab.locator('#check').textContent();

// The source shows a code and a link.
const source = await openTab(`${address}?relay=${relay}`, { viewport: { width: 900, height: 900 } });
await picture(source, 'begin');
await source.getByLabel('Name of this device').fill('Laptop');
await source.getByRole('button', { name: 'Show the code' }).click();
await source.getByRole('img', { name: 'QR code' }).waitFor();
await picture(source, 'invite');
const link = await source.getByLabel('Link for the other device').inputValue();
assert.match(link, /#target=[\w-]+$/);

// A phone opens the link, joins, and both are told of each other.
const phone = { viewport: { width: 390, height: 844 }, colorScheme: 'dark', hasTouch: true };
const target = await openTab(link, phone);
await picture(target, 'invited');
await target.getByText('Join Laptop?').waitFor();
await target.getByLabel('Name of this device').fill('Phone');
await target.getByRole('button', { name: 'Join' }).click();
await status(source, 'Paired with Phone');
await status(target, 'Paired with Laptop');
assert.equal(await digits(source), await digits(target));
assert.match(await digits(source), /^\d{3} \d{3}$/);

// Text goes both ways, also what HTML would take for a tag.
await say(source, 'Hello, phone');
await line(target, 'Hello, phone');
await say(target, '<b>Hello</b> & gr\u00fcn \u{1f600}');
await line(source, '<b>Hello</b> & gr\u00fcn \u{1f600}');
await picture(source, 'paired');
await picture(target, 'paired');

// Each of them comes back after a reload, with what was said.
for (const [tab, other, name] of [[target, source, 'Phone'], [source, target, 'Laptop']]) {
  await tab.reload();
  await line(other, `${name} is gone; it may come back.`);
  await status(other, `Paired with ${name}`);
  await status(tab, 'Paired with');
  await line(tab, 'Hello, phone');
  await say(tab, `${name} is back`);
  await line(other, `${name} is back`);
}

// A third device is refused, and what is no invitation says so.
const third = await openTab(link, phone);
await third.getByRole('button', { name: 'Join' }).click();
await status(third, 'another device has joined it');
await picture(third, 'refused');
const lost = await openTab(`${address}#target=nonsense`);
await status(lost, 'not one of a pairing');

// One that goes is missed; its peer can start over.
await target.close();
await status(source, 'Waiting for the other device to come back');
await say(source, 'Anybody there?');
await source.getByRole('log').getByText('was not delivered').waitFor();
await picture(source, 'alone');
await source.getByRole('button', { name: 'End and start over' }).click();
await source.getByRole('button', { name: 'Show the code' }).waitFor();

assert.deepEqual(complaints, []);
await browser.close();
server.close();
console.log('ok');
