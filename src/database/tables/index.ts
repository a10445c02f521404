/**
 * The tables. drizzle-kit derives the migrations from what is exported here (`npm run migrations:generate`); what it cannot
 * express (the append-only trigger, the unlogged tables) stands in hand-written migrations beside the generated ones.
 */
export { assets } from './assets.ts';
export { auditEvents } from './audit.ts';
export { idempotencyKeys } from './idempotency.ts';
export { uploadCounts } from './limits.ts';
export { quotas } from './quotas.ts';
export { reconcileObjects, reconcileRuns } from './reconciliation.ts';
export { uploadParts, uploadSessions, uploadTails } from './uploads.ts';
