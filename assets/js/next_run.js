// The form of the Train page as the next run of a run: its settings, with rows left out and values changed.
import { FORM_KEY, call, store, toast } from "./page.js";

/** @typedef {Record<string, any>} Source */
/** Rows left out and changed, by their numbers in the original sources; `paths` are those of the copies. @typedef {{ sources: Source[], left_out: number[], changed: Record<string, Record<string, string>>, paths: string }} Edits */

const SOURCES = "data.sources", SEED = "trainer.seed", GENERAL = "sample:general";

/** The form of the Train page, which is on the same page as the run. @type {import("./train.js").Form | null} */
let form = null;

/** @param {import("./train.js").Form} live */
export function openNextRun(live) { form = live; }

/** @param {Source[]} sources */
export const pathsOf = (sources) => sources.map((source) => source.path).join("\n");

/**
 * Make the form that of the next run, unless it is already; return it, or null if the run cannot be read.
 * @param {string} run @returns {Promise<import("./train.js").Form | null>}
 */
export async function prepare(run) {
  if (!form) return null;
  if (form.nextOf === run) return form;
  try {
    const { config } = await (await fetch(`/api/runs/${encodeURIComponent(run)}`)).json();
    if (!config) throw new Error("The run is gone.");
    Object.assign(form, { profile: null, values: {}, recipe: config, changes: [], kept: [], adapterOf: null, nextOf: run, edits: null });
    keep();
    return form;
  } catch {
    toast("The settings of this run cannot be read.", true);
    return null;
  }
}

export const keep = () => store(sessionStorage, FORM_KEY, form);

/** The sources as they are chosen for the next run. @param {import("./train.js").Form} next @returns {Source[]} */
export function chosenSources(next) {
  const own = next.values[SOURCES], stated = next.recipe.data?.sources ?? next.recipe[SOURCES];
  if (own?.length) return own;
  if (!own && stated?.length) return stated;
  return [{ path: next.values.dataset ?? next.recipe.dataset ?? "" }];
}

/** @param {import("./train.js").Form} next @param {Source[]} sources */
export function useSources(next, sources) {
  next.values.dataset = sources[0].path;
  next.values[SOURCES] = sources;
}

/** The seed with which samples of the rows are drawn. @param {import("./train.js").Form} next */
export const seedOf = (next) => next.values[SEED] ?? next.recipe.trainer?.seed ?? next.recipe[SEED];

/** What is edited in these sources; the edits of other sources are forgotten. @param {import("./train.js").Form} next @param {Source[]} sources @returns {Edits} */
export function editsOf(next, sources) {
  if (next.edits?.paths === pathsOf(sources)) return structuredClone(next.edits);
  return { sources, left_out: [], changed: {}, paths: pathsOf(sources) };
}

/**
 * Write the copies that these edits need; return the sources that name them.
 * @param {import("./page.js").Server} server @param {import("./train.js").Form} next @param {Edits} edits @param {string} [place]
 * @returns {Promise<Source[] | undefined>}
 */
export async function writeEdits(server, next, edits, place = "") {
  const { sources, left_out, changed } = edits, seed = seedOf(next);
  /** @type {import("./types").RepairReply | undefined} */
  const reply = await call(server, "edit_rows", { sources, left_out, changed, seed }, undefined, place);
  if (!reply) return undefined;
  next.edits = { ...edits, paths: pathsOf(reply.sources) };
  return reply.sources;
}

/** Leave rows of a run out of the next one, or use them again. @param {import("./page.js").Server} server @param {string} run @param {number[]} rows @param {boolean} isOut */
export async function leaveOut(server, run, rows, isOut) {
  const next = await prepare(run);
  if (!next) return false;
  const edits = editsOf(next, chosenSources(next));
  edits.left_out = edits.left_out.filter((row) => !rows.includes(row)).concat(isOut ? rows : []);
  const sources = await writeEdits(server, next, edits);
  if (!sources) return false;
  useSources(next, sources);
  keep();
  return true;
}

/** The rows that the next run of a run leaves out. @param {string} run @returns {Set<number>} */
export const leftOut = (run) => new Set(form?.nextOf === run ? form.edits?.left_out : []);

/** Take values of the server over into the next run. @param {string} run @param {Record<string, any>} values */
export async function change(run, values) {
  const next = await prepare(run);
  if (!next) return false;
  if (values[SOURCES] && next.edits) {
    const general = values[SOURCES].filter((/** @type {Source} */ source) => source.path === GENERAL);
    next.edits.sources = [...next.edits.sources.filter((source) => source.path !== GENERAL), ...general];
    next.edits.paths = pathsOf(values[SOURCES]);
  }
  if (values[SOURCES]) useSources(next, values[SOURCES]);
  Object.assign(next.values, values);
  keep();
  return true;
}

/** The values that the next run of a run has so far. @param {string} run @returns {Record<string, any>} */
export const valuesOf = (run) => (form?.nextOf === run ? form.values : {});
