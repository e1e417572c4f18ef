'use strict';

const crypto = require('node:crypto');
const jwt = require('jsonwebtoken');

const ALGORITHM = 'HS256';

/** Signs and verifies this API's tokens. Refresh tokens can be taken back, access tokens cannot. */
class Tokens {
  #takenBack = new Set(); // jti

  constructor(config) {
    this.config = config;
  }

  access(user) {
    return jwt.sign(
      { userId: user.id, email: user.email, role: user.role },
      this.config.accessSecret,
      {
        algorithm: ALGORITHM,
        expiresIn: this.config.accessSeconds,
        jwtid: crypto.randomUUID(),
      },
    );
  }

  refresh(user) {
    return jwt.sign({ userId: user.id }, this.config.refreshSecret, {
      algorithm: ALGORITHM,
      expiresIn: this.config.refreshSeconds,
      jwtid: crypto.randomUUID(),
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
      return this.#takenBack.has(claims.jti) ? null : claims;
    } catch {
      return null;
    }
  }

  takeBack(token) {
    const claims = this.readRefresh(token);
    if (claims) this.#takenBack.add(claims.jti);
  }
}

module.exports = { Tokens };
