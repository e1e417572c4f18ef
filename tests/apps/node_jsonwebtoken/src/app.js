'use strict';

const cookieParser = require('cookie-parser');
const express = require('express');

const { seeded } = require('./store');
const { Tokens } = require('./tokens');

class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const unauthorized = () => new ApiError(401, 'unauthorized', 'Log in first');

function createApp(config) {
  const store = seeded();
  const tokens = new Tokens(config);
  const inCookies = config.transport === 'cookie';
  const app = express();
  app.disable('x-powered-by');
  app.use(express.json({ limit: '100kb' }));
  app.use(cookieParser());

  const cookie = (path, seconds) => ({
    httpOnly: true,
    sameSite: 'lax',
    secure: config.secureCookies,
    path,
    ...(seconds ? { maxAge: seconds * 1000 } : {}),
  });

  function presented(req) {
    if (inCookies) return req.cookies.access_token;
    const [scheme, token] = (req.get('authorization') || '').split(' ');
    return scheme === 'Bearer' ? token : undefined;
  }

  function authenticate(req, res, next) {
    const token = presented(req);
    if (!token) return next(unauthorized());
    try {
      req.auth = tokens.readAccess(token);
    } catch (error) {
      if (error.name === 'TokenExpiredError') {
        return next(new ApiError(401, 'token_expired', 'Access token expired'));
      }
      return next(unauthorized());
    }
    return next();
  }

  function authorize(role) {
    return (req, res, next) =>
      next(req.auth.role === role ? undefined : new ApiError(403, 'forbidden', 'Not allowed'));
  }

  function ownNote(req) {
    const note = store.note(Number(req.params.id));
    if (!note) throw new ApiError(404, 'not_found', 'No such note');
    if (note.ownerId !== req.auth.userId) throw new ApiError(403, 'forbidden', 'Not your note');
    return note;
  }

  const shown = (user) => ({ id: user.id, email: user.email, name: user.name });

  // ---- accounts --------------------------------------------------------------------------------

  app.post('/api/auth/register', (req, res) => {
    const { email, password, name } = req.body;
    if (!email || !password) throw new ApiError(422, 'invalid', 'email and password, please');
    const user = store.addUser({ email, password, name: name || email });
    if (!user) throw new ApiError(409, 'taken', 'This address has an account');
    res.status(201).json({ user: shown(user) });
  });

  app.post('/api/auth/login', (req, res) => {
    const user = store.authenticate(req.body.email, req.body.password);
    if (!user) throw new ApiError(401, 'bad_credentials', 'Wrong email or password');
    const accessToken = tokens.access(user);
    const refreshToken = tokens.refresh(user);
    if (!inCookies) {
      res.json({ user: shown(user), accessToken, refreshToken, tokenType: 'Bearer' });
      return;
    }
    res.cookie('locale', 'en', { path: '/' });
    res.cookie('access_token', accessToken, cookie('/', config.refreshSeconds));
    res.cookie('refresh_token', refreshToken, cookie('/api/auth', config.refreshSeconds));
    res.json({ user: shown(user) });
  });

  app.post('/api/auth/refresh', (req, res) => {
    const claims = tokens.readRefresh(inCookies ? req.cookies.refresh_token : req.body.refreshToken);
    const user = claims && store.user(claims.userId);
    if (!user) throw unauthorized();
    const accessToken = tokens.access(user);
    if (!inCookies) {
      res.json({ accessToken, tokenType: 'Bearer' });
      return;
    }
    res.cookie('access_token', accessToken, cookie('/', config.refreshSeconds));
    res.status(204).end();
  });

  app.post('/api/auth/logout', (req, res) => {
    tokens.takeBack(inCookies ? req.cookies.refresh_token : req.body.refreshToken);
    if (inCookies) {
      res.clearCookie('access_token', cookie('/'));
      res.clearCookie('refresh_token', cookie('/api/auth'));
    }
    res.status(204).end();
  });

  // ---- what it is for --------------------------------------------------------------------------

  app.get('/api/health', (req, res) => res.json({ status: 'ok' }));

  app.get('/api/me', authenticate, (req, res) => {
    res.cookie('seen', 'yes', { path: '/' });
    res.cookie('locale', 'en', { path: '/' });
    res.json(shown(store.user(req.auth.userId)));
  });

  app.get('/api/notes', authenticate, (req, res) => {
    res.set('Cache-Control', 'private, max-age=5').json(store.notesOf(req.auth.userId));
  });

  app.post('/api/notes', authenticate, (req, res) => {
    if (!req.body.text) throw new ApiError(422, 'invalid', 'A note has a text');
    const note = store.addNote(req.auth.userId, req.body.text);
    res.status(201).location(`/api/notes/${note.id}`).json(note);
  });

  app.get('/api/notes/:id', authenticate, (req, res) => res.json(ownNote(req)));

  app.put('/api/notes/:id', authenticate, (req, res) => {
    const note = ownNote(req);
    note.text = req.body.text;
    res.json(note);
  });

  app.delete('/api/notes/:id', authenticate, (req, res) => {
    store.deleteNote(ownNote(req).id);
    res.status(204).end();
  });

  app.get('/api/admin/stats', authenticate, authorize('admin'), (req, res) => {
    res.json(store.counts);
  });

  app.use((req, res, next) => next(new ApiError(404, 'not_found', 'No such route')));

  // eslint-disable-next-line no-unused-vars -- Express knows an error handler by its four arguments
  app.use((error, req, res, next) => {
    const status = error.status || 500;
    const code = error.code || (status < 500 ? 'bad_request' : 'internal');
    if (status >= 500) console.error(error);
    res.status(status).json({ error: { code, message: error.message } });
  });

  return app;
}

module.exports = { createApp };
