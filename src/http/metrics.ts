/** Prometheus metrics: one registry per application, labels from closed sets only. */
import { timingSafeEqual } from 'node:crypto';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from '@prometheus-io/client';
import type { FastifyInstance } from 'fastify';
import { Problem } from '../problems.ts';

export interface Gauges {
  activeUploads: () => number;
  bufferBytes: () => number;
  /** Work that is waiting, by queue. */
  queueDepth: () => Promise<Record<string, number>>;
}

export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Histogram<'operation' | 'status'>;
  readonly #uploads: Counter<'outcome'>;
  readonly #bytesIn: Counter;
  readonly #bytesOut: Counter;
  readonly #retries: Counter<'operation'>;

  constructor(gauges: Gauges) {
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
      help: 'Bytes of files handed out by the service itself',
      registers,
    });
    this.#retries = new Counter({
      name: 'stowage_object_store_retries_total',
      help: 'Retries of calls to the object store',
      labelNames: ['operation'],
      registers,
    });
    new Gauge({
      name: 'stowage_active_uploads',
      help: 'Uploads that have a place',
      registers,
      collect() {
        this.set(gauges.activeUploads());
      },
    });
    new Gauge({
      name: 'stowage_part_buffer_bytes',
      help: 'Bytes of part buffers in use',
      registers,
      collect() {
        this.set(gauges.bufferBytes());
      },
    });
    new Gauge({
      name: 'stowage_job_queue_depth',
      help: 'Jobs that wait to be done',
      labelNames: ['queue'],
      registers,
      async collect() {
        // The database being away must not take the other metrics along.
        for (const [queue, depth] of Object.entries(await gauges.queueDepth().catch(() => ({}))))
          this.set({ queue }, depth);
      },
    });
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

/** @param token bearer token that is asked for; undefined for none */
export function metricsRoute(app: FastifyInstance, metrics: Metrics, token: string | undefined): void {
  app.get('/metrics', { config: { public: true, uncounted: true } }, async (request, reply) => {
    if (token !== undefined && !sameText(request.headers.authorization ?? '', `Bearer ${token}`)) {
      throw new Problem('unauthenticated', {
        detail: 'Send the metrics token.',
        headers: { 'www-authenticate': 'Bearer realm="metrics"' },
      });
    }
    reply.type(metrics.registry.contentType);
    return metrics.registry.metrics();
  });
}

function sameText(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}
