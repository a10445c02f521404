/** Loaded before a script (`--import`): the service has one feature more. */
import { features } from '../../src/app.ts';
import { greetings } from './greetings.ts';

Array.prototype.push.call(features, greetings);
