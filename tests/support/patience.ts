/**
 * Limits of time that nobody reaches on a busy machine, for services that are tested for something else. A test that is
 * about a limit sets it.
 */
export const patience = {
  UPLOAD_WAIT: '5m',
  BODY_TIMEOUT: '2m',
  READ_TIMEOUT: '2m',
  DATABASE_TIMEOUT: '2m',
  S3_CONNECT_TIMEOUT: '1m',
  S3_REQUEST_TIMEOUT: '2m',
  S3_DEADLINE: '5m',
} satisfies Record<string, string>;
