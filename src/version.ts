import { readFileSync } from 'node:fs';
import { manifestFile } from './paths.ts';

/** Of package.json. */
export function readVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(manifestFile, 'utf8'));
  return manifest instanceof Object && 'version' in manifest ? String(manifest.version) : '0.0.0';
}
