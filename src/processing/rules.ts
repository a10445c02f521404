/** Which steps apply to which files, by the policies and the settings of this process. */
import type { Core } from '../core.ts';
import { scanSettings } from '../scanning/settings.ts';
import { ENCRYPTED_TYPE } from '../validation/structure/encrypted.ts';
import { makerOf } from './makers.ts';
import { Pictures } from './pictures/pictures.ts';
import type { PlannedFile, StepRules } from './pipeline.ts';
import { processingSettings } from './settings.ts';
import { isStripped } from './strip/policies.ts';

export function stepRules(core: Pick<Core, 'settings' | 'policies'>): StepRules {
  const { DERIVATIVES } = core.settings(processingSettings);
  const { CLAMD } = core.settings(scanSettings);
  const hasMaker = ({ mediaType }: PlannedFile) => DERIVATIVES && makerOf(mediaType) !== undefined;
  return {
    // A policy that is gone since an upload began had its files scanned, as far as anybody knows.
    scan: ({ assetType, mediaType }) =>
      CLAMD !== undefined && mediaType !== ENCRYPTED_TYPE && core.policies.named(assetType)?.scan !== 'off',
    strip: (file) => isStripped(core.policies, file),
    reencode: ({ assetType, mediaType }) =>
      core.policies.named(assetType)?.reencode !== undefined && Pictures.canRead(mediaType),
    facts: hasMaker,
    derive: hasMaker,
  };
}
