import { defineEvent } from '../database/outbox.ts';

/** The bytes of an archived asset can be read again. */
export const assetRestored = defineEvent<{ assetId: string }>('asset.restored-from-archive');
