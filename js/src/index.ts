export { TidewireSource, type SourceErrorEvent } from "./source.js";
export type { Gap, Options, Problem, State, Way } from "./options.js";
