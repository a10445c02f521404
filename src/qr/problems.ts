/** Problems of QR codes. */
import { defineProblem } from '../problems.ts';

export const noProjectPage = defineProblem('no-project-page', {
  status: 404,
  title: 'The service does not know the pages of projects',
});
export const tooLongForCode = defineProblem('too-long-for-code', {
  status: 422,
  title: 'The address is too long for a QR code',
});
