import { testKilledAtEachStep } from './crash-matrix.ts';

testKilledAtEachStep('an upload by one request');
