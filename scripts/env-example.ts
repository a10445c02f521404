/** `npm run env:example`: writes `.env.example` from the settings of src/config.ts and of the features. */
import { writeFileSync } from 'node:fs';
import { features } from '../src/app.ts';
import { environmentExample } from '../src/config.ts';
import { settingsOf } from '../src/feature.ts';

writeFileSync(new URL('../.env.example', import.meta.url), environmentExample(settingsOf(features)));
