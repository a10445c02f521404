/**
 * Asks one thing of an HTTP server over and over, from a process of its own: `node bench/load.ts OPTIONS`, with a JSON
 * object as its only argument, prints a JSON object.
 */
import { readFileSync } from 'node:fs';
import autocannon from 'autocannon';

export interface LoadOptions {
  url: string;
  method?: 'GET' | 'PUT' | 'POST';
  headers?: Record<string, string>;
  bodyFile?: string;
  /** Requests at once. */
  connections: number;
  /** As long as it goes on, unless `amount` says how much it is. */
  seconds: number;
  /** Requests, all connections together. */
  amount?: number;
  /** Requests per second, all connections together; as many as are answered when absent. */
  rate?: number;
}

export interface Load {
  /** Answers per second. */
  perSecond: number;
  /** Milliseconds. */
  p50: number;
  p99: number;
}

const options = JSON.parse(process.argv[2] ?? '{}') as LoadOptions;
const { url, method = 'GET', headers = {}, bodyFile, connections, seconds, amount, rate } = options;
const result = await autocannon({
  url,
  method,
  headers,
  ...(bodyFile !== undefined && { body: readFileSync(bodyFile) }),
  connections,
  ...(amount === undefined ? { duration: seconds } : { amount }),
  timeout: 60,
  ...(rate !== undefined && { overallRate: rate }),
});
if (result.errors + result.non2xx > 0) {
  console.error(`${method} ${url}: ${result.errors} errors, ${JSON.stringify(result.statusCodeStats)}`);
  process.exit(1);
}
const load: Load = {
  perSecond: result.requests.total / result.duration,
  p50: result.latency.p50,
  p99: result.latency.p99,
};
console.log(JSON.stringify(load));
