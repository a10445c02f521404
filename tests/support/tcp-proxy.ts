/** A TCP proxy on loopback whose faults are switched at run time, to stand in front of Postgres or S3. */
import { connect, createServer, type Socket } from 'node:net';

export type Fault =
  | 'none'
  /** Connections are closed at once, and those that are open are reset. */
  | 'refuse'
  /** Nothing is passed on in either direction. */
  | 'stall';

interface Pair {
  client: Socket;
  upstream: Socket;
  /** Passes nothing on any more, whatever the fault. */
  isHung: boolean;
}

export class TcpProxy {
  #target: { host: string; port: number } = { host: '', port: 0 };
  readonly #server = createServer((client) => this.#accept(client));
  readonly #pairs = new Set<Pair>();
  #fault: Fault = 'none';
  /** Asked for each chunk that comes back from the target; false drops it and resets the connection. */
  passAnswer: (request: string, answer: Buffer) => boolean = () => true;
  port = 0;

  constructor(target: string) {
    this.target = target;
  }

  /** Where connections that are accepted from now on lead. */
  set target(url: string) {
    const { hostname, port } = new URL(url);
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
    return replaced.href.replace(/\/$/, '');
  }

  /** Connections that are open pass nothing on any more, and nobody is told; new ones are as good as ever. */
  hang(): void {
    for (const pair of this.#pairs) {
      pair.isHung = true;
      for (const socket of [pair.client, pair.upstream]) socket.pause();
    }
  }

  set fault(fault: Fault) {
    this.#fault = fault;
    for (const { client, upstream, isHung } of this.#pairs) {
      if (fault === 'refuse') {
        client.resetAndDestroy();
        upstream.destroy();
      } else {
        for (const socket of [client, upstream]) {
          if (fault === 'stall') socket.pause();
          else if (!isHung) socket.resume();
        }
      }
    }
  }

  async close(): Promise<void> {
    this.fault = 'refuse';
    await new Promise((closed) => this.#server.close(closed));
  }

  #passes({ isHung }: Pair): boolean {
    return this.#fault !== 'stall' && !isHung;
  }

  #accept(client: Socket): void {
    client.on('error', () => {});
    if (this.#fault === 'refuse') {
      client.resetAndDestroy();
      return;
    }
    const upstream = connect(this.#target.port, this.#target.host);
    upstream.on('error', () => {});
    const pair: Pair = { client, upstream, isHung: false };
    this.#pairs.add(pair);
    let request = '';
    client.on('data', (chunk) => {
      request = (request + chunk.toString('latin1', 0, 4096)).slice(0, 65_536);
      if (!upstream.write(chunk)) {
        client.pause();
        upstream.once('drain', () => this.#passes(pair) && client.resume());
      }
    });
    upstream.on('data', (chunk) => {
      if (!this.passAnswer(request, chunk)) {
        client.resetAndDestroy();
        upstream.destroy();
        return;
      }
      request = '';
      if (!client.write(chunk)) {
        upstream.pause();
        client.once('drain', () => this.#passes(pair) && upstream.resume());
      }
    });
    if (this.#fault === 'stall') for (const socket of [client, upstream]) socket.pause();
    client.on('close', () => {
      this.#pairs.delete(pair);
      upstream.destroy();
    });
    upstream.on('close', () => client.destroy());
  }
}
