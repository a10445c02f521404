/** What a process has for its mirrors: made when somebody asks for it, ended with the service. */
import type { Core } from '../core.ts';
import type { Mirror } from '../storage/mirror.ts';
import { Copier } from './copier.ts';
import { MirrorMetrics } from './metrics.ts';
import { CopiesRepository } from './repository.ts';
import { mirrorSettings } from './settings.ts';
import type { VerificationOptions } from './verification.ts';
import { Yielding } from './yielding.ts';

/** Copies begin to compete with uploads when the mirror is behind by this part of MIRROR_LAG. */
const PATIENCE = 0.25;

interface Own {
  metrics: MirrorMetrics;
  copiers: Copier[];
}

const ofCores = new WeakMap<Core, Own>();

function ownOf(core: Core): Own {
  const known = ofCores.get(core);
  if (known) return known;
  const names = core.mirrors.map(({ name }) => name);
  const own = { metrics: new MirrorMetrics(core.metrics.registry, names), copiers: [] };
  ofCores.set(core, own);
  return own;
}

/** Has the mirrors kept up from here on. */
export function startCopiers(core: Core): void {
  const { mirrors, store, background, outbox, admission, onError } = core;
  if (mirrors.length === 0) return;
  const own = ownOf(core);
  const copies = new CopiesRepository(background, outbox);
  const patience = core.settings(mirrorSettings).MIRROR_LAG * PATIENCE;
  const yielding = new Yielding({ idleFor: () => admission.idleFor, patience });
  own.copiers = mirrors.map((mirror) => {
    const { name } = mirror;
    const onCopied = (bytes: number) => own.metrics.copied(name, bytes);
    const onFailed = (reason: string) => own.metrics.failed(name, reason);
    return new Copier({ mirror, source: store, copies, yielding, onError, onCopied, onFailed });
  });
  for (const copier of own.copiers) copier.start();
}

export async function closeCopiers(core: Core): Promise<void> {
  await Promise.all((ofCores.get(core)?.copiers ?? []).map((copier) => copier.close()));
}

/** What it takes to verify the copies of a mirror. */
export function verificationOf(core: Core, mirror: Mirror): VerificationOptions {
  const { store, background, outbox, onError } = core;
  const { metrics } = ownOf(core);
  return {
    mirror,
    source: store,
    copies: new CopiesRepository(background, outbox),
    onError,
    onVerified: (found) => metrics.verified(mirror.name, found),
  };
}
