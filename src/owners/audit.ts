/** What administrators do about owners, as the audit trail names it. */
export const ownerActions = ['owner.listed', 'owner.tier-changed'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    owners: (typeof ownerActions)[number];
  }
}
