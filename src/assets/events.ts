import { defineEvent } from '../database/outbox.ts';

/** An asset can be served from now on: its upload was settled, or what was still to be verified is. */
export const assetReady = defineEvent<{ assetId: string; ownerId: string }>('asset.ready');
