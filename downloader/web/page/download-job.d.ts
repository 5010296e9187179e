/** Types of download-job.js: the element `<download-job>`, and what it is made of. */

export type JobStatus = "queued" | "processing" | "completed" | "failed" | "cancelled";
export type FileStatus = "pending" | "fetching" | "done" | "failed";
export type ElementState =
  | "idle" | "starting" | "queued" | "processing" | "ready" | "failed" | "cancelled" | "gone";
export type ConnectionState = "connecting" | "open" | "reconnecting" | "closed";

/** A source as `POST /v1/download/initiate` takes it. */
export interface Source {
  url: string;
  id?: number | string;
  name?: string;
  size?: number;
  checksum?: string;
  contentType?: string;
  headers?: Record<string, string>;
}

/** The body of `POST /v1/download/initiate`; of a site's own backend it may be anything that is JSON. */
export interface JobRequest {
  files?: Source[];
  file_ids?: (number | string)[];
  source_urls?: string[];
  archiveName?: string;
  callbackUrl?: string;
  options?: {
    compress?: "auto" | boolean;
    onError?: "skip" | "fail";
    manifest?: boolean;
    keepFiles?: boolean;
    reproducible?: boolean;
    format?: "zip";
  };
  [more: string]: unknown;
}

/** What follows a job: the links of the initiate call's answer. */
export interface JobLinks {
  jobId?: string;
  statusUrl?: string;
  subscribeUrl?: string;
  /** Of a site's own backend: called by POST to cancel the job. */
  cancelUrl?: string;
  /** Of a site's own backend: called by POST to retry the job; answers like initiate. */
  retryUrl?: string;
}

/** The answer of the initiate call. */
export interface Initiated extends JobLinks {
  jobId: string;
  statusUrl: string;
  subscribeUrl: string;
  status: "queued";
  totalFiles: number;
  totalFileIds: number;
  createdAt: string;
}

/** A file of a job. */
export interface JobFile {
  index: number;
  fileId: number | string;
  name: string | null;
  originalUrl: string;
  status: FileStatus;
  size: number | null;
  contentType: string | null;
  sha256: string | null;
  crc32: string | null;
  lengthVerified: boolean | null;
  metadata: Record<string, unknown> | null;
  error: { code: string; message: string } | null;
  downloadUrl?: string;
}

/** A job as far as it is known: the figures of its events, and after a read of its status all the rest. */
export interface Job {
  jobId: string;
  status: JobStatus;
  progress: number;
  filesCompleted: number;
  filesFailed: number;
  totalFiles: number;
  bytesFetched: number;
  bytesTotal: number | null;
  attempt: number;
  currentFile?: string | null;
  /** Files that arrive just now, in live events. */
  fetching?: { index: number; bytesFetched: number }[];
  queuePosition?: number | null;
  files?: JobFile[];
  archive?: { name: string; size: number; entries: number; etag: string } | null;
  downloadUrl?: string | null;
  expiresAt?: string | null;
  archiveExpiresAt?: string | null;
  error?: string | null;
  errorCode?: string | null;
  createdAt?: string;
  startedAt?: string | null;
  updatedAt?: string;
  completedAt?: string | null;
  processingTimeMs?: number | null;
  requestId?: string;
  subscribeUrl?: string;
  statusUrl?: string;
  callback?: Record<string, unknown> | null;
}

/** What went wrong with a call (RFC 9457). `status` is 0 when there was no answer at all (`code` is `network`). */
export interface Problem {
  status: number;
  code: string;
  title: string;
  detail: string;
  errors: { pointer: string; detail: string }[];
  /** Seconds to wait before the next try, where the service named them. */
  retryAfter: number | null;
  requestId: string | null;
}

/** Thrown by `DownloaderClient` for every answer that is no success. */
export class ApiError extends Error {
  constructor(problem: Problem);
  readonly problem: Problem;
}

export interface ClientOptions {
  /** Base URL of the service; by default where this module came from. */
  server?: string;
  /** An API key, sent as `Authorization: Bearer`. */
  key?: string;
  /** Headers for every call. */
  headers?: Record<string, string>;
}

