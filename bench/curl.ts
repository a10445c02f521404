/** Large bodies are sent and fetched by curl: the same client for the service and for its yardsticks. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** Runs curl. @returns seconds from its first to its last byte, and what it was answered */
export async function curl(url: string, ...args: string[]): Promise<{ seconds: number; body: string }> {
  const { stdout } = await promisify(execFile)(
    'curl',
    // No `Expect: 100-continue`: it would cost the service a round trip that the object store is not asked for.
    ['-sS', '-H', 'Expect:', '-w', '\n%{http_code} %{time_total}', ...args, url],
    { maxBuffer: 1024 * 1024 },
  );
  const end = stdout.lastIndexOf('\n');
  const [status, seconds] = stdout.slice(end + 1).split(' ');
  const body = stdout.slice(0, end);
  if (!status?.startsWith('2')) throw new Error(`${url}: ${status} ${body}`);
  return { seconds: Number(seconds), body };
}

export function headerArguments(headers: Record<string, string>): string[] {
  return Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
}
