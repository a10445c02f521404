/**
 * `npm run backup -- DIRECTORY|s3://bucket/prefix`: takes a backup of the records, with a manifest of the objects, while the
 * service runs. BACKUP_PASSPHRASE and BACKUP_RECIPIENTS encrypt it. Exit code 0: it is complete. 1: there is none.
 */
import { parseArgs } from 'node:util';
import { features } from '../src/app.ts';
import { takeBackup } from '../src/backups/backup.ts';
import { sealingFor } from '../src/backups/encryption.ts';
import { explainFault } from '../src/backups/explain.ts';
import { openPlace } from '../src/backups/place.ts';
import { backupSettings } from '../src/backups/settings.ts';
import { openCommandDatabase } from '../src/command.ts';
import { settingsIn } from '../src/config.ts';
import { readConfiguration } from '../src/startup.ts';

try {
  const { positionals } = parseArgs({ allowPositionals: true });
  const [target, ...more] = positionals;
  if (target === undefined || more.length > 0) throw new Error('name one place: a directory, or s3://bucket/prefix');
  const { config } = readConfiguration(features);
  const { BACKUP_PASSPHRASE: passphrase, BACKUP_RECIPIENTS: recipients } = settingsIn(config, backupSettings);
  const place = openPlace(target, config);
  const sealing = await sealingFor({ passphrase, recipients });
  const { url, close } = await openCommandDatabase(config);
  try {
    const { document, name, bytes, unnoted } = await takeBackup({
      url,
      place,
      sealing,
      keyPrefix: config.S3_KEY_PREFIX,
    });
    const rows = document.tables.reduce((sum, table) => sum + table.rows, 0);
    console.log(name);
    console.error(
      `Of ${document.takenAt}: ${rows} rows of ${document.tables.length} tables, and ${document.objects.count} objects with ${document.objects.totalBytes} bytes in the manifest. It takes ${bytes} bytes.`,
    );
    if (document.encryption === 'none')
      console.error('It is not encrypted, and holds secrets and names: set BACKUP_PASSPHRASE or BACKUP_RECIPIENTS.');
    if (unnoted !== undefined)
      console.error(`The database was not told of it, so metrics do not know: ${explainFault(unnoted)}`);
  } finally {
    await close();
    await place.close();
  }
} catch (error) {
  console.error(`There is no backup: ${explainFault(error)}`);
  process.exitCode = 1;
}
