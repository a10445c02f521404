import type { Outbox } from '../src/database/outbox.ts';

/** Enqueues nothing: what is measured is the statement. */
export const noOutbox: Outbox = {
  send: async () => {},
  sendAll: async () => {},
  wake: () => {},
  hasSubscribers: () => false,
  publish: async () => {},
};
