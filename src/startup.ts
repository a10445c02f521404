/** What comes before anything is opened: a faulty configuration ends the process at once, with all its faults. */
import { existsSync, readFileSync } from 'node:fs';
import { parseTiers, TierError } from './access/tier-file.ts';
import type { TierLimits } from './access/tiers.ts';
import { type Config, ConfigError, loadConfig, MAX_LINK, settings, settingsIn } from './config.ts';
import { type Feature, settingsOf } from './feature.ts';
import { MirrorError, mirrorsOf } from './mirrors/mirror-file.ts';
import { mirrorSettings } from './mirrors/settings.ts';
import { requireStrippable } from './processing/strip/policies.ts';
import { projectSettings } from './projects/settings.ts';
import { scanSettings } from './scanning/settings.ts';
import type { MirrorPlace } from './storage/mirror.ts';
import { transcodeSettings } from './transcodes/limits.ts';
import { misspelled } from './unknown-variables.ts';
import { loadUploadPolicies, PolicyError, type UploadPolicies } from './validation/upload-policies.ts';
import { variantSettings } from './variants/settings.ts';

const faultsOfSettings = [ConfigError, PolicyError, TierError, MirrorError];

export interface Startup {
  config: Config;
  policies: UploadPolicies;
  /** Absent where there is no file of tiers. */
  tierLimits: ReadonlyMap<string, TierLimits> | undefined;
  mirrors: readonly MirrorPlace[];
}

/**
 * Reads `.env`, the environment, the upload policies, the tiers and the mirrors. Ends the process with code 1 when they have faults, and
 * warns of variables that look like settings but are none.
 * @param features whose settings are read too
 */
export function readConfiguration(features: readonly Feature<never>[]): Startup {
  try {
    if (existsSync('.env')) process.loadEnvFile('.env');
    const more = settingsOf(features);
    const config = loadConfig(process.env, more);
    for (const [given, meant] of misspelled(Object.keys(process.env), Object.keys({ ...settings, ...more })))
      process.stderr.write(`Warning: ${given} is no setting of Stowage and has no effect. Did you mean ${meant}?\n`);
    const hasScanner = settingsIn(config, scanSettings).CLAMD !== undefined;
    const policies = loadUploadPolicies(config.UPLOAD_POLICIES, config.MAX_FILE_SIZE, hasScanner);
    const mirrors = loadMirrors(config);
    return { config, policies: requireStrippable(policies), tierLimits: loadTiers(config), mirrors };
  } catch (error) {
    if (!faultsOfSettings.some((kind) => error instanceof kind) || !(error instanceof Error)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}

/** @returns undefined where there is no file. @throws TierError */
export function loadTiers(config: Config): ReadonlyMap<string, TierLimits> | undefined {
  if (config.TIERS === undefined) return undefined;
  return parseTiers(contentOf('TIERS', config.TIERS, TierError), {
    quota: config.DEFAULT_QUOTA,
    maxFileSize: config.MAX_FILE_SIZE,
    uploadsPerHour: config.UPLOADS_PER_HOUR,
    requestsPerMinute: config.REQUESTS_PER_MINUTE,
    maxLinkTtl: MAX_LINK,
    variantsPerMinute: settingsIn(config, variantSettings).VARIANTS_PER_MINUTE,
    transcodes: settingsIn(config, transcodeSettings).TRANSCODES_PER_OWNER,
    membersPerProject: settingsIn(config, projectSettings).MEMBERS_PER_PROJECT,
  });
}

/** @throws MirrorError */
export function loadMirrors(config: Config): readonly MirrorPlace[] {
  const { MIRRORS } = settingsIn(config, mirrorSettings);
  return mirrorsOf(config, MIRRORS === undefined ? undefined : contentOf('MIRRORS', MIRRORS, MirrorError));
}

function contentOf(setting: string, file: string, Fault: new (message: string) => Error): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Fault(
      `${setting}: the file cannot be read (${error instanceof Error ? error.message : 'unknown fault'})`,
    );
  }
}
