import { testKilledAtEachStep } from './crash-matrix.ts';

// What comes before is killed in crash-resumable-upload.test.ts.
testKilledAtEachStep('a replacement by a resumable upload', { from: 'PutObject' });
