/** The contents of assets on what the service shares. */
import type { Core } from '../core.ts';
import type { DatabaseHandle } from '../database/client.ts';
import { DerivativesRepository } from '../processing/derivatives.ts';
import { Contents } from './contents.ts';
import { versionSettings } from './settings.ts';

export function contentsOf(
  { outbox, policies, settings, config }: Pick<Core, 'outbox' | 'policies' | 'settings' | 'config'>,
  database: DatabaseHandle,
): Contents {
  return new Contents({
    outbox,
    derivatives: new DerivativesRepository(database, outbox),
    kept: (assetType) => policies.named(assetType)?.versions ?? 0,
    grace: settings(versionSettings).REPLACED_GRACE / 1000,
    defaultLimit: config.DEFAULT_QUOTA,
  });
}
