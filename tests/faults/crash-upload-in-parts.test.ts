import { testKilledAtEachStep } from './crash-matrix.ts';

testKilledAtEachStep('an upload in parts');
