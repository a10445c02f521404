/**
 * One zod schema per route feeds four things: validation of what comes in, the type the handler sees, the shape of what
 * goes out, and `openapi.yaml`. zod-openapi writes the document; the rest is this file.
 */
import type { FastifyInstance, FastifySchemaCompiler, FastifyTypeProvider } from 'fastify';
import { z } from 'zod';
import type {
  ZodOpenApiHeadersObject,
  ZodOpenApiObject,
  ZodOpenApiPathsObject,
  ZodOpenApiRequestBodyObject,
  ZodOpenApiResponseObject,
  ZodOpenApiResponsesObject,
} from 'zod-openapi';
import { isForTickets } from '../access/may.ts';
import type { Action } from '../access/rules.ts';
import {
  Problem,
  type ProblemError,
  type ProblemType,
  problemDocument,
  problemsByStatus,
  problemTitle,
  problemUri,
} from '../problems.ts';
import { openAnswers, withPlainSchemas } from './generated-schemas.ts';
import { issueWords } from './issue-words.ts';
import { GIVEN_TWICE } from './json-names.ts';
import { mayRepeat } from './schema-types.ts';

/** Lets handlers see the output types of their schemas. */
export interface ZodTypeProvider extends FastifyTypeProvider {
  validator: this['schema'] extends z.ZodType ? z.output<this['schema']> : unknown;
  serializer: this['schema'] extends z.ZodType ? z.input<this['schema']> : unknown;
}

/** A Fastify instance or plugin scope whose routes are typed by zod. */
export type App = FastifyInstance<
  import('fastify').RawServerDefault,
  import('http').IncomingMessage,
  import('http').ServerResponse,
  import('fastify').FastifyBaseLogger,
  ZodTypeProvider
>;

/** A group of operations in the contract. */
export interface Tag {
  readonly name: string;
  readonly description: string;
}

declare module 'fastify' {
  interface FastifySchema {
    operationId?: string;
    tags?: string[];
    summary?: string;
    description?: string;
    security?: Record<string, string[]>[];
  }
  interface FastifyContextConfig {
    /** Everything a client may be told by this operation, beside what all operations may tell. */
    problems?: ProblemType[];
    /** Header fields for the document that the handler reads by itself. */
    requestHeaders?: z.ZodObject;
    /** Request body for the document when it is not JSON, which the handler reads by itself. */
    requestBody?: ZodOpenApiRequestBodyObject;
    /** Success response for the document: status, description, schema or content, headers. */
    success?: SuccessResponse;
  }
}

export interface SuccessResponse {
  status: number;
  description: string;
  headers?: ZodOpenApiHeadersObject;
  /** When it is not the JSON of `schema.response`. */
  content?: ZodOpenApiResponseObject['content'];
  /** Further responses that are no problems, such as 206 and 304. */
  others?: ZodOpenApiResponsesObject;
}

const isZod = (schema: unknown): schema is z.ZodType => schema instanceof z.core.$ZodType;

/** What every operation with a caller may answer. */
const open: ProblemType[] = ['uri-too-long', 'headers-too-large', 'internal-error', 'storage-refused', 'unavailable'];
const common: ProblemType[] = [...open, 'invalid-parameter', 'unauthenticated', 'missing-scope', 'too-many-requests'];

interface Operation {
  method: string;
  url: string;
  schema: Record<string, unknown>;
  config: {
    requestHeaders?: z.ZodObject;
    requestBody?: ZodOpenApiRequestBodyObject;
    success?: SuccessResponse;
    problems?: ProblemType[];
    action?: Action;
  };
}

/**
 * Installs zod as validator and serializer; call before any route is registered.
 * @param checkAnswers validates every JSON answer against its schema: for tests, where it finds undocumented answers
 * @returns a function that writes the OpenAPI document of all routes registered since
 */
export function useZod(
  app: FastifyInstance,
  checkAnswers: boolean,
): (base: Omit<ZodOpenApiObject, 'paths'>) => Promise<object> {
  const operations: Operation[] = [];
  app.addHook('onRoute', (route) => {
    for (const method of [route.method].flat()) {
      // A route of a prefix is there twice, with a slash at its end and without.
      if (route.schema?.operationId === undefined || route.url.endsWith('/')) continue;
      // Fastify answers HEAD wherever there is GET; only one that stands by itself is an operation.
      if (method === 'HEAD' && operations.some(({ schema }) => schema['operationId'] === route.schema?.operationId))
        continue;
      operations.push({
        method: method.toLowerCase(),
        url: route.url,
        schema: { ...route.schema },
        config: route.config ?? {},
      });
    }
  });
  const validator: FastifySchemaCompiler<unknown> =
    ({ schema, httpPart }) =>
    (data) => {
      if (!isZod(schema)) return { value: data };
      const repeated = httpPart === 'querystring' ? repeatedIn(data, schema) : [];
      if (repeated.length > 0) return { error: givenTwice(repeated) };
      const result = schema.safeParse(data, { error: issueWords });
      return result.success ? { value: result.data } : { error: invalid(result.error.issues, httpPart) };
    };
  app.setValidatorCompiler(validator);
  // V8's JSON.stringify is as fast as a compiled serializer; `toDocument` functions decide what leaves.
  app.setSerializerCompiler(({ schema }) =>
    checkAnswers && isZod(schema) ? (data) => JSON.stringify(schema.parse(data)) : (data) => JSON.stringify(data),
  );
  return async (base) => {
    // Loaded when somebody asks for the document.
    const { createDocument } = await import('zod-openapi');
    return withPlainSchemas(createDocument({ ...base, paths: pathsOf(operations) }, { override: openAnswers }));
  };
}

