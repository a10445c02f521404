/**
 * Life cycle: what becomes of assets with time. Temporary assets are deleted unless somebody keeps them; upload policies and
 * projects say after how many days others are archived or deleted.
 */
import { lifeCycleSettings } from '../assets/life-cycle-settings.ts';
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';

export const retention: Feature<Core> = {
  name: 'retention',
  settings: lifeCycleSettings,
};
