'use strict';

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { test } = require('node:test');

const jwt = require('jsonwebtoken');

const { Client, inCookies, loggedIn } = require('../example/client');

function isError(answer, status, code) {
  assert.equal(answer.status, status);
  assert.equal(typeof answer.body.error.message, 'string');
  if (code) assert.equal(answer.body.error.code, code);
}

test('health needs no login', async () => {
  assert.deepEqual((await new Client().send('GET', '/api/health')).body, { status: 'ok' });
});

test('a login answers with the user and lets in', async () => {
  const client = new Client();
  const answer = await client.logIn('ann');
  assert.equal(answer.status, 200);
  assert.equal(answer.body.user.email, 'ann@notes.example');
  if (!inCookies) {
    assert.equal(answer.body.tokenType, 'Bearer');
    assert.equal(typeof answer.body.accessToken, 'string');
    assert.equal(typeof answer.body.refreshToken, 'string');
  }
  const me = await client.send('GET', '/api/me');
  assert.equal(me.status, 200);
  assert.deepEqual(me.body, { id: 1, email: 'ann@notes.example', name: 'Ann' });
});

test('each cookie of an answer arrives', async () => {
  const client = await loggedIn('ann');
  const names = (await client.send('GET', '/api/me')).headers
    .getSetCookie()
    .map((line) => line.split('=')[0]);
  assert.ok(names.includes('seen'));
  assert.ok(names.includes('locale'));
});

test('a wrong password is refused', async () => {
  const answer = await new Client().send('POST', '/api/auth/login', {
    email: 'ann@notes.example',
    password: 'guess',
  });
  isError(answer, 401, 'bad_credentials');
});

test('strangers are told to log in', async () => {
  isError(await new Client().send('GET', '/api/me'), 401, 'unauthorized');
  isError(await new Client().send('POST', '/api/notes', { text: 'x' }), 401, 'unauthorized');
});

test('garbage and forgeries are refused', async () => {
  const forged = jwt.sign({ userId: 1, role: 'admin' }, 'not the secret of this API, by far', {
    expiresIn: 600,
  });
  for (const token of ['garbage', forged, `${forged}x`]) {
    const client = new Client();
    client.present(token);
    isError(await client.send('GET', '/api/me'), 401);
  }
});

test('an expired token is refused', async () => {
  const client = new Client();
  client.present(
    jwt.sign({ userId: 1, email: 'ann@notes.example', role: 'user' }, process.env.JWT_ACCESS_SECRET, {
      expiresIn: -120,
    }),
  );
  isError(await client.send('GET', '/api/me'), 401);
});

test('refreshing lets in as before', async () => {
  const client = await loggedIn('bob');
  for (let round = 0; round < 3; round += 1) {
    const answer = await client.refresh();
    assert.equal(answer.status, inCookies ? 204 : 200);
    assert.equal((await client.send('GET', '/api/me')).body.id, 2);
  }
});

test('a refresh token that is none is refused', async () => {
  const client = new Client();
  client.refreshToken = 'garbage';
  isError(await client.refresh(), 401, 'unauthorized');
});

test('after logout there is no refreshing', async () => {
  const client = await loggedIn('ann');
  const { refreshToken } = client;
  assert.equal((await client.logOut()).status, 204);
  const later = new Client();
  later.refreshToken = refreshToken;
  isError(await (inCookies ? client : later).refresh(), 401, 'unauthorized');
});

test('notes are written, changed and deleted by their owner', async () => {
  const ann = await loggedIn('ann');
  const bob = await loggedIn('bob');
  const made = await ann.send('POST', '/api/notes', { text: 'milk' });
  assert.equal(made.status, 201);
  const path = `/api/notes/${made.body.id}`;
  assert.equal(made.headers.get('location'), path);
  assert.equal((await ann.send('GET', path)).body.text, 'milk');
  assert.equal((await ann.send('PUT', path, { text: 'bread' })).body.text, 'bread');
  const listed = await ann.send('GET', '/api/notes');
  assert.ok(listed.body.some((note) => note.id === made.body.id));
  isError(await bob.send('GET', path), 403, 'forbidden');
  isError(await bob.send('DELETE', path), 403, 'forbidden');
  assert.equal((await ann.send('DELETE', path)).status, 204);
  isError(await ann.send('GET', path), 404, 'not_found');
});

test('what is not valid is said to be so', async () => {
  const ann = await loggedIn('ann');
  isError(await ann.send('POST', '/api/notes', {}), 422, 'invalid');
  isError(await ann.send('GET', '/api/nothing'), 404, 'not_found');
});

test('only an admin sees the statistics', async () => {
  const [ann, root] = [await loggedIn('ann'), await loggedIn('root')];
  isError(await ann.send('GET', '/api/admin/stats'), 403, 'forbidden');
  const stats = await root.send('GET', '/api/admin/stats');
  assert.equal(stats.status, 200);
  assert.ok(stats.body.users >= 3);
});

test('whoever registers can log in', async () => {
  const email = `${crypto.randomUUID()}@notes.example`;
  const account = { email, password: 'a new password' };
  const client = new Client();
  assert.equal((await client.send('POST', '/api/auth/register', account)).status, 201);
  assert.equal((await client.send('POST', '/api/auth/login', account)).status, 200);
  isError(await new Client().send('POST', '/api/auth/register', account), 409, 'taken');
});

test('long notes arrive whole', async () => {
  const ann = await loggedIn('ann');
  const text = 'long '.repeat(10_000);
  const made = await ann.send('POST', '/api/notes', { text });
  assert.equal(made.status, 201);
  assert.equal((await ann.send('GET', `/api/notes/${made.body.id}`)).body.text, text);
});
