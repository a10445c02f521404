/** What erasures and exports do, as the audit trail names it. Those of an owner name his pseudonym. */
export const erasureActions = ['erasure.started', 'erasure.ended', 'asset.erased', 'asset.owner-erased'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    erasures: (typeof erasureActions)[number];
  }
}
