/** Why an upload whose bytes are stored does not take the place of others. */
import { Problem } from '../problems.ts';

/** Nothing was changed, and the upload is to be ended. */
export class ReplacementRefused extends Problem {
  override name = 'ReplacementRefused';
}
