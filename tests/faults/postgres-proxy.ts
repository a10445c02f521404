/**
 * Stands between the service and a real Postgres and breaks connections at chosen statements: before the server gets to
 * know of one, or after it has done it and before its answer is passed on. It knows so much of the protocol (PostgreSQL
 * documentation, chapter "Frontend/Backend Protocol", section "Message Flow") as to tell where a statement begins and ends.
 */
import { connect, createServer, type Socket } from 'node:net';
import { reset } from '../support/sockets.ts';

const QUERY = 'Q'.charCodeAt(0);
const PARSE = 'P'.charCodeAt(0);
const BIND = 'B'.charCodeAt(0);
const SYNC = 'S'.charCodeAt(0);
const READY_FOR_QUERY = 'Z'.charCodeAt(0);
/** Of COPY FROM STDIN: the server asks for rows; the client sends some, ends, or fails. */
const COPY_IN = 'G'.charCodeAt(0);
const COPY_ROWS = [...'dcf'].map((letter) => letter.charCodeAt(0));

export class PostgresProxy {
  readonly #target: { host: string; port: number };
  readonly #server = createServer((client) => this.#accept(client));
  readonly #sockets = new Set<Socket>();
  /** Awaited before a statement is passed on, and when the server has answered it. Rejecting resets the connection. */
  before: (statement: string) => Promise<void> | void = () => {};
  after: (statement: string) => Promise<void> | void = () => {};
  /** While true, connections are reset at once: the server is dead. */
  dead = false;
  port = 0;

  constructor(target: string) {
    const { hostname, port } = new URL(target);
    this.#target = { host: hostname, port: Number(port) };
  }

  async listen(): Promise<this> {
    await new Promise<void>((listening) => this.#server.listen(0, '127.0.0.1', listening));
    const address = this.#server.address();
    if (typeof address === 'object' && address) this.port = address.port;
    return this;
  }

  /** The target's URL with the proxy in its place. */
  replaceIn(url: string): string {
    const replaced = new URL(url);
    replaced.hostname = '127.0.0.1';
    replaced.port = String(this.port);
    return replaced.href;
  }

  heal(): void {
    this.before = () => {};
    this.after = () => {};
    this.dead = false;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((closed) => this.#server.close(closed));
  }

  #accept(client: Socket): void {
    const server = connect(this.#target.port, this.#target.host);
    const resetBoth = () => {
      reset(client);
      server.destroy();
    };
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    if (this.dead) {
      resetBoth();
      return;
    }
    const asked = new Messages(true);
    const answered = new Messages(false);
    /** Of the statement under way. */
    let text: string | undefined;
    let parsed = '';
    let queue = Promise.resolve();
    const inOrder = (work: () => Promise<void>) => {
      queue = queue.then(work).catch(resetBoth);
    };
    let group: Buffer[] = [];
    /** Texts of prepared statements, by their names. */
    const prepared = new Map<string, string>();
    client.on('data', (chunk) => {
      for (const { type, message } of asked.read(chunk)) {
        if (type === undefined) {
          server.write(message);
          continue;
        }
        if (COPY_ROWS.includes(type)) {
          inOrder(async () => void server.write(message));
          continue;
        }
        group.push(message);
        if (type === PARSE) {
          const [name, statement] = texts(message, 2);
          parsed = statement ?? '';
          prepared.set(name ?? '', parsed);
        }
        if (type === BIND && parsed === '') parsed = prepared.get(texts(message, 2)[1] ?? '') ?? '';
        if (type === QUERY) parsed = message.toString('utf8', 5, message.length - 1);
        if (type !== QUERY && type !== SYNC && parsed !== '') continue;
        const whole = Buffer.concat(group);
        const statement = type === QUERY || type === SYNC ? parsed : undefined;
        group = [];
        parsed = '';
        inOrder(async () => {
          if (this.dead) throw new Error('dead');
          if (statement !== undefined) await this.before(statement);
          text = statement;
          server.write(whole);
        });
      }
    });
    let held: Buffer[] = [];
    server.on('data', (chunk) => {
      for (const { type, message } of answered.read(chunk)) {
        held.push(message);
        if (type === COPY_IN) {
          const asks = Buffer.concat(held);
          held = [];
          inOrder(async () => void client.write(asks));
          continue;
        }
        if (text !== undefined && type !== READY_FOR_QUERY) continue;
        const whole = Buffer.concat(held);
        const statement = text;
        held = [];
        text = undefined;
        inOrder(async () => {
          if (statement !== undefined) await this.after(statement);
          if (this.dead) throw new Error('dead');
          client.write(whole);
        });
      }
    });
  }
}

/** The first strings of a message, each of which ends with a zero: of Parse a name and a text, of Bind a portal and a name. */
function texts(message: Buffer, count: number): string[] {
  const found: string[] = [];
  for (let begin = 5; found.length < count; ) {
    const end = message.indexOf(0, begin);
    found.push(message.toString('utf8', begin, end));
    begin = end + 1;
  }
  return found;
}

/** Cuts a stream of bytes into messages: a type and a length, but for the first of a client, which has no type. */
class Messages {
  #rest = Buffer.alloc(0);
  #first: boolean;

  constructor(fromClient: boolean) {
    this.#first = fromClient;
  }

  *read(chunk: Buffer): Generator<{ type: number | undefined; message: Buffer }> {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const head = this.#first ? 0 : 1;
      if (this.#rest.length < head + 4) return;
      const length = head + this.#rest.readUInt32BE(head);
      if (this.#rest.length < length) return;
      const message = this.#rest.subarray(0, length);
      this.#rest = this.#rest.subarray(length);
      yield { type: this.#first ? undefined : message[0], message };
      this.#first = false;
    }
  }
}
