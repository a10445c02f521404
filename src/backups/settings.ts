/** Variables of backups, for the commands. */
import { z } from 'zod';
import { list, optional, setting } from '../config.ts';

const group = 'Backups';
/** Characters: a passphrase is tried offline by whoever has the backup. */
const MIN_PASSPHRASE = 12;

export const backupSettings = {
  BACKUP_PASSPHRASE: setting(
    group,
    optional(z.string().min(MIN_PASSPHRASE, `must have at least ${MIN_PASSPHRASE} characters`)),
    undefined,
    'Encrypts backups (age), and opens them for a restore.',
  ),
  BACKUP_RECIPIENTS: setting(
    group,
    list.refine(
      (entries) => entries.every((entry) => /^age1[0-9a-z]{50,}$/.test(entry)),
      'must be recipients of age such as age1..., separated by commas',
    ),
    '',
    'Public keys (age) for which backups are encrypted: only whoever has one of the identities can open them.',
  ),
  BACKUP_S3_ENDPOINT: setting(
    group,
    optional(z.url({ protocol: /^https?$/, error: 'must be an http:// or https:// URL' })),
    undefined,
    'Server of the buckets that backups go to; S3_ENDPOINT when absent.',
  ),
  BACKUP_S3_REGION: setting(
    group,
    optional(z.string().min(1)),
    undefined,
    'Region of those buckets; S3_REGION when absent.',
  ),
  BACKUP_S3_ACCESS_KEY_ID: setting(
    group,
    optional(z.string().min(1)),
    undefined,
    'Credentials for those buckets; those of S3 when absent.',
  ),
  BACKUP_S3_SECRET_ACCESS_KEY: setting(group, optional(z.string().min(1)), undefined, 'See BACKUP_S3_ACCESS_KEY_ID.'),
};
