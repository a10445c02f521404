/** Which steps apply to which files, by the policies and the settings of this process. */
import type { Core } from '../core.ts';
import { makerOf } from './makers.ts';
import type { PlannedFile, StepRules } from './pipeline.ts';
import { processingSettings } from './settings.ts';

export function stepRules(core: Pick<Core, 'settings' | 'policies'>): StepRules {
  const { DERIVATIVES } = core.settings(processingSettings);
  const hasMaker = ({ mediaType }: PlannedFile) => DERIVATIVES && makerOf(mediaType) !== undefined;
  return {
    scan: () => false,
    strip: () => false,
    facts: hasMaker,
    derive: hasMaker,
  };
}
