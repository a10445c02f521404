/** What Postgres and the way to it refuse, in sentences for who runs the service: each names the setting to look at. */

/** By SQLSTATE, PostgreSQL appendix A. */
const bySqlState: Record<string, string> = {
  '28P01': 'the password is not accepted: correct it in DATABASE_URL',
  '28000': 'the server does not let this user in: correct DATABASE_URL (its user, or ?sslmode=require), or pg_hba.conf',
  '3D000': 'the database does not exist: create it, or correct its name in DATABASE_URL',
  '42501':
    'the database user lacks the right: migrate as the owner of the database, or let the owner GRANT CREATE ON DATABASE and ON SCHEMA public to the user of DATABASE_URL',
  '53300': 'the server has no connection left: lower DATABASE_POOL, or raise its max_connections',
  '57P03': 'the server is still starting: try again',
  '25006': 'the server takes no changes: DATABASE_URL must lead to the primary, not to a replica',
};

/** By the code of the system or of Node. */
const byCode: Record<string, string> = {
  ECONNREFUSED: 'nobody answers there: correct DATABASE_URL, or start the server',
  ENOTFOUND: 'there is no such host: correct DATABASE_URL',
  EAI_AGAIN: 'the name of the host cannot be resolved: correct DATABASE_URL',
  EHOSTUNREACH: 'the host cannot be reached: correct DATABASE_URL',
  ENETUNREACH: 'the host cannot be reached: correct DATABASE_URL',
  ETIMEDOUT: 'nobody answers there in time: correct DATABASE_URL',
  ECONNRESET: 'the server ends the connection: is DATABASE_URL the address of a Postgres?',
};

/** The innermost cause: layers above it tell the statement, not what was wrong with it. */
function innermost(error: unknown): unknown {
  if (error instanceof AggregateError && error.errors.length > 0) return innermost(error.errors[0]);
  return error instanceof Error && error.cause !== undefined ? innermost(error.cause) : error;
}

/** What a fault of the database means, with the server's own words and what to do. */
export function explainDatabaseFault(error: unknown): string {
  const cause = innermost(error);
  if (!(cause instanceof Error)) return String(cause);
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : '';
  const advice = bySqlState[code] ?? byCode[code] ?? byWords(cause.message);
  if (advice !== undefined) return `${cause.message}: ${advice}`;
  // Of drizzle-orm, which tells the statement.
  return error instanceof Error && !error.message.startsWith('Failed query') ? error.message : cause.message;
}

function byWords(message: string): string | undefined {
  if (/does not support SSL/.test(message)) return 'take sslmode out of DATABASE_URL';
  if (/certificate/i.test(message)) return 'name the authority by sslrootcert in DATABASE_URL';
  if (/timeout|timed out/i.test(message)) return 'nobody answers there in time: correct DATABASE_URL';
  return undefined;
}
