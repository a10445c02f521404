/**
 * Pages for people: what a browser gets where a program gets JSON. Rooms that share something hand over what is to be seen
 * (model.ts) and get a page; nothing here reads a record or decides who may see what. Pages work without their script,
 * load nothing but what they show, and say so to the browser in a policy made for each.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { staticRoutes } from './static-files.ts';

export const pages: Feature<Core> = {
  name: 'pages',
  routes: (app) => staticRoutes(app),
};
