import { z } from 'zod';
import { setting } from '../config.ts';

export const erasureSettings = {
  BACKUP_RETENTION: setting(
    'Lifecycle',
    z
      .string()
      .regex(/^\d{1,5}d$/, 'must be days such as 35d')
      .transform((text) => Number.parseInt(text, 10))
      .optional(),
    undefined,
    'How long backups of the database and of buckets are kept, such as 35d: receipts of erasures tell until when backups have what was erased.',
  ),
};
