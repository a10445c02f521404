/** What comes before anything is opened: a faulty configuration ends the process at once, with all its faults. */
import { existsSync } from 'node:fs';
import { type Config, ConfigError, loadConfig, settings, settingsIn } from './config.ts';
import { type Feature, settingsOf } from './feature.ts';
import { requireStrippable } from './processing/strip/policies.ts';
import { scanSettings } from './scanning/settings.ts';
import { misspelled } from './unknown-variables.ts';
import { loadUploadPolicies, PolicyError, type UploadPolicies } from './validation/upload-policies.ts';

export interface Startup {
  config: Config;
  policies: UploadPolicies;
}

/**
 * Reads `.env`, the environment and the upload policies. Ends the process with code 1 when they have faults, and
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
    return { config, policies: requireStrippable(policies) };
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof PolicyError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
