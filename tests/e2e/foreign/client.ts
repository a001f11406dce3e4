/**
 * A client of overnight in TypeScript. It shares no code with the Python side: the names and shapes in this file are all
 * that a client in another language has to know. Node 24 runs it as it stands.
 *
 *     node client.ts start <workflow id> <task queue> '{"batch_id": "..."}'
 *     node client.ts signal <workflow id> cancel|poll_now
 *     node client.ts query <workflow id>
 *     node client.ts result <workflow id>
 *
 * Prints the answer as JSON. When it is refused, prints {"type", "message"} to standard error, and ends with 1.
 */

import { ApplicationFailure, Client, Connection, WorkflowFailedError } from "@temporalio/client";

type Entry = { custom_id?: string } & ({ request: object } | { task: string; fields?: object });

type Spec = {
  provider: string;
  model: string;
  endpoint?: string;
  handler?: string;
  handler_task_queue?: string;
  metadata?: Record<string, unknown>;
  poll_waits?: string[]; // ISO 8601 durations, as is max_age
  max_age?: string;
  allow_unknown_model?: boolean;
  entries: Entry[];
};

type Start = { batch_id: string } | { spec: Spec };

type Status = "pending" | "submitted" | "in_progress" | "ended" | "canceled" | "expired" | "failed";

type Progress = {
  batch_id: string | null;
  step: string;
  status: Status;
  polls: number;
  done: number;
  failed: number;
  total: number;
  next_poll_at: string | null;
  cancel_requested: boolean;
  last_error: string | null;
};

type Summary = {
  batch_id: string;
  status: Status;
  outcomes: Record<string, number>;
  cost: string | null; // exact decimals, in US dollars
  list_cost: string | null;
  reason: string | null;
};

type Command = (client: Client, workflowId: string, ...rest: string[]) => Promise<unknown>;

const commands: Record<string, Command> = {
  async start(client, workflowId, taskQueue, start) {
    const args: [Start] = [JSON.parse(start)];
    await client.workflow.start("Batch", { workflowId, taskQueue, args, workflowIdReusePolicy: "REJECT_DUPLICATE" });
    return null;
  },
  async signal(client, workflowId, name) {
    await client.workflow.getHandle(workflowId).signal(name);
    return null;
  },
  async query(client, workflowId): Promise<Progress> {
    return await client.workflow.getHandle(workflowId).query<Progress>("progress");
  },
  async result(client, workflowId): Promise<Summary> {
    return await client.workflow.getHandle(workflowId).result();
  },
};

/** The error that says why: overnight's own, at the end of the chain that Temporal wraps around it. */
function root(error: Error): { type: string; message: string } {
  if (error.cause instanceof Error && (error instanceof WorkflowFailedError || !(error instanceof ApplicationFailure))) {
    return root(error.cause);
  }
  const type = error instanceof ApplicationFailure ? (error.type ?? error.name) : error.name;
  return { type, message: error.message };
}

const [command, workflowId, ...rest] = process.argv.slice(2);
const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS });
try {
  const answer = await commands[command](new Client({ connection }), workflowId, ...rest);
  console.log(JSON.stringify(answer));
} catch (error) {
  console.error(JSON.stringify(root(error as Error)));
  process.exitCode = 1;
} finally {
  await connection.close();
}