/** Names each fault by JSON Pointer in a body, by name elsewhere. */
export function invalid(issues: z.core.$ZodIssue[], part: string | undefined): Problem {
  const errors = issues.flatMap((issue): ProblemError[] => {
    const path = issue.path.map(String);
    const detail = issue.code === 'unrecognized_keys' ? 'is not known here' : issue.message;
    const paths = issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...path, key]) : [path];
    return paths.map((each) => {
      if (part !== 'body') return { parameter: each.join('.') || 'query', detail };
      return { pointer: pointerTo(each), detail };
    });
  });
  const first = errors[0];
  const where = first?.pointer ?? first?.parameter;
  return new Problem('invalid-parameter', {
    detail: `${where ? `${where}: ` : ''}${first?.detail ?? 'The request is not valid'}`,
    errors,
  });
}

/** JSON Pointer, RFC 6901. */
export function pointerTo(path: readonly string[]): string {
  return path.map((segment) => `/${segment.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/** Parameters that a query has more than once come as a list, which few of ours may be. */
function repeatedIn(query: unknown, schema: z.ZodType): string[] {
  const shape: Record<string, unknown> = schema instanceof z.ZodObject ? schema.shape : {};
  return Object.entries(query ?? {}).flatMap(([name, value]) =>
    Array.isArray(value) && !mayRepeat(shape[name]) ? name : [],
  );
}

/** Which of the values was meant is not guessed. @param names of parameters or header fields; at least one */
export function givenTwice(names: readonly string[]): Problem {
  return new Problem('invalid-parameter', {
    detail: `${names.join(', ')}: ${GIVEN_TWICE}`,
    errors: names.map((parameter) => ({ parameter, detail: GIVEN_TWICE })),
  });
}

function pathsOf(operations: Operation[]): ZodOpenApiPathsObject {
  const paths: ZodOpenApiPathsObject = {};
  for (const { method, url, schema, config } of operations) {
    const { params, querystring, headers, body, operationId, tags, summary, description, security } = schema;
    const path = url.replace(/:(\w+)/g, '{$1}');
    const parameters = Object.fromEntries(
      Object.entries({ path: params, query: querystring, header: headers ?? config.requestHeaders }).filter(
        ([, each]) => isZod(each),
      ),
    );
    const requestBody =
      config.requestBody ??
      (isZod(body) ? { required: true, content: { 'application/json': { schema: body } } } : undefined);
    const isOpen = Array.isArray(security) && security.length === 0;
    paths[path] = {
      ...paths[path],
      [method]: {
        operationId,
        tags,
        summary,
        ...(description !== undefined && { description }),
        ...(security !== undefined && { security }),
        ...(Object.keys(parameters).length > 0 && { requestParams: parameters }),
        ...(requestBody && { requestBody }),
        responses: responsesOf(withBody(config.success, schema['response']), [
          ...(isOpen ? open : common),
          // An upload ticket is refused at the door of whatever is not for it.
          ...(isOpen || isForTickets(config.action) ? [] : (['forbidden'] as const)),
          ...(config.problems ?? []),
        ]),
      },
    };
  }
  return paths;
}

/** The schema that answers are serialized by is the one that is documented. */
function withBody(success: SuccessResponse | undefined, response: unknown): SuccessResponse | undefined {
  const body =
    success && response instanceof Object
      ? Object.entries(response).find(([status]) => status === String(success.status))?.[1]
      : undefined;
  return success && isZod(body) ? { ...success, content: { 'application/json': { schema: body } } } : success;
}

function responsesOf(success: SuccessResponse | undefined, problems: ProblemType[]): ZodOpenApiResponsesObject {
  const responses: Record<string, ZodOpenApiResponseObject> = {};
  if (success) {
    responses[String(success.status)] = {
      description: success.description,
      ...(success.headers && { headers: success.headers }),
      ...(success.content && { content: success.content }),
    };
    Object.assign(responses, success.others);
  }
  for (const [status, types] of problemsByStatus()) {
    const named = types.filter((type) => problems.includes(type));
    if (named.length > 0) responses[String(status)] = problemResponse(status, named);
  }
  return responses as ZodOpenApiResponsesObject;
}

const retryAfter = z.string().meta({ override: { type: 'integer', minimum: 0 }, description: 'Seconds' });

function problemResponse(status: number, types: ProblemType[]): ZodOpenApiResponseObject {
  const examples = Object.fromEntries(
    types.map((type) => [
      type,
      {
        value: {
          type: problemUri(type),
          title: problemTitle(type),
          status,
          requestId: '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1',
        },
      },
    ]),
  );
  return {
    description: types.map(problemTitle).join(', or: '),
    ...([408, 429, 503].includes(status) && { headers: z.object({ 'Retry-After': retryAfter }) }),
    ...(types.includes('request-in-progress') && { headers: z.object({ 'Retry-After': retryAfter.optional() }) }),
    content: { 'application/problem+json': { schema: problemDocument, examples } },
  };
}
