import { testKilledAtEachStep } from './crash-matrix.ts';

testKilledAtEachStep('a deletion of several');
