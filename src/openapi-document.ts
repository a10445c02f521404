/** The contract as text, from an application that is composed but connected to nothing. */
import { tmpdir } from 'node:os';
import { pino } from 'pino';
import { buildApp, features } from './app.ts';
import { loadConfig } from './config.ts';
import { openDatabase } from './database/client.ts';
import { settingsOf } from './feature.ts';
import { openApiYaml } from './http/documentation.ts';
import { DiskObjectStore } from './storage/disk/disk-object-store.ts';
import { loadUploadPolicies } from './validation/upload-policies.ts';
import { readVersion } from './version.ts';

export async function openApiDocument(): Promise<string> {
  const config = loadConfig({ LOG_LEVEL: 'silent' }, settingsOf(features));
  const database = openDatabase({
    url: 'postgres://nobody@127.0.0.1:1/none',
    connections: 2,
    timeout: 100,
    onError: () => {},
  });
  const service = await buildApp({
    config,
    policies: loadUploadPolicies(undefined, config.MAX_FILE_SIZE),
    database,
    background: database,
    // The routes are those of the embedded default, which has one more: the links of the disk store.
    store: new DiskObjectStore({ directory: tmpdir(), linkSecret: Buffer.alloc(32), publicUrl: () => '' }),
    logger: pino({ level: 'silent' }),
    version: readVersion(),
  });
  try {
    await service.app.ready();
    return await openApiYaml(await service.writeOpenApi());
  } finally {
    await service.app.close();
    await database.close();
  }
}
