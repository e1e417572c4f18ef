'use strict';

const crypto = require('node:crypto');

function hash(password, salt) {
  return crypto.scryptSync(password, salt, 32, { N: 1024 });
}

/** Users and their notes, in memory. */
class Store {
  #users = [];
  #notes = new Map();
  #nextNote = 1;

  addUser({ email, password, name, role = 'user' }) {
    if (this.findUser(email)) return null;
    const salt = crypto.randomBytes(16);
    const user = { id: this.#users.length + 1, email, name, role, salt, hash: hash(password, salt) };
    this.#users.push(user);
    return user;
  }

  findUser(email) {
    return this.#users.find((user) => user.email === email);
  }

  user(id) {
    return this.#users.find((user) => user.id === id);
  }

  authenticate(email, password) {
    const user = this.findUser(email);
    if (!user || typeof password !== 'string') return null;
    return crypto.timingSafeEqual(user.hash, hash(password, user.salt)) ? user : null;
  }

  notesOf(userId) {
    return [...this.#notes.values()].filter((note) => note.ownerId === userId);
  }

  note(id) {
    return this.#notes.get(id);
  }

  addNote(ownerId, text) {
    const note = { id: this.#nextNote++, ownerId, text };
    this.#notes.set(note.id, note);
    return note;
  }

  deleteNote(id) {
    this.#notes.delete(id);
  }

  get counts() {
    return { users: this.#users.length, notes: this.#notes.size };
  }
}

function seeded() {
  const store = new Store();
  store.addUser({ email: 'ann@notes.example', password: 'ann-s-password', name: 'Ann' });
  store.addUser({ email: 'bob@notes.example', password: 'bob-s-password', name: 'Bob' });
  store.addUser({
    email: 'root@notes.example', password: 'root-s-password', name: 'Root', role: 'admin',
  });
  return store;
}

module.exports = { Store, seeded };
