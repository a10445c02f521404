/**
 * `npm run token -- --sub alice [--scope admin] [--expires 1h]`: prints a token of AUTH_JWT_SECRET for development and for
 * trying things out. Whoever knows the secret can do this; in production an issuer of its own makes the tokens.
 */
import { parseArgs } from 'node:util';
import { SignJWT } from 'jose';
import { features } from '../src/app.ts';
import { duration } from '../src/config.ts';
import { readConfiguration } from '../src/startup.ts';

const USAGE = 'npm run token -- --sub NAME [--scope "SCOPE SCOPE"] [--expires 1h]';

try {
  const { values } = parseArgs({
    options: {
      sub: { type: 'string' },
      scope: { type: 'string' },
      expires: { type: 'string', default: '1h' },
    },
  });
  if (!values.sub) throw new Error(`--sub is missing: it names the caller. ${USAGE}`);
  const life = duration.safeParse(values.expires);
  if (!life.success || life.data < 1000) throw new Error(`--expires must be a time such as 15m, 1h or 7d. ${USAGE}`);
  const { config } = readConfiguration(features);
  const { AUTH_JWT_SECRET, AUTH_ISSUER, AUTH_AUDIENCE } = config;
  if (AUTH_JWT_SECRET === undefined) {
    const reason =
      config.AUTH_JWKS_URL === undefined
        ? 'the service is in development mode and asks for no token'
        : 'the service takes tokens of the key set at AUTH_JWKS_URL, which only its issuer can make';
    throw new Error(`AUTH_JWT_SECRET is not set: ${reason}.`);
  }
  const now = Math.floor(Date.now() / 1000);
  const token = new SignJWT(values.scope === undefined ? {} : { scope: values.scope })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setSubject(values.sub)
    .setIssuedAt(now)
    .setExpirationTime(now + Math.floor(life.data / 1000));
  if (AUTH_ISSUER !== undefined) token.setIssuer(AUTH_ISSUER);
  // `any` stands for every audience.
  if (AUTH_AUDIENCE !== undefined && AUTH_AUDIENCE !== 'any') token.setAudience(AUTH_AUDIENCE);
  console.log(await token.sign(new TextEncoder().encode(AUTH_JWT_SECRET)));
} catch (error) {
  console.error(`No token was made: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
