import { defineEvent } from '../database/outbox.ts';

/** An asset is ready for everybody: when its upload is settled, or when the last step that it waited for has ended. */
export const assetReady = defineEvent<{ assetId: string; ownerId: string }>('asset.ready');
