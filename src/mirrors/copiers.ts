/** Those who keep the mirrors of a process up. */
import type { Core } from '../core.ts';
import { Copier } from './copier.ts';
import { CopiesRepository } from './repository.ts';
import { mirrorSettings } from './settings.ts';
import { Yielding } from './yielding.ts';

/** Copies begin to compete with uploads when the mirror is behind by this part of MIRROR_LAG. */
const PATIENCE = 0.25;

const copiersOf = new WeakMap<Core, Copier[]>();

export function startCopiers(core: Core): void {
  const { mirrors, store, background, outbox, admission, onError } = core;
  const copies = new CopiesRepository(background, outbox);
  const patience = core.settings(mirrorSettings).MIRROR_LAG * PATIENCE;
  const yielding = new Yielding({ idleFor: () => admission.idleFor, patience });
  const copiers = mirrors.map((mirror) => new Copier({ mirror, source: store, copies, yielding, onError }));
  for (const copier of copiers) copier.start();
  copiersOf.set(core, copiers);
}

export async function closeCopiers(core: Core): Promise<void> {
  await Promise.all((copiersOf.get(core) ?? []).map((copier) => copier.close()));
}
