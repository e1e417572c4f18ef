'use strict';

const { createApp } = require('./app');
const { readConfig } = require('./config');

const config = readConfig(process.env);
const server = createApp(config).listen(config.port, config.host, () => {
  console.log(`notes-api listens on ${config.host}:${server.address().port}`);
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections?.();
  });
}
