/** API keys over HTTP: made, listed and revoked by their owner. */
import { z } from 'zod';
import { actorOf, type Caller } from '../access/caller.ts';
import { grantedBy, scopesOfKey, unboundScopes } from '../access/granted.ts';
import { isScope, type Scope, scopes } from '../access/rules.ts';
import type { App } from '../http/openapi.ts';
import { linkHeader, pageInfo, pageOf, pageQuery } from '../http/page-query.ts';
import { openEnum, projectId, timestamp } from '../http/schema-types.ts';
import { answering, sendAnswer, sendNoContent } from '../idempotency/requests.ts';
import { invalidField, Problem } from '../problems.ts';
import { type ApiKey, type KeysRepository, MAX_KEYS } from './repository.ts';

const MAX_NAME = 100;
/** Projects of one key. */
const MAX_PROJECTS = 100;
/** Seconds: a minute, and ten years. */
const SHORTEST = 60;
const LONGEST = 10 * 365 * 24 * 3600;

const tags = ['Access'];
const id = z.string().meta({ override: { type: 'string', format: 'uuid' }, description: 'UUIDv7' });
const name = z
  .string()
  .min(1, 'must not be empty')
  .max(MAX_NAME, `must have at most ${MAX_NAME} characters`)
  .refine((text) => text.isWellFormed() && !/\p{Cc}/u.test(text), 'must be printable text')
  .meta({ override: { type: 'string', minLength: 1, maxLength: MAX_NAME }, example: 'backend' });

const newKey = z
  .strictObject({
    name,
    scopes: z
      .array(
        z
          .enum(scopes, { error: `must be one of ${scopes.join(', ')}` })
          .meta({ id: 'Scope', description: 'What a credential may be used for' }),
      )
      .min(1, 'must name a scope')
      .max(scopes.length)
      .refine((named) => new Set(named).size === named.length, 'must name each scope once')
      .meta({
        description:
          'What the key may be used for: nothing that you may not do yourself. `act-for` and `admin` alone add to what every user may do.',
      }),
    projects: z
      .array(projectId)
      .min(1, 'must name a project')
      .max(MAX_PROJECTS, `must name at most ${MAX_PROJECTS} projects`)
      .optional()
      .meta({ description: 'The only projects for which the key is good; absent: all that you reach' }),
    expiresIn: z
      .number()
      .int('must be whole seconds')
      .min(SHORTEST, `must be at least ${SHORTEST} seconds`)
      .max(LONGEST, 'must be at most ten years')
      .optional()
      .meta({
        override: { type: 'integer', format: 'int64', minimum: SHORTEST, maximum: LONGEST },
        description: 'Seconds; absent: until it is revoked',
      }),
  })
  .meta({ id: 'ApiKeyRequest' });

const fields = {
  id,
  name: z.string(),
  scopes: z.array(openEnum('GrantedScope', scopes, 'What the key may be used for.')),
  projects: z.array(z.string()).optional().meta({ description: 'The only projects for which it is good' }),
  createdAt: timestamp,
  expiresAt: timestamp.optional(),
  lastUsedAt: timestamp.optional().meta({ description: 'To the hour; absent while it was never used' }),
};
const keyDocument = z.object(fields).meta({ id: 'ApiKey' });
const createdDocument = z
  .object({
    ...fields,
    secret: z.string().optional().meta({
      description:
        'Sent as `Authorization: Bearer stw_...`. Shown this once; absent where the request was sent again under its Idempotency-Key',
      example: 'stw_…',
    }),
  })
  .meta({ id: 'CreatedApiKey' });
const page = z.object({ data: z.array(keyDocument), page: pageInfo('ApiKeyPageInfo') }).meta({ id: 'ApiKeyPage' });
const byId = z.object({
  id: z.uuid({ error: 'must be a UUID' }).meta({ override: { type: 'string', format: 'uuid' } }),
});

