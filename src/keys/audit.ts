/** What happens to API keys, as the audit trail names it. */
export const keyActions = ['key.created', 'key.revoked'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    keys: (typeof keyActions)[number];
  }
}
