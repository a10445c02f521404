/** Lines of the log for people: the time, the level, what happened, and what belongs to it. */

const levels: Record<number, string> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' };
/** The same in each line, or told in another way. */
const left = new Set(['level', 'time', 'pid', 'hostname', 'msg', 'err', 'reqId']);

/** @param line of pino, JSON; whatever is no JSON stays as it is */
export function prettyLine(line: string): string {
  const entry = parse(line);
  if (!entry) return line;
  const { level, time, msg, err } = entry;
  const clock = typeof time === 'number' ? new Date(time).toISOString().slice(11, 23) : '';
  const name = (levels[Number(level)] ?? 'info').padEnd(5);
  const more = Object.entries(entry)
    .filter(([key]) => !left.has(key))
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const stack = err instanceof Object && 'stack' in err ? `\n${String(err.stack).replace(/^/gm, '    ')}` : '';
  return `${printable(`${clock} ${name} ${String(msg ?? '')}${more.join('')}`)}${stack}\n`;
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const entry: unknown = JSON.parse(line);
    return entry instanceof Object ? { ...entry } : undefined;
  } catch {
    return undefined;
  }
}

/** What clients sent must not steer the terminal. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, '?');
}
