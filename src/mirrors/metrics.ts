/** What is counted and measured of mirrors. */
import { Counter, type Registry } from '@prometheus-io/client';
import type { Core } from '../core.ts';
import { copyReasons } from '../database/tables/mirrors.ts';
import { type Gauge, gaugesOf, type Sample } from '../http/metrics.ts';
import { KnownMirrors, type MirrorStatus } from './known-mirrors.ts';
import { mirrorSettings } from './settings.ts';

export class MirrorMetrics {
  readonly #objects: Counter<'mirror'>;
  readonly #bytes: Counter<'mirror'>;
  readonly #failures: Counter<'mirror' | 'reason'>;
  readonly #verified: Counter<'mirror' | 'found'>;

  constructor(registry: Registry, names: readonly string[]) {
    const registers = [registry];
    this.#objects = new Counter({
      name: 'stowage_mirror_copied_objects_total',
      help: 'Objects that this process has copied to a mirror',
      labelNames: ['mirror'],
      registers,
    });
    this.#bytes = new Counter({
      name: 'stowage_mirror_copied_bytes_total',
      help: 'Bytes of these objects',
      labelNames: ['mirror'],
      registers,
    });
    this.#failures = new Counter({
      name: 'stowage_mirror_failures_total',
      help: 'Tries to copy an object that failed, by reason',
      labelNames: ['mirror', 'reason'],
      registers,
    });
    this.#verified = new Counter({
      name: 'stowage_mirror_verified_total',
      help: 'Copies that were read again, by what was found',
      labelNames: ['mirror', 'found'],
      registers,
    });
    // There before the first, so that an increase is seen.
    for (const mirror of names) {
      this.#objects.inc({ mirror }, 0);
      for (const reason of copyReasons) this.#failures.inc({ mirror, reason }, 0);
      for (const found of ['intact', 'missing', 'damaged']) this.#verified.inc({ mirror, found }, 0);
    }
  }

  copied(mirror: string, bytes: number): void {
    this.#objects.inc({ mirror });
    this.#bytes.inc({ mirror }, bytes);
  }

  failed(mirror: string, reason: string): void {
    this.#failures.inc({ mirror, reason });
  }

  verified(mirror: string, found: 'intact' | 'missing' | 'damaged'): void {
    this.#verified.inc({ mirror, found });
  }
}

/** How far mirrors are. Nothing is looked up where none is configured. */
export function mirrorGauges(core: Core): Gauge[] {
  const { background, outbox, mirrors } = core;
  if (mirrors.length === 0) return [];
  const known = new KnownMirrors(background, outbox);
  const of = (read: (mirror: MirrorStatus) => number) => (all: MirrorStatus[]) =>
    all.map((mirror): Sample => ({ labels: { mirror: mirror.name }, value: read(mirror) }));
  const labels = ['mirror'];
  return [
    {
      name: 'stowage_mirror_lag_limit_seconds',
      help: 'Age at which a mirror counts as lagging (MIRROR_LAG)',
      read: () => core.settings(mirrorSettings).MIRROR_LAG / 1000,
    },
    ...gaugesOf(
      () => known.list(),
      [
        {
          name: 'stowage_mirror_behind_objects',
          help: 'Objects without a copy in a mirror',
          labels,
          of: of(({ behind }) => behind.objects),
        },
        {
          name: 'stowage_mirror_behind_bytes',
          help: 'Bytes of these objects',
          labels,
          of: of(({ behind }) => behind.bytes),
        },
        {
          name: 'stowage_mirror_oldest_seconds',
          help: 'For how long the oldest of these objects has waited; 0 where there is none',
          labels,
          of: of(({ behind }) => (behind.oldestAt ? Math.max(0, Date.now() - behind.oldestAt.getTime()) / 1000 : 0)),
        },
        {
          name: 'stowage_mirror_failed_objects',
          help: 'Objects without a copy of which the last try has failed',
          labels,
          of: of(({ failed }) => failed),
        },
        {
          name: 'stowage_mirror_leaving_objects',
          help: 'Copies of deleted files that are still to be removed',
          labels,
          of: of(({ leaving }) => leaving),
        },
      ],
    ),
  ];
}
