/**
 * What a scan takes, from a process of its own: `node bench/scanning.ts OPTIONS`, with a JSON object as its only argument.
 * Prints milliseconds, one after the other: of uploads, or of the same bytes sent to clamd and nothing else.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { png } from '../tests/support/files.ts';

export type ScanningOptions = { size: number; count: number } & (
  | { kind: 'clamd'; socket: string }
  | { kind: 'uploads'; url: string; headers: Record<string, string> }
);

const options = JSON.parse(process.argv[2] ?? '{}') as ScanningOptions;
const CHUNK = 256 * 1024;
const bytes = png(options.size);
const times: number[] = [];
for (let round = 0; round < options.count; round++) {
  const startedAt = performance.now();
  await (options.kind === 'clamd' ? scan(options.socket) : upload(options.url, options.headers));
  times.push(performance.now() - startedAt);
}
console.log(JSON.stringify(times));

/** The least that a scan can be. */
async function scan(path: string): Promise<void> {
  const socket = connect({ path });
  await once(socket, 'connect');
  socket.write('zINSTREAM\0');
  for (let at = 0; at < bytes.length; at += CHUNK) {
    const chunk = bytes.subarray(at, at + CHUNK);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(chunk.length);
    socket.write(length);
    if (!socket.write(chunk)) await once(socket, 'drain');
  }
  socket.write(Buffer.alloc(4));
  const [answer] = await once(socket, 'data');
  if (!String(answer).startsWith('stream: OK')) throw new Error(String(answer));
  socket.destroy();
}

async function upload(url: string, headers: Record<string, string>): Promise<void> {
  const answer = await fetch(`${url}/v1/assets/raw/scanned.png`, { method: 'PUT', headers, body: bytes });
  const body = await answer.text();
  if (answer.status !== 201 || !body.includes('"state":"ready"')) throw new Error(`${answer.status} ${body}`);
}
