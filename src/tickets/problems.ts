/** Problems of upload tickets. */
import { defineProblem } from '../problems.ts';

export const ticketUsedUp = defineProblem('ticket-used-up', {
  status: 403,
  title: 'The upload ticket allows no more',
});

export const tooManyTickets = defineProblem('too-many-tickets', {
  status: 403,
  title: 'You have as many upload tickets as you may have',
});
