/** What comes before anything is opened: a faulty configuration ends the process at once, with all its faults. */
import { existsSync } from 'node:fs';
import { type Config, ConfigError, loadConfig } from './config.ts';
import { type Feature, settingsOf } from './feature.ts';
import { loadUploadPolicies, PolicyError, type UploadPolicies } from './validation/upload-policies.ts';

export interface Startup {
  config: Config;
  policies: UploadPolicies;
}

/**
 * Reads `.env`, the environment and the upload policies. Ends the process with code 1 when they have faults.
 * @param features whose settings are read too
 */
export function readConfiguration(features: readonly Feature<never>[]): Startup {
  try {
    if (existsSync('.env')) process.loadEnvFile('.env');
    const config = loadConfig(process.env, settingsOf(features));
    return { config, policies: loadUploadPolicies(config.UPLOAD_POLICIES, config.MAX_FILE_SIZE) };
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof PolicyError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
