// Generated from ui/contract.py by scripts/js_types.py. Do not edit.

/** Base of all replies: HTML by the name of the part it replaces, and a message. */
export interface Reply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
}

/** Parts that keep changing while `poll` is true. */
export interface PollReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  poll: boolean;
}

/** The data of the form: an id of its content, its size, and the tab to open first. */
export interface DataFacts {
  key: string;
  rows: number;
  is_large: boolean;
  sources: Record<string, any>[];
  is_usable: boolean;
  open_tab: "columns" | "checks";
}

/** The result of checking the form of the Train page. */
export interface TrainReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  profile: string;
  values: Record<string, string>;
  origins: Record<string, string>;
  hidden: string[];
  errors: Record<string, string>;
  hints: Record<string, string>;
  can_start: boolean;
  can_queue: boolean;
  has_plan: boolean;
  exceeds_memory: boolean;
  is_busy: boolean;
  cautions: number;
  trace_key: string;
  trial_run: string | null;
  cards: Record<string, "done" | "open" | "wrong" | "plain">;
  data: DataFacts | null;
  active: string | null;
}

/** The id of the started run, or why the GPU is in use. */
export interface StartReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  run: string | null;
  busy: string | null;
}

/** The state of a trial run. */
export interface TrialRunReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  poll: boolean;
  id: string;
}

/** A page to save as an HTML file. */
export interface PageReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  html: string;
}

/** The settings of a recipe file. */
export interface RecipeReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  recipe: Record<string, any>;
}

/** The form that starts a sweep; `can_start` is whether it has settings to start with. */
export interface SweepFormReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  can_start: boolean;
}

/** What a file holds: a recipe, settings of another program, or data. */
export interface SettingsKindReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  kind: "recipe" | "foreign" | "data";
}

/** Settings of another program as a form; `is_read` is whether they could be read. */
export interface ImportReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  is_read: boolean;
  title: string;
  recipe: Record<string, any>;
  values: Record<string, any>;
  profile: string | null;
}

/** A notebook that trains the form: what is inside as HTML, or the `problem` with the form. */
export interface NotebookReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  shown: string;
  text: string;
  file_name: string;
  problem: string;
}

/** Settings as a file of another system. */
export interface SettingsExportReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  shown: string;
  text: string;
  file_name: string;
  settings: Record<string, any>;
  is_archive: boolean;
}

/** The stored presets: name, and problem if the file cannot be used; the shipped ones. */
export interface PresetsReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  presets: Record<string, string>[];
  shipped: Record<string, string>[];
}

/** The settings of a preset as a recipe, and the own values and the profile beside it. */
export interface PresetReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  recipe: Record<string, any>;
  values: Record<string, any>;
  profile: string | null;
  changes: string;
}

/** The sources that name the repaired copies. */
export interface RepairReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  sources: Record<string, any>[];
  question: string;
}

/** The value of the setting `dataset` for a new file. */
export interface DatasetReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  dataset: string;
}

/** Rows of an imported table: system, question and answer. */
export interface TableReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  rows: Record<string, string>[];
}

/** The parts of the Chat page; `is_busy` is whether a run uses the computer. */
export interface ChatPageReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  has_models: boolean;
  is_busy: boolean;
}

/** The file and the row that a corrected answer becomes. */
export interface CorrectionReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  dataset: string;
  row: number;
}

/** The parts of the Export page; `choice` is what is chosen, `can_start` whether it can be. */
export interface ExportReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  choice: Record<string, any>;
  has_runs: boolean;
  can_start: boolean;
}

/** What changes by itself; `stamp` differs when an export has begun, ended or is deleted. */
export interface ExportStatus {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  stamp: string;
  is_active: boolean;
}

/** The Evaluation tab of a run. */
export interface EvaluationReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  shown: string;
  is_active: boolean;
  is_first: boolean;
  stamp: string;
}

/** Values of settings that prepare the next run. */
export interface NextRunReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  values: Record<string, any>;
}

/** The API key of the model that is served. */
export interface KeyReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  key: string;
}

/** One curve. `tone` names a color; a faint curve is drawn behind its smoothed one. */
export interface ChartSeries {
  name: string;
  x: number[];
  y: number[];
  tone: string;
  is_dashed: boolean;
  has_dots: boolean;
  is_faint: boolean;
}

/** A named part of the x axis, such as a stage; a dashed line is at its end. */
export interface ChartBand {
  name: string;
  end: number;
}

/** The data of one chart; `description` is its text for screen readers. */
export interface ChartData {
  title: string;
  description: string;
  series: ChartSeries[];
  unit: string;
  x_unit: string;
  x_end: number | null;
  from_zero: boolean;
  bands: ChartBand[];
}

/** The parts and charts of the Compare page. */
export interface CompareReply {
  parts: Record<string, string>;
  toast: string;
  is_error: boolean;
  charts: Record<string, ChartData>;
}

/** What changed on the page of a run; `state` is that of the run, or `gone`. */
export interface RunUpdate {
  parts: Record<string, string>;
  charts: Record<string, ChartData>;
  title: string;
  state: string;
  is_over: boolean;
}

/** One line of a download or an installation; the last one has `done` or `error`. */
export interface ProgressLine {
  progress: string | null;
  done: string | null;
  error: string | null;
}

/** The size and the duration of an answer. */
export interface ChatStats {
  tokens: number;
  seconds: number;
}

/** One line of an answer: a phase with its text, a piece of text, the end, or an error. */
export interface ChatLine {
  phase: string | null;
  text: string | null;
  done: ChatStats | null;
  error: string | null;
}