export function keyRoutes(app: App, keys: KeysRepository): void {
  app.post(
    '/v1/keys',
    {
      schema: {
        operationId: 'createApiKey',
        tags,
        summary: 'Make an API key for a server',
        description: `The secret is shown this once: keep it where the server finds it. For a rotation make a second key, give it to the server, then delete the first; both are good meanwhile. At most ${MAX_KEYS} keys are good at once.`,
        body: newKey,
        response: { 201: createdDocument },
      },
      config: {
        scope: 'keys',
        success: {
          status: 201,
          description: 'The key, with its secret',
          headers: { Location: { description: 'Where it is', schema: { type: 'string' } } },
        },
        problems: [
          'missing-scope',
          'forbidden',
          'malformed-request',
          'too-large',
          'unsupported-media-type',
          'too-many-requests',
        ],
      },
    },
    async (request, reply) => {
      const { caller, body } = request;
      requireGrantable(caller, body.scopes, body.projects);
      const answerOf = (key: ApiKey, secret?: string) => ({
        status: 201,
        headers: { location: `/v1/keys/${key.id}`, 'cache-control': 'no-store' },
        body: { ...toDocument(key), ...(secret !== undefined && { secret }) },
      });
      const commit = answering(request);
      // What is kept under an Idempotency-Key holds no secret.
      const created = await keys.create({ ...body, ownerId: caller.id }, actorOf(request), (transaction, key) =>
        commit(transaction, answerOf(key)),
      );
      if (!created)
        throw new Problem('forbidden', {
          detail: `You have as many keys as you may have: ${MAX_KEYS} that are good, and some that were revoked within a day. Delete one that is not used.`,
        });
      return sendAnswer(reply, answerOf(created.key, created.secret));
    },
  );

  app.get(
    '/v1/keys',
    {
      schema: {
        operationId: 'listApiKeys',
        tags,
        summary: 'List your API keys, the latest first',
        description: 'Without their secrets. Follow `nextCursor`, or the `Link` header, until `hasMore` is false.',
        querystring: pageQuery,
        response: { 200: page },
      },
      config: {
        scope: 'keys',
        success: { status: 200, description: 'A page of keys', headers: linkHeader },
        problems: ['missing-scope'],
      },
    },
    async (request, reply) => {
      const { rows, page } = await pageOf(reply, '/v1/keys', request.query, (query) =>
        keys.list(request.caller.id, query),
      );
      return { data: rows.map(({ key }) => toDocument(key)), page };
    },
  );

  app.get(
    '/v1/keys/:id',
    {
      schema: {
        operationId: 'getApiKey',
        tags,
        summary: 'Get an API key of yours, without its secret',
        params: byId,
        response: { 200: keyDocument },
      },
      config: {
        scope: 'keys',
        success: { status: 200, description: 'The key' },
        problems: ['missing-scope', 'not-found'],
      },
    },
    async (request) => {
      const key = await keys.find(request.caller.id, request.params.id);
      if (!key) throw keyNotFound();
      return toDocument(key);
    },
  );

  app.delete(
    '/v1/keys/:id',
    {
      schema: {
        operationId: 'deleteApiKey',
        tags,
        summary: 'Revoke an API key',
        description: 'Within a second no instance takes it any more.',
        params: byId,
      },
      config: {
        scope: 'keys',
        success: { status: 204, description: 'It is revoked' },
        problems: ['missing-scope', 'not-found'],
      },
    },
    async (request, reply) => {
      const { caller, params } = request;
      const isRevoked = await sendNoContent(request, reply, (commit) =>
        keys.revoke(caller.id, params.id, actorOf(request), commit),
      );
      if (!isRevoked) throw keyNotFound();
      return reply;
    },
  );
}

/** Nobody gives away more than he has. @throws Problem */
function requireGrantable(caller: Caller, named: readonly Scope[], projects: readonly string[] | undefined): void {
  const unbound = projects ? named.findIndex((scope) => unboundScopes.includes(scope)) : -1;
  if (unbound >= 0)
    throw invalidField(`/scopes/${unbound}`, 'reaches beyond projects: leave it out, or leave projects out');
  const granted = scopesOfKey(grantedBy(named), projects !== undefined);
  const beyond = [...granted].filter((scope) => !caller.scopes.has(scope));
  if (beyond.length > 0)
    throw new Problem('forbidden', {
      detail: `You cannot give a key what you may not do yourself: ${beyond.join(', ')}.`,
      errors: beyond.map((scope) => ({
        pointer: named.includes(scope) ? `/scopes/${named.indexOf(scope)}` : '/scopes',
        detail: `gives ${scope}, which you have not`,
      })),
    });
}

function toDocument(key: ApiKey): z.input<typeof keyDocument> {
  const { projects, createdAt, expiresAt, lastUsedAt } = key;
  return {
    id: key.id,
    name: key.name,
    scopes: key.scopes.filter(isScope),
    ...(projects && { projects }),
    createdAt: createdAt.toISOString(),
    ...(expiresAt && { expiresAt: expiresAt.toISOString() }),
    ...(lastUsedAt && { lastUsedAt: lastUsedAt.toISOString() }),
  };
}

/** A foreign key and an unknown one get the same answer. */
function keyNotFound(): Problem {
  return new Problem('not-found', { detail: 'There is no API key with this id.' });
}
