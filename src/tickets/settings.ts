/** Settings of upload tickets. */
import { count, setting } from '../config.ts';

export const ticketSettings = {
  TICKETS_PER_HOUR: setting(
    'Limits',
    count,
    '10000',
    'Upload tickets that a caller may give out in an hour, over all instances; 0 for no limit.',
  ),
} as const;
