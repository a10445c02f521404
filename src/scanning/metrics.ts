/** What is counted of scans. */
import { Counter, Histogram, type Registry } from '@prometheus-io/client';
import type { ScanOutcome } from './clamd.ts';

/** Why it was scanned: while it came, by the job after that, or again. */
export type ScanTrigger = 'upload' | 'job' | 'rescan';

export class ScanMetrics {
  readonly #scans: Histogram<'verdict' | 'trigger'>;
  readonly #infections: Counter<'trigger'>;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#scans = new Histogram({
      name: 'stowage_scan_duration_seconds',
      help: 'Duration of scans for viruses, by verdict',
      labelNames: ['verdict', 'trigger'],
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600],
      registers,
    });
    this.#infections = new Counter({
      name: 'stowage_infections_total',
      help: 'Infected files that were found',
      labelNames: ['trigger'],
      registers,
    });
    // There before the first, so that an increase is seen.
    for (const trigger of ['upload', 'job', 'rescan'] as const) this.#infections.inc({ trigger }, 0);
  }

  scanned(verdict: ScanOutcome['verdict'], trigger: ScanTrigger, seconds: number): void {
    this.#scans.observe({ verdict, trigger }, seconds);
    if (verdict === 'infected') this.#infections.inc({ trigger });
  }
}
