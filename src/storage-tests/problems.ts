/** Problems of storage tests. */
import { defineProblem } from '../problems.ts';

export const storageTestRunning = defineProblem('storage-test-running', {
  status: 409,
  title: 'A storage test is running already',
});
