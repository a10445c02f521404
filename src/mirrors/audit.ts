/** What happens to mirrors, as the audit trail names it. */
export const mirrorActions = ['mirror.added', 'mirror.forgotten'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    mirrors: (typeof mirrorActions)[number];
  }
}
