/** Prometheus metrics: one registry per application, labels from closed sets only. */
import { timingSafeEqual } from 'node:crypto';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from '@prometheus-io/client';
import type { FastifyInstance } from 'fastify';
import { Problem } from '../problems.ts';

export interface Gauges {
  activeUploads: () => number;
  bufferBytes: () => number;
  queues: () => Promise<{ queue: string; waiting: number; retrying: number; deadLetters: number }[]>;
  lastReconciliation: () => Promise<{ finishedAt: Date; report: Record<string, number> } | undefined>;
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
      help: 'Bytes of files sent by the service itself',
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
    // The database being away must not take the other metrics along.
    const queues = () => gauges.queues().catch(() => []);
    new Gauge({
      name: 'stowage_job_queue_depth',
      help: 'Jobs that wait to be done',
      labelNames: ['queue'],
      registers,
      async collect() {
        for (const { queue, waiting, retrying } of await queues()) this.set({ queue }, waiting + retrying);
      },
    });
    new Gauge({
      name: 'stowage_job_dead_letters',
      help: 'Jobs that failed for good',
      labelNames: ['queue'],
      registers,
      async collect() {
        for (const { queue, deadLetters } of await queues()) this.set({ queue }, deadLetters);
      },
    });
    const last = () => gauges.lastReconciliation().catch(() => undefined);
    const found = (name: string, help: string, field: string) =>
      new Gauge({
        name,
        help,
        registers,
        async collect() {
          const run = await last();
          if (run) this.set(run.report[field] ?? 0);
        },
      });
    found(
      'stowage_unaccounted_bytes',
      'Bytes of objects without a record, at the last reconciliation',
      'unaccountedBytes',
    );
    found('stowage_lost_assets', 'Assets whose bytes are missing, at the last reconciliation', 'lostAssets');
    found(
      'stowage_quota_drift_bytes',
      'Bytes by which quotas were wrong, at the last reconciliation',
      'quotaDriftBytes',
    );
    new Gauge({
      name: 'stowage_reconciled_timestamp_seconds',
      help: 'When the last reconciliation ended',
      registers,
      async collect() {
        const run = await last();
        if (run) this.set(run.finishedAt.getTime() / 1000);
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
  app.get('/metrics', { config: { public: true, rateLimit: false } }, async (request, reply) => {
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
