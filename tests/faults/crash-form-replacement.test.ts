import { testKilledAtEachStep } from './crash-matrix.ts';

// What comes before is killed in crash-replacement.test.ts, which differs in how the file is sent.
testKilledAtEachStep('a replacement by a form', { from: 'PutObject' });
