import { defineProblem } from '../problems.ts';

export const tooManyHolds = defineProblem('too-many-holds', { status: 409, title: 'The asset has too many holds' });
