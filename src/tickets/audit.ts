/** What happens to upload tickets, as the audit trail names it. */
export const ticketActions = ['ticket.created', 'ticket.revoked'] as const;

declare module '../database/audit.ts' {
  interface AuditActions {
    tickets: (typeof ticketActions)[number];
  }
}
