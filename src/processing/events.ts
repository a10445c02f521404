import type { Actor } from '../database/audit.ts';
import { defineEvent } from '../database/outbox.ts';

/** An asset is ready for everybody: when its upload is settled, or when the last step that it waited for has ended. */
export const assetReady = defineEvent<{ assetId: string; ownerId: string }>('asset.ready');

/** An upload that is to take the place of the bytes of an asset may do so, or is refused for a reason. */
export const replacementProcessed = defineEvent<{ uploadId: string; actor: Actor; refused?: string }>(
  'replacement.processed',
);
