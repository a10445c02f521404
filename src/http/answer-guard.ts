/**
 * Every answer has a lowest rate: of a file, a list, a page of the reference or a refusal alike. A connection whose other
 * side does not take what is written is closed, so unread answers hold memory and sockets for a bounded time; and what all
 * of them hold together is bounded too, per caller first.
 *
 * What counts is what the system took over from this process, not what was written: `writeQueueSize` of the handle, which
 * Node's own time-outs look at too, tells what is left of a large write. The system takes megabytes at once and then
 * nothing until the other side has read a good part of them (1.4 MB at a time, measured on the loopback interface of
 * Linux), so a reader is judged by a balance over time (Pace), not from look to look. What the system takes before it
 * stops for the first time says nothing about the reader, and counts for nothing.
 */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { Problem, RETRY_SOON } from '../problems.ts';
import { callerIdOf } from './authentication.ts';
import { Pace } from './pace.ts';
import { CONTENDED_RATE } from './slow-clients.ts';

/** How long nothing may move while others wait. Milliseconds. */
const CONTENDED_GRACE = 5000;
/** Answers that wait to be read, in memory: of one caller, and of all. Bytes. */
const MAX_UNREAD_OF_CALLER = 16 * 1024 * 1024;
const MAX_UNREAD = 64 * 1024 * 1024;
/** Answers up to this are not counted: a connection costs as much by itself. Bytes. */
const SMALL = 4096;
/** Milliseconds. */
const LOOK_EVERY = 1000;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** All answers of this route are one buffer, which is there anyway. */
    sharedAnswer?: boolean;
  }
}

export interface AnswerGuardOptions {
  /** Bytes per second; 0 for no limit. */
  minimumRate: number;
  /** Milliseconds without a byte that are allowed to everybody. */
  grace: number;
  onSlow?: () => void;
}

interface Answer {
  callerId: string;
  /** Bytes in memory. */
  bytes: number;
  /** Taken over by the system when it was looked last. */
  taken: number;
  at: number;
  /** From the first time that the system had taken enough. */
  paces: { least: Pace | undefined; contended: Pace } | undefined;
}

export class AnswerGuard {
  readonly #options: AnswerGuardOptions;
  readonly #answers = new Map<ServerResponse, Answer>();
  readonly #unread = new Map<string, number>();
  #total = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: AnswerGuardOptions) {
    this.#options = options;
  }

  /** Looks after an answer, from the request on. */
  watch(response: ServerResponse): void {
    this.#answers.set(response, {
      callerId: '',
      bytes: 0,
      taken: response.socket ? takenOver(response.socket) : 0,
      at: performance.now(),
      paces: undefined,
    });
    response.once('close', () => this.#forget(response));
    const every = Math.min(LOOK_EVERY, this.#options.grace / 4);
    this.#timer ??= setInterval(() => this.#look(), every).unref();
  }

  /**
   * Takes an answer into memory, until it is sent.
   * @throws Problem overloaded when the caller, or all callers together, leave too much unread
   */
  keep(response: ServerResponse, callerId: string, bytes: number): void {
    const answer = this.#answers.get(response);
    if (!answer) return;
    if (this.#ofCaller(callerId) + bytes > MAX_UNREAD_OF_CALLER) this.#makeRoom((each) => each.callerId === callerId);
    if (this.#total + bytes > MAX_UNREAD) this.#makeRoom(() => true);
    if (this.#ofCaller(callerId) + bytes > MAX_UNREAD_OF_CALLER || this.#total + bytes > MAX_UNREAD) {
      throw new Problem('overloaded', {
        detail: 'Too many answers wait to be read. Read them, or try again later.',
        retryAfter: RETRY_SOON,
      });
    }
    Object.assign(answer, { callerId, bytes: answer.bytes + bytes });
    this.#total += bytes;
    this.#unread.set(callerId, this.#ofCaller(callerId) + bytes);
  }

  /** Bytes by which the reader is ahead of the rate that holds while others wait. */
  balanceOf(response: ServerResponse): number {
    return this.#answers.get(response)?.paces?.contended.balance ?? Number.POSITIVE_INFINITY;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #ofCaller(callerId: string): number {
    return this.#unread.get(callerId) ?? 0;
  }

  #forget(response: ServerResponse): void {
    const answer = this.#answers.get(response);
    if (!answer) return;
    this.#answers.delete(response);
    if (this.#answers.size === 0) this.close();
    if (answer.bytes === 0) return;
    this.#total -= answer.bytes;
    const left = this.#ofCaller(answer.callerId) - answer.bytes;
    if (left > 0) this.#unread.set(answer.callerId, left);
    else this.#unread.delete(answer.callerId);
  }

  #look(): void {
    for (const [response, answer] of this.#answers) {
      const { socket } = response;
      if (!socket || socket.destroyed) continue;
      const now = performance.now();
      const taken = takenOver(socket);
      const [moved, waited] = [taken - answer.taken, now - answer.at];
      Object.assign(answer, { taken, at: now });
      if (!isWaiting(socket)) continue;
      if (!answer.paces) {
        answer.paces = this.#paces();
        continue;
      }
      const { least, contended } = answer.paces;
      for (const pace of [least, contended]) {
        pace?.moved(moved);
        pace?.waited(waited);
      }
      if (least && least.balance <= 0) this.#end(response);
    }
  }

  #paces() {
    const { minimumRate, grace } = this.#options;
    const least = minimumRate > 0 ? new Pace({ rate: minimumRate, grace }) : undefined;
    const contended = new Pace({ rate: CONTENDED_RATE, grace: CONTENDED_GRACE });
    return { least, contended };
  }

  /** Of the answers that are not read, those that have not been for some time give up their memory. */
  #makeRoom(concerns: (answer: Answer) => boolean): void {
    for (const [response, answer] of this.#answers)
      if (answer.bytes > 0 && concerns(answer) && this.balanceOf(response) <= 0) this.#end(response);
  }

  #end(response: ServerResponse): void {
    this.#options.onSlow?.();
    response.socket?.destroy();
    // Its memory is free from now on; `close` comes a little later.
    this.#forget(response);
  }
}

/** Answers that are made in one piece are kept in memory until they are sent; streams have bounds of their own. */
export function boundAnswers(app: FastifyInstance, guard: AnswerGuard): void {
  app.addHook('onSend', async (request, reply, payload) => {
    const bytes = typeof payload === 'string' || Buffer.isBuffer(payload) ? Buffer.byteLength(payload) : 0;
    if (bytes > SMALL && !reply.routeOptions.config.sharedAnswer)
      guard.keep(reply.raw, callerIdOf(request) ?? `address ${request.ip}`, bytes);
    return payload;
  });
}

/** Whether something was written that the system has not taken over. */
function isWaiting(socket: Socket): boolean {
  return socket.writableLength > 0 || queueOf(socket) > 0;
}

/** Bytes of this connection that the system has taken over. */
function takenOver(socket: Socket): number {
  const dispatched: unknown = Reflect.get(socket, '_bytesDispatched');
  return (typeof dispatched === 'number' ? dispatched : socket.bytesWritten - socket.writableLength) - queueOf(socket);
}

/** Bytes that were handed to the system and that it has not taken over. */
function queueOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const size: unknown = handle instanceof Object ? Reflect.get(handle, 'writeQueueSize') : 0;
  return typeof size === 'number' ? size : 0;
}
