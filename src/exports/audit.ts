/** What exports do, as the audit trail names it. */
export const exportActions = ['owner.exported'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    exports: (typeof exportActions)[number];
  }
}
