/** Prometheus metrics: one registry per application, labels from closed sets only. */
import { timingSafeEqual } from 'node:crypto';
import { Counter, collectDefaultMetrics, Histogram, Gauge as PrometheusGauge, Registry } from '@prometheus-io/client';
import type { FastifyInstance } from 'fastify';
import { Problem } from '../problems.ts';

/** Scrapes within this time get the same text; Prometheus asks every 15 s or less often. Milliseconds. */
const SCRAPE_LIFE = 3000;

export interface Sample {
  labels: Record<string, string>;
  value: number;
}
/** Nothing is told when it is not known. */
export type Reading = number | readonly Sample[] | undefined;

/** A number that is looked up when somebody asks for the metrics. */
export interface Gauge {
  /** As Prometheus has it: `stowage_..._unit`. */
  readonly name: string;
  readonly help: string;
  /** Their values must come from closed sets. */
  readonly labels?: readonly string[];
  read(): Reading | Promise<Reading>;
}

/**
 * Gauges that come from one look, such as one statement: however many of them there are, a scrape looks once. Scrapes at
 * the same time share it.
 */
export function gaugesOf<Source>(
  look: () => Promise<Source>,
  gauges: readonly (Omit<Gauge, 'read'> & { of: (source: Source) => Reading })[],
): Gauge[] {
  // The registry asks all gauges before the first of them has an answer.
  let looking: Promise<Source> | undefined;
  const lookOnce = () => {
    looking ??= look().finally(() => {
      looking = undefined;
    });
    return looking;
  };
  return gauges.map(({ of, ...gauge }) => ({ ...gauge, read: async () => of(await lookOnce()) }));
}

export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Histogram<'operation' | 'status'>;
  readonly #uploads: Counter<'outcome'>;
  readonly #bytesIn: Counter;
  readonly #bytesOut: Counter;
  readonly #retries: Counter<'operation'>;

  constructor() {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry, prefix: 'stowage_' });
    this.#requests = new Histogram({
      name: 'stowage_http_request_duration_seconds',
      help: 'Duration of requests by operation and status',
      labelNames: ['operation', 'status'],
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600],
      registers,
    });
    this.#uploads = new Counter({
      name: 'stowage_uploads_total',
      help: 'Uploads by outcome',
      labelNames: ['outcome'],
      registers,
    });
    this.#bytesIn = new Counter({ name: 'stowage_received_bytes_total', help: 'Bytes of files taken in', registers });
    this.#bytesOut = new Counter({
      name: 'stowage_sent_bytes_total',
      help: 'Bytes of files sent by the service itself',
      registers,
    });
    this.#retries = new Counter({
      name: 'stowage_object_store_retries_total',
      help: 'Retries of calls to the object store',
      labelNames: ['operation'],
      registers,
    });
  }

  /** @throws Error when there is a metric of this name */
  add(gauges: readonly Gauge[]): void {
    for (const { name, help, labels = [], read } of gauges) {
      new PrometheusGauge({
        name,
        help,
        labelNames: [...labels],
        registers: [this.registry],
        async collect() {
          // What cannot be looked up, as when the database is away, must not take the other metrics along.
          const reading = await quietly(read);
          if (typeof reading === 'number') this.set(reading);
          else for (const sample of reading ?? []) this.set(sample.labels, sample.value);
        },
      });
    }
  }

  request(operation: string, status: number, seconds: number): void {
    this.#requests.observe({ operation, status: String(status) }, seconds);
  }

  upload(outcome: string, bytes: number): void {
    this.#uploads.inc({ outcome });
    this.#bytesIn.inc(bytes);
  }

  sent(bytes: number): void {
    this.#bytesOut.inc(bytes);
  }

  retries(operation: string, count: number): void {
    this.#retries.inc({ operation }, count);
  }
}

async function quietly(read: Gauge['read']): Promise<Reading> {
  try {
    return await read();
  } catch {
    return undefined;
  }
}

/** @param token bearer token that is asked for; undefined for none */
export function metricsRoute(app: FastifyInstance, metrics: Metrics, token: string | undefined): void {
  const scrape = kept(() => metrics.registry.metrics());
  app.get('/metrics', { config: { public: true, rateLimit: false } }, async (request, reply) => {
    if (token !== undefined && !sameText(request.headers.authorization ?? '', `Bearer ${token}`)) {
      throw new Problem('unauthenticated', {
        detail: 'Send the metrics token.',
        headers: { 'www-authenticate': 'Bearer realm="metrics"' },
      });
    }
    reply.type(metrics.registry.contentType);
    return scrape();
  });
}

/** What was read is the answer for some seconds, so that nobody makes the database work by asking often. */
function kept(read: () => Promise<string>, now = () => performance.now()): () => Promise<string> {
  let last: { text: Promise<string>; until: number } | undefined;
  return () => {
    if (last && now() < last.until) return last.text;
    const text = read();
    last = { text, until: now() + SCRAPE_LIFE };
    text.catch(() => {
      last = undefined;
    });
    return text;
  };
}

function sameText(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}
