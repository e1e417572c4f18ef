'use strict';

const base = process.env.BASE_URL;
const inCookies = process.env.TOKEN_TRANSPORT === 'cookie';
if (!base) throw new Error('BASE_URL is not set');

/** What a front end of this API does: keeps what login gave it, and sends it back. */
class Client {
  #cookies = new Map(); // name -> {value, path}
  accessToken = null;
  refreshToken = null;

  async send(method, path, body, headers = {}) {
    const sent = { ...headers };
    if (body !== undefined) sent['content-type'] = 'application/json';
    if (this.accessToken) sent.authorization = `Bearer ${this.accessToken}`;
    const cookies = [...this.#cookies].filter(([, kept]) => path.startsWith(kept.path));
    if (cookies.length) {
      sent.cookie = cookies.map(([name, kept]) => `${name}=${kept.value}`).join('; ');
    }
    const response = await fetch(base + path, {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      redirect: 'manual',
    });
    for (const line of response.headers.getSetCookie()) this.#keep(line);
    const text = await response.text();
    const isJson = (response.headers.get('content-type') || '').includes('json');
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
  }

  #keep(line) {
    const [pair, ...attributes] = line.split(';').map((part) => part.trim());
    const at = pair.indexOf('=');
    const named = Object.fromEntries(
      attributes.map((attribute) => {
        const [name, value = ''] = attribute.split('=');
        return [name.toLowerCase(), value];
      }),
    );
    const isOver = named['max-age'] === '0' || (named.expires && new Date(named.expires) <= new Date());
    if (isOver) this.#cookies.delete(pair.slice(0, at));
    else this.#cookies.set(pair.slice(0, at), { value: pair.slice(at + 1), path: named.path || '/' });
  }

  async logIn(name = 'ann') {
    const answer = await this.send('POST', '/api/auth/login', {
      email: `${name}@notes.example`,
      password: `${name}-s-password`,
    });
    if (!inCookies && answer.status === 200) {
      this.accessToken = answer.body.accessToken;
      this.refreshToken = answer.body.refreshToken;
    }
    return answer;
  }

  async refresh() {
    const answer = await this.send('POST', '/api/auth/refresh', { refreshToken: this.refreshToken });
    if (!inCookies && answer.status === 200) this.accessToken = answer.body.accessToken;
    return answer;
  }

  async logOut() {
    return this.send('POST', '/api/auth/logout', { refreshToken: this.refreshToken });
  }

  /** Put something in the place of the access token. */
  present(token) {
    if (inCookies) this.#cookies.set('access_token', { value: token, path: '/' });
    else this.accessToken = token;
  }
}

async function loggedIn(name) {
  const client = new Client();
  const answer = await client.logIn(name);
  if (answer.status !== 200) throw new Error(`login answered ${answer.status}`);
  return client;
}

module.exports = { Client, inCookies, loggedIn };
