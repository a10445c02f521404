import { testKilledAtEachStep } from './crash-matrix.ts';

testKilledAtEachStep('a resumable upload');
