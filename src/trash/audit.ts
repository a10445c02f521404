/** What happens to the trash as a whole, as the audit trail names it. */
export const trashActions = ['trash.emptying-started', 'trash.emptied'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    trash: (typeof trashActions)[number];
  }
}
