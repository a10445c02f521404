/**
 * The tables. drizzle-kit derives the migrations from what is exported here (`npm run migrations:generate`); what it cannot
 * express (triggers, partitions, unlogged tables) stands in hand-written migrations beside the generated ones.
 */
export { assets } from './assets.ts';
export { auditEvents, auditSeals } from './audit.ts';
export { backups, restoredJobs, restores } from './backups.ts';
export { apiKeys, tickets } from './credentials.ts';
export { derivatives } from './derivatives.ts';
export { downloadCounts, downloadMarks } from './downloads.ts';
export { auditFormerSeals, erasedFolders, erasures } from './erasures.ts';
export { idempotencyKeys } from './idempotency.ts';
export { lifeCycleLooks, lifeCyclePolicies } from './life-cycle.ts';
export { callerCounts, uploadCounts } from './limits.ts';
export { copies, mirrorMinutes, mirrors } from './mirrors.ts';
export { projectMembers, projects } from './projects.ts';
export { galleryEntries, stalePublicAddresses } from './publishing.ts';
export { quotas } from './quotas.ts';
export { reconcileObjects, reconcileRuns } from './reconciliation.ts';
export { scans } from './scans.ts';
export { serviceSecrets } from './secrets.ts';
export { shareAssets, shareMarks, shares, shareTries, shareVisits } from './shares.ts';
export { assetStatistics } from './statistics.ts';
export { trashEmptyings } from './trash.ts';
export { uploadParts, uploadSessions, uploadTails } from './uploads.ts';
export { assetVersions, replacements } from './versions.ts';
