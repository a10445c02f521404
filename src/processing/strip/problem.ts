/** What is told of files that must lose their metadata, and cannot. */
import { defineProblem, Problem } from '../../problems.ts';
import type { Unstrippable } from './walk.ts';

export const metadataNotRemovable = defineProblem('metadata-not-removable', {
  status: 422,
  title: 'The metadata of the file cannot be removed',
});

export function notRemovable({ message }: Unstrippable): Problem {
  return new Problem(metadataNotRemovable, {
    detail: `${message} Its upload policy wants metadata removed, which could not be done. Save the file anew and send that.`,
  });
}
