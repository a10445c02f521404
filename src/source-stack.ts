/**
 * Stack traces of the bundle in lines of the source, for logs. Node can do that itself, but then reads every source map at
 * the start and keeps it: 66 MiB at rest, measured. Here a map is read when an error is logged, searched without being
 * taken apart, and forgotten; positions once found are kept. The first error of a kind takes some 50 ms, later ones none.
 *
 * Format of source maps: ECMA-426, https://tc39.es/ecma426/
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { stdSerializers } from 'pino';
import { z } from 'zod';
import { programFolder } from './paths.ts';

/** There are only as many as there are calls in the program. */
const MAX_KNOWN = 10_000;
const known = new Map<string, string>();

/** What is logged of an error: as pino does it, with the stack in lines of the source. */
export function errorForLog(error: Error): object {
  const logged = stdSerializers.err(error);
  if (typeof logged.stack === 'string') logged.stack = sourceStack(logged.stack);
  return logged;
}

const FRAME = /(file:\/\/[^\s()]+\.js):(\d+):(\d+)/g;

/** @returns `stack` with each position in a file of `folder` that has a source map replaced by that of the source */
export function sourceStack(stack: string, folder = programFolder): string {
  const unknown = new Map<string, Position[]>();
  for (const [frame, url = '', line, column] of stack.matchAll(FRAME)) {
    if (!url.startsWith(folder) || known.has(frame)) continue;
    const positions = unknown.get(url) ?? [];
    positions.push({ frame, line: Number(line), column: Number(column) - 1 });
    unknown.set(url, positions);
  }
  for (const [url, positions] of unknown) locate(url, positions);
  return stack.replace(FRAME, (frame) => known.get(frame) ?? frame);
}

/** In a generated file. Lines count from 1, as in stack traces; columns from 0, as in source maps. */
interface Position {
  /** As the stack names it. */
  frame: string;
  line: number;
  column: number;
}

const sourceMap = z.object({ sources: z.array(z.string()), mappings: z.string() });

function locate(url: string, positions: Position[]): void {
  if (known.size > MAX_KNOWN) known.clear();
  // What has no map, or one that cannot be read, is told as it is.
  for (const { frame } of positions) known.set(frame, frame);
  try {
    const { sources, mappings } = sourceMap.parse(JSON.parse(readFileSync(fileURLToPath(`${url}.map`), 'utf8')));
    positions.sort((a, b) => a.line - b.line || a.column - b.column);
    search(mappings, positions, ({ frame }, source, line, column) => {
      known.set(frame, `${new URL(sources[source] ?? '', url).href}:${line + 1}:${column + 1}`);
    });
  } catch {
    // A log line must not fail for want of its source.
  }
}

const digits = new Uint8Array(128);
for (const [value, digit] of [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'].entries())
  digits[digit.charCodeAt(0)] = value;
const COMMA = 44;
const SEMICOLON = 59;

/**
 * Reads the mappings from the beginning, since each number is the difference to the one before, and reports the segment in
 * which each position lies.
 *
 * @param positions in ascending order
 */
function search(
  mappings: string,
  positions: readonly Position[],
  report: (position: Position, source: number, line: number, column: number) => void,
): void {
  let at = 0;
  /** Base 64 VLQ: five bits a digit, the lowest first; the sixth says that more follow; the first bit is the sign. */
  const difference = (): number => {
    let value = 0;
    for (let shift = 0, digit = 32; digit & 32; shift += 5) {
      digit = digits[mappings.charCodeAt(at++)] ?? 0;
      value += (digit & 31) << shift;
    }
    return value & 1 ? -(value >> 1) : value >> 1;
  };
  const ended = (code: number) => code === COMMA || code === SEMICOLON || Number.isNaN(code);

  let next = 0;
  let line = 1;
  let column = 0;
  let mapped = false;
  let [source, sourceLine, sourceColumn] = [0, 0, 0];
  const reportBefore = (end: number) => {
    for (let position = positions[next]; position?.line === line && position.column < end; position = positions[next]) {
      if (mapped) report(position, source, sourceLine, sourceColumn);
      next++;
    }
  };
  while (next < positions.length && at < mappings.length) {
    const code = mappings.charCodeAt(at);
    if (code === SEMICOLON) {
      reportBefore(Number.POSITIVE_INFINITY);
      line++;
      column = 0;
      mapped = false;
      at++;
    } else if (code === COMMA) at++;
    else {
      const begin = column + difference();
      reportBefore(begin);
      column = begin;
      mapped = !ended(mappings.charCodeAt(at));
      if (!mapped) continue;
      source += difference();
      sourceLine += difference();
      sourceColumn += difference();
      // The name, which nobody needs.
      if (!ended(mappings.charCodeAt(at))) difference();
    }
  }
  reportBefore(Number.POSITIVE_INFINITY);
}
