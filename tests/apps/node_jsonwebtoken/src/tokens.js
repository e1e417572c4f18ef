'use strict';

const crypto = require('node:crypto');
const jwt = require('jsonwebtoken');

const ALGORITHM = 'HS256';

/** Signs and verifies this API's tokens. Refresh tokens can be taken back, access tokens cannot. */
class Tokens {
  #refreshes = new Map(); // jti -> user id

  constructor(config) {
    this.config = config;
  }

  access(user) {
    return jwt.sign(
      { userId: user.id, email: user.email, role: user.role },
      this.config.accessSecret,
      { algorithm: ALGORITHM, expiresIn: this.config.accessSeconds },
    );
  }

  refresh(user) {
    const jti = crypto.randomUUID();
    this.#refreshes.set(jti, user.id);
    return jwt.sign({ userId: user.id }, this.config.refreshSecret, {
      algorithm: ALGORITHM,
      expiresIn: this.config.refreshSeconds,
      jwtid: jti,
    });
  }

  /** The claims of a good access token; throws jsonwebtoken's errors. */
  readAccess(token) {
    return jwt.verify(token, this.config.accessSecret, { algorithms: [ALGORITHM] });
  }

  /** The claims of a refresh token that nobody has taken back, or null. */
  readRefresh(token) {
    try {
      const claims = jwt.verify(token, this.config.refreshSecret, { algorithms: [ALGORITHM] });
      return this.#refreshes.get(claims.jti) === claims.userId ? claims : null;
    } catch {
      return null;
    }
  }

  takeBack(token) {
    const claims = this.readRefresh(token);
    if (claims) this.#refreshes.delete(claims.jti);
  }
}

module.exports = { Tokens };
