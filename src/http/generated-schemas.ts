/** What generators of clients need of schemas, beside what zod says of them. tests/clients runs what they make of it. */

type Json = Record<string, unknown>;

/** Answers may get new properties, and a client that was generated before must not refuse them: zod closes all objects. */
export function openAnswers({ jsonSchema, io }: { jsonSchema: Json; io: 'input' | 'output' }): void {
  if (io === 'output' && jsonSchema['additionalProperties'] === false) delete jsonSchema['additionalProperties'];
}

/**
 * The document with schemas of one plain kind each. What is parsed from text, such as numbers in a query, keeps the rules of
 * the text beside the type that it has in the contract: generated clients would match a number against a pattern.
 */
export function withPlainSchemas(document: object): object {
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk);
    if (!isObject(value)) return value;
    return plain(Object.fromEntries(Object.entries(value).map(([name, each]) => [name, walk(each)])));
  };
  return Object(walk(document));
}

function plain(schema: Json): Json {
  const { anyOf, ...rest } = schema;
  // `type: [string, 'null']` is understood by more generators than a choice between two schemas.
  if (Array.isArray(anyOf) && anyOf.length === 2 && anyOf[1]?.type === 'null' && typeof anyOf[0]?.type === 'string')
    return plain({ ...anyOf[0], ...rest, type: [anyOf[0].type, 'null'] });
  const without = new Set<string>();
  if (['integer', 'number', 'boolean'].includes(String(rest['type'])))
    for (const name of ['pattern', 'minLength', 'maxLength']) without.add(name);
  // Bounds that every integer of a language has; not those of bytes, which tell that doubles can hold them.
  if (rest['minimum'] === Number.MIN_SAFE_INTEGER) for (const name of ['minimum', 'maximum']) without.add(name);
  // A format that says it all, and a pattern that some generators cannot read.
  if (['uuid', 'date-time'].includes(String(rest['format']))) without.add('pattern');
  // Unknown to OpenAPI 3.0.
  if ('propertyNames' in rest && 'additionalProperties' in rest) without.add('propertyNames');
  return Object.fromEntries(Object.entries(schema).filter(([name]) => !without.has(name)));
}

function isObject(value: unknown): value is Json {
  return value instanceof Object && !Array.isArray(value);
}
