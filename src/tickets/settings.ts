/** Settings of upload tickets. */
import { count, setting } from '../config.ts';

export const ticketSettings = {
  TICKETS_PER_HOUR: setting(
    'Limits',
    count,
    '10000',
    'Upload tickets that a caller may give out in an hour, over all instances; 0 for no limit.',
  ),
  // With what is kept of it a day after its end, a ticket takes at most some 10 KiB.
  TICKETS_PER_CALLER: setting(
    'Limits',
    count.refine((tickets) => tickets <= 1_000_000, 'must be at most 1000000'),
    '20000',
    'Upload tickets of a caller that are good at once; 0 for no limit. Those that are being made at the same moment may pass it by their number.',
  ),
} as const;
