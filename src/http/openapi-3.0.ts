/**
 * The contract as OpenAPI 3.0, for generators that do not read 3.1. Its schemas are another dialect than JSON Schema 2020-12:
 * what the contract uses of the newer one is put in the older one's words, and nothing is lost but names of a licence.
 */

type Json = { [name: string]: unknown };

/** @param document OpenAPI 3.1. It is left as it is. */
export function toOpenApi30(document: object): object {
  const { info, ...rest } = convert(JSON.parse(JSON.stringify(document))) as Json & { info: Json };
  return { ...rest, openapi: '3.0.3', info: { ...info, license: licenceOf(info) } };
}

/** By its address in place of its SPDX identifier. */
function licenceOf({ license }: Json): Json | undefined {
  if (!isObject(license)) return undefined;
  const { identifier, ...named } = license;
  return { ...named, url: `https://spdx.org/licenses/${identifier}.html` };
}

function convert(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(convert);
  if (!isObject(value)) return value;
  const converted = Object.fromEntries(
    // Examples are data, whatever they look like.
    Object.entries(value).map(([name, each]) => [name, name.startsWith('example') ? each : convert(each)]),
  );
  return withOneType(withoutConst(withoutSiblings(converted)));
}

/** A reference stands alone in 3.0. */
function withoutSiblings(schema: Json): Json {
  const { $ref, ...siblings } = schema;
  if (typeof $ref !== 'string' || Object.keys(siblings).length === 0) return schema;
  return { allOf: [{ $ref }], ...siblings };
}

/** The only value of an enum. */
function withoutConst(schema: Json): Json {
  if (!('const' in schema)) return schema;
  const { const: value, ...rest } = schema;
  return { ...rest, enum: [value] };
}

/** `nullable` in place of a second type. */
function withOneType(schema: Json): Json {
  const { type } = schema;
  if (!Array.isArray(type)) return schema;
  const others = type.filter((each) => each !== 'null');
  if (others.length !== 1) throw new Error(`OpenAPI 3.0 has no schema of the types ${type.join(', ')}`);
  return { ...schema, type: others[0], ...(others.length < type.length && { nullable: true }) };
}

function isObject(value: unknown): value is Json {
  return value instanceof Object && !Array.isArray(value);
}
