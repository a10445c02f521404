/** `npm run client`: writes the generated part of clients/typescript from openapi.yaml. */
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { createClient } from '@hey-api/openapi-ts';

const root = new URL('../', import.meta.url);

/** @param path where to write it */
export async function writeClient(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
  await createClient({
    input: fileURLToPath(new URL('openapi.yaml', root)),
    output: { path, module: { extension: '.ts' } },
    plugins: ['@hey-api/client-fetch', '@hey-api/typescript', '@hey-api/sdk'],
    logs: { level: 'silent' },
  });
}

if (import.meta.main) await writeClient(fileURLToPath(new URL('clients/typescript/src/generated', root)));
