import { defineProblem } from '../problems.ts';

export const mirrorInUse = defineProblem('mirror-in-use', {
  status: 409,
  title: 'The mirror is configured',
});
