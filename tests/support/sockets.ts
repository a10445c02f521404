/** Requests that no HTTP client would send, byte by byte over TCP. */
import { connect, type Socket } from 'node:net';

export interface RawAnswer {
  /** 0 when the connection ended without an answer. */
  status: number;
  headers: string;
  body: string;
}

export interface RawOptions {
  /** Half-close after sending. */
  end?: boolean;
  /** Milliseconds to wait for an answer. */
  timeout?: number;
}

export function openSocket(url: string): Socket {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  return socket;
}

/** Sends bytes and resolves with the first whole answer, or with what there is when the connection ends. */
export function sendRaw(
  url: string,
  bytes: Buffer | string,
  { end = false, timeout = 120_000 }: RawOptions = {},
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const socket = openSocket(url);
    let received = '';
    const finish = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(parse(received));
    };
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no answer within ${timeout} ms`));
    }, timeout);
    socket.on('data', (chunk) => {
      received = withoutContinue(received + chunk.toString('latin1'));
      if (isWhole(received)) finish();
    });
    socket.on('close', finish);
    socket.write(bytes);
    if (end) socket.end();
  });
}

function withoutContinue(text: string): string {
  return text.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '');
}

function isWhole(text: string): boolean {
  const end = text.indexOf('\r\n\r\n');
  const length = /content-length: (\d+)/i.exec(text.slice(0, end))?.[1];
  return end !== -1 && length !== undefined && text.length >= end + 4 + Number(length);
}

function parse(text: string): RawAnswer {
  const end = text.indexOf('\r\n\r\n');
  return {
    status: Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0),
    headers: text.slice(0, end),
    body: text.slice(end + 4),
  };
}

/** With RST, as a process that crashes; a socket whose other end is gone already is just closed, for it could not be reset. */
export function reset(socket: Socket): void {
  if (socket.readyState === 'open') socket.resetAndDestroy();
  else socket.destroy();
}
