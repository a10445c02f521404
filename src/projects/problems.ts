/** Problems that are told of projects alone. */
import { defineProblem, Problem } from '../problems.ts';

export const projectExists = defineProblem('project-exists', {
  status: 409,
  title: 'There is a project with this id',
});
export const projectNotEmpty = defineProblem('project-not-empty', {
  status: 409,
  title: 'The project has assets or open uploads',
});
export const lastManager = defineProblem('last-manager', {
  status: 409,
  title: 'The project would have no manager',
});
export const tooManyProjects = defineProblem('too-many-projects', {
  status: 403,
  title: 'You have made as many projects as you may',
});
export const tooManyMembers = defineProblem('too-many-members', {
  status: 403,
  title: 'The project has as many members as it may have',
});

export const addedTooMany = defineProblem('added-too-many-members', {
  status: 403,
  title: 'You have added as many members as you may',
});

/** A foreign project and an unknown one get the same answer. */
export function projectNotFound(): Problem {
  return new Problem('not-found', {
    detail: 'There is no such project, or you are not a member of it. Ask one of its managers, or name another.',
    errors: [{ parameter: 'projectId', detail: 'is not a project of yours' }],
  });
}

/** @param limit of PROJECTS_PER_CALLER */
export function madeTooMany(limit: number): Problem {
  return new Problem(tooManyProjects, {
    detail: `You have made ${limit} projects, and may make no more. Delete one that is empty, or ask who runs the service.`,
  });
}