/** Calls the service. Paths in answers are relative to `server`. */
export class DownloaderClient {
  constructor(options?: ClientOptions);
  readonly server: string;
  readonly headers: Record<string, string>;
  initiate(request: JobRequest, options?: { idempotencyKey?: string }): Promise<Initiated>;
  status(jobId: string, options?: { files?: boolean }): Promise<Job>;
  files(
    jobId: string, options?: { limit?: number; after?: number },
  ): Promise<{ files: JobFile[]; next: number | null }>;
  cancel(jobId: string): Promise<Job>;
  retry(jobId: string, options?: { idempotencyKey?: string }): Promise<Initiated>;
  remove(jobId: string): Promise<void>;
  jobs(
    options?: { limit?: number; after?: string; status?: JobStatus },
  ): Promise<{ jobs: Job[]; next: string | null }>;
}

export interface FeedOptions {
  /** What path-absolute links are relative to; by default where this module came from. */
  server?: string;
  statusUrl: string;
  /** Without it the status is read every few seconds instead. */
  subscribeUrl?: string;
  /** Headers for reads of the status; an EventSource cannot send any. */
  headers?: Record<string, string>;
  /** Go on behind this event. */
  lastEventId?: string;
}

export interface FeedEventMap {
  progress: CustomEvent<{ job: Job }>;
  files: CustomEvent<{ files: JobFile[] }>;
  connection: CustomEvent<{ state: ConnectionState; reason: string }>;
  end: CustomEvent<{ job: Job }>;
  /** Nothing more will come: the job is not there, or may not be read. */
  problem: CustomEvent<{ problem: Problem }>;
}

/** Follows one job to its end, whatever happens to the connection; needs `open()`. */
export class JobFeed extends EventTarget {
  constructor(options: FeedOptions);
  readonly job: Job | null;
  readonly connection: ConnectionState;
  readonly lastEventId: string;
  open(): void;
  close(): void;
  /** Read the status now; false when that failed. With `files` its list of files too, up to 200. */
  check(options?: { files?: boolean }): Promise<boolean>;
  addEventListener<K extends keyof FeedEventMap>(
    type: K, listener: (event: FeedEventMap[K]) => void, options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions,
  ): void;
}

export interface JobEventMap {
  "job-start": CustomEvent<{ jobId: string; statusUrl: string; subscribeUrl: string }>;
  "job-progress": CustomEvent<{ job: Job }>;
  "job-files": CustomEvent<{ files: JobFile[] }>;
  "job-connection": CustomEvent<{ state: ConnectionState }>;
  "job-end": CustomEvent<{ job: Job }>;
  "job-error": CustomEvent<{ problem: Problem }>;
}

/** A text with `{name}` for a value, or a function that makes it of the values. */
export type Text = string | ((values: Record<string, string | number>) => string);

/** The element `<download-job>`. */
export class DownloadJob extends HTMLElement {
  /** What is asked for: the body of the call that starts the job. */
  request: JobRequest | null;
  /** Headers for calls, such as Authorization. With `endpoint` they go to that and nowhere else. */
  headers: Record<string, string>;
  /** Own texts, in place of the English ones. */
  texts: Record<string, Text>;
  server: string;
  disabled: boolean;
  readonly job: Job | null;
  /** What is known of the files: changes as they come, and the whole list, up to 200 files, at the end. */
  readonly files: ReadonlyMap<number, JobFile>;
  readonly state: ElementState;
  readonly problem: Problem | null;
  start(): Promise<void>;
  follow(links: JobLinks): void;
  cancel(): Promise<void>;
  retry(): Promise<void>;
  /** Forget the job and be as at first; the job itself goes on. */
  reset(): void;
  addEventListener<K extends keyof JobEventMap>(
    type: K, listener: (this: DownloadJob, event: JobEventMap[K]) => void, options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof HTMLElementEventMap>(
    type: K, listener: (this: DownloadJob, event: HTMLElementEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions,
  ): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "download-job": DownloadJob;
  }
  // They bubble: heard on the element, on what is around it, and on the document.
  interface GlobalEventHandlersEventMap extends JobEventMap {}
}
