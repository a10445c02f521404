import { defineEvent } from '../database/outbox.ts';

/** The last copies of assets that are being deleted are gone: their records may go. */
export const copiesGone = defineEvent<{ assetIds: string[] }>('copies.gone');
