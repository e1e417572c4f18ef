'use strict';

function required(env, name) {
  const value = env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

/** Everything that the environment decides. Tokens travel in a header or in cookies, never both. */
function readConfig(env) {
  return {
    host: env.HOST || '127.0.0.1',
    port: Number(env.PORT || 3000),
    accessSecret: required(env, 'JWT_ACCESS_SECRET'),
    refreshSecret: required(env, 'JWT_REFRESH_SECRET'),
    accessSeconds: Number(env.ACCESS_SECONDS || 15 * 60),
    refreshSeconds: Number(env.REFRESH_SECONDS || 30 * 24 * 3600),
    transport: env.TOKEN_TRANSPORT === 'cookie' ? 'cookie' : 'header',
    secureCookies: env.SECURE_COOKIES === 'true',
  };
}

module.exports = { readConfig };
