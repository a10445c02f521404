/** The contents of assets on what the service shares. */
import type { Core } from '../core.ts';
import type { DatabaseHandle } from '../database/client.ts';
import { DerivativesRepository } from '../processing/derivatives.ts';
import { limitValues } from '../quotas/limit.ts';
import { Contents } from './contents.ts';
import { versionSettings } from './settings.ts';

export function contentsOf(
  core: Pick<Core, 'outbox' | 'policies' | 'settings' | 'config' | 'tiers'>,
  database: DatabaseHandle,
): Contents {
  const { outbox, policies, settings } = core;
  return new Contents({
    outbox,
    derivatives: new DerivativesRepository(database, outbox),
    kept: (assetType) => policies.named(assetType)?.versions ?? 0,
    grace: settings(versionSettings).REPLACED_GRACE / 1000,
    limits: limitValues(core),
  });
}
