import { defineEvent } from '../database/outbox.ts';

/** An asset is ready for everybody: when its upload is settled, or when its bytes have been verified. */
export const assetReady = defineEvent<{ assetId: string; ownerId: string }>('asset.ready');
