/**
 * A handler of overnight in TypeScript: an ordinary activity, in a worker that shares no code with the Python side.
 *
 *     node worker.ts <task queue>
 *
 * Prints each summary that it is given as a line of JSON. SIGTERM ends it.
 */

import { NativeConnection, Worker } from "@temporalio/worker";

type Summary = {
  batch_id: string; // the idempotency key: the activity runs at least once
  status: "ended" | "canceled" | "expired" | "failed";
  outcomes: Record<string, number>;
  cost: string | null; // exact decimals, in US dollars
  list_cost: string | null;
  reason: string | null;
};

const activities = {
  async send_report(summary: Summary): Promise<void> {
    console.log(JSON.stringify(summary));
  },
};

const connection = await NativeConnection.connect({ address: process.env.TEMPORAL_ADDRESS });
try {
  const worker = await Worker.create({ connection, taskQueue: process.argv[2], activities });
  await worker.run();
} finally {
  await connection.close();
}
